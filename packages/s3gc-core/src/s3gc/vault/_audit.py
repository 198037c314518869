"""``audit verify``: what was done to a journal from outside."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from s3gc.model import AuditResult
from s3gc.vault._chain import COLUMNS, Row, expected_schema, problem_of, require_progress, schema_of
from s3gc.vault._head import HeadFile
from s3gc.vault.records import quoted

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
    links = _Links(bucket_json)
    beside = _PageCheck(connection)
    try:
        _check_tables(connection, problems)
        expected = 1
        head_hash = genesis if head and head.seq == 0 else None
        for page in _pages(connection):
            for row in page:
                seq, previous, stored = row[0], row[6], row[7]
                if seq != expected:
                    problems.add(f"entry {expected}: missing, the next one is {seq}")
                if not links.fits(row) and (problem := problem_of(row, bucket_json)):
                    problems.add(f"entry {seq}: {problem}")
                if previous != last_hash:
                    problems.add(f"entry {seq}: it doesn't follow the entry before it")
                if head and seq == head.seq:
                    head_hash = stored
                expected, last_hash = seq + 1, stored
            entries += len(page)
        if head is None:
            problems.add(f"{head_file.path.name} is missing or damaged: a cut-off end can't be ruled out")
        elif head_hash is None:
            problems.add(f"entry {head.seq}: missing, the journal's end was cut off")
        elif head_hash != head.hash:
            problems.add(f"entry {head.seq}: {head_file.path.name} knows it with another hash")
    except sqlite3.DatabaseError as error:
        problems.add(f"after {entries} entries: the database is damaged: {error}")
    for problem in beside.result():
        problems.add(f"database: {problem}")
    listed = problems.listed()
    return AuditResult(ok=not listed, entries=entries, head=str(last_hash), problems=listed)


def _pages(connection: sqlite3.Connection) -> Iterator[list[Row]]:
    """All entries, some at a time. Text is decoded by SQLite's own code, three times as fast as by ours.

    Text that isn't UTF-8 must come through to be found: such a page is read again as the journal reads.
    """
    sql = f"SELECT {COLUMNS} FROM entries WHERE seq {{}} ? ORDER BY seq LIMIT {PAGE_ROWS}"
    exact = connection.text_factory
    comparison, after = ">=", _FIRST
    while True:
        try:
            connection.text_factory = str
            page = connection.execute(sql.format(comparison), (after,)).fetchall()
        except sqlite3.OperationalError:
            connection.text_factory = exact
            page = connection.execute(sql.format(comparison), (after,)).fetchall()
        finally:
            connection.text_factory = exact
        if not page:
            return
        yield page
        require_progress(page[-1][0], after if comparison == ">" else after - 1)
        comparison, after = ">", page[-1][0]


class _Links:
    """Whether rows have the hashes that :func:`s3gc.vault._chain.link` makes, quickly.

    What it doesn't know for sure it calls unfit; then :func:`~s3gc.vault._chain.problem_of` decides.
    """

    MOST = 1_000
    """Beginnings kept: entries come in batches that share time, operation and event."""

    def __init__(self, bucket_json: str) -> None:
        self._bucket = bucket_json
        self._known: dict[tuple[str, str, str], tuple[str, str, str]] = {}

    def fits(self, row: Row) -> bool:
        seq, at, operation_id, event, key, data, previous, stored = row
        if type(data) is not str or type(previous) is not str:
            return False
        try:
            parts = self._known.get((at, operation_id, event))
            if parts is None:
                parts = self._begin(at, operation_id, event)
            start, middle, end = parts
            shown_key = "null" if key is None else quoted(key)
            text = f'{start}{data}{middle}{shown_key}{end}{quoted(previous)},"seq":{seq}}}'
            return bool(hashlib.sha256(text.encode()).hexdigest() == stored)
        except (TypeError, UnicodeEncodeError):
            return False

    def _begin(self, at: str, operation_id: str, event: str) -> tuple[str, str, str]:
        if len(self._known) >= self.MOST:
            self._known.clear()
        parts = (
            f'{{"at":{quoted(at)},"bucket":{self._bucket},"data":',
            f',"event":{quoted(event)},"key":',
            f',"operation_id":{quoted(operation_id)},"previous":',
        )
        self._known[at, operation_id, event] = parts
        return parts


class _PageCheck:
    """SQLite's own check of its pages and indexes, beside the reading: it takes as long as that.

    An index that hides an entry would hide it from ``explain``.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._found: list[str] = []
        self._thread: threading.Thread | None = None
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        if not path:
            return  # in memory: afterwards, by the first connection
        try:
            uri = f"{Path(path).as_uri()}?mode=ro"
            other = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
            other.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.Error:
            return  # a read-only file system takes no second one
        self._thread = threading.Thread(target=self._run_on, args=(other,), daemon=True)
        self._thread.start()

    def result(self) -> list[str]:
        """What it found, once it has ended."""
        if self._thread is None:
            self._check(self._connection)
        else:
            self._thread.join()
        return self._found

    def _run_on(self, other: sqlite3.Connection) -> None:
        try:
            self._check(other)
        finally:
            other.close()

    def _check(self, connection: sqlite3.Connection) -> None:
        try:
            for (line,) in connection.execute("PRAGMA integrity_check(10)"):
                if line != "ok":
                    self._found.append(str(line))
        except sqlite3.DatabaseError as error:
            self._found.append(f"damaged: {error}")


def _check_tables(connection: sqlite3.Connection, problems: _Problems) -> None:
    found, expected = schema_of(connection), expected_schema()
    for name in sorted(expected.keys() - found.keys()):
        problems.add(f"tables: {name} was removed")
    for name in sorted(found.keys() - expected.keys()):
        problems.add(f"tables: {name} was added")
    for name in sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name]):
        problems.add(f"tables: {name} was changed")
