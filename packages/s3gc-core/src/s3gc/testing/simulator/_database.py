"""A database with transactions: the truth about which rows name which keys, now and at any moment before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import Factory, define, field, frozen

from s3gc.abc import folders_of

TRACKED = (("files", "key"), ("posts", "image"))
FOLDER = ("albums", "folder")
UNTRACKED = ("posts", "note")

Values = Mapping[str, str]
"""Column → value. A column without a value is absent."""


@define
class Row:
    """A committed row."""

    values: Values
    since: dict[str, int]  # column → tick at which the transaction began that gave it its present value
    silent: bool = False  # its last change is in no change log


@define(eq=False)
class Transaction:
    """Statements that nobody else sees before the commit."""

    name: str
    began: int  # tick
    began_at: float  # seconds
    statements: dict[tuple[str, str], Values | None] = Factory(dict)  # (table, row) → what it becomes
    state: str = "open"  # or prepared, committed, rolled back
    silent: bool = False


@frozen
class RowEvent:
    """A committed change of one row."""

    table: str
    row: str
    before: Values | None
    after: Values | None


@frozen
class Commit:
    """An entry of the change log."""

    lsn: int
    at: float
    events: Sequence[RowEvent]
    silent: bool  # not written to the log that is followed


@define(eq=False)
class Database:
    """One database server with one database."""

    name: str
    system: str  # its identity: no other server has it
    tick: Callable[[], int]
    time: Callable[[], float]
    columns: Sequence[tuple[str, str]] = TRACKED  # tracked ones, folders included
    rows: dict[tuple[str, str], Row] = Factory(dict)
    log: list[Commit] = Factory(list)
    open: dict[str, Transaction] = Factory(dict)
    lsn: int = 100
    timeline: int = 1
    ended: asyncio.Event = field(factory=asyncio.Event)  # set and replaced at each end of a transaction
    _count: int = 0

    # ------------------------------------------------------------------ writing

    def begin(self, *, silent: bool = False) -> Transaction:
        """Open a transaction."""
        self._count += 1
        found = Transaction(f"tx{self._count}", self.tick(), self.time(), silent=silent)
        self.open[found.name] = found
        return found

    def write(self, transaction: Transaction, table: str, row: str, values: Values | None) -> bool:
        """State what a row becomes (None: it is deleted). False when another transaction has the row."""
        place = (table, row)
        if transaction.state != "open" or any(
            place in other.statements for other in self.open.values() if other is not transaction
        ):
            return False
        transaction.statements[place] = values
        return True

    def prepare(self, transaction: Transaction) -> None:
        """The first phase of two: it survives its client, and is still open."""
        if transaction.state == "open":
            transaction.state = "prepared"

    def commit(self, transaction: Transaction) -> bool:
        """Make it visible, all at once. False when it had ended before."""
        if self.open.pop(transaction.name, None) is None:
            return False
        self.tick()
        self.lsn += 10
        events = []
        for (table, row), values in transaction.statements.items():
            before = self.rows.get((table, row))
            events.append(RowEvent(table, row, before.values if before else None, values))
            self._put(table, row, values, transaction.began, transaction.silent)
        self.log.append(Commit(self.lsn, self.time(), events, transaction.silent))
        self._end(transaction, "committed")
        return True

    def roll_back(self, transaction: Transaction) -> bool:
        """Forget it. False when it had ended before."""
        if self.open.pop(transaction.name, None) is None:
            return False
        self.tick()
        self._end(transaction, "rolled back")
        return True

    def _put(self, table: str, row: str, values: Values | None, began: int, silent: bool) -> None:
        before = self.rows.pop((table, row), None)
        if values is None:
            return
        since = {}
        for column, value in values.items():
            stays = before is not None and before.values.get(column) == value
            since[column] = before.since[column] if before is not None and stays else began
        self.rows[table, row] = Row(values, since, silent)

    def _end(self, transaction: Transaction, state: str) -> None:
        transaction.state = state
        ended, self.ended = self.ended, asyncio.Event()
        ended.set()

    def at_once(self, table: str, row: str, values: Values | None, *, silent: bool = False) -> bool:
        """A transaction of one statement."""
        transaction = self.begin(silent=silent)
        if self.write(transaction, table, row, values):
            return self.commit(transaction)
        self.roll_back(transaction)
        return False

    def empty(self, table: str) -> None:
        """TRUNCATE: all rows at once."""
        transaction = self.begin()
        for place in [place for place in self.rows if place[0] == table]:
            self.write(transaction, *place, None)
        self.commit(transaction)

    def back_to(self, lsn: int) -> None:
        """The whole server is set back to an earlier moment; its history goes on from there."""
        for transaction in list(self.open.values()):
            self.roll_back(transaction)
        rows: dict[tuple[str, str], Values] = {}
        for commit in self.log:
            if commit.lsn <= lsn:
                for event in commit.events:
                    rows.pop((event.table, event.row), None)
                    if event.after is not None:
                        rows[event.table, event.row] = event.after
        self.log = [commit for commit in self.log if commit.lsn <= lsn]
        self.lsn = lsn
        now = self.tick()
        self.rows = {place: Row(values, dict.fromkeys(values, now)) for place, values in rows.items()}

    # ------------------------------------------------------------------ the truth

    def names(self, table: str, column: str, value: str, key: str) -> bool:
        """Whether a value of this column refers to the key."""
        if (table, column) == FOLDER:
            return value in folders_of(key)
        return value == key

    def stakes(self, key: str) -> Iterator[tuple[str, int, Row]]:
        """Committed rows that name a key: (where, tick at which that began, the row)."""
        for (table, row), found in self.rows.items():
            for column, value in found.values.items():
                if (table, column) in self.columns and self.names(table, column, value, key):
                    yield f"{table}.{column} of row {row}", found.since[column], found

    def claims(self, key: str) -> Iterator[tuple[str, int]]:
        """Open transactions that name a key: (which, tick at which it began)."""
        for transaction in self.open.values():
            for (table, row), values in transaction.statements.items():
                for column, value in (values or {}).items():
                    if (table, column) in self.columns and self.names(table, column, value, key):
                        yield f"{transaction.name} ({table}.{column} of row {row})", transaction.began
