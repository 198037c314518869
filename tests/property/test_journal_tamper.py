"""``verify`` finds whatever is done to a journal, and says where."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.model import AuditResult, JournalDraft, JournalEntry
from s3gc.vault import SqliteJournal, _queries
from s3gc.vault._audit import audit
from s3gc.vault._chain import COLUMNS, expected_schema, genesis, require_progress
from s3gc.vault._head import SLOT_OFFSETS, Head, HeadFile
from s3gc.vault.records import canonical

BUCKET = "s3://b"
NAMES = COLUMNS.split(", ")
TRIGGERS = [sql for sql in expected_schema().values() if sql.startswith("CREATE TRIGGER entries_")]


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 11, 23, 18, 0, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


async def _made(folder: Path, drafts: list[JournalDraft], times: int) -> list[JournalEntry]:
    journal = SqliteJournal(folder, vault_id="v", bucket=BUCKET, clock=FixedClock())
    await journal.create()
    await journal.open()
    for begin in range(0, len(drafts), times):
        await journal.append(drafts[begin : begin + times])
    found = [entry async for entry in journal.read()]
    assert (await journal.verify()).ok
    await journal.aclose()
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five entries that look alike, keys and data in several scripts, one without a key."""
    folder = tmp_path_factory.mktemp("journal")
    drafts = [
        JournalDraft("deleted", "op", key, {"é": [n, None], "x": "y"})
        for n, key in enumerate(["a", "a", None, "日\x00本", ""])
    ]
    anyio.run(_made, folder, drafts, 2)
    return folder


def audited(connection: sqlite3.Connection, head: Path) -> AuditResult:
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return audit(connection, HeadFile(head), genesis("v", BUCKET), canonical(BUCKET))


