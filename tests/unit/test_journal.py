"""The journal's own duties: it refuses changes, survives crashes, and speaks up when its end is missing."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from s3gc.clock import SystemClock
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import JournalDraft, JournalEntry
from s3gc.testing.fakes import FakeClock
from s3gc.vault import SqliteJournal, _fs, _queries
from s3gc.vault._chain import insert, rows_of
from s3gc.vault._queries import after_prefix

pytestmark = pytest.mark.anyio

BUCKET = "s3://b"
REST = "at, operation_id, event, key, data, previous, hash"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class SetClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 23, 18, 0, 0, 5, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


def journal_in(folder: Path, vault_id: str = "v", bucket: str = BUCKET) -> SqliteJournal:
    return SqliteJournal(folder, vault_id=vault_id, bucket=bucket, clock=SetClock())


async def opened(folder: Path, *, read_only: bool = False) -> SqliteJournal:
    journal = journal_in(folder)
    await journal.open(read_only=read_only)
    return journal


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    made = journal_in(tmp_path)
    await made.create()
    await made.open()
    yield made
    await made.aclose()


def drafts(count: int, start: int = 0) -> list[JournalDraft]:
    return [JournalDraft("e", "op", f"k{n}", {"n": n}) for n in range(start, start + count)]


async def entries(journal: SqliteJournal, **filters: object) -> list[JournalEntry]:
    return [entry async for entry in journal.read(**filters)]  # type: ignore[arg-type]


def raw(journal: SqliteJournal, *statements: str) -> None:
    """What somebody with the sqlite3 program does."""
    connection = sqlite3.connect(journal.path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# --------------------------------------------------------------------------- append-only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET data = '{}' WHERE seq = 2",
        "UPDATE entries SET seq = 9 WHERE seq = 2",
        "DELETE FROM entries",
        "DELETE FROM entries WHERE seq = 3",
        "REPLACE INTO entries SELECT * FROM entries WHERE seq = 2",
        f"INSERT OR REPLACE INTO entries SELECT 2, {REST} FROM entries WHERE seq = 3",
        f"INSERT INTO entries SELECT 5, {REST} FROM entries WHERE seq = 3",
        f"INSERT INTO entries SELECT 0, {REST} FROM entries WHERE seq = 3",
        "UPDATE OR IGNORE meta SET value = 'x'",
        "DELETE FROM meta",
    ],
)
async def test_triggers_refuse(journal: SqliteJournal, statement: str) -> None:
    await journal.append(drafts(3))
    with pytest.raises(sqlite3.IntegrityError, match=r"append-only|for ever"):
        raw(journal, statement)
    assert (await journal.verify()).ok
    assert len(await entries(journal)) == 3


async def test_an_unchanged_insert_at_the_end_is_no_hole(journal: SqliteJournal) -> None:
    """The triggers can't know hashes; the chain does."""
    await journal.append(drafts(3))
    raw(
        journal,
        f"INSERT INTO entries SELECT 4, {REST} FROM entries WHERE seq = 3",
    )
    found = await journal.verify()
    assert not found.ok
    assert found.problems[0].startswith("entry 4:")


@pytest.mark.parametrize(
    "draft",
    [
        JournalDraft("", "op"),
        JournalDraft(None, "op"),  # type: ignore[arg-type]
        JournalDraft("e", None),  # type: ignore[arg-type]
        JournalDraft("e", "op", 5),  # type: ignore[arg-type]
        JournalDraft("e", "op", b"k"),  # type: ignore[arg-type]
        JournalDraft("e", "op", "\udfff"),
        JournalDraft("\ud800", "op"),
        JournalDraft("e", "\ud800"),
        JournalDraft("e", "op", None, {"a": {1, 2}}),
    ],
)
async def test_drafts_that_cannot_be_written(journal: SqliteJournal, draft: JournalDraft) -> None:
    with pytest.raises(VaultError):
        await journal.append([*drafts(2), draft])
    assert await entries(journal) == []
    await journal.append(drafts(1))
    assert (await journal.verify()).ok


