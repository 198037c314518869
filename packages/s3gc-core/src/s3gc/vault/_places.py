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
    BYTES_MOVED,
    DELETED,
    OPERATION_COMPLETED,
    OPERATION_FAILED,
    OPERATION_RECOVERED,
    OPERATION_STARTED,
    OVERWRITTEN,
    PACK_RETIRED,
    REPACKED,
)
from s3gc.model import BackupRecord, JournalEntry, SameAs
from s3gc.vault.packs import parse_location
from s3gc.vault.records import record_from_json, same_as_from_json

BATCH = 2_000
"""Entries taken over in one stay in a worker thread."""

_ENDS = {OPERATION_COMPLETED, OPERATION_FAILED, OPERATION_RECOVERED}
_READ = (
    BACKUPS
    | _ENDS
    | {DELETED, OVERWRITTEN, REPACKED, BACKUP_REMOVED, BYTES_MOVED, PACK_RETIRED, OPERATION_STARTED}
)

_TABLES = """
CREATE TABLE places (
    location TEXT, key TEXT, pack TEXT, operation TEXT, seq INTEGER, size INTEGER, stored INTEGER,
    codec TEXT, backed REAL, gone REAL, gone_by TEXT, doomed INTEGER NOT NULL DEFAULT 0,
    shared TEXT, shared_pack TEXT, shared_key TEXT,
    PRIMARY KEY (location, key)
) WITHOUT ROWID;
CREATE INDEX sharers ON places (shared) WHERE shared IS NOT NULL;
CREATE INDEX sharers_by_pack ON places (shared_pack) WHERE shared_pack IS NOT NULL;
CREATE TABLE stale (pack TEXT, key TEXT, PRIMARY KEY (pack, key)) WITHOUT ROWID;
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
    key: str
    location: str
    shared: SameAs | None = None  # whose bytes it shares


_PLACE = "seq, operation, doomed, key, location, shared_key, shared"


def _place(
    seq: int, operation: str, doomed: int, key: str, location: str, shared_key: str | None, shared: str | None
) -> Place:
    same_as = None if shared_key is None or shared is None else SameAs(shared_key, shared)
    return Place(seq, operation, bool(doomed), key, location, same_as)


def _shared(same_as: SameAs | None) -> tuple[str | None, str | None, str | None]:
    if same_as is None:
        return None, None, None
    return same_as.location, parse_location(same_as.location)[0], same_as.key


class Places:
    """The fold. Used as a context manager."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(_TABLES)
        self._doomed_key = ""

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
            self.removed(str(entry.data["from"]), str(entry.key))
        elif entry.event == BYTES_MOVED:
            self.bytes_moved(str(entry.data["from"]), same_as_from_json(entry.data["to"]))
        elif entry.event == PACK_RETIRED:
            self.retired(str(entry.data["pack"]))
        else:
            record = record_from_json(entry.data["backup"])
            place, at = (record.location, record.key), entry.at.timestamp()
            pack = parse_location(record.location)[0]
            if entry.event in BACKUPS:
                # Of a backup that a rebuild found nobody knows when its object went: at the latest now.
                gone = at if entry.event == BACKUP_FOUND else None
                sizes = (record.size, record.stored_size, record.codec)
                row = (
                    *place,
                    pack,
                    entry.operation_id,
                    entry.seq,
                    *sizes,
                    at,
                    gone,
                    *_shared(record.same_as),
                )
                marks = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0, ?, ?, ?"
                execute(f"INSERT OR IGNORE INTO places VALUES ({marks})", row)
            elif entry.event == REPACKED:
                self.moved(str(entry.data["from"]), record, entry.seq)
            else:
                execute(
                    "UPDATE places SET gone = ?, gone_by = ? WHERE location = ? AND key = ?",
                    (at, entry.operation_id, *place),
                )

    # ------------------------------------------------------------------ what became of them

    def moved(self, old: str, record: BackupRecord, seq: int | None = None) -> None:
        """A backup is at another place now; ``seq``: of the entry that says so."""
        execute = self._database.execute
        pack = parse_location(record.location)[0]
        execute(
            "UPDATE places SET location = ?, pack = ?, seq = coalesce(?, seq), stored = ?, codec = ?, "
            "shared = ?, shared_pack = ?, shared_key = ? WHERE location = ? AND key = ?",
            (
                record.location,
                pack,
                seq,
                record.stored_size,
                record.codec,
                *_shared(record.same_as),
                old,
                record.key,
            ),
        )
        # Its old frame is in the way of `forget` until its pack is retired, mostly at once.
        execute("INSERT OR IGNORE INTO stale VALUES (?, ?)", (parse_location(old)[0], record.key))

    def removed(self, location: str, key: str) -> None:
        """A backup is gone."""
        self._database.execute("DELETE FROM places WHERE location = ? AND key = ?", (location, key))

    def retired(self, pack: str) -> None:
        """A pack is gone, with whatever was left in it."""
        self._database.execute("DELETE FROM stale WHERE pack = ?", (pack,))

    def bytes_moved(self, old: str, to: SameAs) -> None:
        """What others share is at another backup now."""
        self._database.execute(
            "UPDATE places SET shared = ?, shared_pack = ?, shared_key = ? WHERE shared = ?",
            (*_shared(to), old),
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
        """All of one key. How many there are, frames without a backup included."""
        self._doomed_key = key
        found = self._database.execute("UPDATE places SET doomed = 1 WHERE key = ?", (key,)).rowcount
        (stale,) = self._database.execute("SELECT count(*) FROM stale WHERE key = ?", (key,)).fetchone()
        return int(found + stale)

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
            "FROM places GROUP BY pack "
            "HAVING sum(doomed) > 0 OR pack IN (SELECT pack FROM stale WHERE key = ?) ORDER BY pack",
            (self._doomed_key,),
        )
        return [PackPlan(*row) for row in rows]

    def needed_elsewhere(self, packs: Sequence[PackPlan]) -> tuple[int, int]:
        """Doomed backups in these packs whose bytes others share that stay: how many, and bytes of frames."""
        found = size = 0
        for plan in packs:
            row = self._database.execute(
                "SELECT count(*), coalesce(sum(stored), 0) FROM places AS one WHERE pack = ? AND doomed "
                "AND EXISTS (SELECT 1 FROM places WHERE shared = one.location AND NOT doomed)",
                (plan.pack,),
            ).fetchone()
            found, size = found + row[0], size + row[1]
        return found, size

    def coded_packs(self) -> list[CodedPack]:
        """The packs with backups by other codecs than zstd and none, oldest first."""
        coded = "codec NOT IN ('zstd', 'store', 'same')"
        rows = self._database.execute(
            f"SELECT pack, sum({coded}), sum(NOT {coded}), sum(stored) "
            f"FROM places GROUP BY pack HAVING sum({coded}) > 0 ORDER BY pack"
        )
        return [CodedPack(*row) for row in rows]

    def of_pack(self, pack: str) -> list[Place]:
        """Its backups, in the order of the entries that have their records."""
        rows = self._database.execute(f"SELECT {_PLACE} FROM places WHERE pack = ? ORDER BY seq", (pack,))
        return [_place(*row) for row in rows]

    def sharers(self, pack: str) -> dict[SameAs, Place]:
        """Whose bytes in a pack others share, each with one that does: best one that stays, and stays there.

        Those that go together with the pack don't count.
        """
        rows = self._database.execute(
            f"SELECT shared_key, shared, {_PLACE} FROM places "
            "WHERE shared_pack = ? AND NOT (doomed AND pack = ?) ORDER BY doomed, pack <> ?, seq",
            (pack, pack, pack),
        )
        found: dict[SameAs, Place] = {}
        for key, location, *place in rows:
            found.setdefault(SameAs(key, location), _place(*place))
        return found
