"""The listing of one cycle, its difference with the references, and how long keys have been free."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from attrs import frozen

from s3gc.model import Candidate, ObjectInfo
from s3gc.registry import _absences, _pages
from s3gc.registry._database import Database
from s3gc.registry._keys import key_hash
from s3gc.registry._times import micros, moment

_CHUNK = 500  # values in one IN (…); SQLite bounds the number of parameters
_PAGE = 10_000  # free keys whose protectors are worked out at once

_FREE = (
    "SELECT f.n, f.key, f.size, f.etag, f.modified, f.version_id, f.storage_class, f.ambiguous,"
    " u.since, u.observations FROM scratch.free f LEFT JOIN unreferenced u ON u.key = f.key"
    "  AND u.etag = f.etag AND u.modified = f.modified AND u.cycle = ?"
    " WHERE {where}"
)
_CANDIDATES = _FREE.format(where="f.n > ?") + " ORDER BY f.n LIMIT ?"

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
        self._observed: str | None = None  # the cycle that noted its candidates

    async def begin(self) -> None:
        """Forget the listing before."""
        await self._database.clear_scratch()
        self._count = 0
        self._observed = None

    async def add(self, page: Sequence[ObjectInfo]) -> None:
        """Take a page of the listing. Pages may come in any order.

        Raises:
            StoreError: its keys don't strictly increase.
        """
        self._count += await self._database.run(functools.partial(_pages.put, page=page))

    async def finish(self) -> None:
        """The listing is complete.

        Raises:
            StoreError: its pages overlap.
        """
        await self._database.run(_pages.rank)

    @property
    def count(self) -> int:
        """Objects listed, without our own."""
        return self._count

    async def compare(self) -> None:
        """Find the listed objects that no reference names. Call it when the references are up to date."""

        def clear(connection: Connection) -> None:
            connection.execute("DELETE FROM scratch.free")
            connection.execute("DELETE FROM scratch.hits")

        def work(connection: Connection, after: int) -> int | None:
            last, hits = _pages.compare(connection, after)
            connection.executemany(
                "INSERT INTO scratch.hits VALUES (?, ?)"
                " ON CONFLICT (col) DO UPDATE SET refs = refs + excluded.refs",
                hits.items(),
            )
            return last

        await self._database.run(clear)
        after: int | None = 0
        while after is not None:
            after = await self._database.run(functools.partial(work, after=after))

    async def spare(self, protectors: Protectors) -> Mapping[str, int]:
        """Of the objects that :meth:`compare` found, drop those that live by a folder or a parent.

        Returns how many were spared ``by_folder``, and how many only as ``derived``.
        """
        spared = [0, 0]

        def page(connection: Connection, after: int) -> int | None:
            rows = connection.execute(
                "SELECT n, key FROM scratch.free WHERE n > ? ORDER BY n LIMIT ?", (after, _PAGE)
            ).fetchall()
            found = [(n, protectors(key)) for n, key in rows]
            connection.execute("DELETE FROM scratch.spared")
            for kind in (0, 1):
                hashes = [(n, value) for n, by_kind in found for value in by_kind[kind]]
                if hashes:
                    connection.execute("DELETE FROM scratch.protectors")
                    connection.executemany("INSERT INTO scratch.protectors VALUES (?, ?)", hashes)
                    spared[kind] += connection.execute(
                        "INSERT OR IGNORE INTO scratch.spared SELECT p.n FROM scratch.protectors p"
                        " WHERE EXISTS (SELECT 1 FROM refs r WHERE r.key_hash = p.key_hash)"
                    ).rowcount
                    # A change that spoke of the folder or the parent spoke of the key.
                    connection.execute(
                        "INSERT INTO touched SELECT f.key_hash, MAX(t.at) FROM scratch.protectors p"
                        " JOIN touched t ON t.key_hash = p.key_hash JOIN scratch.free f ON f.n = p.n"
                        " WHERE true GROUP BY f.key_hash"
                        " ON CONFLICT (key_hash) DO UPDATE SET at = MAX(at, excluded.at)"
                    )
            connection.execute("DELETE FROM scratch.free WHERE n IN (SELECT n FROM scratch.spared)")
            return rows[-1][0] if len(rows) == _PAGE else None

        after: int | None = 0
        while after is not None:
            after = await self._database.run(functools.partial(page, after=after), writes=True)
        return {"by_folder": spared[0], "derived": spared[1]}

    async def listed_among(self, hashes: Mapping[int, str]) -> Sequence[str]:
        """Of keys by their hash: those that the listing has."""

        def work(connection: Connection) -> list[str]:
            there = _pages.among(connection, hashes.values())
            return [key for key in hashes.values() if key in there]

        return await self._database.run(work)

    async def observe(self, cycle: str, now: datetime) -> None:
        """Note that each candidate was seen unreferenced in this cycle, and forget keys that were not.

        An object that was overwritten meanwhile begins anew; so does a key that was referenced in between.
        Where a change told when a key's last reference went, or only spoke of it, its time begins there.
        """

        def work(connection: Connection) -> None:
            run = connection.execute
            spoken_of = run(
                "DELETE FROM unreferenced WHERE key IN (SELECT f.key FROM scratch.free f"
                " CROSS JOIN touched t ON t.key_hash = f.key_hash)"
                " RETURNING key, since, observations, modified"
            )
            _absences.named_again(connection, spoken_of, micros(now), _absences.SPOKEN_OF)
            run(
                "INSERT INTO unreferenced (key, etag, modified, since, observations, cycle)"
                " SELECT f.key, f.etag, f.modified, COALESCE(t.at, ?), 1, ? FROM scratch.free f"
                " LEFT JOIN touched t ON t.key_hash = f.key_hash WHERE true ORDER BY f.n"
                " ON CONFLICT (key) DO UPDATE SET"
                "  since = CASE WHEN etag = excluded.etag AND modified = excluded.modified"
                "          THEN MIN(since, excluded.since) ELSE excluded.since END,"
                "  observations = CASE WHEN etag = excluded.etag AND modified = excluded.modified"
                "          THEN observations + (cycle <> excluded.cycle) ELSE 1 END,"
                "  etag = excluded.etag, modified = excluded.modified, cycle = excluded.cycle",
                (micros(now), cycle),
            )
            _absences.not_free_any_more(connection, cycle, now)
            run("DELETE FROM unreferenced WHERE cycle <> ?", (cycle,))
            _absences.end_of_cycle(connection, now)
            run("DELETE FROM touched")  # what they told stands in `unreferenced` now

        await self._database.run(work, writes=True)
        self._observed = cycle

    async def candidates(self, now: datetime, *, after: int = 0, limit: int = 5_000) -> CandidatePage:
        """A page of listed objects that no reference names. Unobserved ones count as free since ``now``."""

        def work(connection: Connection) -> CandidatePage:
            rows = connection.execute(_CANDIDATES, (self._observed, after, limit)).fetchall()
            found = [_candidate(row, now) for row in rows]
            return CandidatePage(found, rows[-1][0] if len(rows) == limit else None)

        return await self._database.run(work)

    async def stands(
        self, keys: Collection[str], now: datetime
    ) -> tuple[frozenset[str], Mapping[str, Candidate]]:
        """Of these keys: those that the listing has, and of those the ones that no reference names."""

        def work(connection: Connection) -> tuple[frozenset[str], dict[str, Candidate]]:
            listed = frozenset(_pages.among(connection, keys))
            # One pass over what is free, however many keys.
            rows = connection.execute(
                _FREE.format(where="f.key_hash IN (SELECT value FROM json_each(?))"),
                (self._observed, json.dumps([key_hash(key) for key in listed])),
            )
            found = (_candidate(row, now) for row in rows)
            return listed, {one.object.key: one for one in found if one.object.key in listed}

        return await self._database.run(work, scratch=True)

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

    async def forget(self, keys: Collection[str], *, found: datetime | None = None) -> None:
        """These keys turned out to be referenced, or were restored: their grace begins anew.

        Args:
            found: when the direct read found rows that name them; None where the journal tells why.
        """

        def work(connection: Connection) -> None:
            if found is not None:
                _absences.leaving(connection, keys, found, _absences.FOUND)
            connection.executemany("DELETE FROM unreferenced WHERE key = ?", [(key,) for key in keys])

        if keys:
            await self._database.run(work)


def _candidate(row: tuple[Any, ...], now: datetime) -> Candidate:
    """A row of ``_FREE``. What was not observed counts as free since ``now``."""
    _, key, size, etag, modified, version, storage_class, odd, since, observations = row
    return Candidate(
        ObjectInfo(key, size, etag, moment(modified), version, storage_class, bool(odd)),
        now if since is None else moment(since),
        observations or 0,
    )


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