# --------------------------------------------------------------------------- time


async def test_times_are_utc_with_microseconds(journal: SqliteJournal) -> None:
    clock = journal._clock
    assert isinstance(clock, SetClock)
    clock.time = datetime(2026, 11, 23, 20, 0, 0, 7, tzinfo=timezone(timedelta(hours=2)))
    await journal.append(drafts(2))
    clock.time = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # the clock was set back: recorded as it is
    await journal.append(drafts(1))
    found = await entries(journal)
    assert [e.at.isoformat() for e in found] == [
        "2026-11-23T18:00:00.000007+00:00",
        "2026-11-23T18:00:00.000007+00:00",
        "2026-11-23T17:00:00+00:00",
    ]
    assert (await journal.verify()).ok


async def test_a_clock_without_a_zone_is_refused(journal: SqliteJournal) -> None:
    clock = journal._clock
    assert isinstance(clock, SetClock)
    clock.time = datetime(2026, 11, 23)
    with pytest.raises(VaultError, match="no time zone"):
        await journal.append(drafts(1))


# --------------------------------------------------------------------------- crashes and cut ends


async def test_a_crash_between_journal_and_head_is_no_tampering(
    journal: SqliteJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.append(drafts(3))
    monkeypatch.setattr(journal._head_file, "write", lambda head: None)
    await journal.append(drafts(2))
    assert (await journal.verify()).ok
    await journal.aclose()
    again = await opened(tmp_path)
    assert again.problem is None
    assert (await again.verify()).ok
    raw(again, "DROP TRIGGER entries_no_delete", "DELETE FROM entries WHERE seq = 5")
    assert any("entry 5: missing" in p for p in (await again.verify()).problems)  # open caught the head up
    await again.aclose()


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("noise", [b"", b"\0" * 151, b"half"])
async def test_a_head_torn_in_the_middle_of_a_write_is_no_tampering(
    journal: SqliteJournal, tmp_path: Path, slot: int, noise: bytes
) -> None:
    """Two appends fill both slots; a crash while the next one is written damages one of them."""
    await journal.append(drafts(1))
    await journal.append(drafts(1))
    path = tmp_path / "journal.head"
    data = path.read_bytes()
    start = slot * 4096
    path.write_bytes(data[:start] + noise.ljust(151, b"\n") + data[start + 151 :])
    assert (await journal.verify()).ok
    await journal.aclose()
    again = await opened(tmp_path)
    await again.append(drafts(1))
    assert (await again.verify()).ok
    await again.aclose()


@pytest.mark.parametrize("cut", [1, 2, 3])
async def test_a_cut_end_is_found_and_nothing_is_added_to_it(
    journal: SqliteJournal, tmp_path: Path, cut: int
) -> None:
    await journal.append(drafts(2))
    await journal.append(drafts(1))
    await journal.aclose()
    raw(journal, "DROP TRIGGER entries_no_delete", f"DELETE FROM entries WHERE seq > {3 - cut}", NO_DELETE)
    again = await opened(tmp_path)
    found = await again.verify()
    assert found.problems == ("entry 3: missing, the journal's end was cut off",)
    with pytest.raises(VaultCorrupt, match="names entry 3, which the journal lacks; see `audit verify`"):
        await again.append(drafts(1))
    assert len(await entries(again)) == 3 - cut  # what is there can be read
    await again.aclose()


NO_DELETE = (
    "CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries\n"
    "    BEGIN SELECT RAISE(ABORT, 'the journal is append-only: no entry can be removed'); END"
)


async def test_an_end_cut_under_an_open_journal_is_found(journal: SqliteJournal) -> None:
    await journal.append(drafts(3))
    raw(journal, "DROP TRIGGER entries_no_delete", "DELETE FROM entries WHERE seq = 3", NO_DELETE)
    with pytest.raises(VaultCorrupt, match="ends at 2 and ended at 3 before"):
        await journal.append(drafts(1))
    with pytest.raises(VaultCorrupt, match="ends at 2 and ended at 3 before"):
        await journal.append(drafts(1))


async def test_a_rewritten_end_is_found(journal: SqliteJournal, tmp_path: Path) -> None:
    """The last entries replaced by others with a right chain of their own: only the head file knows."""
    await journal.append(drafts(2))
    await journal.aclose()
    old_head = (tmp_path / "journal.head").read_bytes()
    journal = await opened(tmp_path)
    await journal.append(drafts(1))
    true_head = (tmp_path / "journal.head").read_bytes()
    await journal.aclose()
    raw(journal, "DROP TRIGGER entries_no_delete", "DELETE FROM entries WHERE seq = 3", NO_DELETE)
    (tmp_path / "journal.head").write_bytes(old_head)
    journal = await opened(tmp_path)
    await journal.append(drafts(1, start=77))
    await journal.aclose()
    (tmp_path / "journal.head").write_bytes(true_head)
    journal = await opened(tmp_path)
    assert (await journal.verify()).problems == ("entry 3: journal.head knows it with another hash",)
    with pytest.raises(VaultCorrupt, match="with another hash"):
        await journal.append(drafts(1))
    await journal.aclose()


async def test_a_person_may_adopt_the_journal_as_it_is(journal: SqliteJournal, tmp_path: Path) -> None:
    await journal.append(drafts(3))
    await journal.aclose()
    (tmp_path / "journal.head").write_bytes(b"")
    journal = await opened(tmp_path)
    assert journal.problem is not None
    with pytest.raises(VaultError, match="say why"):
        await journal.adopt_head("  ")
    await journal.adopt_head("file system check emptied the file, compared with last night's copy")
    assert (await journal.verify()).ok
    last = (await entries(journal))[-1]
    assert last.event == "journal_head_adopted"
    assert last.data["reason"].startswith("file system check")
    assert "journal.head is missing or damaged" in last.data["problem"]
    with pytest.raises(VaultError, match="nothing to adopt"):
        await journal.adopt_head("again")
    await journal.aclose()


# --------------------------------------------------------------------------- opening


async def test_a_newer_version_is_refused(journal: SqliteJournal, tmp_path: Path) -> None:
    raw(journal, "PRAGMA user_version = 2")
    with pytest.raises(VaultError, match="is of version 2, known is 1: update s3gc"):
        await opened(tmp_path)


async def test_another_database_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "journal.sqlite3")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(VaultCorrupt, match="is not a journal of s3gc"):
        await opened(tmp_path)


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(VaultCorrupt, match="is damaged"):
        await opened(tmp_path)


