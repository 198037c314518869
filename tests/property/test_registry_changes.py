"""Changes applied to the registry in batches of any split, told again or not, against a model of rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
from attrs import evolve, field, frozen, mutable
from hypothesis import given
from hypothesis import strategies as st

from s3gc import Position, Reference
from s3gc.model import ChangeBatch, RowChange
from s3gc.registry import Registry, folder_hash, key_hash

START = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = ("c", "d")
IDS = ("1", "2", "3", "4")
KEYS = ("a", "a/b", "é", "x", "y")
FOLDERS = ("", "a/")

Cell = frozenset[tuple[str, bool]]  # (key or folder, whether it is a folder)
Row = dict[str, Cell]  # column → what it names
Content = set[tuple[str, str, str, int]]  # (table, row id, column, hash)

names = st.one_of(
    st.tuples(st.sampled_from(KEYS), st.just(False)), st.tuples(st.sampled_from(FOLDERS), st.just(True))
)
cells = st.frozensets(names, max_size=2)
ids = st.sampled_from(IDS)
tables = st.sampled_from(["t", "t", "t", "u"])


def hash_of(name: tuple[str, bool]) -> int:
    return folder_hash(name[0]) if name[1] else key_hash(name[0])


@frozen
class Write:
    """Insert a row or change it; of a change only these columns are told."""

    table: str
    row: str
    values: dict[str, Cell]


@frozen
class Rename:
    """Some row gets a free id; columns in ``values`` change with it, and only those are told."""

    table: str
    row: str
    new: str
    values: dict[str, Cell]


@frozen
class Delete:
    table: str
    row: str


@frozen
class Empty:
    table: str


@frozen
class Speak:
    """A change that tells an old value of a row and changes nothing."""

    table: str
    row: str
    key: str


some = st.dictionaries(st.sampled_from(COLUMNS), cells, max_size=2)
acts = st.one_of(
    st.builds(Write, tables, ids, some),
    st.builds(Write, tables, ids, some),
    st.builds(Rename, tables, ids, ids, some),
    st.builds(Rename, tables, ids, ids, st.just({})),
    st.builds(Delete, tables, ids),
    st.builds(Empty, tables),
    st.builds(Speak, tables, ids, st.sampled_from(KEYS)),
)


@frozen
class Event:
    """One committed change as a source tells it, and what the model knows of it."""

    change: RowChange | None
    emptied: str | None
    lost: frozenset[int]  # names that a row no longer has, or that were spoken of
    named: frozenset[int]  # every name that had to do with it


@mutable
class Database:
    """The rows as they are, and the events that led there. It makes only histories that can be."""

    rows: dict[tuple[str, str], Row] = field(factory=dict)

    def content(self) -> Content:
        return {
            (table, row, column, hash_of(name))
            for (table, row), values in self.rows.items()
            for column, cell in values.items()
            for name in cell
        }

    def references(self) -> list[Reference]:
        """As a scan reads them now."""
        return [
            one for (table, row), values in self.rows.items() for one in references_of(table, row, values)
        ]

    def do(self, act: Any, *, renames_tell_all: bool) -> Event | None:
        """The event; None when such a thing can't happen now."""
        match act:
            case Write(table, row, values):
                before = self.rows.get((table, row))
                # An insert tells every column, an update those that changed.
                told = (
                    values
                    if before is not None
                    else {column: values.get(column, frozenset()) for column in COLUMNS}
                )
                after = {**(before or {}), **told}
                self.rows[table, row] = after
                columns = frozenset(told) if set(told) != set(COLUMNS) else None
                change = RowChange(table, row, references_of(table, row, told), columns)
                return self._event(change, before or {}, after)
            case Rename(table, row, new, values):
                row, new = self._some(table, row), self._free(table, new)
                if not row or not new:
                    return None
                before = self.rows.pop((table, row))
                after = {**before, **values}
                self.rows[table, new] = after
                told = after if renames_tell_all else values
                columns = frozenset(told) if set(told) != set(COLUMNS) else None
                change = RowChange(table, new, references_of(table, new, told), columns, row)
                return self._event(change, before, after)
            case Delete(table, row):
                row = self._some(table, row)
                if not row:
                    return None
                return self._event(RowChange(table, row), self.rows.pop((table, row)), {})
            case Empty(table):
                gone = [key for key in self.rows if key[0] == table]
                names = frozenset(
                    hash_of(name) for key in gone for cell in self.rows[key].values() for name in cell
                )
                for key in gone:
                    del self.rows[key]
                return Event(None, table, names, names)
            case Speak(table, row, key):
                row = self._some(table, row)
                if not row:
                    return None
                values = self.rows[table, row]
                change = RowChange(table, row, references_of(table, row, values), named=[key])
                event = self._event(change, values, values)
                spoken = frozenset([key_hash(key)])
                return evolve(event, lost=spoken, named=event.named | spoken)
        raise AssertionError(act)

    def _some(self, table: str, row: str) -> str:
        """A row that there is, chosen by ``row``; empty if there is none."""
        there = sorted(one for name, one in self.rows if name == table)
        return there[int(row) % len(there)] if there else ""

    def _free(self, table: str, row: str) -> str:
        """An id that no row has, chosen by ``row``; empty if there is none."""
        free = [one for one in IDS if (table, one) not in self.rows]
        return free[int(row) % len(free)] if free else ""

    def _event(self, change: RowChange, before: Row, after: Row) -> Event:
        was = frozenset(hash_of(name) for cell in before.values() for name in cell)
        lost = frozenset(
            hash_of(name) for column, cell in before.items() for name in cell - after.get(column, frozenset())
        )
        now = frozenset(hash_of(name) for cell in after.values() for name in cell)
        return Event(change, None, lost, was | now)


