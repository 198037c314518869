"""A source in memory that can do everything passes every suite; one that does one thing wrong fails it.

The suites of :mod:`s3gc.testing.source_contract` are guards: each clause must bite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from attrs import evolve

from s3gc.abc import ReferenceSource, Wanted
from s3gc.errors import PositionLost, SourceError
from s3gc.model import (
    ChangeBatch,
    Column,
    ColumnCount,
    Position,
    Reference,
    RowChange,
    ScanBatch,
    UntrackedColumn,
)
from s3gc.testing import source_contract
from s3gc.testing.source_contract import (
    ChangesContract,
    ChangingPlace,
    CoverageContract,
    CoveredPlace,
    FolderPlace,
    FolderSourceContract,
    SourceContract,
    Transaction,
    TransactionalChangesContract,
    TransactionalPlace,
)

pytestmark = pytest.mark.anyio
TABLE = "rows"
Row = tuple[str, str]  # column, value


class LedgerTransaction(Transaction):
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.rows: dict[str, Row] = {}

    async def add(self, value: str) -> None:
        self.rows[self.ledger.number()] = ("key", value)

    async def commit(self) -> None:
        self.ledger.commit(self)
        self.rows = {}


class Ledger(TransactionalPlace, FolderPlace, CoveredPlace, ChangingPlace):
    """Rows of one value each, and a log of what happened to them, in commit order."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.log: list[tuple[str, Row | None] | None] = []  # row and what it became; None: all went
        self.oldest = 0
        self.down = False
        self.open: list[LedgerTransaction] = []
        self.rolled_back: list[LedgerTransaction] = []
        self.together: set[str] = set()  # rows that a transaction wrote
        self._last = 0

    def number(self) -> str:
        self._last += 1
        return str(self._last)

    def write(self, row: str, to: Row | None) -> None:
        self.log.append((row, to))
        if to is None:
            del self.rows[row]
        else:
            self.rows[row] = to

    def commit(self, transaction: LedgerTransaction) -> None:
        for row, to in transaction.rows.items():
            self.write(row, to)
            self.together.add(row)

    async def add(self, value: str) -> str:
        row = self.number()
        self.write(row, ("key", value))
        return row

    async def add_folder(self, value: str) -> str:
        row = self.number()
        self.write(row, ("folder", value))
        return row

    async def add_loose(self, value: str) -> tuple[str, str]:
        self.write(self.number(), ("note", value))
        return TABLE, "note"

    async def change(self, row: str, value: str) -> None:
        self.write(row, (self.rows[row][0], value))

    async def remove(self, row: str) -> None:
        self.write(row, None)

    async def empty(self) -> None:
        self.log.append(None)
        self.rows.clear()

    async def forget(self) -> None:
        self.oldest = len(self.log)

    async def break_down(self) -> None:
        self.down = True

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        one = LedgerTransaction(self)
        self.open.append(one)
        try:
            yield one
        finally:
            self.open.remove(one)
            if one.rows:
                self.rolled_back.append(one)