@pytest.mark.parametrize(("vault_id", "bucket"), [("w", BUCKET), ("v", "s3://c")])
async def test_the_journal_of_another_vault_is_refused(
    journal: SqliteJournal, tmp_path: Path, vault_id: str, bucket: str
) -> None:
    with pytest.raises(VaultCorrupt, match="don't belong together"):
        await journal_in(tmp_path, vault_id, bucket).open()


async def test_entries_are_bound_to_their_bucket(journal: SqliteJournal, tmp_path: Path) -> None:
    """Renaming the bucket in every place but the hashes is found."""
    await journal.append(drafts(1))
    await journal.aclose()
    raw(journal, "DROP TRIGGER meta_no_update", "UPDATE meta SET value = 's3://c' WHERE name = 'bucket'")
    other = journal_in(tmp_path, bucket="s3://c")
    await other.open()
    problems = (await other.verify()).problems
    assert any("entry 1: its hash doesn't fit" in p for p in problems)
    assert any("entry 1: it doesn't follow" in p for p in problems)
    await other.aclose()


async def test_a_closed_journal_says_so(journal: SqliteJournal) -> None:
    await journal.aclose()
    await journal.aclose()
    with pytest.raises(VaultError, match="closed"):
        await journal.append(drafts(1))
    with pytest.raises(VaultError, match="not open"):
        await entries(journal)


