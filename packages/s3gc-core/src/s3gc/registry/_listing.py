"""The listing of one cycle, its difference with the references, and how long keys have been free."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from attrs import frozen
from sqlalchemy import Connection

from s3gc.model import Candidate, ObjectInfo
from s3gc.registry._database import Database
from s3gc.registry._keys import key_hash

_KEEP_MOMENTS = 4_096
"""Moments remembered: most candidates of a cycle share theirs."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_CANDIDATES = (
    "SELECT l.n, l.key, l.size, l.etag, l.modified, l.version_id, l.storage_class, l.ambiguous,"
    " u.since, u.observations FROM scratch.listing l LEFT JOIN scratch.observed u ON u.n = l.n"
    " WHERE l.n > ? AND NOT EXISTS (SELECT 1 FROM refs r WHERE r.key_hash = l.key_hash)"
    " ORDER BY l.n LIMIT ?"
)


@functools.lru_cache(_KEEP_MOMENTS)
def micros(moment: datetime) -> int:
    """Microseconds since 1970; exact."""
    return (moment - _EPOCH) // _MICROSECOND


@functools.lru_cache(_KEEP_MOMENTS)
def moment(microseconds: int) -> datetime:
    """The inverse of :func:`micros`."""
    return _EPOCH + microseconds * _MICROSECOND


@frozen
class CandidatePage:
    """Candidates in key order, and where the next page begins."""

    candidates: Sequence[Candidate]
    after: int | None  # None: this was the last page


class Listing:
    """What the store listed in this cycle."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._count = 0

    async def begin(self) -> None:
        """Forget the listing before."""
        await self._database.run(self._database.reset_scratch)
        self._count = 0

    async def add(self, page: Sequence[ObjectInfo]) -> None:
        """Take a page of the listing."""

        def work(connection: Connection) -> None:
            connection.exec_driver_sql(
                "INSERT INTO scratch.listing (key, key_hash, size, etag, modified, version_id, storage_class,"
                " ambiguous) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        found.key,
                        key_hash(found.key),
                        found.size,
                        found.etag,
                        micros(found.last_modified),
                        found.version_id,
                        found.storage_class,
                        found.ambiguous,
                    )
                    for found in page
                ],
            )

        if page:
            await self._database.run(work)
            self._count += len(page)

    async def finish(self) -> None:
        """The listing is complete: make it searchable by key."""

        def work(connection: Connection) -> None:
            connection.exec_driver_sql("CREATE INDEX scratch.listed ON listing (key_hash)")

        await self._database.run(work)

    @property
    def count(self) -> int:
        """Objects listed."""
        return self._count

    async def observe(self, cycle: str, now: datetime) -> None:
        """Note that each candidate was seen unreferenced in this cycle, and forget keys that were not.

        An object that was overwritten meanwhile begins anew; so does a key that was referenced in between.
        """

        def work(connection: Connection) -> None:
            connection.exec_driver_sql(
                "INSERT INTO unreferenced (key, etag, modified, since, observations, cycle)"
                " SELECT l.key, l.etag, l.modified, ?, 1, ? FROM scratch.listing l"
                " WHERE NOT EXISTS (SELECT 1 FROM refs r WHERE r.key_hash = l.key_hash)"
                " ON CONFLICT (key) DO UPDATE SET"
                "  since = CASE WHEN etag = excluded.etag AND modified = excluded.modified"
                "          THEN MIN(since, excluded.since) ELSE excluded.since END,"
                "  observations = CASE WHEN etag = excluded.etag AND modified = excluded.modified"
                "          THEN observations + (cycle <> excluded.cycle) ELSE 1 END,"
                "  etag = excluded.etag, modified = excluded.modified, cycle = excluded.cycle",
                (micros(now), cycle),
            )
            connection.exec_driver_sql("DELETE FROM unreferenced WHERE cycle <> ?", (cycle,))
            # Both are in key order by now, so this join is one pass over each.
            connection.exec_driver_sql(
                "INSERT INTO scratch.observed SELECT l.n, u.since, u.observations"
                " FROM scratch.listing l JOIN unreferenced u ON u.key = l.key"
            )

        await self._database.run(work)

    async def candidates(self, now: datetime, *, after: int = 0, limit: int = 5_000) -> CandidatePage:
        """A page of listed objects that no reference names. Unobserved ones count as free since ``now``."""

        def work(connection: Connection) -> CandidatePage:
            # The driver's own cursor: SQLAlchemy's rows would double the time of this, the longest query.
            cursor = connection.connection.cursor()
            rows = cursor.execute(_CANDIDATES, (after, limit)).fetchall()
            cursor.close()
            found = [
                Candidate(
                    ObjectInfo(key, size, etag, moment(modified), version, storage_class, bool(odd)),
                    now if since is None else moment(since),
                    observations or 0,
                )
                for _, key, size, etag, modified, version, storage_class, odd, since, observations in rows
            ]
            return CandidatePage(found, rows[-1][0] if len(rows) == limit else None)

        return await self._database.run(work)

    async def candidates_among(self, objects: Sequence[ObjectInfo], now: datetime) -> Sequence[Candidate]:
        """These very objects with what was observed of them; the others count as free since ``now``."""
        one = "SELECT since, observations FROM unreferenced WHERE key = ? AND etag = ? AND modified = ?"

        def work(connection: Connection) -> list[Candidate]:
            found: list[Candidate] = []
            for info in objects:
                row = connection.exec_driver_sql(
                    one, (info.key, info.etag, micros(info.last_modified))
                ).first()
                found.append(Candidate(info, moment(row[0]), row[1]) if row else Candidate(info, now, 0))
            return found

        return await self._database.run(work)

    async def forget(self, keys: Collection[str]) -> None:
        """These keys turned out to be referenced, or were restored: their grace begins anew."""

        def work(connection: Connection) -> None:
            connection.exec_driver_sql("DELETE FROM unreferenced WHERE key = ?", [(key,) for key in keys])

        if keys:
            await self._database.run(work)
