"""How long references were gone before they came back: noted as it happens, for :mod:`s3gc.backtest`.

Small and bounded: a row for each absence that ended, one for each cycle, and one for each object that went
while nothing named it. What doesn't fit any more is counted. Nothing here is read when a deletion is decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import TYPE_CHECKING

from attrs import frozen

from s3gc.registry import _pages
from s3gc.registry._keys import key_hash
from s3gc.registry._times import micros, moment

if TYPE_CHECKING:
    from s3gc.registry._database import Database

SCHEMA = """-- cycles that noted what nothing names, by the store's clock
CREATE TABLE IF NOT EXISTS observed (at INTEGER PRIMARY KEY);
-- a key that was named again: free since, last seen free, first seen named
CREATE TABLE IF NOT EXISTS absences (
  key TEXT NOT NULL, since INTEGER NOT NULL, seen INTEGER NOT NULL, back INTEGER NOT NULL,
  observations INTEGER NOT NULL, modified INTEGER NOT NULL, how TEXT NOT NULL,
  PRIMARY KEY (key, since)) WITHOUT ROWID;
-- objects that left the bucket while nothing named them
CREATE TABLE IF NOT EXISTS gone (
  key_hash INTEGER PRIMARY KEY, key TEXT NOT NULL, since INTEGER NOT NULL, seen INTEGER NOT NULL,
  observations INTEGER NOT NULL, modified INTEGER NOT NULL);
"""

REFERENCED = "referenced"
"""A cycle found a row that names the key, its folder or its parent."""
SPOKEN_OF = "spoken_of"
"""A change named the key, and it is free again: a reference came and went."""
FOUND = "found"
"""The direct read of a sweep found a row that names the key."""
CLAIMED = "claimed"
"""An application claimed the key."""
AFTER_IT_WENT = "after_it_went"
"""A row named the key when the object was gone."""

MOST_ABSENCES = 20_000
"""Absences kept. Of more, the shortest ones are only counted: a policy fails on the longest."""

MOST_CYCLES = 10_000
"""Cycles remembered."""

MOST_GONE = 200_000
"""Objects that went and are still watched for a late reference; the newest."""

_CHUNK = 10_000

_FIELDS = "key, since, seen, back, observations, modified, how"


@frozen
class NotedAbsence:
    """One absence, as the registry noted it."""

    key: str
    since: datetime  # the registry counted it as free from here on
    after: datetime | None  # the cycle before, which knew it to be named; None: nobody knows
    seen: datetime  # the last cycle that saw it free
    back: datetime  # when it was seen to be named again
    observations: int  # cycles that saw it free
    modified: datetime  # of the object
    how: str


@frozen
class NotedAbsences:
    """All that the registry has."""

    begun: datetime | None  # the first cycle that noted; None: there was none
    last: datetime | None
    cycles: int
    absences: Sequence[NotedAbsence]
    dropped: int  # shorter ones that are only counted
    waiting: int  # keys that are free at the last cycle
    gone: int  # objects that went and are still watched


class Absences:
    """What :mod:`s3gc.backtest` reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> NotedAbsences:
        """Everything noted so far.

        Raises:
            S3GCError: the registry can't be read.
        """

        def work(connection: Connection) -> NotedAbsences:
            def one(query: str) -> int | None:
                found: int | None = connection.execute(query).fetchone()[0]
                return found

            rows = connection.execute(
                f"SELECT {_FIELDS}, (SELECT MAX(o.at) FROM observed o WHERE o.at < a.since)"
                " FROM absences a ORDER BY key, since"
            )
            absences = [
                NotedAbsence(
                    key,
                    moment(since),
                    None if after is None else moment(after),
                    moment(seen),
                    moment(back),
                    observations,
                    moment(modified),
                    how,
                )
                for key, since, seen, back, observations, modified, how, after in rows
            ]
            begun = one("SELECT MIN(at) FROM observed")
            last = one("SELECT MAX(at) FROM observed")
            return NotedAbsences(
                None if begun is None else moment(begun),
                None if last is None else moment(last),
                one("SELECT COUNT(*) FROM observed") or 0,
                absences,
                _dropped(connection),
                one("SELECT COUNT(*) FROM unreferenced") or 0,
                one("SELECT COUNT(*) FROM gone") or 0,
            )

        return await self._database.run(work)