def references_of(table: str, row: str, values: Row) -> list[Reference]:
    return [
        Reference(name, table, row, column, prefix=folder)
        for column, cell in sorted(values.items())
        for name, folder in sorted(cell)
    ]


def batches_of(events: Sequence[Event], cuts: Iterable[bool], number: int, at: datetime) -> list[ChangeBatch]:
    """Events in batches, cut where ``cuts`` says; an emptied table begins one."""
    found: list[ChangeBatch] = []
    splits = list(cuts)
    for index, event in enumerate(events):
        number += 1
        position = Position("db", str(number), number)
        cut = splits[index % len(splits)] if splits else False
        if not found or event.emptied is not None or cut:
            found.append(ChangeBatch([], position, at))
        last = found[-1]
        found[-1] = evolve(
            last,
            changes=[*last.changes, *([event.change] if event.change else [])],
            emptied=[*last.emptied, *([event.emptied] if event.emptied else [])],
            position=position,
        )
    return found


async def content(registry: Registry) -> Content:
    def work(connection: Any) -> Content:
        return {
            (table, row, column, value)
            for table, row, column, value in connection.execute(
                "SELECT c.tbl, r.row_id, c.col, r.key_hash FROM refs r JOIN columns c ON c.id = r.col"
                " WHERE c.source = 'db'"
            )
        }

    return await registry._database.run(work)


async def touched(registry: Registry) -> dict[int, datetime]:
    def work(connection: Any) -> dict[int, datetime]:
        return {
            value: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
            for value, at in connection.execute("SELECT key_hash, at FROM touched")
        }

    return await registry._database.run(work)


async def scan(registry: Registry, references: Sequence[Reference], number: int = 0) -> None:
    await registry.references.begin()
    for one in references:
        await registry.references.stage("db", [one])
    await registry.references.apply("db", Position("db", str(number), number), START, followed=True)


async def change(registry: Registry, batches: Sequence[ChangeBatch], *, again: bool = False) -> None:
    for batch in batches:
        await registry.references.change("db", evolve(batch, again=again), batch.at or START)


