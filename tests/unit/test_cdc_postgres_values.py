"""Printed values become what the direct read gets; positions are read as they were written."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.errors import PositionLost, SourceError
from s3gc.model import Position
from s3gc_cdc_postgres._rows import visible
from s3gc_cdc_postgres._values import array, reader
from s3gc_cdc_postgres.position import (
    Committed,
    Fingerprint,
    LeafPrint,
    Place,
    TablePrint,
    Told,
    format_lsn,
    parse_lsn,
)

TEXT_ARRAY, BYTEA_ARRAY, UUID_ARRAY, BYTEA, UUID, TEXT, JSONB = 1009, 1001, 2951, 17, 2950, 25, 3802


@pytest.mark.parametrize(
    ("printed", "value"),
    [
        ("{}", []),
        ("{a,b}", ["a", "b"]),
        ('{"a b","c,d",NULL,"NULL",""}', ["a b", "c,d", None, "NULL", ""]),
        (r'{"a\"b","c\\d"}', ['a"b', "c\\d"]),
        ("{{a,b},{c,d}}", [["a", "b"], ["c", "d"]]),
        ("[0:1]={a,b}", ["a", "b"]),
        ("{é/漢字.txt}", ["é/漢字.txt"]),
    ],
)
def test_arrays(printed: str, value: list[object]) -> None:
    assert reader(TEXT_ARRAY)(printed.encode()) == value


def test_values_of_other_types() -> None:
    one = uuid.uuid4()
    assert reader(TEXT)(b"a") == "a"
    assert reader(JSONB)(b'{"a": 1}') == '{"a": 1}'
    assert reader(BYTEA)(b"\\x6100") == b"a\0"
    assert reader(UUID)(str(one).encode()) == one
    assert reader(UUID_ARRAY)(f"{{{one},NULL}}".encode()) == [one, None]
    assert reader(BYTEA_ARRAY)(rb'{"\\x61"}') == [b"a"]


@pytest.mark.parametrize("printed", ["", "a", "{a", "{a}b", '{"a', "{a}}"])
def test_what_is_no_array_is_an_error(printed: str) -> None:
    with pytest.raises(SourceError):
        reader(TEXT_ARRAY)(printed.encode())


def test_a_bytea_printed_otherwise_is_an_error() -> None:
    with pytest.raises(SourceError, match="bytea_output"):
        reader(BYTEA)(b"abc")


NESTED: Any = st.recursive(
    st.lists(st.none() | st.text(max_size=8), min_size=1, max_size=4),
    lambda inner: st.lists(inner, min_size=1),
    max_leaves=8,
)


def printed(value: object) -> str:
    """As array_out does when it quotes everything."""
    if isinstance(value, list):
        return "{" + ",".join(map(printed, value)) + "}"
    if value is None:
        return "NULL"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(NESTED)
def test_every_array_comes_back(value: list[object]) -> None:
    assert array(printed(value), str) == value


# --------------------------------------------------------------------------- positions

PRINT = st.text("0123456789abcdef", min_size=12, max_size=12)
LEAVES = st.dictionaries(
    st.integers(1, 2**32 - 1), st.builds(LeafPrint, PRINT, PRINT, st.booleans()), max_size=4
)
TABLES = st.lists(st.builds(TablePrint, PRINT, PRINT | st.just("?"), LEAVES), min_size=1).map(tuple)
PRINTS = st.builds(Fingerprint, PRINT, PRINT, PRINT, TABLES)
LSN = st.integers(0, 2**64 - 1)
PLACES = st.builds(
    Place, LSN,
    st.builds(Committed, st.integers(0, 2**32 - 1), st.integers(0, 2**62))
    | st.builds(Told, PRINT, LSN, st.booleans()),
    PRINTS,
)  # fmt: skip


@given(PLACES)
def test_a_position_is_read_as_it_was_written(place: Place) -> None:
    position = place.position("db")
    assert position.ordinal == place.lsn
    assert Place.read(position) == place


@pytest.mark.parametrize(
    "value",
    ["", "0/0", "000000000000002a", "0/1 x:1 a.b.c.d:e:", "0/1 t:1:2 a.b.c", "1 t:1:2 a.b.c.d:e:"],
)
def test_another_position_can_not_be_followed_from(value: str) -> None:
    """A scanned source's position, say, from before change capture."""
    with pytest.raises(PositionLost, match="no position of change capture"):
        Place.read(Position("db", value, 1))


