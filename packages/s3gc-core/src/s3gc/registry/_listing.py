"""The listing of one cycle, its difference with the references, and how long keys have been free."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection

from attrs import frozen

from s3gc.model import Candidate, ObjectInfo
from s3gc.registry._database import Database
from s3gc.registry._keys import key_hash
from s3gc.registry._times import micros, moment

_CHUNK = 500  # values in one IN (…); SQLite bounds the number of parameters
_PAGE = 10_000  # listed keys whose protectors are worked out at once

_FREE = (
    "NOT EXISTS (SELECT 1 FROM refs r WHERE r.key_hash = l.key_hash)"
    " AND NOT EXISTS (SELECT 1 FROM scratch.spared s WHERE s.n = l.n)"
)
"""A listed object that no reference protects."""

_CANDIDATES = (
    "SELECT l.n, l.key, l.size, l.etag, l.modified, l.version_id, l.storage_class, l.ambiguous,"
    " u.since, u.observations FROM scratch.listing l LEFT JOIN scratch.observed u ON u.n = l.n"
    f" WHERE l.n > ? AND {_FREE} ORDER BY l.n LIMIT ?"
)

Protectors = Callable[[str], tuple[Sequence[int], Sequence[int]]]
"""Key → hashes whose references protect it besides its own: (folders, parents)."""


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
        await self._database.clear_scratch()
        self._count = 0

    async def add(self, page: Sequence[ObjectInfo]) -> None:
        """Take a page of the listing."""

        def work(connection: Connection) -> None:
            connection.executemany(
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
            connection.execute("CREATE INDEX scratch.listed ON listing (key_hash)")

        await self._database.run(work)

    @property
    def count(self) -> int:
        """Objects listed."""
        return self._count

    async def spare(self, protectors: Protectors) -> Mapping[str, int]:
        """Find the listed objects that are protected by a folder or a parent that a row names.

        Call it when the references are up to date. Returns how many were spared ``by_folder``, and how many
        only as ``derived``.
        """

        def page(connection: Connection, after: int) -> int | None:
            rows = connection.execute(
                "SELECT n, key FROM scratch.listing WHERE n > ? ORDER BY n LIMIT ?", (after, _PAGE)
            ).fetchall()
            found = [(n, protectors(key)) for n, key in rows]
            for kind in (0, 1):
                hashes = [(n, value) for n, by_kind in found for value in by_kind[kind]]
                if hashes:
                    connection.execute("DELETE FROM scratch.protectors")
                    connection.executemany("INSERT INTO scratch.protectors VALUES (?, ?)", hashes)
                    connection.execute(
                        "INSERT OR IGNORE INTO scratch.spared SELECT p.n, ? FROM scratch.protectors p"
                        " WHERE EXISTS (SELECT 1 FROM refs r WHERE r.key_hash = p.key_hash)",
                        (kind,),
                    )
                    # A change that spoke of the folder or the parent spoke of the key.
                    connection.execute(
                        "INSERT INTO touched SELECT l.key_hash, MAX(t.at) FROM scratch.protectors p"
                        " JOIN touched t ON t.key_hash = p.key_hash JOIN scratch.listing l ON l.n = p.n"
                        " WHERE true GROUP BY l.key_hash"
                        " ON CONFLICT (key_hash) DO UPDATE SET at = MAX(at, excluded.at)"
                    )
            return rows[-1][0] if len(rows) == _PAGE else None

        after: int | None = 0
        while after is not None:
            after = await self._database.run(functools.partial(page, after=after), writes=True)

        def count(connection: Connection) -> dict[str, int]:
            row = connection.execute(
                "SELECT COALESCE(SUM(1 - s.derived), 0), COALESCE(SUM(s.derived), 0) FROM scratch.spared s"
                " JOIN scratch.listing l ON l.n = s.n"
                " WHERE NOT EXISTS (SELECT 1 FROM refs r WHERE r.key_hash = l.key_hash)"
            ).fetchone()
            return {"by_folder": int(row[0]), "derived": int(row[1])}

        return await self._database.run(count)

    async def listed_among(self, hashes: Mapping[int, str]) -> Sequence[str]:
        """Of keys by their hash: those that the listing has."""

        def work(connection: Connection) -> list[str]:
            one = "SELECT key FROM scratch.listing WHERE key_hash = ?"
            found = []
            for value, key in hashes.items():
                rows = connection.execute(one, (value,)).fetchall()
                if any(row[0] == key for row in rows):
                    found.append(key)
            return found

        return await self._database.run(work)

    async def observe(self, cycle: str, now: datetime) -> None:
        """Note that each candidate was seen unreferenced in this cycle, and forget keys that were not.

        An object that was overwritten meanwhile begins anew; so does a key that was referenced in between.
        Where a change told when a key's last reference went, or only spoke of it, its time begins there.
        """

        def work(connection: Connection) -> None:
            run = connection.execute
            run("DELETE FROM unreferenced WHERE key IN (" + _TOUCHED_KEYS + ")")
            run(
                "INSERT INTO unreferenced (key, etag, modified, since, observations, cycle)"
                " SELECT l.key, l.etag, l.modified, COALESCE(t.at, ?), 1, ? FROM scratch.listing l"
                " LEFT JOIN touched t ON t.key_hash = l.key_hash"
                f" WHERE {_FREE}"
                " ON CONFLICT (key) DO UPDATE SET"
                "  since = CASE WHEN etag = excluded.etag AND modified = excluded.modified"
                "          THEN MIN(since, excluded.since) ELSE excluded.since END,"
                "  observations = CASE WHEN etag = excluded.etag AND modified = excluded.modified"
                "          THEN observations + (cycle <> excluded.cycle) ELSE 1 END,"
                "  etag = excluded.etag, modified = excluded.modified, cycle = excluded.cycle",
                (micros(now), cycle),
            )
            run("DELETE FROM unreferenced WHERE cycle <> ?", (cycle,))
            run("DELETE FROM touched")  # what they told stands in `unreferenced` now
            # Both are in key order by now, so this join is one pass over each.
            run(
                "INSERT INTO scratch.observed SELECT l.n, u.since, u.observations"
                " FROM scratch.listing l JOIN unreferenced u ON u.key = l.key"
            )

        await self._database.run(work, writes=True)

    async def candidates(self, now: datetime, *, after: int = 0, limit: int = 5_000) -> CandidatePage:
        """A page of listed objects that no reference names. Unobserved ones count as free since ``now``."""

        def work(connection: Connection) -> CandidatePage:
            rows = connection.execute(_CANDIDATES, (after, limit)).fetchall()
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

    async def candidates_among(
        self, objects: Sequence[ObjectInfo], now: datetime, protectors: Protectors
    ) -> Sequence[Candidate]:
        """These very objects with what was observed of them; the others count as free since ``now``.

        One that a change has spoken of since the last cycle is free since that change, and not observed.
        """
        one = "SELECT since, observations FROM unreferenced WHERE key = ? AND etag = ? AND modified = ?"

        def work(connection: Connection) -> list[Candidate]:
            found: list[Candidate] = []
            spoken = bool(connection.execute("SELECT 1 FROM touched LIMIT 1").fetchone())
            for info in objects:
                touched = _spoken_of(connection, info.key, protectors) if spoken else None
                row = connection.execute(one, (info.key, info.etag, micros(info.last_modified))).fetchone()
                if touched is not None:
                    found.append(Candidate(info, moment(touched), 0))
                else:
                    found.append(Candidate(info, moment(row[0]), row[1]) if row else Candidate(info, now, 0))
            return found

        return await self._database.run(work)

    async def forget(self, keys: Collection[str]) -> None:
        """These keys turned out to be referenced, or were restored: their grace begins anew."""

        def work(connection: Connection) -> None:
            connection.executemany("DELETE FROM unreferenced WHERE key = ?", [(key,) for key in keys])

        if keys:
            await self._database.run(work)


def _spoken_of(connection: Connection, key: str, protectors: Protectors) -> int | None:
    """When a change last spoke of the key, its folders or its parents; None: not since the last cycle."""
    folders, parents = protectors(key)
    hashes = (key_hash(key), *folders, *parents)
    moments: list[int] = []
    for start in range(0, len(hashes), _CHUNK):
        some = hashes[start : start + _CHUNK]
        marks = ", ".join("?" * len(some))
        at = connection.execute(
            f"SELECT MAX(at) FROM touched WHERE key_hash IN ({marks})",
            some,
        ).fetchone()[0]
        if at is not None:
            moments.append(int(at))
    return max(moments, default=None)


_TOUCHED_KEYS = "SELECT l.key FROM touched t JOIN scratch.listing l ON l.key_hash = t.key_hash"
"""Listed keys that a change has spoken of since the last cycle."""