class LedgerSource(ReferenceSource):
    """Does everything right."""

    name = "ledger"
    follows_changes = True
    sampled = "note"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def columns(self) -> list[Column]:
        return [Column(TABLE, "key"), Column(TABLE, "folder")]

    def prefix(self, value: str) -> str:
        return value.strip("/") + "/" if value.strip("/") else ""

    def of(self, row: str, to: Row | None) -> list[Reference]:
        column, value = to or ("", "")
        if not value or column not in ("key", "folder"):
            return []
        if column == "folder":
            return [Reference(self.prefix(value), TABLE, row, column, prefix=True)]
        return [Reference(value, TABLE, row, column)]

    async def references(self) -> AsyncIterator[Reference]:
        async for batch in self.scan():
            for reference in batch.references:
                yield reference

    async def scan(self) -> AsyncIterator[ScanBatch]:
        """In pieces, each as the rows are when it is read."""
        if self.ledger.down:
            raise SourceError("down")
        if not self.ledger.rows:
            yield ScanBatch([], {column: ColumnCount() for column in self.columns()})
        rows = sorted(self.ledger.rows, key=int)
        for at in range(0, len(rows), 7):
            there = {row: self.ledger.rows[row] for row in rows[at : at + 7] if row in self.ledger.rows}
            counts = {
                column: ColumnCount(
                    len(there), sum(c == column.column and v != "" for c, v in there.values())
                )
                for column in self.columns()
            }
            yield ScanBatch([r for row, to in there.items() for r in self.of(row, to)], counts)

    async def fence(self, timeout: timedelta) -> Position:
        before = list(self.ledger.open)
        with anyio.move_on_after(timeout.total_seconds()) as scope:
            while any(one in self.ledger.open and one.rows for one in before):  # noqa: ASYNC110 - a fake
                await anyio.sleep(0.005)
        if scope.cancelled_caught:
            raise SourceError("1 transaction is open still")
        return self.at(len(self.ledger.log))

    def at(self, place: int) -> Position:
        return Position(self.name, str(place), place)

    async def begin(self) -> Position:
        return self.at(len(self.ledger.log))

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        start, end = int(after.value), max(int(after.value), int(until.value))
        if start < self.ledger.oldest:
            raise PositionLost("forgotten")
        while True:
            batch = self.batch(start, min(start + 3, end))
            start = int(batch.position.value)
            yield batch
            if start == end:
                return

    def batch(self, start: int, end: int) -> ChangeBatch:
        if start < end and self.ledger.log[start] is None:
            return ChangeBatch([], self.at(start + 1), datetime.now(UTC), emptied=[TABLE])
        changes = []
        for entry in self.ledger.log[start:end]:
            if entry is None:
                break
            changes.append(RowChange(TABLE, entry[0], self.of(*entry)))
        return ChangeBatch(changes, self.at(start + len(changes)), datetime.now(UTC))

    async def applied(self, position: Position) -> None:
        self.ledger.oldest = max(self.ledger.oldest, int(position.value))

    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        if self.ledger.down:
            raise SourceError("down")
        values = [value for column, value in self.ledger.rows.values() if column == self.sampled and value]
        values = values[-sample:]
        yield UntrackedColumn(TABLE, self.sampled, "text", frozenset(values), len(values))


class TestLedger(TransactionalChangesContract, FolderSourceContract, CoverageContract):
    @pytest.fixture
    async def place(self) -> Ledger:
        return Ledger()

    @pytest.fixture
    async def source(self, place: Ledger) -> LedgerSource:  # type: ignore[override]
        return LedgerSource(place)

    @pytest.fixture
    async def later(self, place: Ledger) -> LedgerSource:  # type: ignore[override]
        return LedgerSource(place)


# --------------------------------------------------------------------------- one thing wrong each


class TellsTracked(LedgerSource):
    sampled = "key"


class NoSlash(LedgerSource):
    def prefix(self, value: str) -> str:
        return value.rstrip("/")


class TwoSlashes(LedgerSource):
    def prefix(self, value: str) -> str:
        return value + "/"


class FindsKeysOnly(LedgerSource):
    async def find(self, keys: Collection[str]) -> AsyncIterator[Reference]:
        async for reference in self.references():
            if reference.key in keys:
                yield reference


class FindsNoFolders(LedgerSource):
    async def find(self, keys: Collection[str]) -> AsyncIterator[Reference]:
        async for reference in super().find(keys):
            if not reference.prefix:
                yield reference


class FindsTooMuch(LedgerSource):
    async def find(self, keys: Collection[str]) -> AsyncIterator[Reference]:
        async for reference in self.references():
            if reference.prefix or reference.key in keys:
                yield reference


