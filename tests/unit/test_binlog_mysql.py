"""MySQL 8's forms of the log, which can't be recorded here: built by its documentation (see binlog_bytes)."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import binlog_bytes as b
from binlog_bytes import (
    Field,
    T,
    enum,
    event,
    image,
    int32,
    integer,
    packed,
    rows,
    sets,
    short,
    text,
    varchar,
)
from s3gc_cdc_mysql._json import json_text
from s3gc_cdc_mysql.binlog import Decoder
from s3gc_cdc_mysql.events import (
    ABSENT,
    Annotation,
    BinlogError,
    Commit,
    Delete,
    Event,
    Format,
    GtidRange,
    Heartbeat,
    Incident,
    Insert,
    MysqlGtid,
    Other,
    PreviousGtids,
    Query,
    Rotate,
    Rows,
    Stop,
    Table,
    TableMap,
    Update,
    Variable,
    XaPrepare,
)

FILES = [integer("id"), varchar("path"), varchar("note", 20)]


def everything(table: Table) -> Sequence[int]:
    return range(len(table.columns))


def decoded(*packets: bytes, projection: Any = everything) -> list[Event]:
    decoder = Decoder(projection, checksum=True)
    return [e for packet in (b.format_description(), *packets) for e in decoder.decode(packet)][1:]


def one(packet: bytes) -> Event:
    [event] = decoded(packet)
    return event


# ----------------------------------------------------------------------------------------- rows


def test_a_transaction_as_mysql_8_writes_it() -> None:
    found = decoded(
        b.gtid(23),
        b.query("BEGIN"),
        b.table_map(FILES),
        rows(30, 3, [image([int32(1), b.long("photos/é.jpg"), None]), image([int32(2), None, short("x")])]),
        b.table_map(FILES),
        rows(31, 3, [image([int32(1), None, None]), image([int32(1), b.long("b"), None])]),
        b.table_map(FILES),
        rows(32, 3, [image([int32(1), b.long("b"), None])]),
        b.xid(77),
    )
    gtid, begin, table, insert, _, update, _, delete, commit = found
    assert isinstance(gtid, MysqlGtid)
    assert (gtid.source, gtid.sequence) == (b.SERVER, 23)
    assert (gtid.last_committed, gtid.sequence_number) == (7, 8)
    assert gtid.may_have_statements
    assert isinstance(begin, Query)
    assert begin.text == "BEGIN"
    assert isinstance(table, TableMap)
    assert table.table_id == 108
    assert isinstance(insert, Insert)
    assert insert.rows == [(1, "photos/é.jpg", None), (2, None, "x")]
    assert insert.table is table.table
    assert isinstance(update, Update)
    assert update.rows == [((1, None, None), (1, "b", None))]
    assert isinstance(delete, Delete)
    assert delete.rows == [(1, "b", None)]
    assert isinstance(commit, Commit)
    assert commit.xid == 77


@pytest.mark.parametrize("kind", [23, 24, 25])
def test_rows_of_version_1(kind: int) -> None:
    """Of servers before 5.6, and of MariaDB to this day."""
    row = image([int32(1), b.long("a"), None])
    [_, found] = decoded(b.table_map(FILES), rows(kind, 3, [row] * (2 if kind == 24 else 1)))
    assert isinstance(found, Rows)
    assert type(found) is {23: Insert, 24: Update, 25: Delete}[kind]


def test_images_that_lack_columns() -> None:
    """``binlog_row_image=MINIMAL``: before has the key, after what was set. NULLs count what is present."""
    key, path = [True, False, False], [False, True, False]
    [_, update, _, delete, _, insert] = decoded(
        b.table_map(FILES),
        rows(
            31, 3, [image([int32(1)]), image([None]), image([int32(2)]), image([b.long("n")])],
            present=key, after=path,
        ),
        b.table_map(FILES),
        rows(32, 3, [image([int32(3)])], present=key),
        b.table_map(FILES),
        rows(30, 3, [image([int32(4), None])], present=[True, False, True]),
    )  # fmt: skip
    assert isinstance(update, Update)
    assert update.rows == [
        ((1, ABSENT, ABSENT), (ABSENT, None, ABSENT)),
        ((2, ABSENT, ABSENT), (ABSENT, "n", ABSENT)),
    ]
    assert isinstance(delete, Delete)
    assert delete.rows == [(3, ABSENT, ABSENT)]
    assert isinstance(insert, Insert)
    assert insert.rows == [(4, ABSENT, None)]


def test_a_projection_of_absent_present_and_null_columns() -> None:
    [_, insert] = decoded(
        b.table_map(FILES),
        rows(30, 3, [image([int32(1), None])], present=[True, False, True]),
        projection=lambda table: (2, 1, 2),
    )
    assert isinstance(insert, Insert)
    assert insert.columns == (1, 2)
    assert insert.rows == [(ABSENT, None)]


def test_what_precedes_the_columns_in_version_2_is_gone_over() -> None:
    """``Rows_event``, "extra_row_info": of NDB and of partitions."""
    partition = b"\1" + struct.pack("<H", 3)
    [_, insert] = decoded(b.table_map(FILES), rows(30, 3, [image([int32(1), None, None])], extra=partition))
    assert isinstance(insert, Insert)
    assert insert.rows == [(1, None, None)]


def test_several_tables_in_one_statement() -> None:
    other = [integer("id")]
    found = decoded(
        b.table_map(FILES),
        b.table_map(other, number=109, name="others"),
        rows(30, 3, [image([int32(1), None, None])], last=False),
        rows(30, 1, [image([int32(2)])], number=109),
        projection=lambda table: None if table.name == "files" else [0],
    )
    assert [type(e) for e in found] == [TableMap, TableMap, Insert]
    assert isinstance(found[-1], Insert)
    assert (found[-1].table.name, found[-1].last_of_statement) == ("others", True)


def test_a_description_of_a_table_ends_with_its_statement() -> None:
    decoder = Decoder(everything, checksum=True)
    row = rows(30, 3, [image([int32(1), None, None])])
    for packet in (b.format_description(), b.table_map(FILES), row):
        list(decoder.decode(packet))
    with pytest.raises(BinlogError, match="hasn't described"):
        decoder.decode(row)


@pytest.mark.parametrize("packet", [b.format_description(), b.rotate("binlog.000002")])
def test_a_description_of_a_table_ends_with_its_file(packet: bytes) -> None:
    decoder = Decoder(everything, checksum=True)
    for before in (b.format_description(), b.table_map(FILES), packet):
        list(decoder.decode(before))
    with pytest.raises(BinlogError, match="hasn't described"):
        decoder.decode(rows(30, 3, [image([int32(1), None, None])]))


def test_the_end_of_a_statement_without_rows() -> None:
    dummy = event(30, b"\xff\xff\xff\0\0\0" + b"\1\0" + b"\2\0" + b"\1\xff")
    assert [type(e) for e in decoded(dummy)] == [Other]


def test_a_table_that_is_altered_is_described_anew() -> None:
    asked: list[int] = []

    def ask(table: Table) -> Sequence[int]:
        asked.append(len(table.columns))
        return [0]

    decoded(b.table_map(FILES), b.table_map(FILES), b.table_map(FILES[:1], number=109), projection=ask)
    assert asked == [3, 1]


def test_a_projection_beyond_the_table_is_an_error() -> None:
    with pytest.raises(BinlogError, match="hasn't all the columns"):
        decoded(b.table_map(FILES), projection=lambda table: [3])


# ----------------------------------------------------------------------------------------- table maps


def test_the_optional_metadata() -> None:
    fields = [
        integer("id", T.LONGLONG, unsigned=True),
        varchar("name", 100, 45),
        Field("size", T.NEWDECIMAL, bytes([10, 2]), unsigned=False),
        Field("born", T.YEAR, unsigned=True),
        enum("state", "new", "ö'"),
        sets("tags", "a", "b"),
        Field("raw", T.BLOB, b"\3", collation=63),
        Field("at", T.DATETIME2, b"\6"),
        Field("place", T.GEOMETRY, b"\4"),
        Field("ratio", T.DOUBLE, b"\x08", unsigned=False),
        Field("flags", T.BIT, bytes([3, 1])),
        Field("doc", T.JSON, b"\4"),
        Field("embedding", T.VECTOR, b"\4", collation=63),
        Field("code", T.STRING, bytes([0xFE, 40]), collation=8, visible=False),
        Field("wide", T.STRING, bytes([0xFE ^ 0x30, 0xFC]), collation=255),
    ]
    [found] = decoded(b.table_map(fields, more=b.optional(fields, [(1, 20), (0, 0)])))
    assert isinstance(found, TableMap)
    table = found.table
    assert (table.database, table.name) == ("shop", "files")
    assert [c.name for c in table.columns] == [f.name for f in fields]
    assert [c.type for c in table.columns] == [f.real for f in fields]
    assert [c.name for c in table.columns if c.unsigned] == ["id", "born"]
    assert {c.name: c.collation for c in table.columns if c.collation is not None} == {
        "name": 45, "state": 255, "tags": 255, "raw": 63, "embedding": 63, "code": 8, "wide": 255,
    }  # fmt: skip
    assert table.columns[4].members == ("new", "ö'")
    assert table.columns[5].members == ("a", "b")
    assert [tuple(part) for part in table.primary_key or ()] == [(1, 20), (0, 0)]
    assert [c.name for c in table.columns if not c.visible] == ["code"]
    assert table.columns[2].meta == 10 << 8 | 2
    assert table.columns[10].meta == 11
    assert table.columns[13].meta == 40
    assert table.columns[14].meta == 0x3FC  # the two highest bits hide in the type
    assert table.named


def test_a_default_collation_with_exceptions_counts_texts_only() -> None:
    """``DEFAULT_CHARSET``; MySQL counts no GEOMETRY among them, MariaDB does."""
    fields = [
        integer("id"), varchar("a"), Field("place", T.GEOMETRY, b"\4"), varchar("b"), enum("e", "x"),
        varchar("c"),
    ]  # fmt: skip

    def collations(version: str, exception: int) -> list[int | None]:
        more = b"\2" + text(packed(255) + packed(exception) + packed(8))
        more += b"\x0a" + text(packed(45))
        decoder = Decoder(lambda table: None, checksum=True)
        list(decoder.decode(b.format_description(version)))
        [found] = decoder.decode(b.table_map(fields, more=more))
        assert isinstance(found, TableMap)
        return [c.collation for c in found.table.columns]

    assert collations("8.0.36", 1) == [None, 255, None, 8, 45, 255]
    assert collations("10.11.6-MariaDB-log", 2) == [None, 255, 255, 8, 45, 255]


def test_minimal_metadata_has_no_names_and_no_key() -> None:
    more = b"\1" + text(b"\x80") + b"\3" + text(packed(255) * 2)
    [found] = decoded(b.table_map(FILES, more=more), projection=lambda table: None)
    assert isinstance(found, TableMap)
    assert not found.table.named
    assert found.table.primary_key is None
    assert found.table.columns[0].unsigned


def test_no_key_is_told_by_full_metadata() -> None:
    [found] = decoded(b.table_map(FILES, more=b.optional(FILES, None)))
    assert isinstance(found, TableMap)
    assert found.table.primary_key == ()


@pytest.mark.parametrize(
    ("more", "text_"),
    [
        (b"\4" + text(text("only one")), "names"),
        (b"\1" + text(b"\0\0"), "flags"),
        (b"\x08" + text(b"\3"), "key"),
        (b"\4\7abc", "announced"),
        (b"\x08" + text(b"\0") + b"\x08" + text(b"\0"), "twice"),
    ],
)
def test_optional_metadata_that_dont_fit(more: bytes, text_: str) -> None:
    with pytest.raises(BinlogError, match=text_):
        decoded(b.table_map(FILES, more=more))


@pytest.mark.parametrize(
    ("field", "text_"),
    [
        # MYSQL_TYPE_TYPED_ARRAY: a hidden column whose bytes aren't described
        (Field("hidden", T.TYPED_ARRAY, b"\x08"), "shop.files: .*multi-valued index"),
        (Field("new", 243), "shop.files: .*type 243"),
    ],
)
def test_a_column_that_cant_be_measured_matters_to_those_who_ask_for_the_table(
    field: Field, text_: str
) -> None:
    packets = (b.table_map([*FILES, field]), rows(30, 4, [image([int32(1), None, None, b"?"])]))
    with pytest.raises(BinlogError, match=text_):
        decoded(*packets)
    [found] = decoded(*packets, projection=lambda table: None)
    assert isinstance(found, TableMap)
    assert (found.table.database, found.table.name, found.table.columns) == ("shop", "files", ())


def test_members_that_cant_be_decoded_matter_to_those_who_ask_for_them() -> None:
    fields = [integer("id"), enum("e", "x", collation=97)]
    packets = (b.table_map(fields), rows(30, 2, [image([int32(1), b"\1"])]))
    with pytest.raises(BinlogError, match=r"column e: .*collation 97"):
        decoded(*packets)
    insert = decoded(*packets, projection=lambda table: [0])[1]
    assert isinstance(insert, Insert)
    assert insert.rows == [(1,)]


# ----------------------------------------------------------------------------------------- values


def value(field: Field, cell: bytes) -> object:
    [_, found] = decoded(b.table_map([field]), rows(30, 1, [image([cell])]))
    assert isinstance(found, Insert)
    [[only]] = found.rows
    # Going over it takes exactly as many bytes as reading it
    skipped = decoded(
        b.table_map([field, integer("last")]),
        rows(30, 2, [image([cell, int32(7)])] * 2 + [image([None, int32(8)])]),
        projection=lambda table: [1],
    )[1]
    assert isinstance(skipped, Insert)
    assert skipped.rows == [(7,), (7,), (8,)]
    return only


DECIMAL = Field("a", T.NEWDECIMAL, bytes([14, 4]), unsigned=False)
DAY = (2024 * 13 + 2) << 22 | 29 << 17  # of a DATETIME2: year * 13 + month, day, hour, minute, second
EVENING = DAY | 23 << 12 | 59 << 6 | 58


def moment(number: int) -> bytes:
    return (1 << 39 | number).to_bytes(5, "big")


def clock(number: int, size: int = 3) -> bytes:
    return ((1 << 8 * size - 1) + number).to_bytes(size, "big")


VALUES: list[tuple[Field, bytes, object]] = [
    (integer("a", T.TINY), b"\x80", -128),
    (integer("a", T.TINY, unsigned=True), b"\x80", 128),
    (integer("a", T.INT24), b"\xff\xff\xff", -1),
    (integer("a", T.INT24, unsigned=True), b"\xff\xff\xff", 0xFFFFFF),
    (integer("a", T.LONGLONG, unsigned=True), b"\xff" * 8, 2**64 - 1),
    # The example of the documentation: 1234567890.1234 as DECIMAL(14, 4)
    (DECIMAL, bytes.fromhex("810DFB38D204D2"), Decimal("1234567890.1234")),
    (DECIMAL, bytes.fromhex("7EF204C72DFB2D"), Decimal("-1234567890.1234")),
    (Field("a", T.FLOAT, b"\4", unsigned=False), struct.pack("<f", 1.5), 1.5),
    (Field("a", T.DOUBLE, b"\x08", unsigned=False), struct.pack("<d", 0.1), 0.1),
    (Field("a", T.YEAR, unsigned=True), bytes([124]), 2024),
    (Field("a", T.DATE), (2024 << 9 | 2 << 5 | 29).to_bytes(3, "little"), date(2024, 2, 29)),
    (Field("a", T.DATE), bytes(3), "0000-00-00"),
    (Field("a", T.DATETIME2, b"\0"), moment(EVENING), datetime(2024, 2, 29, 23, 59, 58)),
    (Field("a", T.DATETIME2, b"\3"), moment(DAY) + b"\x04\xce", datetime(2024, 2, 29, microsecond=123000)),
    (Field("a", T.TIMESTAMP2, b"\6"), b"\x65\xe1\x1a\x7f\0\0\7", datetime(2024, 2, 29, 23, 59, 59, 7)),
    (Field("a", T.TIMESTAMP), b"\x7f\x1a\xe1\x65", datetime(2024, 2, 29, 23, 59, 59)),
    (Field("a", T.TIME2, b"\0"), clock(1 << 12 | 2 << 6 | 3), timedelta(hours=1, minutes=2, seconds=3)),
    (Field("a", T.TIME2, b"\0"), clock(-(1 << 12)), timedelta(hours=-1)),
    # With a fraction the whole of a negative one is turned.
    (Field("a", T.TIME2, b"\1"), clock(-(1 << 8 | 10), 4), -timedelta(seconds=1, milliseconds=100)),
    (Field("a", T.TIME), (12345).to_bytes(3, "little"), timedelta(hours=1, minutes=23, seconds=45)),
    (Field("a", T.DATETIME), struct.pack("<Q", 20240229235958), datetime(2024, 2, 29, 23, 59, 58)),
    (Field("a", T.BIT, bytes([3, 1])), b"\4\1", b"\4\1"),
    (varchar("a", 255), short("é"), "é"),
    (varchar("a", 256), b.long("é"), "é"),
    (varchar("a", 100, 63), short(b"\xff\0"), b"\xff\0"),
    (varchar("a", 100, 8), short(b"\x80\x81"), "€\x81"),
    (Field("a", T.STRING, bytes([0xFE, 4]), collation=63), short(b"\1"), b"\1\0\0\0"),
    (Field("a", T.STRING, bytes([0xFE, 16]), collation=255), short("ab"), "ab"),
    (Field("a", T.STRING, bytes([0xFE ^ 0x10, 0x00]), collation=255), b.long("ab"), "ab"),
    (Field("a", T.BLOB, b"\1", collation=255), short("ab"), "ab"),
    (Field("a", T.BLOB, b"\3", collation=63), b.blob(b"x" * 70000, 3), b"x" * 70000),
    (Field("a", T.GEOMETRY, b"\4"), b.blob(b"\0\1"), b"\0\1"),
    (Field("a", T.VECTOR, b"\4", collation=63), b.blob(b"\0\0\x80?"), b"\0\0\x80?"),
    (enum("a", "x", "ü"), b"\2", "ü"),
    (enum("a", "x", "ü"), b"\0", ""),
    (sets("a", "x", "y", "z"), b"\5", "x,z"),
    (Field("a", T.JSON, b"\4"), b.blob(b"\x0c\x05a.jpg"), '"a.jpg"'),
]


@pytest.mark.parametrize(("field", "cell", "expected"), VALUES, ids=lambda v: None)
def test_a_value(field: Field, cell: bytes, expected: object) -> None:
    found = value(field, cell)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("field", "cell", "text_"),
    [
        (enum("a", "x"), b"\2", "files"),
        (sets("a", "x"), b"\2", "member"),
        (varchar("a", 100), short(b"\xff"), "utf-8"),
        (varchar("a", 100, 999), short("a"), "column a: .*collation 999"),
        (varchar("a", 100, 97), short("a"), "collation 97"),
        (Field("a", T.NEWDECIMAL, bytes([2, 3]), unsigned=False), b"\0", "DECIMAL"),
        (Field("a", T.TIME2, b"\7"), b"\0" * 7, "digits"),
        (Field("a", T.BLOB, b"\5", collation=63), b"\0" * 9, "length"),
        (Field("a", T.DECIMAL, unsigned=False), b"\0", "DECIMAL"),
    ],
)
def test_a_value_that_cant_be_read_is_an_error_that_names_its_table(
    field: Field, cell: bytes, text_: str
) -> None:
    with pytest.raises(BinlogError, match=text_) as error:
        decoded(b.table_map([field]), rows(30, 1, [image([cell])]))
    assert "shop.files" in str(error.value)


def test_members_that_werent_sent() -> None:
    field = Field("a", T.STRING, bytes([T.ENUM, 1]))
    with pytest.raises(BinlogError, match="binlog_row_metadata = FULL"):
        decoded(b.table_map([field], more=b""), rows(30, 1, [image([b"\1"])]))


# ----------------------------------------------------------------------------------------- JSON


def json_value(value: object, *, large: bool = False) -> bytes:
    """A document in binary form, by ``json_binary.h``: type and value."""
    kind, raw = _encode(value, large)
    return bytes([kind]) + raw


def _encode(value: object, large: bool) -> tuple[int, bytes]:
    match value:
        case None | True | False:
            return 0x04, bytes([{None: 0, True: 1, False: 2}[value]])
        case int():
            for kind, size, low, high in (
                (0x05, 2, -(2**15), 2**15), (0x06, 2, 0, 2**16), (0x07, 4, -(2**31), 2**31),
                (0x08, 4, 0, 2**32), (0x09, 8, -(2**63), 2**63), (0x0A, 8, 0, 2**64),
            ):  # fmt: skip
                if low <= value < high:
                    return kind, value.to_bytes(size, "little", signed=low < 0)
            raise ValueError(value)
        case float():
            return 0x0B, struct.pack("<d", value)
        case str():
            raw, size = value.encode(), b""
            left = len(raw)
            while left > 127:
                size += bytes([left & 127 | 128])
                left >>= 7
            return 0x0C, size + bytes([left]) + raw
        case list():
            return 0x03 if large else 0x02, _container([], value, large)
        case dict():
            keys = sorted(value, key=lambda k: (len(k.encode()), k.encode()))
            return 0x01 if large else 0x00, _container(
                [k.encode() for k in keys], [value[k] for k in keys], large
            )
    raise TypeError(value)


def _container(keys: list[bytes], values: list[Any], large: bool) -> bytes:
    number = "<I" if large else "<H"
    width = struct.calcsize(number)
    at = 2 * width + len(keys) * (width + 2) + len(values) * (1 + width)
    key_entries, value_entries, tail = b"", b"", b""
    for key in keys:
        key_entries += struct.pack(number, at) + struct.pack("<H", len(key))
        tail += key
        at += len(key)
    for one_ in values:
        kind, raw = _encode(one_, large)
        if kind in (0x04, 0x05, 0x06) or (large and kind in (0x07, 0x08)):
            signed = kind in (0x05, 0x07)
            inlined = int.from_bytes(raw, "little", signed=signed)
            value_entries += bytes([kind]) + (inlined % (1 << 8 * width)).to_bytes(width, "little")
        else:
            value_entries += bytes([kind]) + struct.pack(number, at)
            tail += raw
            at += len(raw)
    body = key_entries + value_entries + tail
    return struct.pack(number, len(values)) + struct.pack(number, 2 * width + len(body)) + body


DOCUMENT = {
    "key": "photos/ünïcode \"quoted\" \\ /😀.jpg",
    "n": [1, -1, 65535, 2**31, -(2**40), 2**63 + 1, 0.1, 1e300],
    "deep": {"a": {"b": [None, True, False, "", {}, []]}}, "long": "x" * 20000,
}  # fmt: skip


@pytest.mark.parametrize("large", [False, True])
def test_a_json_document(large: bool) -> None:
    found = json_text(json_value(DOCUMENT, large=large))
    assert json.loads(found) == DOCUMENT
    assert found.index('"n"') < found.index('"key"')  # in the order of the log: by length, then by bytes


def test_json_is_printed_as_mysql_prints_it() -> None:
    assert json_text(json_value({"a": [1, "x", None, True, 2.0, 1e20]})) == (
        '{"a": [1, "x", null, true, 2.0, 1e20]}'
    )
    assert json_text(b"") == "null"


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        (T.NEWDECIMAL, bytes([14, 4]) + bytes.fromhex("810DFB38D204D2"), "1234567890.1234"),
        (T.DATE, struct.pack("<q", DAY << 24), '"2024-02-29"'),
        (T.DATETIME, struct.pack("<q", EVENING << 24 | 5), '"2024-02-29 23:59:58.000005"'),
        (T.TIME, struct.pack("<q", -(1 << 36)), '"-01:00:00.000000"'),
        (T.BLOB, b"\1\2", '"base64:type252:AQI="'),
    ],
)  # fmt: skip
def test_other_types_inside_json(kind: int, raw: bytes, expected: str) -> None:
    assert json_text(bytes([0x0F, kind, len(raw)]) + raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0d",  # no such type
        b"\x0c\x05ab",  # a text that ends early
        b"\x0c\x80\x80\x80\x80\x80\x01",  # a length without end
        b"\x04\x03",  # no such literal
        b"\x02\x01\x00\xff\x00\x0c\x07\x00",  # an array longer than it is
        b"\x02\x01\x00\x07\x00\x02\x00\x00",  # an array that holds itself
        b"\x02\x01\x00\x07\x00\x0c\xff\x00",  # a member beyond the end
        b"\x00\x01\x00\x0b\x00\xff\x00\x01\x00\x04\x01\x00",  # a key beyond the end
        b"\x0f\xf6\x01\x0e",  # a DECIMAL without its bytes
        b"\x05\x01",
    ],
)
def test_json_that_isnt_any(raw: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        json_text(raw)


def test_json_that_holds_itself_is_not_followed() -> None:
    """Two such members would be read 2 ** 100 times before they are too deep."""
    with pytest.raises(ValueError, match="its own head"):
        json_text(b"\x02\x01\x00\x07\x00\x02\x00\x00")


def test_json_too_deep() -> None:
    deep: Any = []
    for _ in range(120):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper"):
        json_text(json_value(deep))


# ----------------------------------------------------------------------------------------- other events


def test_an_anonymous_transaction() -> None:
    found = one(b.gtid(0, anonymous=True))
    assert isinstance(found, MysqlGtid)
    assert found.source is None


def test_a_gtid_with_what_newer_versions_add() -> None:
    """8.0: times of commit, the length of the transaction, versions of servers."""
    more = (1).to_bytes(7, "little") + packed(300) + struct.pack("<I", 80036)
    found = one(b.gtid(5, more=more))
    assert isinstance(found, MysqlGtid)
    assert found.sequence == 5


def test_gtids_before_a_file() -> None:
    """``Previous_gtids_event``: servers, each with ranges whose ends are after the last."""
    other = UUID(int=7)
    body = struct.pack("<Q", 2)
    body += (
        b.SERVER.bytes + struct.pack("<QQQQQ", 2, 1, 11, 20, 21) + other.bytes + struct.pack("<QQQ", 1, 3, 4)
    )
    found = one(event(35, body))
    assert isinstance(found, PreviousGtids)
    assert found.ranges == (
        GtidRange(b.SERVER, "", 1, 10), GtidRange(b.SERVER, "", 20, 20), GtidRange(other, "", 3, 3)
    )  # fmt: skip
    with pytest.raises(BinlogError, match="tagged"):
        one(event(35, struct.pack("<Q", 1 | 1 << 8 | 1 << 56)))


def test_heartbeats_of_both_versions() -> None:
    """``codecs/binary.cpp``, Heartbeat: 1 the file, 2 the position, 0 the end."""
    old = one(event(27, b"binlog.000003", position=4711))
    assert isinstance(old, Heartbeat)
    assert (old.file, old.position) == ("binlog.000003", 4711)
    fields = packed(1) + text("binlog.000003") + packed(2) + text(packed(5_000_000_000)) + packed(0)
    new = one(event(41, fields))
    assert isinstance(new, Heartbeat)
    assert (new.file, new.position) == ("binlog.000003", 5_000_000_000)


def test_a_rotation_a_stop_an_incident_and_what_matters_to_nobody() -> None:
    turn, stop, incident, alone, view, context, ignorable = decoded(
        b.rotate("binlog.000004", 157),
        event(3, b""),
        event(26, struct.pack("<H", 1) + short("lost events")),
        event(26, struct.pack("<H", 1)),
        event(37, b"view"),
        event(36, b"context"),
        event(28, b""),
    )
    assert isinstance(turn, Rotate)
    assert (turn.file, turn.position, turn.header.artificial) == ("binlog.000004", 157, True)
    assert isinstance(stop, Stop)
    assert isinstance(incident, Incident)
    assert (incident.code, incident.message) == (1, "lost events")
    assert isinstance(alone, Incident)
    assert all(isinstance(e, Other) for e in (view, context, ignorable))


def test_a_query_with_all_its_variables() -> None:
    """``Query_event``, "status variables": each a byte for what it is, then itself."""
    variables = (
        b"\0" + struct.pack("<I", 0x04000000) + b"\1" + struct.pack("<Q", 1 << 40) + b"\x06\x03std"
        + b"\x04" + struct.pack("<HHH", 255, 255, 8) + b"\x0c\x01shop\0" + b"\x11" + bytes(8)
    )  # fmt: skip
    found = one(b.query("TRUNCATE files", "shöp", variables))
    assert isinstance(found, Query)
    assert (found.database, found.text, found.error_code) == ("shöp", "TRUNCATE files", 0)
    assert found.flags2 == 0x04000000
    assert found.sql_mode == 1 << 40
    assert found.charset == (255, 255, 8)
    assert found.variables == variables


def test_statements_and_what_they_need() -> None:
    row, load, number, random, user = decoded(
        event(29, b"\xffUPDATE files SET path = 'x'"),
        event(18, struct.pack("<IIBHH", 9, 0, 4, 0, 0) + bytes(13) + b"shop\0LOAD DATA INFILE 'x'"),
        event(5, b"\1" + bytes(8)),
        event(13, bytes(16)),
        event(14, b"\1\0\0\0a\1"),
    )  # fmt: skip
    assert isinstance(row, Annotation)
    assert row.text == "UPDATE files SET path = 'x'"
    assert isinstance(load, Query)
    assert load.text.startswith("LOAD DATA")
    assert all(isinstance(e, Variable) for e in (number, random, user))


def test_a_prepared_xa_transaction() -> None:
    """``XA_prepare_event``: one phase, format, lengths, both parts of the XID."""
    found = one(event(38, struct.pack("<BIII", 0, 1, 2, 1) + b"abc"))
    assert isinstance(found, XaPrepare)
    assert not found.one_phase
    assert found.xid == struct.pack("<IBB", 1, 2, 1) + b"abc"
    with pytest.raises(BinlogError):
        one(event(38, struct.pack("<BIII", 0, 1, 3, 1) + b"abc"))


def test_a_format_tells_of_checksums() -> None:
    decoder = Decoder(everything, checksum=True)
    [found] = decoder.decode(b.format_description("8.4.0", checksum=False))
    assert isinstance(found, Format)
    assert (found.server_version, found.binlog_version, found.checksum) == ("8.4.0", 4, False)
    assert not decoder.checksum
    [commit] = decoder.decode(event(16, struct.pack("<Q", 5), checksum=False))
    assert isinstance(commit, Commit)


# ----------------------------------------------------------------------------------------- compressed


def payload(count: int, **more: Any) -> bytes:
    return b.transaction_payload(
        [
            event(2, struct.pack("<IIBHH", 9, 0, 0, 0, 0) + b"\0BEGIN", checksum=False),
            b.table_map(FILES, checksum=False),
            *(
                rows(30, 3, [image([int32(n), b.long(f"k/{n}"), None])], last=n == count - 1, checksum=False)
                for n in range(count)
            ),
            event(16, struct.pack("<Q", 5), checksum=False),
        ],
        **more,
    )


@pytest.mark.parametrize("kind", [0, 255])
def test_a_compressed_transaction(kind: int) -> None:
    """``binlog_transaction_compression``; events within have no checksum, and the place of the whole."""
    found = decoded(b.gtid(9), payload(50, kind=kind))
    assert [type(e) for e in found[:3]] == [MysqlGtid, Query, TableMap]
    inserts = [e for e in found if isinstance(e, Insert)]
    assert [e.rows for e in inserts] == [[(n, f"k/{n}", None)] for n in range(50)]
    assert isinstance(found[-1], Commit)
    assert {e.header.next_position for e in found[1:]} == {9000}


def test_a_compressed_transaction_is_read_while_it_is_taken() -> None:
    decoder = Decoder(everything, checksum=True)
    list(decoder.decode(b.format_description()))
    taking = iter(decoder.decode(payload(50)))
    assert isinstance(next(taking), Query)
    assert isinstance(next(taking), TableMap)
    assert isinstance(next(taking), Insert)


@pytest.mark.parametrize(
    ("packet", "text_"),
    [
        (event(40, packed(2) + text(packed(7)) + packed(1) + text(packed(0)) + packed(0)), "method 7"),
        (event(40, packed(2) + text(packed(0)) + packed(1) + text(packed(9)) + packed(0) + b"x"), "head"),
        (event(40, packed(2) + text(packed(0)) + packed(1) + text(packed(4)) + packed(0) + b"abcd"), "read"),
        (event(40, packed(2) + text(packed(0))), "type 40"),
        (b.transaction_payload([b"short"], kind=255), "within an event"),
        (b.transaction_payload([event(16, bytes(8), checksum=False)[:-1]], kind=255), "within an event"),
        (b.transaction_payload([event(16, bytes(7), checksum=False)], kind=255), "type 16"),
        (b.transaction_payload([b.format_description()]), "type 15 within"),
        (b.transaction_payload([event(39, b"", checksum=False)]), "PARTIAL_UPDATE_ROWS"),
        (b.transaction_payload([struct.pack("<IBIIIH", 0, 16, 1, 5, 0, 0)], kind=255), "of 5 bytes"),
    ],
)
def test_a_compressed_transaction_that_cant_be_read(packet: bytes, text_: str) -> None:
    with pytest.raises(BinlogError, match=text_):
        decoded(packet)


def test_a_compressed_transaction_with_less_than_it_says() -> None:
    plain = event(16, struct.pack("<Q", 5), checksum=False)
    head = packed(2) + text(packed(255)) + packed(3) + text(packed(2 * len(plain)))
    packet = event(40, head + packed(1) + text(packed(len(plain))) + packed(0) + plain)
    with pytest.raises(BinlogError, match="announced"):
        decoded(packet)


# ----------------------------------------------------------------------------------------- refusals

KNOWN = {
    2, 3, 4, 5, 9, 11, 13, *range(14, 20), *range(23, 39), 40, 41, *range(160, 172),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(set(range(256)) - KNOWN))
def test_any_other_event_stops_the_stream(kind: int) -> None:
    with pytest.raises(BinlogError, match="isn't read, so changes could be missed"):
        one(event(kind, bytes(20), flags=0x80))  # also when it is marked as one that may be ignored


@pytest.mark.parametrize(
    ("kind", "name", "advice"),
    [
        (39, "PARTIAL_UPDATE_ROWS", "binlog_row_value_options"),
        (42, "GTID_TAGGED", "without tags"),
        (20, "PRE_GA_WRITE_ROWS", "older"),
        (200, "200", "too old for the server"),
    ],
)
def test_a_refusal_names_the_event_and_what_to_do(kind: int, name: str, advice: str) -> None:
    with pytest.raises(BinlogError, match=f"{name}.*{advice}"):
        one(event(kind, bytes(20)))


@pytest.mark.parametrize(
    ("packet", "text_"),
    [
        (rows(30, 3, [image([int32(1), None, None])], number=9), "hasn't described"),
        (rows(30, 2, [image([int32(1), None])]), "2 columns for a table that has 3"),
        (rows(30, 3, [image([int32(1), None, None]) + b"\0"]), "files"),
        (rows(30, 3, [image([int32(1), b.long("abc"), None])[:-1]]), "don't end where"),
        (rows(30, 3, [], present=[False] * 3), "without any column"),
        (event(30, (108).to_bytes(6, "little") + b"\1\0" + b"\1\0" + b"\3\7"), "two are their length"),
        (event(33, b"\1" + bytes(24)), "number 0"),
        (event(34, b"\1" + bytes(16) + b"\1" + bytes(7)), "number 1"),
        (event(16, bytes(9)), "9 bytes"),
        (event(4, bytes(8)), "no file"),
        (event(2, struct.pack("<IIBHH", 9, 0, 9, 0, 0) + b"shop\0BEGIN"), "doesn't end"),
    ],
)
def test_what_is_not_of_the_log_is_an_error(packet: bytes, text_: str) -> None:
    with pytest.raises(BinlogError, match=text_):
        decoded(b.table_map(FILES), packet)