def in_registry(work: Callable[[Registry], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            registry = Registry(f"{folder}/registry.sqlite3")
            await registry.open("fake://b")
            await work(registry)
            await registry.aclose()

    anyio.run(run)


def history(database: Database, first: Sequence[Any], *, renames_tell_all: bool = False) -> list[Event]:
    events = [database.do(act, renames_tell_all=renames_tell_all) for act in first]
    return [event for event in events if event is not None]


ACTS = st.lists(acts, max_size=12)
CUTS = st.lists(st.booleans(), min_size=1, max_size=6)
A, B = frozenset({("a", False)}), frozenset({("x", False)})


@given(ACTS, ACTS, CUTS)
def test_the_registry_follows_the_rows(before: list[Any], acts: list[Any], cuts: list[bool]) -> None:
    """Inserts, updates of some columns, new ids with and without all columns, deletes, emptied tables."""
    database = Database()
    history(database, before)
    scanned = database.references()
    events = history(database, acts)
    later = START + timedelta(hours=1)
    batches = batches_of(events, cuts, 0, later)

    async def work(registry: Registry) -> None:
        await scan(registry, scanned)
        await change(registry, batches)
        assert await content(registry) == database.content()
        state = await registry.references.state("db")
        assert state is not None
        assert state.position == str(len(events))
        found = await touched(registry)
        lost = {value for event in events for value in event.lost}
        named = {value for event in events for value in event.named}
        assert lost <= found.keys() <= named
        assert set(found.values()) <= {later}

    in_registry(work)


@given(ACTS, CUTS, CUTS, st.integers(0, 12))
def test_what_is_told_again_changes_nothing(
    acts: list[Any], cuts: list[bool], other_cuts: list[bool], start: int
) -> None:
    """From any earlier position, in other batches; and it is no news of any key.

    Changes of a row's id tell all columns here: the contract asks that of those that are told again.
    """
    database = Database()
    events = history(database, acts, renames_tell_all=True)

    async def work(registry: Registry) -> None:
        await scan(registry, [])
        await change(registry, batches_of(events, cuts, 0, START))
        before = await touched(registry)
        later = START + timedelta(days=1)
        again = batches_of(events[start:], other_cuts, start, later)
        await change(registry, again, again=True)
        assert await content(registry) == database.content()
        assert await touched(registry) == before
        await change(registry, again)
        assert await content(registry) == database.content()
        told = {value for event in events[start:] for value in event.named}
        assert {value for value, at in (await touched(registry)).items() if at == later} <= told

    in_registry(work)


@given(ACTS, ACTS, CUTS)
def test_a_scan_may_see_what_its_changes_tell_again(
    before: list[Any], acts: list[Any], cuts: list[bool]
) -> None:
    """A scan without one view reads some rows as they are later on; the changes since it began lead there."""
    database = Database()
    history(database, before)
    early = {key: dict(values) for key, values in database.rows.items()}
    events = history(database, acts, renames_tell_all=True)
    for take_late in (0, 1):
        # Every other row as it was when the scan began, the rest as they are at its end.
        mixed = Database({key: values for n, (key, values) in enumerate(early.items()) if n % 2 == take_late})
        mixed.rows |= {key: values for key, values in database.rows.items() if key not in mixed.rows}
        references = mixed.references()

        async def work(registry: Registry, references: list[Reference] = references) -> None:
            await scan(registry, references)
            await change(registry, batches_of(events, cuts, 0, START))
            assert await content(registry) == database.content()

        in_registry(work)


@given(ACTS, st.integers(-48, 48), st.integers(-48, 48))
def test_a_key_is_touched_at_the_last_change_and_never_before_the_last_sync(
    acts: list[Any], first: int, second: int
) -> None:
    database = Database()
    events = history(database, [Write("t", "1", {"c": A}), *acts])
    times = [START + timedelta(hours=first), START + timedelta(hours=second)]
    middle = len(events) // 2

    async def work(registry: Registry) -> None:
        await scan(registry, [])  # synced at START
        halves = [events[:middle], events[middle:]]
        expected: dict[int, datetime] = {}
        for half, at, number in zip(halves, times, (0, middle), strict=True):
            await change(registry, batches_of(half, [False], number, at))
            for value in {value for event in half for value in event.lost}:
                expected[value] = max(expected.get(value, START), at)
        found = await touched(registry)
        assert {value: found[value] for value in expected} == {
            value: max(at, found[value]) for value, at in expected.items()
        }
        assert all(at in {START, *times} and at >= START for at in found.values())

    in_registry(work)


def test_renames_that_tell_nothing_survive_their_order() -> None:
    """Row 3 takes the id that row 1 gave up, and neither change tells what the rows name."""
    rows = [Reference("a", "t", "1", "c"), Reference("x", "t", "3", "c")]
    changes = [RowChange("t", new, (), frozenset(), old) for old, new in (("1", "2"), ("3", "1"))]

    async def work(registry: Registry) -> None:
        await scan(registry, rows)
        await change(registry, [ChangeBatch(changes, Position("db", "2", 2))])
        assert await content(registry) == {
            ("t", "2", "c", key_hash("a")),
            ("t", "1", "c", key_hash("x")),
        }

    in_registry(work)


def test_an_update_of_one_column_leaves_the_others_and_a_delete_none() -> None:
    database = Database()
    acts = [Write("t", "1", {"c": A, "d": B}), Write("t", "1", {"c": B}), Write("t", "1", {"c": frozenset()})]
    events = history(database, acts)

    async def work(registry: Registry) -> None:
        await scan(registry, [])
        await change(registry, batches_of(events, [True], 0, START))
        assert await content(registry) == {("t", "1", "d", key_hash("x"))}
        await change(registry, [ChangeBatch([RowChange("t", "1")], Position("db", "9", 9))])
        assert await content(registry) == set()

    in_registry(work)