class FindsOnePerCall(LedgerSource):
    async def find(self, keys: Collection[str]) -> AsyncIterator[Reference]:
        wanted = Wanted(list(keys)[:1])
        async for reference in self.references():
            if wanted.by(reference):
                yield reference


class RemembersFolders(LedgerSource):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.seen: dict[Reference, None] = {}

    async def scan(self) -> AsyncIterator[ScanBatch]:
        async for batch in super().scan():
            self.seen |= {r: None for r in batch.references if r.prefix}
            yield evolve(batch, references=list({**dict.fromkeys(batch.references), **self.seen}))


class KeysAreFolders(LedgerSource):
    def of(self, row: str, to: Row | None) -> list[Reference]:
        plain = super().of(row, to)
        return plain + [evolve(r, key=r.key.rstrip("/") + "/", prefix=True) for r in plain if not r.prefix]


class NoRoot(LedgerSource):
    def prefix(self, value: str) -> str:
        return value.rstrip("/") + "/"


class TellsNothingUntracked(LedgerSource):
    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        return
        yield


class OneKeyUntracked(LedgerSource):
    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        async for column in super().untracked(sample):
            yield evolve(column, keys=sorted(column.keys)[:1])


class ReadsUntracked(LedgerSource):
    def of(self, row: str, to: Row | None) -> list[Reference]:
        return super().of(row, ("key", to[1]) if to and to[0] == "note" else to)


class CountsEmpty(LedgerSource):
    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        async for column in super().untracked(sample):
            yield evolve(column, sampled=column.sampled + 1)


class NoBound(LedgerSource):
    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        async for column in super().untracked(10_000):
            yield column


class TooTight(LedgerSource):
    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        async for column in super().untracked(min(sample, 10)):
            yield column


class TellsOnce(LedgerSource):
    told = 0

    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        self.told += 1
        async for column in super().untracked(sample):
            if self.told < 3:
                yield column


class TellsTwice(LedgerSource):
    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        async for column in super().untracked(sample):
            yield column
            yield column


class SwallowsTheSchema(LedgerSource):
    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        if not self.ledger.down:
            async for column in super().untracked(sample):
                yield column


class SaysNothing(LedgerSource):
    follows_changes = False


class Edited(LedgerSource):
    """Tells changes through ``edit``."""

    def edit(self, change: RowChange) -> RowChange | None:
        return change

    def batch(self, start: int, end: int) -> ChangeBatch:
        batch = super().batch(start, end)
        edited = [self.edit(change) for change in batch.changes]
        return evolve(batch, changes=[change for change in edited if change is not None])


class NoRemovals(Edited):
    def edit(self, change: RowChange) -> RowChange | None:
        return change if change.references or change.row_id in self.ledger.rows else None


class NoClearing(Edited):
    """A row that names nothing any more isn't told."""

    def edit(self, change: RowChange) -> RowChange | None:
        return change if change.references or change.row_id not in self.ledger.rows else None


class NoUpdates(Edited):
    def edit(self, change: RowChange) -> RowChange | None:
        told = [entry for entry in self.ledger.log if entry and entry[0] == change.row_id]
        return change if len(told) == 1 or not change.references else None


class AnotherRow(Edited):
    def edit(self, change: RowChange) -> RowChange | None:
        return evolve(change, references=[evolve(r, row_id="0") for r in change.references])


class ColumnsLeftOut(Edited):
    def edit(self, change: RowChange) -> RowChange | None:
        return evolve(change, columns=frozenset({"other"}))


class Backwards(LedgerSource):
    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        changes = [change async for batch in super().changes(after, until) for change in batch.changes]
        yield ChangeBatch(changes[::-1], until)


class FromTheScansEnd(LedgerSource):
    scanned = 0

    async def scan(self) -> AsyncIterator[ScanBatch]:
        async for batch in super().scan():
            yield batch
        self.scanned = len(self.ledger.log)

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        async for batch in super().changes(self.at(max(self.scanned, int(after.value))), until):
            yield batch


