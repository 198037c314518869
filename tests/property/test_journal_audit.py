"""The quick check of an entry's hash says yes only where the thorough one has nothing to object."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.clock import SystemClock
from s3gc.model import JournalDraft
from s3gc.vault import SqliteJournal
from s3gc.vault import _audit as auditing
from s3gc.vault._audit import _Links
from s3gc.vault._chain import link, problem_of

BUCKET = '"s3://b"'
TEXTS = st.text(max_size=12) | st.sampled_from(["at", "op", "event", 'q"\\', "\x00", "ü"])
VALUES = TEXTS | st.none() | st.integers(-3, 3) | st.binary(max_size=3) | st.just("\ud800")


def linked(seq: int, at: str, operation: str, event: str, key: str | None, data: str, previous: str) -> Any:
    made = link(BUCKET, seq, at, operation, event, key, data, previous)
    return seq, at, operation, event, key, data, previous, made


ROWS = st.builds(linked, st.integers(1, 9), TEXTS, TEXTS, TEXTS, TEXTS | st.none(), TEXTS, TEXTS)


@given(st.lists(ROWS, min_size=1, max_size=6), st.data())
def test_quick_and_thorough_agree(rows: list[Any], data: st.DataObject) -> None:
    links = _Links(BUCKET)
    for row in rows:
        assert links.fits(row)
        assert problem_of(row, BUCKET) is None
        column = data.draw(st.integers(1, 7))
        changed = (*row[:column], data.draw(VALUES), *row[column + 1 :])
        assert links.fits(changed) == (problem_of(changed, BUCKET) is None)


def test_a_number_is_not_the_text_that_it_looks_like() -> None:
    """SQLite keeps types by value: an entry's data could become 5 in the place of '5'."""
    row = linked(1, "at", "op", "event", "key", "5", "before")
    assert not _Links(BUCKET).fits((*row[:5], 5, *row[6:]))


def test_few_beginnings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Links, "MOST", 3)
    links = _Links(BUCKET)
    for number in range(20):
        assert links.fits(linked(1, f"at{number}", "op", "event", None, "{}", "x"))
    assert len(links._known) <= 3


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    journal = SqliteJournal(tmp_path, vault_id="v", bucket="s3://b", clock=SystemClock())
    await journal.create()
    await journal.open()
    await journal.append([JournalDraft("deleted", "op", f"k{n}", {"n": n}) for n in range(10)])
    await journal.aclose()
    return tmp_path


async def verified(folder: Path) -> tuple[str, ...]:
    journal = SqliteJournal(folder, vault_id="v", bucket="s3://b", clock=SystemClock())
    await journal.open()
    found = await journal.verify()
    await journal.aclose()
    assert found.entries == 10
    return tuple(found.problems)


def hide(path: Path) -> None:
    """Make an index of a journal's file that leaves out an entry."""
    whole = "CREATE INDEX entries_by_key ON entries (key) WHERE key IS NOT NULL"
    database = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "PRAGMA writable_schema = 1",
        "DROP INDEX entries_by_key",
        f"{whole} AND seq <> 2",
        f"UPDATE sqlite_master SET sql = '{whole}' WHERE name = 'entries_by_key'",
        "PRAGMA writable_schema = RESET",
    ):
        database.execute(statement)
    database.close()


@pytest.mark.anyio
@pytest.mark.parametrize("second", [True, False], ids=["beside", "afterwards"])
async def test_an_index_that_hides_an_entry_is_found_in_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, second: bool
) -> None:
    """By a second connection while the entries are read; by the first one where there can be no second."""
    if not second:
        real = sqlite3.connect

        def refuse(*arguments: Any, **named: Any) -> Any:
            if named.get("check_same_thread") is False and "timeout" not in named:
                raise sqlite3.OperationalError("unable to open database file")
            return real(*arguments, **named)

        monkeypatch.setattr(auditing.sqlite3, "connect", refuse)
    assert await verified(folder) == ()
    hide(folder / "journal.sqlite3")
    assert any(problem.startswith("database: ") for problem in await verified(folder))


@pytest.mark.anyio
async def test_text_that_is_no_text_is_found_in_a_file(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.glob("journal.*"):  # noqa: ASYNC240
        shutil.copy(path, copy)
    database = sqlite3.connect(copy / "journal.sqlite3")
    trigger = database.execute("SELECT sql FROM sqlite_master WHERE name = 'entries_no_update'").fetchone()[0]
    database.execute("DROP TRIGGER entries_no_update")
    database.execute("UPDATE entries SET key = CAST(x'ff6b' AS TEXT) WHERE seq = 3")
    database.execute(trigger)
    database.commit()
    database.close()
    assert await verified(copy) == ("entry 3: a column isn't text",)
