"""Positions in a binary log: what one has and another lacks, and what they are written as."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.errors import PositionLost
from s3gc.model import Position
from s3gc_cdc_mysql.position import (
    ANY_STORAGE,
    Fingerprint,
    LogPlace,
    MariadbGtids,
    MysqlGtids,
    Place,
    TablePrint,
)

A, B = UUID(int=1), UUID(int=2)
SOURCES = st.sampled_from([(A, ""), (B, ""), (A, "tag")])
SPENT = st.sets(st.tuples(SOURCES, st.integers(1, 12)), max_size=30)


def mysql(spent: set[tuple[tuple[UUID, str], int]]) -> MysqlGtids:
    found = MysqlGtids({})
    for (source, tag), number in spent:
        found = found.having(source, tag, number)
    return found


@given(SPENT, SPENT)
def test_what_a_set_of_mysql_lacks_is_what_is_in_no_interval(
    before: set[tuple[tuple[UUID, str], int]], now: set[tuple[tuple[UUID, str], int]]
) -> None:
    assert mysql(before).missing(mysql(now)) == str(mysql(before - now))
    assert bool(mysql(before).missing(mysql(now))) == bool(before - now)


@given(SPENT)
def test_a_set_of_mysql_is_read_as_it_was_written(
    spent: set[tuple[tuple[UUID, str], int]],
) -> None:
    assert MysqlGtids.read(str(mysql(spent))) == mysql(spent)


LISTS = st.dictionaries(st.integers(0, 3), st.tuples(st.integers(1, 3), st.integers(1, 99)))


@given(LISTS, LISTS)
def test_a_list_of_mariadb_lacks_a_domain_that_went_back(
    before: dict[int, tuple[int, int]], now: dict[int, tuple[int, int]]
) -> None:
    lacking = {d for d, (_, seq) in before.items() if d not in now or now[d][1] < seq}
    missing = MariadbGtids(before).missing(MariadbGtids(now))
    assert {int(part.split("-")[0]) for part in missing.split(",") if part} == lacking
    assert MariadbGtids.read(str(MariadbGtids(before))) == MariadbGtids(before)


def test_what_the_servers_print_is_read() -> None:
    text = f"{A}:1-3:5,\n{B}:7:tag:1-2"
    assert MysqlGtids.read(text).sources == {str(A): [(1, 3), (5, 5)], str(B): [(7, 7)], f"{B}:tag": [(1, 2)]}
    assert MariadbGtids.read("0-1-5,1-2-9").domains == {0: (1, 5), 1: (2, 9)}
    assert MariadbGtids.read("") == MariadbGtids({})


@pytest.mark.parametrize("text", ["x", "1-2", f"{A}:0", f"{A}:5-3", f"{A}:-1"])
def test_what_is_no_set_is_refused(text: str) -> None:
    reader = MysqlGtids if ":" in text else MariadbGtids
    with pytest.raises(ValueError, match=r"."):
        reader.read(text)


def test_gtids_of_the_other_kind_of_server_are_all_missing() -> None:
    assert MariadbGtids({0: (1, 5)}).missing(MysqlGtids({})) == "0-1-5"
    assert MysqlGtids({str(A): [(1, 2)]}).missing(MariadbGtids({})) == f"{A}:1-2"


FILES = st.sampled_from(["a.b.000009", "a.b.000010", "a.b.999999", "a.b.1000000"])
PLACES = st.builds(LogPlace, FILES, st.integers(4, 1 << 32))


@given(PLACES, PLACES)
def test_ordinals_grow_with_the_log(one: LogPlace, other: LogPlace) -> None:
    """A name's digits are counted: 1000000 comes after 999999."""
    if one.at_least(other):
        assert one.ordinal >= other.ordinal
    assert LogPlace.read(str(one)) == one


def test_a_place_moves_on_over_the_four_bytes_that_the_log_has() -> None:
    place = LogPlace("b.1", 0xFFFFFF00)
    assert place.moved(0xFFFFFFF0).offset == 0xFFFFFFF0
    assert place.moved(0x20).offset == 0x1_0000_0020
    assert place.moved(0x20).moved(0x30).offset == 0x1_0000_0030


PRINTS = Fingerprint("s", "c", True, (TablePrint("a", "b"), TablePrint("c", "d")))


@pytest.mark.parametrize("looked", [True, False])
@pytest.mark.parametrize("gtids", [MariadbGtids({0: (1, 5)}), MysqlGtids({str(A): [(1, 5)]}), MysqlGtids({})])
def test_a_position_is_read_as_it_was_written(gtids: MariadbGtids | MysqlGtids, looked: bool) -> None:
    place = Place(LogPlace("binlog.000007", 1234), 99, gtids, PRINTS, looked)
    assert Place.read(place.position("db")) == place
    assert place.position("db").ordinal == (7 << 32) | 1234


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "0/16B3748 t:1:2 a.b.c.d:e",
        "binlog.1:4 1 x= s.c.d.a:b",
        "binlog.1:4 1 m= s.c.x.a:b",
        "binlog.1:4 1 m= s.c.d.a:b ?",
        "binlog.x:4 1 m= s.c.d.a:b",
    ],
)
def test_what_is_no_position_is_lost(value: str) -> None:
    with pytest.raises(PositionLost, match="is no position of change capture"):
        Place.read(Position("db", value))


def test_differences_are_told_in_words() -> None:
    names = ["one", "two"]

    def now(**more: object) -> Fingerprint:
        known = {"server": "s", "configuration": "c", "durable": True, "tables": PRINTS.tables} | more
        return Fingerprint(**known)  # type: ignore[arg-type]

    def told(other: Fingerprint, before: Fingerprint = PRINTS, *, storage: bool = True) -> str:
        return "; ".join(before.differences(other, names, storage=storage))

    assert told(now()) == ""
    assert told(now(durable=False)) == "", "what it was is asked for when a server has crashed"
    assert "another server" in told(now(server="x"))
    assert "configuration" in told(now(configuration="x"))
    assert "configuration" in told(now(tables=PRINTS.tables[:1]))
    altered = now(tables=(PRINTS.tables[0], TablePrint("x", "d")))
    assert told(altered) == "table two was altered or recreated, or its foreign keys changed"
    rebuilt = now(tables=(PRINTS.tables[0], TablePrint("c", "x")))
    assert told(rebuilt) == "table two was rebuilt or recreated"
    assert told(rebuilt, storage=False) == "", "a TRUNCATE may explain it"
    emptied = PRINTS.after_truncate(1)
    assert emptied.tables[1].storage == ANY_STORAGE
    assert told(rebuilt, emptied) == ""
    assert told(altered, emptied) != ""
