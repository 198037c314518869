"""From events to changes, on events made by hand: MySQL's transactions, ends that never came, crashes.

The order of MySQL's events is that of its documentation (Binary Log Event, Replication with GTIDs, XA
transactions); MariaDB's is tested on a real server, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from s3gc.errors import PositionLost
from s3gc.model import RowChange
from s3gc.resolver import Resolver
from s3gc.sources.capture import TrackedTable
from s3gc_cdc_mysql import _assemble
from s3gc_cdc_mysql._assemble import Assembler
from s3gc_cdc_mysql.catalogue import ColumnInfo, TableInfo, Watched
from s3gc_cdc_mysql.events import (
    ABSENT,
    BinlogError,
    Column,
    ColumnType,
    Commit,
    Delete,
    Event,
    Format,
    Header,
    Heartbeat,
    Incident,
    Insert,
    KeyPart,
    MariadbGtid,
    MariadbGtidId,
    MysqlGtid,
    Other,
    Query,
    Rotate,
    Stop,
    Table,
    Update,
    XaPrepare,
)
from s3gc_cdc_mysql.position import Fingerprint, LogPlace, MariadbGtids, MysqlGtids, Place, TablePrint

SOURCE = UUID(int=7)
BORN = 1_700_000_000
ID = Column(0, ColumnType.LONG, 0, True, "id")
PATH = Column(1, ColumnType.VARCHAR, 0, True, "path")
TABLE = Table("shop", "one", (ID, PATH), (KeyPart(0, 0),), 0)
NAMELESS = Table("shop", "one", tuple(Column(c.index, c.type, 0, True) for c in (ID, PATH)), None, 0)
TOP = Table("shop", "top", (ID,), (KeyPart(0, 0),), 0)
INFO = [
    ColumnInfo(1, "id", "int", "int(11)", "", False, False),
    ColumnInfo(2, "path", "text", "text", "", False, False),
]
TRACKED = TableInfo(
    TrackedTable("one", ("one",), (("path", "path"),)), "shop", "one", "BASE TABLE", "InnoDB", False,
    INFO[:1], INFO[1:], [1], [], 0,
)  # fmt: skip


def prints(durable: bool = True) -> Fingerprint:
    return Fingerprint("s", "c", durable, (TablePrint("a", "b"),))


class Log:
    """A file of a log that is written event by event."""

    def __init__(self, *, mysql: bool = True, durable: bool = True, batch: int = 100) -> None:
        gtids = MysqlGtids({}) if mysql else MariadbGtids({})
        self.at, self.number = 1000, 0
        self.place = Place(LogPlace("b.000001", 1000), BORN, gtids, prints(durable))
        self.assembler = Assembler(
            "db", [TRACKED], [Watched("shop", "top", frozenset({0}))], self.place, Resolver("my-bucket"),
            durable=durable, batch=batch,
        )  # fmt: skip
        until = Place(LogPlace("b.000009", 4), 0, gtids, prints(durable))
        self.assembler.towards(until)
        self.feed(Rotate(self.made_up(), "b.000001", 1000), Format(self.made_up(BORN), "8.0", 4, 0, True))

    def made_up(self, timestamp: int = 0) -> Header:
        return Header(timestamp, 0, 1, 50, 0, 0x20)

    def header(self) -> Header:
        self.at += 50
        return Header(BORN + self.at, 0, 1, 50, self.at, 0)

    def feed(self, *events: Event) -> None:
        for event in events:
            self.assembler.feed(event)

    def query(self, text: str) -> None:
        self.feed(Query(self.header(), 1, "shop", text, 0, None, 0, None, b""))

    def gtid(self, source: UUID | None = SOURCE) -> None:
        self.number += 1
        self.feed(MysqlGtid(self.header(), source, self.number, "", 0, 0, False))

    def maria(
        self, *, standalone: bool = False, prepared: bytes | None = None, completed: bytes | None = None
    ) -> None:
        self.number += 1
        one = MariadbGtidId(0, 1, self.number)
        self.feed(MariadbGtid(self.header(), one, standalone, True, standalone, None, prepared, completed))

    def insert(self, *rows: tuple[Any, ...], table: Table = TABLE) -> None:
        self.feed(Insert(self.header(), table, (0, 1), True, list(rows)))

    def update(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        self.feed(Update(self.header(), TABLE, (0, 1), True, [(before, after)]))

    def delete(self, *ids: int, table: Table = TABLE) -> None:
        columns = (0, 1) if table is TABLE else (0,)
        rows = [(id, ABSENT)[: len(columns)] for id in ids]
        self.feed(Delete(self.header(), table, columns, True, rows))

    def commit(self) -> None:
        self.feed(Commit(self.header(), 1))

    def transaction(self, id: int) -> None:
        self.gtid()
        self.query("BEGIN")
        self.insert((id, f"k/{id}"))
        self.commit()

    def next_file(self, number: int, *, ended: bool, started: bool = True) -> None:
        if ended:
            self.feed(Stop(self.header()) if started else Rotate(self.header(), f"b.{number:06}", 4))
        self.feed(Rotate(self.made_up(), f"b.{number:06}", 4))
        self.at = 4
        self.feed(Format(self.header(), "8.0", 4, BORN + number if started else 0, True))

    def to_the_fence(self) -> None:
        self.next_file(9, ended=True, started=False)

    @property
    def changes(self) -> list[RowChange]:
        gathered = [*self.assembler.ready, self.assembler._gathering]
        return [change for one in gathered for change in one.changes]

    @property
    def keys(self) -> list[str]:
        return [reference.key for change in self.changes for reference in change.references]


# --------------------------------------------------------------------------- MySQL's transactions


def test_transactions_with_gtids_and_anonymous_ones() -> None:
    log = Log()
    log.transaction(1)
    log.gtid(None)
    log.query("BEGIN")
    log.update((1, "k/1"), (1, "k/2"))
    log.query("COMMIT")
    assert log.keys == ["k/1", "k/2"]
    assert log.assembler.place.log == LogPlace("b.000001", log.at)
    assert str(log.assembler.place.gtids) == f"{SOURCE}:1"
    log.to_the_fence()
    assert log.assembler.reached
    assert log.assembler.ready[-1].place is not None
    assert log.assembler.ready[-1].place.born == BORN + log.at, "the new file's own moment"


def test_a_table_made_of_rows_is_one_transaction() -> None:
    log = Log()
    log.gtid()
    log.query("CREATE TABLE `two` (id int) START TRANSACTION")
    log.feed(Insert(log.header(), TABLE, (0, 1), True, [(1, "k/1")]))
    log.commit()
    assert log.keys == ["k/1"]


def test_ddl_is_a_transaction_of_its_own() -> None:
    log = Log()
    for _ in range(2):
        log.gtid()
        log.query("CREATE TABLE three (id int)")
    log.gtid()
    log.query("TRUNCATE TABLE one")
    log.transaction(1)
    assert [gathered.emptied for gathered in [*log.assembler.ready, log.assembler._gathering]] == [["one"]]
    assert str(log.assembler.place.gtids) == f"{SOURCE}:1-4"


def test_prepared_transactions_of_mysql() -> None:
    """XA START, rows, XA END, the event XA_PREPARE; later a statement with a GTID of its own."""
    log = Log()
    log.gtid()
    log.query("XA START X'6131',X'',1")
    log.insert((1, "prepared"))
    log.query("XA END X'6131',X'',1")
    log.feed(XaPrepare(log.header(), b"a1", False))
    assert log.keys == []
    log.transaction(2)
    log.gtid()
    log.query("XA ROLLBACK X'6131',X'',1")
    assert log.keys == ["k/2"]
    log.gtid()
    with pytest.raises(PositionLost, match="rows were told before following began"):
        log.query("XA COMMIT X'6132',X'',1")


def test_a_transaction_by_xa_in_one_phase_is_committed_at_once() -> None:
    log = Log()
    log.gtid()
    log.query("XA START X'6131',X'',1")
    log.insert((1, "a"))
    log.query("XA END X'6131',X'',1")
    log.feed(XaPrepare(log.header(), b"a1", True))
    assert log.keys == ["a"]


# --------------------------------------------------------------------------- MariaDB's


def test_prepared_transactions_of_mariadb_are_told_when_they_are_committed() -> None:
    log = Log(mysql=False, batch=2)
    log.maria(prepared=b"x")
    for id in range(5):
        log.insert((id, f"p/{id}"))
    log.query("XA END X'78',X'',1")
    log.feed(XaPrepare(log.header(), b"x", False))
    assert log.keys == [], "whatever the size of a batch"
    log.maria(completed=b"x")
    log.query("XA COMMIT X'78',X'',1")
    assert log.keys == [f"p/{id}" for id in range(5)]
    assert str(log.assembler.place.gtids) == "0-1-2"


def test_prepared_transactions_are_not_kept_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_assemble, "MOST_HELD", 3)
    log = Log(mysql=False)
    log.maria(prepared=b"x")
    with pytest.raises(PositionLost, match="too large to be kept"):
        log.insert(*((id, f"p/{id}") for id in range(9)))


def test_a_statement_that_stands_alone() -> None:
    log = Log(mysql=False)
    log.maria(standalone=True)
    log.query("CREATE TABLE three (id int)")
    log.maria()
    log.insert((1, "a"))
    log.commit()
    assert log.keys == ["a"]
    assert str(log.assembler.place.gtids) == "0-1-2"


# --------------------------------------------------------------------------- ends that never came


@pytest.mark.parametrize("end", ["rollback", "crash"])
def test_a_transaction_that_was_not_committed_is_not_told(end: str) -> None:
    log = Log()
    log.transaction(1)
    log.gtid()
    log.query("BEGIN")
    log.insert((2, "never"))
    log.delete(1)
    log.query("ROLLBACK") if end == "rollback" else log.next_file(2, ended=False)
    log.transaction(3)
    assert log.keys == ["k/1", "k/3"]
    assert len(log.changes) == 2


@pytest.mark.parametrize("end", ["rollback", "crash"])
def test_one_that_was_told_in_part_is_a_gap(end: str) -> None:
    log = Log(batch=2)
    log.gtid()
    log.query("BEGIN")
    log.delete(1, 2)
    with pytest.raises(PositionLost, match="a part was told already, was never committed"):
        log.query("ROLLBACK") if end == "rollback" else log.next_file(2, ended=False)


def test_parts_of_a_transaction_have_the_place_before_it() -> None:
    log = Log(batch=2)
    log.transaction(1)
    before = log.assembler.place
    log.gtid()
    log.query("BEGIN")
    for id in range(2, 6):
        log.insert((id, f"k/{id}"))
    assert [gathered.place for gathered in log.assembler.ready] == [before, before]
    log.commit()
    log.to_the_fence()
    assert log.assembler.ready[-1].place is not None
    assert log.assembler.ready[-1].place.log.file == "b.000009"


def test_a_crash_of_a_server_that_keeps_both_the_same_is_nothing() -> None:
    log = Log()
    log.next_file(2, ended=False)
    log.transaction(1)
    assert log.keys == ["k/1"]


def test_a_crash_of_one_that_does_not_is_a_gap() -> None:
    log = Log(durable=False)
    log.next_file(2, ended=True)
    log.next_file(3, ended=True, started=False)
    with pytest.raises(PositionLost, match="the server crashed, and without"):
        log.next_file(4, ended=False)


def test_a_place_behind_the_end_of_a_file_is_no_crash() -> None:
    """One that begins to read there doesn't see how the file ended; so places aren't put there."""
    log = Log(durable=False)
    log.transaction(1)
    place = log.assembler.place.log
    log.feed(Stop(log.header()))
    assert log.assembler.place.log == place


def test_an_incident_is_a_gap() -> None:
    log = Log()
    with pytest.raises(PositionLost, match="its log misses something: LOST_EVENTS"):
        log.feed(Incident(log.header(), 1, "LOST_EVENTS"))


def test_another_file_of_the_same_name_is_another_history() -> None:
    log = Log()
    place = log.place
    later = Assembler("db", [TRACKED], [], place, Resolver("my-bucket"), durable=True)
    later.feed(Rotate(log.made_up(), "b.000001", 1000))
    with pytest.raises(PositionLost, match="isn't the file that was followed"):
        later.feed(Format(log.made_up(BORN + 1), "8.0", 4, 0, True))


def test_a_log_out_of_order_is_an_error() -> None:
    log = Log()
    with pytest.raises(BinlogError, match="a commit without its transaction"):
        log.commit()
    with pytest.raises(BinlogError, match="rows outside of a transaction"):
        log.insert((1, "a"))
    log.gtid()
    with pytest.raises(BinlogError, match="a transaction begins inside another"):
        log.gtid()


# --------------------------------------------------------------------------- images


def test_what_an_image_lacks_is_not_told_as_gone() -> None:
    log = Log()
    log.gtid()
    log.query("BEGIN")
    log.update((1, ABSENT), (ABSENT, "b"))
    log.update((2, ABSENT), (ABSENT, ABSENT))
    log.update((3, "kept"), (ABSENT, ABSENT))
    log.update((4, ABSENT), (5, ABSENT))
    log.insert((6, ABSENT))
    log.update((7, ABSENT), (7, ABSENT))  # a REPLACE: the path has its default now
    told = [(c.row_id, c.previous_row_id, c.columns, [r.key for r in c.references]) for c in log.changes]
    assert told == [
        ("1", None, None, ["b"]),
        ("2", None, frozenset(), []),
        ("3", None, None, ["kept"]),
        ("5", "4", frozenset(), []),
        ("6", None, frozenset(), []),
        ("7", None, frozenset(), []),
    ]
    again = [(one.change, one.key, one.log.offset) for one in log.assembler._gathering.again]
    assert [(change, list(key)) for change, key, _ in again] == [(3, [5]), (4, [6]), (5, [7])]
    assert again[-1][2] == log.at, "read when the event that spoke of it can be seen"


def test_rows_that_are_taken_along_are_told_once_their_transaction_is_whole() -> None:
    log = Log()
    log.gtid()
    log.query("BEGIN")
    log.delete(1, table=TOP)
    assert log.assembler._gathering.stale is None
    log.commit()
    assert "rows of one went" in str(log.assembler._gathering.stale)


def test_rows_without_names_are_a_gap() -> None:
    log = Log()
    log.gtid()
    log.query("BEGIN")
    with pytest.raises(PositionLost, match="without the names of its columns"):
        log.insert((1, "a"), table=NAMELESS)


def test_rows_without_a_tracked_column_are_a_gap() -> None:
    log = Log()
    log.gtid()
    log.query("BEGIN")
    with pytest.raises(PositionLost, match="come without its column 'path'"):
        log.feed(Insert(log.header(), Table("shop", "one", (ID,), (), 0), (0,), True, [(1,)]))


# --------------------------------------------------------------------------- the fence


def test_a_fence_is_reached_by_what_changes_no_row(log_events: Sequence[str]) -> None:
    for kind in log_events:
        log = Log()
        log.assembler.towards(Place(LogPlace("b.000001", 1100), 0, MysqlGtids({}), prints()))
        assert not log.assembler.reached
        if kind == "heartbeat":
            log.feed(Heartbeat(log.made_up(), "b.000001", 1100))
        elif kind == "other":
            log.feed(Other(log.header(), "x"), Other(log.header(), "x"))
        else:
            log.gtid()
            log.query("CREATE TABLE x (id int)")
        assert log.assembler.reached, kind


@pytest.fixture
def log_events() -> Sequence[str]:
    return ("heartbeat", "other", "statement")


def test_a_fence_within_a_transaction_is_reached_at_its_end() -> None:
    log = Log()
    log.assembler.towards(Place(LogPlace("b.000001", 1100), 0, MysqlGtids({}), prints()))
    log.gtid()
    log.query("BEGIN")
    log.insert((1, "a"))
    log.feed(Heartbeat(log.made_up(), "b.000001", 1200))
    assert not log.assembler.reached
    log.commit()
    assert log.assembler.reached


def test_a_statement_that_changes_rows_unseen_is_a_gap() -> None:
    log = Log()
    log.gtid()
    with pytest.raises(PositionLost, match=r"table shop\.one was altered"):
        log.query("ALTER TABLE one MODIFY path int")


def test_a_truncate_explains_another_storage_and_nothing_else_does() -> None:
    now = Fingerprint("s", "c", True, (TablePrint("a", "another"),))
    for statement in ("TRUNCATE one", "OPTIMIZE TABLE one"):
        log = Log()
        log.assembler.towards(Place(LogPlace("b.000001", 1100), 0, MysqlGtids({}), now))
        log.gtid()
        if statement.startswith("TRUNCATE"):
            log.query(statement)
            assert log.assembler.place.prints == now
        else:
            with pytest.raises(PositionLost, match="table one was rebuilt"):
                log.query(statement)


def test_between_fences_the_fingerprint_stays_what_the_log_has_made_of_it() -> None:
    """Else a TRUNCATE on the way would be forgotten, and its table's new storage taken for a gap."""
    log = Log()
    tip = Place(LogPlace("b.000001", 1100), 0, MysqlGtids({}), prints(), looked=False)
    log.assembler.towards(tip)
    log.gtid()
    log.query("TRUNCATE one")
    assert log.assembler.reached
    assert log.assembler.place.prints == prints().after_truncate(0)