@given(LSN)
def test_lsns(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn
    assert parse_lsn("16/B374D848") == 0x16B374D848


BEFORE = Fingerprint("s", "c", "p", (TablePrint("a", "1"), TablePrint("b", "2")))
ALTERED = Fingerprint("s", "c", "p", (TablePrint("x", "1"), TablePrint("b", "2")))
REWRITTEN = Fingerprint("s", "c", "p", (TablePrint("a", "1"), TablePrint("b", "x")))


@pytest.mark.parametrize(
    ("now", "storage", "told"),
    [
        (BEFORE, True, []),
        (Fingerprint("x", "c", "p", BEFORE.tables), False, ["another server"]),
        (Fingerprint("s", "x", "p", BEFORE.tables), False, ["configuration"]),
        (Fingerprint("s", "x", "p", BEFORE.tables[:1]), False, ["configuration"]),
        (Fingerprint("s", "c", "x", BEFORE.tables), False, ["publication"]),
        (ALTERED, False, ["table one was altered"]),
        (REWRITTEN, False, []),
        (REWRITTEN, True, ["table two was rewritten"]),
    ],
)
def test_what_was_changed_is_told(now: Fingerprint, storage: bool, told: list[str]) -> None:
    differences = BEFORE.differences(now, ["one", "two"], storage=storage)
    assert len(differences) == len(told)
    assert all(word in one for word, one in zip(told, differences, strict=True))


@given(
    before=st.dictionaries(
        st.integers(1, 5), st.builds(LeafPrint, st.sampled_from("ab"), st.sampled_from("12"))
    ),
    now=st.dictionaries(
        st.integers(1, 5), st.builds(LeafPrint, st.sampled_from("ab"), st.sampled_from("12"), st.booleans())
    ),
    truncated=st.booleans(),
)
def test_partitions_hold_unless_each_that_is_there_is_explained(
    before: dict[int, LeafPrint], now: dict[int, LeafPrint], truncated: bool
) -> None:
    """Known before and the very same, or new and told whole. One that is gone is told as such."""
    then = Fingerprint("s", "c", "p", (TablePrint("a", "?" if truncated else "1", before),))
    later = Fingerprint("s", "c", "p", (TablePrint("a", "1", now),))
    shapes = all(one.shape == before[oid].shape if oid in before else one.told for oid, one in now.items())
    files = truncated or all(now[oid].storage == one.storage for oid, one in before.items() if oid in now)
    assert (then.differences(later, ["one"], storage=True) == []) == (shapes and files)
    assert (then.differences(later, ["one"], storage=False) == []) == shapes
    assert (then.fewer(later, ["one"]) != []) == bool(set(before) - set(now))


def test_a_truncated_table_may_have_new_storage_and_no_other() -> None:
    now = Fingerprint("s", "c", "p", (TablePrint("a", "9"), TablePrint("b", "9")))
    after = BEFORE.after_truncate(0)
    assert after.differences(now, ["one", "two"], storage=True) == [
        "table two was rewritten, or one of its partitions truncated"
    ]


@pytest.mark.parametrize(
    ("snapshot", "xid", "seen"),
    [
        ("100:200:150,160", 99, True),
        ("100:200:150,160", 150, False),
        ("100:200:150,160", 151, True),
        ("100:200:150,160", 200, False),
        ("100:200:", 201, False),
        (f"{2**32 + 5}:{2**32 + 9}:", 4, True),  # after a wraparound
        (f"{2**32 + 5}:{2**32 + 9}:", 2**32 - 1, True),
        (f"{2**32 + 5}:{2**32 + 9}:{2**32 + 6}", 6, False),
        (f"{2**32 - 9}:{2**32 - 5}:", 3, False),
    ],
)
def test_which_transactions_a_snapshot_sees(snapshot: str, xid: int, seen: bool) -> None:
    assert visible(snapshot, xid) is seen