class SilentWhenNothingChanged(LedgerSource):
    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        if after.value != until.value:
            async for batch in super().changes(after, until):
                yield batch


class StopsShort(LedgerSource):
    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        end = max(int(after.value), int(until.value) - 1)
        async for batch in super().changes(after, self.at(end)):
            yield batch


class Consumes(LedgerSource):
    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        start = max(int(after.value), self.ledger.oldest)
        async for batch in super().changes(self.at(start), until):
            yield batch
        self.ledger.oldest = int(until.value)


class EveryBatchAtTheEnd(LedgerSource):
    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        async for batch in super().changes(after, until):
            yield evolve(batch, position=until)


class GoesBack(LedgerSource):
    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        async for batch in super().changes(after, until):
            yield batch
        yield ChangeBatch([], self.at(int(until.value) - 1))
        yield ChangeBatch([], until)


class NameOfNobody(LedgerSource):
    def at(self, place: int) -> Position:
        return Position(f"ledger {place}", str(place), place)


class NoTimeZone(LedgerSource):
    def batch(self, start: int, end: int) -> ChangeBatch:
        return evolve(super().batch(start, end), at=datetime(2026, 1, 1))


class ReleasesTooMuch(LedgerSource):
    async def applied(self, position: Position) -> None:
        self.ledger.oldest = len(self.ledger.log) + 1


class ReleasesOnce(LedgerSource):
    async def applied(self, position: Position) -> None:
        if int(position.value) <= self.ledger.oldest and self.ledger.oldest:
            raise SourceError("already released")
        await super().applied(position)


class KeepsThePlaceInMemory(LedgerSource):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.place: int | None = None

    async def begin(self) -> Position:
        begun = await super().begin()
        self.place = int(begun.value)
        return begun

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        start = after if self.place is not None else until
        async for batch in super().changes(start, until):
            yield batch


class NoTruncate(LedgerSource):
    def batch(self, start: int, end: int) -> ChangeBatch:
        return evolve(super().batch(start, end), emptied=[])


class TruncateComesLast(LedgerSource):
    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        emptied = False
        async for batch in super().changes(after, until):
            emptied = emptied or bool(batch.emptied)
            yield evolve(batch, emptied=[])
        if emptied:
            yield ChangeBatch([], until, emptied=[TABLE])


class NoticesNoLoss(LedgerSource):
    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        start = max(int(after.value), self.ledger.oldest)
        async for batch in super().changes(self.at(start), until):
            yield batch


class LossIsForEver(LedgerSource):
    lost = False

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        self.lost = self.lost or int(after.value) < self.ledger.oldest
        if self.lost:
            raise PositionLost("once and for all")
        async for batch in super().changes(after, until):
            yield batch


class NoTransactions(Edited):
    """What a transaction of more than one statement did isn't told."""

    def edit(self, change: RowChange) -> RowChange | None:
        return None if change.row_id in self.ledger.together else change


class Besides(LedgerSource):
    """Tells rows of some transactions besides."""

    def besides(self) -> list[LedgerTransaction]:
        raise NotImplementedError

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        async for batch in super().changes(after, until):
            yield batch
        rows = [(row, to) for one in self.besides() for row, to in one.rows.items()]
        yield ChangeBatch([RowChange(TABLE, row, self.of(row, to)) for row, to in rows], until)


class ReadsUncommitted(Besides):
    def besides(self) -> list[LedgerTransaction]:
        return self.ledger.open


class TellsRollbacks(Besides):
    def besides(self) -> list[LedgerTransaction]:
        return self.ledger.rolled_back