class Tampering:
    """A journal in memory: its rows as they were, and others put in their place behind the triggers' back."""

    def __init__(self, folder: Path) -> None:
        self.head = folder / "journal.head"
        self.source = sqlite3.connect(folder / "journal.sqlite3")
        self.rows: list[tuple[Any, ...]] = self.source.execute(
            f"SELECT {COLUMNS} FROM entries ORDER BY seq"
        ).fetchall()

    @contextlib.contextmanager
    def copy(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(":memory:")
        try:
            self.source.backup(connection)
            yield connection
        finally:
            connection.close()

    def problems_after(self, *statements: str) -> tuple[str, ...]:
        with self.copy() as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
            return tuple(audited(connection, self.head).problems)

    def problems_with(self, rows: list[tuple[Any, ...]]) -> tuple[str, ...]:
        with self.copy() as connection:
            for name in ("entries_in_order", "entries_no_update", "entries_no_delete"):
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute("DELETE FROM entries")
            for row in rows:
                # CAST, because changed bytes may be no text that sqlite3 would take.
                marks = ", ".join("CAST(? AS TEXT)" if isinstance(v, bytes) else "?" for v in row)
                connection.execute(f"INSERT INTO entries VALUES ({marks})", row)
            for trigger in TRIGGERS:
                connection.execute(trigger)
            connection.commit()
            found = audited(connection, self.head)
        assert found.ok == (not found.problems)
        assert not any(p.startswith(("tables:", "database:")) for p in found.problems)
        return tuple(found.problems)


@pytest.fixture
def tampering(small: Path) -> Iterator[Tampering]:
    made = Tampering(small)
    yield made
    made.source.close()


def test_the_untouched_rows_pass(tampering: Tampering) -> None:
    """Else the tests below could not fail."""
    assert tampering.problems_with(tampering.rows) == ()


def changed_values(value: Any) -> Iterator[Any]:
    """Each value with one bit flipped, and some of another type."""
    if isinstance(value, str):
        raw = value.encode()
        for place in range(len(raw)):
            for bit in range(8):
                yield raw[:place] + bytes([raw[place] ^ (1 << bit)]) + raw[place + 1 :]
        yield value + "\0"
        yield value + " "
        yield None
    elif value is None:
        yield ""
        yield "null"


@pytest.mark.parametrize("column", NAMES[1:])
@pytest.mark.parametrize("index", range(5))
def test_each_flipped_bit_of_each_column_is_found(tampering: Tampering, column: str, index: int) -> None:
    place = NAMES.index(column)
    row = tampering.rows[index]
    tried = 0
    for value in changed_values(row[place]):
        if value is None and column != "key":
            continue  # the table refuses it
        if value == row[place]:
            continue
        rows = list(tampering.rows)
        rows[index] = (*row[:place], value, *row[place + 1 :])
        problems = tampering.problems_with(rows)
        assert any(p.startswith(f"entry {index + 1}:") for p in problems), value
        tried += 1
    assert tried


@pytest.mark.parametrize("index", range(5))
def test_each_flipped_bit_of_a_number_is_found(tampering: Tampering, index: int) -> None:
    for bit in range(63):
        rows = list(tampering.rows)
        seq = rows[index][0] ^ (1 << bit)
        if seq in {row[0] for row in rows}:
            continue  # that is a swap or a replacement, below
        rows[index] = (seq, *rows[index][1:])
        problems = tampering.problems_with(rows)
        assert any(p.startswith((f"entry {index + 1}:", f"entry {seq}:")) for p in problems)


def test_a_text_made_a_blob_is_found(tampering: Tampering) -> None:
    """Its bytes are the same, and no read by key finds it any more."""
    problems = tampering.problems_after(
        "DROP TRIGGER entries_no_update", "UPDATE entries SET key = CAST(key AS BLOB) WHERE seq = 2"
    )
    assert "entry 2: the key has another type" in problems


@pytest.mark.parametrize("index", range(5))
def test_each_dropped_entry_is_found(tampering: Tampering, index: int) -> None:
    problems = tampering.problems_with([r for n, r in enumerate(tampering.rows) if n != index])
    assert any(p.startswith(f"entry {index + 1}: missing") for p in problems)


@pytest.mark.parametrize("length", range(5))
def test_each_cut_off_end_is_found(tampering: Tampering, length: int) -> None:
    assert tampering.problems_with(tampering.rows[:length]) == (
        "entry 5: missing, the journal's end was cut off",
    )


def renumbered(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(n, *row[1:]) for n, row in enumerate(rows, 1)]


@pytest.mark.parametrize("index", range(5))
def test_each_dropped_entry_is_found_though_numbers_close_up(tampering: Tampering, index: int) -> None:
    rows = renumbered([r for n, r in enumerate(tampering.rows) if n != index])
    assert any(
        p.startswith(("entry 5: missing", f"entry {index + 1}:")) for p in tampering.problems_with(rows)
    )


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("second", range(5))
def test_each_swap_is_found(tampering: Tampering, first: int, second: int) -> None:
    rows = list(tampering.rows)
    rows[first], rows[second] = rows[second], rows[first]
    problems = tampering.problems_with(renumbered(rows))
    if first == second:
        assert problems == ()
    else:
        assert any(p.startswith(f"entry {min(first, second) + 1}:") for p in problems)


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("source", range(5))
def test_each_repeated_entry_is_found(tampering: Tampering, index: int, source: int) -> None:
    rows = [*tampering.rows[:index], tampering.rows[source], *tampering.rows[index:]]
    assert tampering.problems_with(renumbered(rows))


@pytest.mark.parametrize("seq", [0, -1, -(2**63), 6, 2**63 - 1])
def test_an_entry_put_beside_is_found(tampering: Tampering, seq: int) -> None:
    rows = [*tampering.rows, (seq, *tampering.rows[-1][1:])]
    assert any(p.startswith(f"entry {seq}:") for p in tampering.problems_with(sorted(rows)))


SCHEMA_CHANGES = [
    "DROP TRIGGER entries_no_update",
    "DROP TRIGGER entries_no_delete",
    "DROP TRIGGER entries_in_order",
    "DROP INDEX entries_by_key",
    "CREATE TRIGGER more AFTER INSERT ON entries BEGIN SELECT 1; END",
    "CREATE VIEW more AS SELECT 1",
    "ALTER TABLE entries ADD COLUMN more TEXT",
]


@pytest.mark.parametrize("statement", SCHEMA_CHANGES)
def test_changed_tables_are_found(tampering: Tampering, statement: str) -> None:
    problems = tampering.problems_after(statement)
    assert len(problems) == 1
    assert problems[0].startswith("tables: ")


def test_an_index_that_hides_an_entry_is_found(tampering: Tampering) -> None:
    """Reads by key would miss it, though the table is whole."""
    whole = "CREATE INDEX entries_by_key ON entries (key) WHERE key IS NOT NULL"
    problems = tampering.problems_after(
        "PRAGMA writable_schema = 1",
        "DROP INDEX entries_by_key",
        f"{whole} AND seq <> 2",
        f"UPDATE sqlite_master SET sql = '{whole}' WHERE name = 'entries_by_key'",
        "PRAGMA writable_schema = RESET",
    )
    assert any(p.startswith("database: ") for p in problems)


@pytest.mark.parametrize("loss", ["gone", "empty", "noise"])
def test_a_lost_head_file_is_reported(tampering: Tampering, tmp_path: Path, loss: str) -> None:
    tampering.head = tmp_path / "journal.head"
    if loss != "gone":
        tampering.head.write_bytes(b"" if loss == "empty" else b"x" * 5000)
    assert tampering.problems_with(tampering.rows) == (
        "journal.head is missing or damaged: a cut-off end can't be ruled out",
    )


@given(
    appends=st.lists(st.integers(1, 9), max_size=6),
    slot=st.integers(0, 1),
    place=st.integers(0, 150),
    bit=st.integers(0, 7),
)
def test_a_head_file_with_one_flipped_bit_is_at_most_one_append_behind(
    appends: list[int], slot: int, place: int, bit: int
) -> None:
    """Never ahead, never another hash: a flipped slot doesn't count at all."""
    with tempfile.TemporaryDirectory() as folder:
        file = HeadFile(Path(folder) / "journal.head")
        heads = [Head(0, "0" * 64)]
        file.create(heads[0])
        for step in appends:
            seq = heads[-1].seq + step
            heads.append(Head(seq, f"{seq:064x}"))
            file.write(heads[-1])
        file.close()
        assert file.read() == heads[-1]
        data = bytearray(file.path.read_bytes())
        data[SLOT_OFFSETS[slot] + place] ^= 1 << bit
        file.path.write_bytes(data)
        assert HeadFile(file.path).read() in [*heads[-2:], None if len(heads) == 1 else heads[-1]]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
some_drafts = st.lists(
    st.builds(
        JournalDraft,
        event=texts.filter(bool),
        operation_id=texts,
        key=st.none() | texts,
        data=st.dictionaries(texts, json_values, max_size=3),
    ),
    max_size=8,
)


@given(drafts=some_drafts, times=st.integers(1, 4))
def test_any_entries_come_back_as_they_were(drafts: list[JournalDraft], times: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = anyio.run(_made, Path(folder), drafts, times)
    assert [(e.event, e.operation_id, e.key, e.data) for e in found] == [
        (d.event, d.operation_id, d.key, d.data) for d in drafts
    ]


# --------------------------------------------------------------------------- pages that lead back


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """Entries on several pages, and the bits of the cells of the page above them."""
    folder = tmp_path_factory.mktemp("tall")
    drafts = [JournalDraft("deleted", "op", str(n), {"x": "y" * 600}) for n in range(30)]
    anyio.run(_made, folder, drafts, 30)
    path = folder / "journal.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entries'").fetchone()
    page = path.read_bytes()[(root - 1) * size : root * size]
    assert page[0] == 5  # an inner page of a table
    cells = int.from_bytes(page[5:7])
    return path, list(range(((root - 1) * size + cells) * 8, root * size * 8))


def flipped_copy(path: Path, bit: int, folder: str) -> Path:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    made = Path(folder) / "journal.sqlite3"
    made.write_bytes(data)
    return made


@pytest.mark.timeout(120)
def test_pages_that_lead_back_are_found_and_end(
    tall: tuple[Path, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flipped bit made ``audit verify`` and the reading of a journal go on for ever."""
    monkeypatch.setattr(_queries, "PAGE_ROWS", 5)
    path, places = tall
    for bit in places:
        with tempfile.TemporaryDirectory() as folder:
            copy = flipped_copy(path, bit, folder)
            with contextlib.closing(sqlite3.connect(copy)) as connection:
                found = audited(connection, path.with_name("journal.head"))
                assert not found.ok, bit
                numbers: list[int] = []
                with contextlib.suppress(sqlite3.DatabaseError):
                    for rows in _queries.query().pages(connection, 0, 30):
                        numbers += [row[0] for row in rows]
                        assert len(numbers) <= 60, bit


def test_a_page_that_leads_nowhere_is_damage() -> None:
    require_progress(6, 5)
    for last in (5, 4):
        with pytest.raises(sqlite3.DatabaseError, match="behind entry 5"):
            require_progress(last, 5)