# ------------------------------------------------------------------ called where `unreferenced` is changed


def named_again(connection: Connection, rows: Iterable[tuple[str, int, int, int]], at: int, how: str) -> None:
    """Rows that leave `unreferenced` (key, since, observations, modified), because something named them.

    Args:
        at: when that was seen, in microseconds.
    """
    last = connection.execute("SELECT MAX(at) FROM observed").fetchone()[0]
    connection.executemany(
        f"INSERT OR REPLACE INTO absences ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (key, since, max(since, last or since), max(since, at), observations, modified, how)
            for key, since, observations, modified in rows
        ),
    )


def leaving(connection: Connection, keys: Iterable[str], at: datetime, how: str) -> None:
    """Something names these keys; of those that are free, note it. Call it before they are forgotten."""
    for key in keys:
        row = connection.execute(
            "SELECT key, since, observations, modified FROM unreferenced WHERE key = ?", (key,)
        ).fetchone()
        if row is not None:
            named_again(connection, [row], micros(at), how)


def not_free_any_more(connection: Connection, cycle: str, now: datetime) -> None:
    """Of the keys that this cycle didn't see free: those that are listed were named, the others went."""
    at = micros(now)
    after = ""
    while True:
        rows = connection.execute(
            "SELECT key, since, observations, modified FROM unreferenced"
            " WHERE key > ? AND cycle <> ? ORDER BY key LIMIT ?",
            (after, cycle, _CHUNK),
        ).fetchall()
        if not rows:
            break
        after = rows[-1][0]
        listed = _pages.among(connection, [row[0] for row in rows])
        named_again(connection, [row for row in rows if row[0] in listed], at, REFERENCED)
        last = connection.execute("SELECT MAX(at) FROM observed").fetchone()[0]
        connection.executemany(
            "INSERT OR REPLACE INTO gone VALUES (?, ?, ?, ?, ?, ?)",
            [
                (key_hash(key), key, since, max(since, last or since), observations, modified)
                for key, since, observations, modified in rows
                if key not in listed
            ],
        )


def end_of_cycle(connection: Connection, now: datetime) -> None:
    """A cycle has noted what is free: look for late references to what went, and keep it all small."""
    at = micros(now)
    late = connection.execute(
        "SELECT key, since, observations, modified FROM gone g"
        " WHERE EXISTS (SELECT 1 FROM refs r WHERE r.key_hash = g.key_hash)"
        " OR EXISTS (SELECT 1 FROM touched t WHERE t.key_hash = g.key_hash)"
    ).fetchall()
    if late:
        there = _pages.among(connection, [row[0] for row in late])  # somebody put it there again
        named_again(connection, [row for row in late if row[0] not in there], at, AFTER_IT_WENT)
        connection.executemany("DELETE FROM gone WHERE key_hash = ?", [(key_hash(row[0]),) for row in late])
    connection.execute("INSERT OR IGNORE INTO observed VALUES (?)", (at,))
    connection.execute(
        "DELETE FROM observed WHERE at <= (SELECT at FROM observed ORDER BY at DESC LIMIT 1 OFFSET ?)",
        (MOST_CYCLES,),
    )
    connection.execute(
        "DELETE FROM gone WHERE key_hash IN (SELECT key_hash FROM gone ORDER BY seen DESC LIMIT -1 OFFSET ?)",
        (MOST_GONE,),
    )
    dropped = connection.execute(
        "DELETE FROM absences WHERE (key, since) IN (SELECT key, since FROM absences"
        " ORDER BY back - since DESC, back DESC LIMIT -1 OFFSET ?)",
        (MOST_ABSENCES,),
    ).rowcount
    if dropped:
        connection.execute(
            "INSERT OR REPLACE INTO meta VALUES ('absences_dropped', ?)",
            (str(_dropped(connection) + dropped),),
        )


def begin_anew(connection: Connection) -> None:
    """What was free is forgotten, so what is told from here on is told since the next cycle."""
    connection.execute("DELETE FROM observed")


def _dropped(connection: Connection) -> int:
    row = connection.execute("SELECT value FROM meta WHERE name = 'absences_dropped'").fetchone()
    return int(row[0]) if row else 0