WRONG: dict[str, list[type[LedgerSource]]] = {
    "test_tracked_columns_are_never_told_as_untracked": [TellsTracked],
    "test_a_folder_is_told_as_a_prefix": [NoSlash, TwoSlashes],
    "test_all_below_a_folder_is_found_and_nothing_beside_it": [
        FindsKeysOnly, FindsNoFolders, FindsTooMuch, FindsOnePerCall, NoSlash,
    ],
    "test_a_removed_folder_protects_nothing": [RemembersFolders, FindsNoFolders],
    "test_a_key_is_no_folder": [KeysAreFolders],
    "test_the_whole_bucket_is_a_folder": [NoRoot, FindsKeysOnly],
    "test_scan_and_find_agree_on_folders": [FindsNoFolders],
    "test_an_untracked_column_is_told_with_its_keys": [TellsNothingUntracked, OneKeyUntracked, TellsTwice],
    "test_untracked_values_are_no_references": [ReadsUntracked],
    "test_empty_values_are_not_counted": [CountsEmpty],
    "test_a_sample_is_bounded": [NoBound, TooTight],
    "test_asking_again_tells_the_same": [TellsOnce],
    "test_a_schema_that_cannot_be_read_is_an_error": [SwallowsTheSchema],
    "test_it_says_that_it_follows_changes": [SaysNothing],
    "test_every_change_after_the_beginning_is_told": [
        NoRemovals, NoClearing, NoUpdates, AnotherRow, ColumnsLeftOut, StopsShort, GoesBack, NameOfNobody,
        NoTimeZone,
    ],
    "test_what_a_scan_misses_or_sees_already_is_told": [FromTheScansEnd, NoRemovals],
    "test_the_last_change_of_a_row_wins": [Backwards, NoUpdates],
    "test_the_end_is_told_also_when_nothing_changed": [SilentWhenNothingChanged],
    "test_reading_again_from_an_old_position_tells_the_same": [Consumes],
    "test_one_can_read_on_from_every_batch": [EveryBatchAtTheEnd],
    "test_what_was_applied_may_be_released_and_the_rest_stays": [ReleasesTooMuch, ReleasesOnce],
    "test_the_next_process_reads_on": [KeepsThePlaceInMemory],
    "test_rows_that_go_all_at_once_are_told": [NoTruncate, TruncateComesLast],
    "test_lost_changes_are_noticed_and_one_can_begin_anew": [NoticesNoLoss, LossIsForEver],
    "test_a_scan_sees_one_state": [FromTheScansEnd],
    "test_a_transaction_open_at_the_beginning_is_told_when_it_commits": [NoTransactions],
    "test_a_transaction_is_told_when_it_commits_and_not_before": [ReadsUncommitted, NoTransactions],
    "test_the_rolled_back_is_never_told": [TellsRollbacks],
}  # fmt: skip


def test_every_clause_has_something_that_it_catches() -> None:
    suites = (FolderSourceContract, CoverageContract, ChangesContract, TransactionalChangesContract)
    clauses = {name for suite in suites for name in vars(suite) if name.startswith("test_")}
    assert clauses | {"test_tracked_columns_are_never_told_as_untracked"} == set(WRONG)
    assert set(WRONG) <= {name for name in dir(TestLedger) if name.startswith("test_")}
    assert issubclass(TestLedger, SourceContract)


@pytest.mark.parametrize(
    ("clause", "wrong"), [(clause, wrong) for clause, sources in WRONG.items() for wrong in sources]
)
async def test_a_clause_bites(
    clause: str, wrong: type[LedgerSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_contract, "PATIENCE", timedelta(seconds=5))
    monkeypatch.setattr(source_contract, "GLANCE", 0.05)
    ledger = Ledger()
    source = wrong(ledger)
    given: dict[str, Any] = {"source": source, "place": ledger}
    if clause == "test_the_next_process_reads_on":
        given["later"] = wrong(ledger)
    if clause == "test_it_says_that_it_follows_changes":
        del given["place"]
    with pytest.raises((AssertionError, SourceError, pytest.fail.Exception, BaseExceptionGroup)):
        await getattr(TestLedger(), clause)(**given)
