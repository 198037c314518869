"""The decoder of the binlog: rows come back as they were written, and damage never becomes another event."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binlog_bytes as b
from binlog_bytes import Field, T, image, rows
from s3gc_cdc_mysql._bytes import packed
from s3gc_cdc_mysql._charsets import charset_name, decoder
from s3gc_cdc_mysql._compression import inflate_maria
from s3gc_cdc_mysql._decimal import decimal_size, decimal_value
from s3gc_cdc_mysql._json import json_text
from s3gc_cdc_mysql.binlog import Decoder
from s3gc_cdc_mysql.events import ABSENT, BinlogError, Event, Insert, Rows, Table, Update

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def text_cell(field: Field, value: str) -> bytes:
    raw = value.encode()
    size = 1 if field.kind == T.VARCHAR and int.from_bytes(field.meta, "little") < 256 else 2
    return len(raw).to_bytes(size, "little") + raw


def number_cell(field: Field, value: int) -> bytes:
    size = {T.LONG: 4, T.LONGLONG: 8}[T(field.kind)]
    return value.to_bytes(size, "little", signed=not field.unsigned)


FIELDS: list[tuple[Field, st.SearchStrategy[Any], Any]] = [
    (b.integer("i", T.LONG), st.integers(-(2**31), 2**31 - 1), number_cell),
    (b.integer("u", T.LONGLONG, unsigned=True), st.integers(0, 2**64 - 1), number_cell),
    (b.varchar("s", 200), TEXT, text_cell),
    (b.varchar("l", 4000), TEXT, text_cell),
    (Field("b", T.BLOB, b"\3", collation=63), st.binary(max_size=50), lambda f, v: b.blob(v, 3)),
    (b.enum("e", "x", "y"), st.sampled_from(["x", "y"]), lambda f, v: bytes(["xy".index(v) + 1])),
]
COLUMNS = st.lists(st.sampled_from(FIELDS), min_size=1, max_size=12)


@st.composite
def written(draw: st.DrawFn) -> tuple[list[Field], list[bool], list[list[Any]], list[bytes]]:
    """Columns, which of them are present, rows (present columns, None for NULL), and the rows' bytes."""
    chosen = draw(COLUMNS)
    fields = [field for field, _, _ in chosen]
    present = draw(st.lists(st.booleans(), min_size=len(fields), max_size=len(fields)).filter(any))
    here = [one for one, there in zip(chosen, present, strict=True) if there]
    values = draw(
        st.lists(st.tuples(*(st.none() | strategy for _, strategy, _ in here)).map(list), max_size=5)
    )
    images = [
        image([None if v is None else make(f, v) for v, (f, _, make) in zip(row, here, strict=True)])
        for row in values
    ]
    return fields, present, values, images


def spread(row: Sequence[Any], present: Sequence[bool]) -> list[Any]:
    left = iter(row)
    return [next(left) if there else ABSENT for there in present]


def read(fields: list[Field], packet: bytes, projection: Sequence[int] | None = None) -> Rows:
    decoder = Decoder(lambda table: projection or range(len(fields)), checksum=True)
    found = [e for p in (b.format_description(), b.table_map(fields), packet) for e in decoder.decode(p)]
    [event] = [e for e in found if isinstance(e, Rows)]
    return event


@given(written(), st.data())
def test_rows_come_back(
    made: tuple[list[Field], list[bool], list[list[Any]], list[bytes]], data: st.DataObject
) -> None:
    fields, present, values, images = made
    whole = [spread(row, present) for row in values]
    event = read(fields, rows(30, len(fields), images, present=present))
    assert isinstance(event, Insert)
    assert [list(row) for row in event.rows] == whole
    asked = sorted(data.draw(st.sets(st.integers(0, len(fields) - 1), min_size=1)))
    event = read(fields, rows(30, len(fields), images, present=present), asked)
    assert isinstance(event, Insert)
    assert [list(row) for row in event.rows] == [[row[at] for at in asked] for row in whole]
    pairs = [one for row in images for one in (row, row)]
    event = read(fields, rows(31, len(fields), pairs, present=present, after=present))
    assert isinstance(event, Update)
    assert [(list(old), list(new)) for old, new in event.rows] == [(row, row) for row in whole]


ROW = [make(f, v) for (f, _, make), v in zip(FIELDS, (1, 2, "key", "other", b"b", "x"), strict=True)]
STREAM = [
    b.format_description(),
    b.rotate("binlog.000001"),
    b.gtid(7),
    b.query("BEGIN"),
    b.table_map([f for f, _, _ in FIELDS]),
    rows(30, len(FIELDS), [image(ROW)]),
    b.xid(),
]


def everything(table: Table) -> Sequence[int]:
    return range(len(table.columns))


def after(packets: Sequence[bytes], last: bytes) -> list[Event]:
    decoder = Decoder(everything, checksum=True)
    for packet in packets:
        list(decoder.decode(packet))
    return list(decoder.decode(last))


