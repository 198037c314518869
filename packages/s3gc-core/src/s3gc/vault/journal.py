"""The journal in SQLite: append-only, hash-chained, durable on return.

Durability: write-ahead log with ``synchronous=FULL``, so each append is on disk when it returns, and
other processes read meanwhile. The log needs a local file system (shared memory), as SQLite says.

The chain binds every entry to all before it and to the vault and bucket. Times come from the clock that
is given; they are recorded as they are and may go back when that clock does: the order is ``seq``.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import anyio

from s3gc import _threads
from s3gc.abc import Journal
from s3gc.clock import Clock
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.journal_events import JOURNAL_HEAD_ADOPTED
from s3gc.model import AuditResult, BackupRecord, JournalDraft, JournalEntry
from s3gc.vault import _fs
from s3gc.vault._audit import audit
from s3gc.vault._chain import (
    APPLICATION_ID,
    COLUMNS,
    FORMAT,
    SCHEMA,
    Row,
    entry_of,
    genesis,
    insert,
    require_draft,
    rows_of,
)
from s3gc.vault._head import Head, HeadFile
from s3gc.vault._queries import Query, query
from s3gc.vault.records import canonical, record_from_json, time_to_text

JOURNAL_NAME = "journal.sqlite3"
HEAD_NAME = "journal.head"
BUSY_SECONDS = 30.0
"""How long to wait for another process that writes."""

T = TypeVar("T")


class SqliteJournal(Journal):
    """The journal of one vault.

    Args:
        folder: where ``journal.sqlite3`` and ``journal.head`` are.
        vault_id, bucket: what the chain begins with; ``bucket`` is the store's URL.
        clock: for the entries' times.
    """

    def __init__(self, folder: Path, *, vault_id: str, bucket: str, clock: Clock) -> None:
        self.path = folder / JOURNAL_NAME
        self.bucket = bucket
        self._vault_id = vault_id
        self._bucket_json = canonical(bucket)
        self._genesis = genesis(vault_id, bucket)
        self._clock = clock
        self._head_file = HeadFile(folder / HEAD_NAME)
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._last: Head | None = None
        self._refusal: str | None = "the journal is not open"
        self._writing = anyio.Lock()
        self._reading = anyio.Lock()

    # ------------------------------------------------------------------ opening

    async def create(self) -> None:
        """Make the journal's files, durably. An empty journal that a crash left is taken over.

        Raises:
            VaultError: there is a journal with entries, or the files can't be made.
        """
        await self._guarded(self._create)

    async def open(self, *, read_only: bool = False) -> None:
        """Open an existing journal.

        Raises:
            VaultError: it is missing, of a newer version, or can't be read.
            VaultCorrupt: it belongs to another vault or isn't a journal.
        """
        await self._guarded(lambda: self._open(read_only))

    async def aclose(self) -> None:
        """Close the files. May be called twice."""
        async with self._writing, self._reading:
            await _threads.run(self._close)

    @property
    def problem(self) -> str | None:
        """Why nothing can be appended, or None."""
        return self._refusal

    def _create(self) -> None:
        connection = self._connect(f"{self.path.as_uri()}?mode=rwc")
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            }
            if "entries" in tables:
                if connection.execute("SELECT 1 FROM entries LIMIT 1").fetchone():
                    raise VaultError(
                        f"{self.path} holds a journal and vault.json is missing: bring vault.json back "
                        "from a copy of the vault, or use another folder"
                    )
                connection.execute("ROLLBACK")
                connection.close()
                self.path.unlink()
                self._create()
                return
            connection.execute("ROLLBACK")
            connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id={APPLICATION_ID};"
                f"PRAGMA user_version={FORMAT};"
            )
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)", [("vault_id", self._vault_id), ("bucket", self.bucket)]
            )
            connection.execute("COMMIT")
        finally:
            connection.close()
        os.chmod(self.path, _fs.PRIVATE_FILE)
        self._head_file.create(Head(0, self._genesis))

    def _open(self, read_only: bool) -> None:
        if not self.path.exists():
            raise VaultError(
                f"{self.path} is missing: bring it back from a copy of the vault "
                "(the packs can be read without it)"
            )
        if not read_only:
            self._writer = self._connect(f"{self.path.as_uri()}?mode=rw")
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=1", "wal_autocheckpoint=4000"):
                self._writer.execute(f"PRAGMA {pragma}")
        self._reader = self._connect_reader(read_only)
        (version,) = self._reader.execute("PRAGMA user_version").fetchone()
        (application,) = self._reader.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise VaultCorrupt(f"{self.path} is not a journal of s3gc")
        if version != FORMAT:
            raise VaultError(f"{self.path} is of version {version}, known is {FORMAT}: update s3gc")
        meta = dict(self._reader.execute("SELECT name, value FROM meta").fetchall())
        if meta != {"vault_id": self._vault_id, "bucket": self.bucket}:
            raise VaultCorrupt(f"{self.path} and vault.json beside it don't belong together")
        self._refusal = "the vault was opened for reading only" if read_only else self._catch_up()

    def _catch_up(self) -> str | None:
        """Bring the head file up to date after a crash; say why not if journal and head contradict."""
        assert self._reader is not None
        head = self._head_file.read()
        self._last = last = self._last_of(self._reader)
        if head is None:
            return f"{self._head_file.path} is missing or damaged"
        if head.seq == 0:
            found: str | None = self._genesis
        else:
            row = self._reader.execute("SELECT hash FROM entries WHERE seq = ?", (head.seq,)).fetchone()
            found = row[0] if row else None
        if found != head.hash:
            return (
                f"{self._head_file.path} names entry {head.seq}, which the journal "
                f"{'lacks' if found is None else 'has with another hash'}"
            )
        if last.seq > head.seq:
            self._head_file.write(last)
        return None

    def _connect(self, uri: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        # Damaged text must come through to be found, not stop the reading.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        return connection

    def _connect_reader(self, read_only: bool) -> sqlite3.Connection:
        connection = self._connect(f"{self.path.as_uri()}?mode=ro")
        if not read_only:
            return connection
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            # On a read-only file system SQLite can't make the log's shared memory.
            connection.close()
            log = self.path.with_name(self.path.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise VaultError(
                    f"{log} must be merged into the journal, and the vault is read-only: open the vault "
                    "once where it can be written, or copy it to such a place"
                ) from error
            return self._connect(f"{self.path.as_uri()}?mode=ro&immutable=1")
        return connection

    def _close(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None
        self._refusal = "the journal is closed"
        self._head_file.close()

    # ------------------------------------------------------------------ writing

    async def append(self, drafts: Sequence[JournalDraft]) -> None:
        for draft in drafts:
            require_draft(draft)
        if not drafts:
            return
        async with self._writing:
            await self._guarded(lambda: self._append(drafts))

    def _append(self, drafts: Sequence[JournalDraft]) -> None:
        if self._refusal is not None or self._writer is None:
            raise self._refused()
        at = time_to_text(self._clock.now())
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            before = self._last_of(self._writer)
            if self._last is not None and before.seq < self._last.seq:
                self._refusal = f"the journal ends at {before.seq} and ended at {self._last.seq} before"
                raise self._refused()
            rows = rows_of(drafts, self._bucket_json, at, before.seq, before.hash)
            insert(self._writer, rows)
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        self._last = Head(rows[-1][0], rows[-1][-1])
        self._head_file.write(self._last)

    def _refused(self) -> VaultError:
        kind = VaultError if self._reader is None or self._writer is None else VaultCorrupt
        return kind(f"nothing can be added to the journal: {self._refusal}; see `audit verify`")

    async def adopt_head(self, reason: str) -> None:
        """Take the journal as it stands for whole, after ``audit verify`` was read by a person.

        The reason goes into the journal for ever. Only for a head file that was lost or contradicts.

        Raises:
            VaultError: there is nothing to adopt, the journal is read-only, or the reason is empty.
        """
        if not reason.strip():
            raise VaultError("say why the journal is to be taken for whole")
        async with self._writing:
            problem = self._refusal
            if problem is None or self._writer is None:
                raise VaultError("the journal and its head agree, or it is read-only: nothing to adopt")
            await self._guarded(self._adopt)
        await self.append(
            [JournalDraft(JOURNAL_HEAD_ADOPTED, "", None, {"reason": reason, "problem": problem})]
        )

    def _adopt(self) -> None:
        assert self._writer is not None
        self._last = self._last_of(self._writer)
        self._head_file.close()
        self._head_file.create(self._last)
        self._refusal = None

    # ------------------------------------------------------------------ reading

    async def read(
        self,
        *,
        key: str | None = None,
        prefix: str | None = None,
        operation_id: str | None = None,
        events: Collection[str] | None = None,
        after_seq: int = 0,
    ) -> AsyncIterator[JournalEntry]:
        """Entries that match, up to the last one at the time of the call, each checked against its hash.

        Raises:
            VaultCorrupt: an entry isn't what was written.
        """
        pages = self._pages(query(key, prefix, operation_id, events), after_seq)
        while (page := await self._read_locked(lambda: next(pages, None))) is not None:
            for row in page:
                yield entry_of(row, self.bucket, self._bucket_json)

    def _pages(self, wanted: Query, after: int) -> Iterator[list[Row]]:
        connection = self._open_reader()
        yield from wanted.pages(connection, after, self._last_of(connection).seq)

    async def count(self, events: Collection[str] | None = None) -> int:
        """How many entries there are, of all events or of these."""
        summary = await self.summary()
        return sum(n for event, n in summary.items() if events is None or event in events)

    async def summary(self) -> dict[str, int]:
        """How many entries there are of each event, by an index and without checking hashes."""
        sql = "SELECT event, count(*) FROM entries GROUP BY event"
        return await self._read_locked(lambda: dict(self._open_reader().execute(sql).fetchall()))

    async def backup_totals(self, events: Collection[str]) -> tuple[int, int]:
        """(count, bytes of the objects) of the backup records in entries of ``events``."""
        total_size = "coalesce(sum(json_extract(data, '$.backup.size')), 0)"
        marks = ", ".join("?" * len(events))
        sql = f"SELECT count(*), {total_size} FROM entries WHERE event IN ({marks})"
        count, total = await self._read_locked(
            lambda: self._open_reader().execute(sql, tuple(events)).fetchone()
        )
        return count, total

    async def records_at(self, numbers: Sequence[int]) -> list[BackupRecord]:
        """The backup records in these entries, in this order; what isn't one, or is damaged, is left out."""
        marks = ", ".join("?" * len(numbers))
        sql = f"SELECT {COLUMNS} FROM entries WHERE seq IN ({marks})"
        rows = await self._read_locked(lambda: self._open_reader().execute(sql, tuple(numbers)).fetchall())
        by_number = {row[0]: row for row in rows}
        found: list[BackupRecord] = []
        for number in numbers:
            try:
                entry = entry_of(by_number[number], self.bucket, self._bucket_json)
                found.append(record_from_json(entry.data["backup"]))
            except (KeyError, VaultError):
                continue  # `audit verify` tells of it
        return found

    async def mentions(self, text: str) -> list[str]:
        """The data (JSON text) of all entries that hold ``text``; goes through the whole journal."""
        sql = "SELECT data FROM entries WHERE instr(data, ?) > 0"
        return await self._read_locked(lambda: [row[0] for row in self._open_reader().execute(sql, (text,))])

    async def verify(self) -> AuditResult:
        """Check every link, the tables themselves and the head file, in constant memory.

        Found are a changed, dropped, reordered or inserted entry with its ``seq``, a cut-off end, and a
        change of the tables. Who can write the vault's folder can also make up a whole new chain and head:
        keep ``head`` of the result elsewhere to notice that.
        """
        async with self._reading:
            return await self._guarded(
                lambda: audit(self._open_reader(), self._head_file, self._genesis, self._bucket_json)
            )

    def _open_reader(self) -> sqlite3.Connection:
        if self._reader is None:
            raise VaultError("the journal is not open")
        return self._reader

    def _last_of(self, connection: sqlite3.Connection) -> Head:
        row = connection.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        return Head(row[0], row[1]) if row else Head(0, self._genesis)

    async def _read_locked(self, function: Callable[[], T]) -> T:
        async with self._reading:
            return await self._guarded(function)

    async def _guarded(self, function: Callable[[], T]) -> T:
        def run() -> T:
            try:
                return function()
            except sqlite3.OperationalError as error:
                raise VaultError(
                    f"can't use {self.path}: {error} (disk full, read-only, or locked)"
                ) from error
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # names of columns are decoded, too
                raise VaultCorrupt(f"{self.path} is damaged: {error}") from error
            except OSError as error:
                raise _fs.vault_error(f"use {self.path}", error) from error

        return await _threads.run(run)
