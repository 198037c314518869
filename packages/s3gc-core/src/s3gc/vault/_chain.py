"""The journal's chain: what exactly is hashed, and the tables that hold it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import JournalDraft, JournalEntry
from s3gc.vault.records import canonical, quoted, time_from_text

FORMAT = 1
"""The version of tables and chain, in PRAGMA user_version."""

APPLICATION_ID = 0x53334743
"""'S3GC', in PRAGMA application_id, so that ``file`` and we know whose database it is."""

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    event TEXT NOT NULL,
    key TEXT,
    data TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX entries_by_key ON entries (key) WHERE key IS NOT NULL;
CREATE INDEX entries_by_operation ON entries (operation_id);
CREATE INDEX entries_by_event ON entries (event);
CREATE TRIGGER entries_in_order BEFORE INSERT ON entries
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only: entries come one after the other'); END;
CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only: no entry can be changed'); END;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only: no entry can be removed'); END;
CREATE TRIGGER meta_no_update BEFORE UPDATE ON meta
    BEGIN SELECT RAISE(ABORT, 'the journal belongs to one vault for ever'); END;
CREATE TRIGGER meta_no_delete BEFORE DELETE ON meta
    BEGIN SELECT RAISE(ABORT, 'the journal belongs to one vault for ever'); END;
"""

COLUMNS = "seq, at, operation_id, event, key, data, previous, hash"
ROWS_AT_ONCE = 100
"""Rows of one INSERT: each statement gives Python's lock away, and SQLite of old takes 999 values."""

INSERT = f"INSERT INTO entries ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

INSERT_MANY = f"INSERT INTO entries ({COLUMNS}) VALUES " + ", ".join(
    ["(?, ?, ?, ?, ?, ?, ?, ?)"] * ROWS_AT_ONCE
)

Row = tuple[Any, ...]
"""A row of ``entries`` in the order of COLUMNS."""


def schema_of(connection: sqlite3.Connection) -> dict[str, str]:
    """The statements that made a database's tables, indexes and triggers, by name."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: sql for name, sql in rows if not name.startswith("sqlite_")}


def expected_schema() -> dict[str, str]:
    """The same for an untouched journal."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(SCHEMA)
        return schema_of(connection)
    finally:
        connection.close()


def genesis(vault_id: str, bucket: str) -> str:
    """What stands as ``previous`` in the first entry: hex."""
    start = canonical({"bucket": bucket, "format": FORMAT, "vault_id": vault_id})
    return hashlib.sha256(start.encode()).hexdigest()


def link(
    bucket_json: str,
    seq: int,
    at: str,
    operation_id: str,
    event: str,
    key: str | None,
    data: str,
    previous: str,
) -> str:
    """An entry's hash: SHA-256 of its canonical JSON, hex. ``data`` is canonical JSON already.

    Raises:
        UnicodeEncodeError: something holds a lone surrogate.
    """
    start = f'{{"at":{quoted(at)},"bucket":{bucket_json},"data":'
    middle, end = f',"event":{quoted(event)},"key":', f',"operation_id":{quoted(operation_id)},"previous":'
    return _link(start, data, middle, key, end, quoted(previous), seq)


def _link(start: str, data: str, middle: str, key: str | None, end: str, previous_json: str, seq: int) -> str:
    shown_key = "null" if key is None else quoted(key)
    text = f'{start}{data}{middle}{shown_key}{end}{previous_json},"seq":{seq}}}'
    return hashlib.sha256(text.encode()).hexdigest()


def rows_of(drafts: Sequence[JournalDraft], bucket_json: str, at: str, seq: int, previous: str) -> list[Row]:
    """The rows that follow the entry ``seq`` with hash ``previous``.

    Raises:
        VaultError: a draft can't be written.
    """
    rows: list[Row] = []
    # What :func:`link` does, but what many entries have in common is written once.
    start = f'{{"at":{quoted(at)},"bucket":{bucket_json},"data":'
    around: dict[tuple[str, str], tuple[str, str]] = {}
    for draft in drafts:
        seq += 1
        data = canonical(dict(draft.data))
        kind = (draft.event, draft.operation_id)
        if (common := around.get(kind)) is None:
            common = around[kind] = (
                f',"event":{quoted(draft.event)},"key":',
                f',"operation_id":{quoted(draft.operation_id)},"previous":',
            )
        try:
            made = _link(start, data, common[0], draft.key, common[1], f'"{previous}"', seq)
        except UnicodeEncodeError as error:
            raise VaultError(
                f"a journal entry for {draft.key!r} holds a lone surrogate, which isn't text"
            ) from error
        rows.append((seq, at, draft.operation_id, draft.event, draft.key, data, previous, made))
        previous = made
    return rows


def insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Put rows behind the others, in this order."""
    whole = len(rows) - len(rows) % ROWS_AT_ONCE
    for begin in range(0, whole, ROWS_AT_ONCE):
        some = rows[begin : begin + ROWS_AT_ONCE]
        connection.execute(INSERT_MANY, [value for row in some for value in row])
    connection.executemany(INSERT, rows[whole:])


def require_draft(draft: JournalDraft) -> None:
    """Raises VaultError unless all parts have their types."""
    texts = isinstance(draft.event, str) and isinstance(draft.operation_id, str)
    if not texts or not draft.event or not isinstance(draft.key, str | None):
        raise VaultError(f"a journal entry needs an event, an operation and a key that are text: {draft!r}")


def require_progress(last: int, after: int) -> None:
    """A page of entries behind ``after`` must end behind it: in a damaged file its numbers may lead back.

    Raises:
        sqlite3.DatabaseError: it doesn't; who asks for the next page would get the same again, for ever.
    """
    if last <= after:
        raise sqlite3.DatabaseError(f"behind entry {after} comes entry {last}")


def problem_of(row: Row, bucket_json: str) -> str | None:
    """Why a row isn't what was written, looking at nothing but the row."""
    seq, at, operation_id, event, key, data, previous, stored = row
    if not all(isinstance(v, str) for v in (at, operation_id, event, data, previous, stored)):
        return "a column has another type"
    if not isinstance(key, str | None):
        return "the key has another type"
    try:
        made = link(bucket_json, seq, at, operation_id, event, key, data, previous)
    except UnicodeEncodeError:
        return "a column isn't text"
    return None if made == stored else "its hash doesn't fit its contents"


def entry_of(row: Row, bucket: str, bucket_json: str) -> JournalEntry:
    """A row as an entry.

    Raises:
        VaultCorrupt: it isn't what was written.
    """
    problem = problem_of(row, bucket_json)
    if problem:
        raise VaultCorrupt(f"journal entry {row[0]}: {problem}; run `audit verify`")
    seq, at, operation_id, event, key, data, previous, stored = row
    return JournalEntry(
        seq=seq,
        at=time_from_text(at),
        bucket=bucket,
        operation_id=operation_id,
        event=event,
        key=key,
        data=json.loads(data),
        previous=previous,
        hash=stored,
    )