@pytest.mark.parametrize("number", range(len(STREAM)))
def test_a_turned_bit_is_an_error_and_never_another_event(number: int) -> None:
    """Each one."""
    for bit in range(8 * len(STREAM[number])):
        packet = bytearray(STREAM[number])
        packet[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(BinlogError):
            after(STREAM[:number], bytes(packet))


@given(st.integers(0, len(STREAM) - 1), st.data())
def test_an_event_cut_short_is_an_error(number: int, data: st.DataObject) -> None:
    packet = STREAM[number]
    cut = data.draw(st.integers(0, len(packet) - 1))
    with pytest.raises(BinlogError):
        after(STREAM[:number], packet[:cut])


@given(st.integers(1, len(STREAM) - 1), st.data())
def test_without_checksum_a_cut_is_still_an_error_of_ours_or_what_it_says(
    number: int, data: st.DataObject
) -> None:
    """Nobody but the decoder itself notices then: it reads exactly as many bytes as there are."""
    plain = [STREAM[0][:-5] + b"\0" + bytes(4)]
    for packet in STREAM[1:]:
        body = packet[19:-4]
        plain.append(packet[:9] + (len(packet) - 4).to_bytes(4, "little") + packet[13:19] + body)
    head, body = plain[number][:19], plain[number][19:]
    body = body[: data.draw(st.integers(0, max(0, len(body) - 1)))]
    cut = head[:9] + (19 + len(body)).to_bytes(4, "little") + head[13:] + body
    try:
        found = after(plain[:number], cut)
    except BinlogError:
        return
    assert not any(isinstance(e, Rows) and e.rows for e in found)


@given(st.binary(max_size=80), st.sampled_from([*range(1, 45), *range(160, 172)]))
def test_anything_with_a_right_checksum_is_an_event_or_an_error_of_ours(body: bytes, kind: int) -> None:
    try:
        found = after(STREAM[:5], b.event(kind, body))
    except BinlogError:
        return
    for event in found:
        assert isinstance(event, Event)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_json_document_or_a_value_error(raw: bytes) -> None:
    try:
        assert isinstance(json_text(raw), str)
    except (ValueError, IndexError):
        return


@given(st.integers(0, 2**64 - 1))
def test_a_packed_integer_comes_back(number: int) -> None:
    raw = b.packed(number)
    assert packed(raw + b"x", 0) == (number, len(raw))
    with pytest.raises((ValueError, IndexError)):
        packed(raw[:-1], 0)


@given(st.integers(1, 65).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, min(p, 30)))), st.data())
def test_a_decimal_comes_back(size: tuple[int, int], data: st.DataObject) -> None:
    precision, scale = size
    digits = data.draw(st.text("0123456789", min_size=precision, max_size=precision))
    negative = data.draw(st.booleans()) and bool(int(digits))
    whole, fraction = digits[: precision - scale], digits[precision - scale :]
    sizes = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    raw, at = b"", len(whole) % 9
    groups = [whole[:at], *(whole[n : n + 9] for n in range(at, len(whole), 9))]
    groups += [fraction[n : n + 9] for n in range(0, len(fraction), 9)]
    for group in groups:
        raw += int(group or "0").to_bytes(sizes[len(group)], "big")
    number = int.from_bytes(raw, "big") ^ (1 << 8 * len(raw) - 1)
    if negative:
        number ^= (1 << 8 * len(raw)) - 1
    raw = number.to_bytes(len(raw), "big")
    assert len(raw) == decimal_size(precision, scale)
    found = decimal_value(raw, precision, scale)
    sign = "-" if negative else ""
    assert "".join(map(str, found.as_tuple().digits)).zfill(precision)[-precision:] == digits
    assert (found < 0) == bool(sign)
    assert -int(found.as_tuple().exponent) == scale


@given(st.binary(min_size=1, max_size=200))
def test_what_mariadb_compresses_comes_back_and_nothing_else_does(plain: bytes) -> None:
    """A head of method and sizes, the length (high byte first), zlib."""
    size = (len(plain).bit_length() + 7) // 8
    raw = bytes([0x80 | size]) + len(plain).to_bytes(size, "big") + zlib.compress(plain)
    assert inflate_maria(raw) == plain
    for damaged in (
        raw[:-1], raw + b"\0", bytes([0x90 | size]) + raw[1:], bytes([0x85]) + raw[1:],
        bytes([0x80 | size]) + (len(plain) + 1).to_bytes(size, "big", signed=False) + raw[1 + size :]
        if len(plain) != 255 else raw[:-1],
        bytes([0x80 | size]) + (len(plain) - 1).to_bytes(size, "big") + raw[1 + size :],
    ):  # fmt: skip
        with pytest.raises((ValueError, IndexError)):
            inflate_maria(damaged)


@pytest.mark.parametrize("collation", range(1, 330))
def test_a_collation_is_of_a_known_character_set_or_refused(collation: int) -> None:
    try:
        name = charset_name(collation)
    except ValueError:
        return
    # What is ASCII is the same text in all of them; that is what keys are made of, mostly.
    wide = {"ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be"}
    assert decoder(collation)("photos/a-1_b.jpg".encode(wide.get(name, "ascii"))) == "photos/a-1_b.jpg"
