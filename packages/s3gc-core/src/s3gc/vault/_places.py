"""Where every backup is and since when its object is gone: the journal, folded into a database on disk.

A journal can have tens of millions of entries, so this isn't held in memory. The database is a temporary file
without a name: a crash leaves nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from attrs import frozen

from s3gc import _threads
from s3gc.abc import Journal
from s3gc.journal_events import (
    BACKUP_FOUND,
    BACKUP_REMOVED,
    BACKUPS,
    DELETED,
    OPERATION_COMPLETED,
    OPERATION_FAILED,
    OPERATION_RECOVERED,
    OPERATION_STARTED,
    OVERWRITTEN,
    REPACKED,
)
from s3gc.model import JournalEntry
from s3gc.vault.packs import parse_location
from s3gc.vault.records import record_from_json

BATCH = 2_000
"""Entries taken over in one stay in a worker thread."""

_ENDS = {OPERATION_COMPLETED, OPERATION_FAILED, OPERATION_RECOVERED}
_READ = BACKUPS | _ENDS | {DELETED, OVERWRITTEN, REPACKED, BACKUP_REMOVED, OPERATION_STARTED}

_TABLES = """
CREATE TABLE places (
    location TEXT, key TEXT, pack TEXT, operation TEXT, seq INTEGER, size INTEGER, stored INTEGER,
    codec TEXT, backed REAL, gone REAL, gone_by TEXT, doomed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (location, key)
) WITHOUT ROWID;
CREATE TABLE open_operations (id TEXT PRIMARY KEY);
"""


@frozen
class PackPlan:
    """What a removal would do to one pack."""

    pack: str
    doomed: int  # backups
    doomed_bytes: int  # of their frames
    kept: int
    kept_bytes: int


@frozen
class CodedPack:
    """A pack with backups that need more than zstd."""

    pack: str
    coded: int  # backups that do
    others: int
    bytes: int  # of all frames


@frozen
class Place:
    """One backup in a pack."""

    seq: int  # of the entry that has its record
    operation: str  # that backed it up
    doomed: bool


class Places:
    """The fold. Used as a context manager."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(_TABLES)

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def load(self, journal: Journal) -> None:
        """Read the journal once, from its beginning.

        Raises:
            VaultCorrupt: an entry isn't what was written.
        """
        batch: list[JournalEntry] = []
        async for entry in journal.read(events=_READ):
            batch.append(entry)
            if len(batch) >= BATCH:
                full, batch = batch, []
                await _threads.run(lambda full=full: self._take(full))  # type: ignore[misc]
        await _threads.run(lambda: self._take(batch))
        await _threads.run(lambda: self._database.execute("CREATE INDEX by_pack ON places (pack)"))

    def _take(self, entries: Sequence[JournalEntry]) -> None:
        self._database.execute("BEGIN")
        for entry in entries:
            self._take_one(entry)
        self._database.execute("COMMIT")

    def _take_one(self, entry: JournalEntry) -> None:
        execute = self._database.execute
        if entry.event == OPERATION_STARTED:
            execute("INSERT OR IGNORE INTO open_operations VALUES (?)", (entry.operation_id,))
        elif entry.event in _ENDS:
            execute("DELETE FROM open_operations WHERE id = ?", (entry.operation_id,))
        elif entry.event == BACKUP_REMOVED:
            execute("DELETE FROM places WHERE location = ? AND key = ?", (entry.data["from"], entry.key))
        else:
            record = record_from_json(entry.data["backup"])
            place, at = (record.location, record.key), entry.at.timestamp()
            pack = parse_location(record.location)[0]
            if entry.event in BACKUPS:
                # Of a backup that a rebuild found nobody knows when its object went: at the latest now.
                gone = at if entry.event == BACKUP_FOUND else None
                sizes = (record.size, record.stored_size, record.codec)
                row = (*place, pack, entry.operation_id, entry.seq, *sizes, at, gone)
                execute("INSERT OR IGNORE INTO places VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0)", row)
            elif entry.event == REPACKED:
                execute(
                    "UPDATE places SET location = ?, pack = ?, seq = ?, stored = ?, codec = ? "
                    "WHERE location = ? AND key = ?",
                    (
                        place[0],
                        pack,
                        entry.seq,
                        record.stored_size,
                        record.codec,
                        entry.data["from"],
                        entry.key,
                    ),
                )
            else:
                execute(
                    "UPDATE places SET gone = ?, gone_by = ? WHERE location = ? AND key = ?",
                    (at, entry.operation_id, *place),
                )

    # ------------------------------------------------------------------ what to remove

    def doom_older(self, than: Callable[[str], datetime | None]) -> None:
        """Those made before a time, whose object went before it, too, in an operation that has ended.

        Args:
            than: by key; None: they stay.
        """

        def limit(key: str) -> float:
            moment = than(key)
            return float("-inf") if moment is None else moment.astimezone(UTC).timestamp()

        self._database.create_function("limit_of", 1, limit)
        self._database.execute(
            "UPDATE places SET doomed = 1 WHERE max(backed, gone) < limit_of(key) "
            "AND (gone_by IS NULL OR gone_by NOT IN (SELECT id FROM open_operations))"
        )

    def doom_key(self, key: str) -> int:
        """All of one key. How many there are."""
        return self._database.execute("UPDATE places SET doomed = 1 WHERE key = ?", (key,)).rowcount

    def open_operation_of(self, key: str) -> str | None:
        """An operation that hasn't ended and has to do with the key."""
        found = self._database.execute(
            "SELECT id FROM places JOIN open_operations ON id IN (operation, gone_by) WHERE key = ? LIMIT 1",
            (key,),
        ).fetchone()
        return str(found[0]) if found else None

    def packs(self) -> list[PackPlan]:
        """The packs with something doomed, oldest first."""
        rows = self._database.execute(
            "SELECT pack, sum(doomed), sum(doomed * stored), sum(1 - doomed), sum((1 - doomed) * stored) "
            "FROM places GROUP BY pack HAVING sum(doomed) > 0 ORDER BY pack"
        )
        return [PackPlan(*row) for row in rows]

    def coded_packs(self) -> list[CodedPack]:
        """The packs with backups by other codecs than zstd and none, oldest first."""
        coded = "codec NOT IN ('zstd', 'store')"
        rows = self._database.execute(
            f"SELECT pack, sum({coded}), sum(NOT {coded}), sum(stored) "
            f"FROM places GROUP BY pack HAVING sum({coded}) > 0 ORDER BY pack"
        )
        return [CodedPack(*row) for row in rows]

    def of_pack(self, pack: str) -> list[Place]:
        """Its backups, in the order of the entries that have their records."""
        rows = self._database.execute(
            "SELECT seq, operation, doomed FROM places WHERE pack = ? ORDER BY seq", (pack,)
        )
        return [Place(seq, operation, bool(doomed)) for seq, operation, doomed in rows]