# --------------------------------------------------------------------------- disks that fail


async def test_a_head_that_cannot_be_written(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    await journal.append(drafts(1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_fs, "write_at", full)
    with pytest.raises(VaultError, match="full: free space"):
        await journal.append(drafts(1))
    monkeypatch.undo()
    await journal.append(drafts(1))
    assert (await journal.verify()).ok


async def test_a_full_disk_is_all_or_none(journal: SqliteJournal) -> None:
    await journal.append(drafts(1))
    assert journal._writer is not None
    (pages,) = journal._writer.execute("PRAGMA page_count").fetchone()
    journal._writer.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(VaultError, match="full"):
        await journal.append(drafts(5_000))
    journal._writer.execute("PRAGMA max_page_count = 1000000")
    await journal.append(drafts(1))
    assert len(await entries(journal)) == 2
    assert (await journal.verify()).ok


async def test_damage_to_the_file_is_reported_not_raised(journal: SqliteJournal, tmp_path: Path) -> None:
    await journal.append(drafts(2_000))
    await journal.aclose()
    path = tmp_path / "journal.sqlite3"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(data)
    again = await opened(tmp_path)
    found = await again.verify()
    assert not found.ok
    await again.aclose()


# --------------------------------------------------------------------------- readers


READER = """
import sys, anyio
from pathlib import Path
from s3gc.clock import SystemClock
from s3gc.vault import SqliteJournal

async def main():
    journal = SqliteJournal(Path(sys.argv[1]), vault_id="v", bucket="s3://b", clock=SystemClock())
    await journal.open(read_only=True)
    for _ in range(5):
        found = await journal.verify()
        assert found.ok, found.problems
    print(found.entries)
    await journal.aclose()

anyio.run(main)
"""


async def test_another_process_reads_at_the_same_time(journal: SqliteJournal, tmp_path: Path) -> None:
    await journal.append(drafts(100))
    reader = started(tmp_path)
    for n in range(30):
        await journal.append(drafts(50, start=n))
    out, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0, errors
    assert 100 <= int(out) <= 1_600
    assert len(await entries(journal)) == 1_600


def started(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", READER, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """One that another user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


async def test_a_log_that_a_reader_cannot_merge_is_named(public_folder: Path) -> None:
    """After a crash the log holds entries; on a read-only disk they must not be left out in silence."""
    journal = journal_in(public_folder)
    await journal.create()
    await journal.open()
    await journal.append(drafts(1))
    copy = copied(public_folder)  # as a crash leaves it: with the log, without its shared memory
    await journal.aclose()
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(VaultError, match="must be merged into the journal, and the vault is read-only"):
            await opened(copy, read_only=True)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
    again = await opened(copy)
    assert len(await entries(again)) == 1
    await again.aclose()


def copied(source: Path) -> Path:
    target = source / "copy"
    target.mkdir()
    for name in ("journal.sqlite3", "journal.sqlite3-wal", "journal.head"):
        (target / name).write_bytes((source / name).read_bytes())
        (target / name).chmod(0o444)
    source.chmod(0o755)
    target.chmod(0o555)
    return target


async def test_wide_prefixes_do_not_go_through_the_index(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways give the same."""
    await journal.append([JournalDraft("xy"[n % 2], "op", f"{'ab'[n % 3 > 0]}/{n}") for n in range(3_000)])
    narrow = [await entries(journal, prefix="b/", events=e) for e in (None, {"x"})]
    monkeypatch.setattr(_queries, "NARROW_ROWS", 10)
    wide = [await entries(journal, prefix="b/", events=e) for e in (None, {"x"})]
    assert narrow == wide
    assert [len(found) for found in wide] == [2_000, 1_000]


@pytest.mark.parametrize(
    ("filters", "plan"),
    [
        ({"key": "k"}, "entries_by_key (key=? AND rowid>? AND rowid<?)"),
        (
            {"key": "k", "operation_id": "o", "events": {"e"}},
            "entries_by_key (key=? AND rowid>? AND rowid<?)",
        ),
        (
            {"operation_id": "o", "events": {"e"}},
            "entries_by_operation (operation_id=? AND rowid>? AND rowid<?)",
        ),
        ({"events": {"e"}}, "entries_by_event (event=? AND rowid>? AND rowid<?)"),
        ({"events": {"e"}, "prefix": "p"}, "entries_by_event (event=? AND rowid>? AND rowid<?)"),
        ({"events": {"e", "f"}}, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ({"prefix": "p"}, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ({}, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    ],
)
async def test_no_page_needs_a_sort(journal: SqliteJournal, filters: dict[str, object], plan: str) -> None:
    """Else reading a long journal page by page would be quadratic."""
    terms, values = _queries.query(**filters).conditions()  # type: ignore[arg-type]
    where = " AND ".join(["seq > 0", "seq <= 9", *terms])
    connection = sqlite3.connect(journal.path)
    lines = connection.execute(
        f"EXPLAIN QUERY PLAN SELECT * FROM entries WHERE {where} ORDER BY seq LIMIT 10", values
    ).fetchall()
    connection.close()
    assert len(lines) == 1
    assert lines[0][3].endswith(plan)


async def test_reading_checks_each_entry(journal: SqliteJournal) -> None:
    await journal.append(drafts(3))
    raw(journal, "DROP TRIGGER entries_no_update", "UPDATE entries SET event = 'x' WHERE seq = 2")
    seen: list[int] = []

    async def take() -> None:
        async for entry in journal.read():
            seen.append(entry.seq)

    with pytest.raises(VaultCorrupt, match="journal entry 2: its hash doesn't fit"):
        await take()
    assert seen == [1]


async def test_counts(journal: SqliteJournal) -> None:
    await journal.append([JournalDraft(e, "op", None, {"backup": {"size": 10}}) for e in "aabbb"])
    assert await journal.summary() == {"a": 2, "b": 3}
    assert await journal.count() == 5
    assert await journal.count({"b", "c"}) == 3
    assert await journal.backup_totals({"b"}) == (3, 30)
    assert await journal.backup_totals({"c"}) == (0, 0)


@pytest.mark.parametrize(
    ("prefix", "after"),
    [
        ("", None),
        ("a", "b"),
        ("a\x00", "a\x01"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff\U0010ffff", None),
        ("a\ud7ff", "a\ue000"),
        ("\uffff", "\U00010000"),
    ],
)
def test_what_comes_after_a_prefix(prefix: str, after: str | None) -> None:
    assert after_prefix(prefix) == after


def test_the_clock_of_the_machine_will_do(tmp_path: Path) -> None:
    assert (
        SqliteJournal(tmp_path, vault_id="v", bucket="b", clock=SystemClock()).problem
        == "the journal is not open"
    )


@pytest.mark.parametrize("count", [99, 100, 101, 250])
async def test_entries_that_are_written_together_follow_each_other(tmp_path: Path, count: int) -> None:
    journal = SqliteJournal(tmp_path, vault_id="v", bucket="s3://b", clock=FakeClock())
    await journal.create()
    await journal.open()
    for begin in range(2):
        await journal.append([JournalDraft("e", "op", f"{begin}/{n}", {"n": n}) for n in range(count)])
    found = [entry async for entry in journal.read()]
    assert [(entry.seq, entry.key) for entry in found] == [
        (begin * count + n + 1, f"{begin}/{n}") for begin in range(2) for n in range(count)
    ]
    assert (await journal.verify()).ok
    await journal.aclose()


async def test_rows_that_do_not_follow_are_refused_in_the_middle_of_many(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path, vault_id="v", bucket="s3://b", clock=FakeClock())
    await journal.create()
    rows = rows_of([JournalDraft("e", "op", str(n)) for n in range(150)], '"s3://b"', "at", 0, "")
    del rows[70]
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="entries come one after the other"):
            insert(connection, rows)
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (0,)
