"""Claims of applications and the keys that a sweep is about to delete, side by side in one database.

Whoever writes first wins, across all processes that share the registry's file: a claim is written and then
looks whether its key is doomed; a sweep looks for claims and dooms the other keys in one transaction that
holds SQLite's write lock from its beginning. So of a claim and a doom of one key the later always sees the
earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from sqlite3 import Connection, DatabaseError
from typing import TYPE_CHECKING, TypeVar

from attrs import frozen

from s3gc.errors import S3GCError
from s3gc.registry import _absences
from s3gc.registry._times import micros, moment

if TYPE_CHECKING:
    from s3gc.registry._database import Database

T = TypeVar("T")

SCHEMA = """CREATE TABLE IF NOT EXISTS claims (
  key TEXT NOT NULL, until INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (key, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS doomed (key TEXT PRIMARY KEY, operation TEXT NOT NULL) WITHOUT ROWID;
"""

_TICK = timedelta(microseconds=1)
"""Claims that end in the very moment ran in it."""

_CHUNK = 500
"""Keys of one query; SQLite bounds the number of its parameters."""


@frozen
class Claim:
    """One claim, as people see it."""

    key: str
    until: datetime
    id: str


class Claims:
    """Who may count on which object until when, and which keys a sweep has taken."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owner: str | None = None

    def name(self, unique: str) -> str:
        """A claim's id, made of an id that nobody else has; :meth:`release` knows it as one of ours."""
        if self._owner is None:
            self._owner = unique
        return f"{self._owner}.{unique}"

    # ------------------------------------------------------------------ the application's side

    async def add(self, key: str, until: datetime, id: str, *, at: datetime | None = None) -> bool:
        """Write a claim, durably, and let the key's grace begin anew. An ``id`` of before gets a new end.

        Args:
            at: now, for the record; without it the claim's end stands there.

        Returns:
            Whether the key is doomed: then the claim counts for its confirmation, and the caller waits.

        Raises:
            S3GCError: the registry can't be written to.
        """

        def work(connection: Connection) -> bool:
            # The write comes first and takes the lock: no key is doomed between it and the look.
            connection.execute(
                "INSERT INTO claims (key, until, id) VALUES (?, ?, ?)"
                " ON CONFLICT (key, id) DO UPDATE SET until = excluded.until",
                (key, micros(until), id),
            )
            _absences.leaving(connection, [key], until if at is None else at, _absences.CLAIMED)
            connection.execute("DELETE FROM unreferenced WHERE key = ?", (key,))
            return _is_doomed(connection, key)

        return await self._run(work)

    async def is_doomed(self, key: str) -> bool:
        """Whether a sweep is about to delete this key, or has deleted and not yet confirmed it.

        Raises:
            S3GCError: the registry can't be read.
        """
        return await self._run(lambda connection: _is_doomed(connection, key))

    async def remove(self, key: str, id: str) -> None:
        """End one claim. There need not be one.

        Raises:
            S3GCError: the registry can't be written to.
        """

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM claims WHERE key = ? AND id = ?", (key, id))

        await self._run(work)

    async def release(self, key: str, now: datetime) -> bool:
        """End one claim on this key of those named by this object: the one that ends first.

        With several of them it doesn't matter whose it was: those that stay last at least as long. One that
        ended is remembered: a sweep whose fence began while it ran must still see it (:meth:`doom`).

        Returns:
            Whether there was one.

        Raises:
            S3GCError: the registry can't be written to.
        """
        if self._owner is None:
            return False
        ours = f"{self._owner}."

        def work(connection: Connection) -> bool:
            first = connection.execute(
                "SELECT id FROM claims WHERE key = ? AND substr(id, 1, ?) = ? AND until > ?"
                " ORDER BY until, id LIMIT 1",
                (key, len(ours), ours, micros(now)),
            ).fetchone()
            if first is None:
                return False
            connection.execute(
                "UPDATE claims SET until = ? WHERE key = ? AND id = ?", (micros(now), key, first[0])
            )
            return True

        return await self._run(work, writes=True)

    # ------------------------------------------------------------------ a person's side

    async def end(self, key: str, now: datetime, id: str | None = None) -> Sequence[Claim]:
        """End the claims on a key that still run, whoever made them; with ``id`` that one only.

        As with :meth:`release` they are remembered: a sweep whose fence began while they ran still sees them.

        Returns:
            Those that it ended, with the end that they had.

        Raises:
            S3GCError: the registry can't be written to.
        """

        def work(connection: Connection) -> list[Claim]:
            found = [
                Claim(key, moment(until), name)
                for until, name in connection.execute(
                    "SELECT until, id FROM claims WHERE key = ? AND until > ? ORDER BY until, id",
                    (key, micros(now)),
                )
                if id is None or name == id
            ]
            connection.executemany(
                "UPDATE claims SET until = ? WHERE key = ? AND id = ?",
                [(micros(now), key, claim.id) for claim in found],
            )
            return found

        return await self._run(work, writes=True)

    # ------------------------------------------------------------------ the collector's side

    async def active(self, keys: Collection[str], now: datetime) -> Mapping[str, datetime]:
        """Of these keys, those with a claim that still runs at ``now``, and when the last of them ends.

        Raises:
            S3GCError: the registry can't be read.
        """
        return await self._run(lambda connection: _active(connection, keys, now)) if keys else {}

    async def doom(self, operation: str, keys: Collection[str], since: datetime) -> frozenset[str]:
        """Take keys for deletion, all but the claimed ones. Deletes may be sent after this returns.

        Args:
            since: when the sweep began to read references for the last time. A claim that ran then, and has
                ended meanwhile, may have ended because its row was committed, too late for that reading.

        Returns:
            The keys with a claim that ran at ``since`` or later: they are not doomed.

        Raises:
            S3GCError: the registry can't be written to; no key is doomed.
        """

        def work(connection: Connection) -> frozenset[str]:
            claimed = frozenset(_active(connection, keys, since - _TICK))
            rows = [(key, operation) for key in keys if key not in claimed]
            if rows:
                connection.executemany(
                    "INSERT INTO doomed (key, operation) VALUES (?, ?)"
                    " ON CONFLICT (key) DO UPDATE SET operation = excluded.operation",
                    rows,
                )
            return claimed

        # First the lock, then the look: another process may not claim in between.
        return await self._run(work, writes=True) if keys else frozenset()

    async def spare(self, operation: str) -> None:
        """What this operation doomed is settled: deleted and confirmed, put back, or never deleted.

        Raises:
            S3GCError: the registry can't be written to; claims on these keys go on waiting.
        """

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM doomed WHERE operation = ?", (operation,))

        await self._run(work)

    async def spare_all(self) -> None:
        """As :meth:`spare`, for every operation. Only under the lease, and when none is open any more.

        Raises:
            S3GCError: the registry can't be written to.
        """

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM doomed")

        await self._run(work)

    async def prune(self, now: datetime) -> None:
        """Drop the claims that had ended at ``now``.

        Raises:
            S3GCError: the registry can't be written to.
        """

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM claims WHERE until <= ?", (micros(now),))

        await self._run(work)

    async def all(self, now: datetime) -> Sequence[Claim]:
        """The claims that still run at ``now``, by key.

        Raises:
            S3GCError: the registry can't be read.
        """

        def work(connection: Connection) -> list[Claim]:
            rows = connection.execute(
                "SELECT key, until, id FROM claims WHERE until > ? ORDER BY key, until, id", (micros(now),)
            )
            return [Claim(key, moment(until), id) for key, until, id in rows]

        return await self._run(work)

    async def _run(self, work: Callable[[Connection], T], *, writes: bool = False) -> T:
        try:
            return await self._database.run(work, writes=writes)
        except S3GCError as error:
            if not isinstance(error.__cause__, DatabaseError):
                raise
            raise S3GCError(
                f"the registry could not be used for claims ({error.__cause__}): if it is locked, a "
                "cycle is writing a lot into it, try again; nothing was changed"
            ) from error.__cause__


def _is_doomed(connection: Connection, key: str) -> bool:
    return connection.execute("SELECT 1 FROM doomed WHERE key = ?", (key,)).fetchone() is not None


def _active(connection: Connection, keys: Iterable[str], now: datetime) -> dict[str, datetime]:
    at = micros(now)
    if connection.execute("SELECT 1 FROM claims WHERE until > ? LIMIT 1", (at,)).fetchone() is None:
        return {}
    found: dict[str, datetime] = {}
    for some in _chunks(list(keys)):
        marks = ", ".join("?" * len(some))
        rows = connection.execute(
            f"SELECT key, MAX(until) FROM claims WHERE until > ? AND key IN ({marks}) GROUP BY key",
            (at, *some),
        )
        found.update((key, moment(until)) for key, until in rows)
    return found


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]
