"""``audit verify``: what was done to a journal from outside."""

from __future__ import annotations

import sqlite3

from s3gc.model import AuditResult
from s3gc.vault._chain import COLUMNS, expected_schema, problem_of, schema_of
from s3gc.vault._head import HeadFile

PAGE_ROWS = 2_000
MAX_PROBLEMS = 100
"""More than these are counted, not listed."""

_FIRST = -(2**63)  # SQLite's smallest row number


class _Problems:
    def __init__(self) -> None:
        self.found: list[str] = []
        self.more = 0

    def add(self, text: str) -> None:
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(text)
        else:
            self.more += 1

    def listed(self) -> tuple[str, ...]:
        return (*self.found, f"and {self.more} more") if self.more else tuple(self.found)


def audit(connection: sqlite3.Connection, head_file: HeadFile, genesis: str, bucket_json: str) -> AuditResult:
    """Go through the whole journal.

    Raises:
        OSError: the head file can't be read.
    """
    problems = _Problems()
    # First of all: a writer appends to the journal before the head file, never the other way.
    head = head_file.read()
    entries, last_hash = 0, genesis
    try:
        _check_tables(connection, problems)
        expected = 1
        head_hash = genesis if head and head.seq == 0 else None
        sql = f"SELECT {COLUMNS} FROM entries WHERE seq {{}} ? ORDER BY seq LIMIT {PAGE_ROWS}"
        page = connection.execute(sql.format(">="), (_FIRST,)).fetchall()
        while page:
            for row in page:
                seq, previous, stored = row[0], row[6], row[7]
                if seq != expected:
                    problems.add(f"entry {expected}: missing, the next one is {seq}")
                if problem := problem_of(row, bucket_json):
                    problems.add(f"entry {seq}: {problem}")
                if previous != last_hash:
                    problems.add(f"entry {seq}: it doesn't follow the entry before it")
                if head and seq == head.seq:
                    head_hash = stored
                expected, last_hash = seq + 1, stored
            entries += len(page)
            page = connection.execute(sql.format(">"), (page[-1][0],)).fetchall()
        if head is None:
            problems.add(f"{head_file.path.name} is missing or damaged: a cut-off end can't be ruled out")
        elif head_hash is None:
            problems.add(f"entry {head.seq}: missing, the journal's end was cut off")
        elif head_hash != head.hash:
            problems.add(f"entry {head.seq}: {head_file.path.name} knows it with another hash")
    except sqlite3.DatabaseError as error:
        problems.add(f"after {entries} entries: the database is damaged: {error}")
    listed = problems.listed()
    return AuditResult(ok=not listed, entries=entries, head=str(last_hash), problems=listed)


def _check_tables(connection: sqlite3.Connection, problems: _Problems) -> None:
    found, expected = schema_of(connection), expected_schema()
    for name in sorted(expected.keys() - found.keys()):
        problems.add(f"tables: {name} was removed")
    for name in sorted(found.keys() - expected.keys()):
        problems.add(f"tables: {name} was added")
    for name in sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name]):
        problems.add(f"tables: {name} was changed")
    # An index that hides an entry would hide it from `explain`.
    for (line,) in connection.execute("PRAGMA integrity_check(10)"):
        if line != "ok":
            problems.add(f"database: {line}")
