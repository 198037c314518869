"""Events of a binary log, built byte by byte as MySQL's documentation describes them.

MySQL can't be run in these tests, so its forms are built here: by "MySQL Internals", which is now the source
documentation of MySQL 8 (``libs/mysql/binlog/event/*.h``: ``rows_event.h``, ``control_events.h``,
``statement_events.h``, ``codecs/binary.cpp``; ``sql-common/json_binary.h``). Each builder names its place.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from uuid import UUID

import zstandard

from s3gc_cdc_mysql.events import ColumnType, Header

SERVER = UUID("3e11fa47-71ca-11e1-9e33-c80aa9429562")
T = ColumnType


def packed(number: int) -> bytes:
    """A packed integer (``net_store_length``)."""
    if number < 251:
        return bytes([number])
    for mark, size in ((0xFC, 2), (0xFD, 3), (0xFE, 8)):
        if number < 1 << 8 * size:
            return bytes([mark]) + number.to_bytes(size, "little")
    raise ValueError(number)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return packed(len(raw)) + raw


def event(
    kind: int, body: bytes, *, position: int = 1000, flags: int = 0, checksum: bool = True, time: int = 1
) -> bytes:
    """``binlog_event.h``: a head of 19 bytes, the body, a CRC32 of both."""
    size = 19 + len(body) + 4 * checksum
    whole = struct.pack("<IBIIIH", time, kind, 1, size, position, flags) + body
    return whole + struct.pack("<I", zlib.crc32(whole)) if checksum else whole


def header(packet: bytes) -> Header:
    return Header._make(struct.unpack_from("<IBIIIH", packet))


def format_description(version: str = "8.0.36", *, checksum: bool = True) -> bytes:
    """``Format_description_event``: versions, time, the head's size, sizes by type, the kind of checksum."""
    body = struct.pack("<H50sIB", 4, version.encode(), 0, 19) + bytes(41) + bytes([checksum])
    return event(15, body, checksum=True)


def rotate(file: str, position: int = 4) -> bytes:
    return event(4, struct.pack("<Q", position) + file.encode(), flags=0x20, position=0, time=0)


def gtid(number: int, *, anonymous: bool = False, more: bytes = b"") -> bytes:
    """``Gtid_event``: flags, server, number, the kind of clock, two clocks, and what newer versions add."""
    body = struct.pack("<B16sq", 1, bytes(16) if anonymous else SERVER.bytes, number)
    return event(34 if anonymous else 33, body + b"\2" + struct.pack("<QQ", 7, 8) + more)


def query(sql: str, database: str = "shop", variables: bytes = b"") -> bytes:
    """``Query_event``: thread, seconds, lengths, error, status variables, database, a zero, the text."""
    name = database.encode()
    head = struct.pack("<IIBHH", 9, 0, len(name), 0, len(variables))
    return event(2, head + variables + name + b"\0" + sql.encode())


def xid(number: int = 5) -> bytes:
    return event(16, struct.pack("<Q", number))


class Field:
    """A column of a table map: its type, the bytes of its metadata, and what the optional metadata tell."""

    def __init__(
        self, name: str, kind: int, meta: bytes = b"", *, collation: int | None = None,
        unsigned: bool | None = None, members: Sequence[str] | None = None, real: int | None = None,
        visible: bool = True,
    ) -> None:  # fmt: skip
        self.name, self.kind, self.meta = name, kind, meta
        self.collation, self.unsigned, self.members = collation, unsigned, members
        self.real = kind if real is None else real
        self.visible = visible


def integer(name: str, kind: int = T.LONG, *, unsigned: bool = False) -> Field:
    return Field(name, kind, unsigned=unsigned)


def varchar(name: str, length: int = 400, collation: int = 255) -> Field:
    return Field(name, T.VARCHAR, struct.pack("<H", length), collation=collation)


def enum(name: str, *members: str, collation: int = 255) -> Field:
    return Field(name, T.STRING, bytes([T.ENUM, 1]), members=members, real=T.ENUM, collation=collation)


def sets(name: str, *members: str, collation: int = 255) -> Field:
    return Field(name, T.STRING, bytes([T.SET, 1]), members=members, real=T.SET, collation=collation)


def high_bits(flags: Sequence[bool]) -> bytes:
    """The first is the highest bit of the first byte."""
    raw = bytearray((len(flags) + 7) // 8)
    for at, flag in enumerate(flags):
        if flag:
            raw[at >> 3] |= 0x80 >> (at & 7)
    return bytes(raw)


def low_bits(flags: Sequence[bool]) -> bytes:
    """The first is the lowest bit of the first byte."""
    return sum(1 << at for at, flag in enumerate(flags) if flag).to_bytes((len(flags) + 7) // 8, "little")


def optional(fields: Sequence[Field], key: Sequence[int | tuple[int, int]] | None = (0,)) -> bytes:
    """``Table_map_event``, "optional metadata fields": number, length, value."""
    parts: list[tuple[int, bytes]] = []
    signs = [bool(f.unsigned) for f in fields if f.unsigned is not None]
    if signs:
        parts.append((1, high_bits(signs)))
    texts = [f.collation for f in fields if f.collation is not None and f.members is None]
    if texts:
        parts.append((3, b"".join(map(packed, texts))))
    parts.append((4, b"".join(text(f.name) for f in fields)))
    for number, real in ((5, T.SET), (6, T.ENUM)):
        chosen = [f for f in fields if f.real == real and f.members is not None]
        members = [f.members or () for f in chosen]
        if members:
            value = b"".join(packed(len(one)) + b"".join(map(text, one)) for one in members)
            parts.append((number, value))
    if key:
        if all(isinstance(one, int) for one in key):
            parts.append((8, b"".join(packed(one) for one in key)))  # type: ignore[arg-type]
        else:
            parts.append((9, b"".join(packed(c) + packed(p) for c, p in key)))  # type: ignore[misc]
    choices = [f.collation for f in fields if f.members is not None]
    if choices:
        parts.append((11, b"".join(packed(one or 63) for one in choices)))
    parts.append((12, high_bits([f.visible for f in fields])))
    return b"".join(bytes([number]) + text(value) for number, value in parts)


def table_map(
    fields: Sequence[Field], *, number: int = 108, database: str = "shop", name: str = "files",
    more: bytes | None = None, checksum: bool = True,
) -> bytes:  # fmt: skip
    """``Table_map_event``: number, flags, names with length and zero, types, their metadata, NULLs, more."""
    meta = b"".join(f.meta for f in fields)
    body = number.to_bytes(6, "little") + b"\1\0" + text(database) + b"\0" + text(name) + b"\0"
    body += packed(len(fields)) + bytes(f.kind for f in fields) + text(meta)
    body += low_bits([True] * len(fields)) + (optional(fields) if more is None else more)
    return event(19, body, checksum=checksum)


Cell = bytes | None


def image(cells: Sequence[Cell]) -> bytes:
    """A row: bits of the columns that are NULL, the others' bytes."""
    return low_bits([cell is None for cell in cells]) + b"".join(cell for cell in cells if cell is not None)


def rows(
    kind: int, columns: int, images: Iterable[bytes], *, number: int = 108, last: bool = True,
    present: Sequence[bool] | None = None, after: Sequence[bool] | None = None, extra: bytes = b"",
    checksum: bool = True,
) -> bytes:  # fmt: skip
    """``Rows_event``, version 2 (30 to 32) or 1 (23 to 25)."""
    body = number.to_bytes(6, "little") + bytes([last, 0])
    if kind >= 30:
        body += struct.pack("<H", 2 + len(extra)) + extra
    body += packed(columns) + low_bits(present or [True] * columns)
    if kind in (24, 31, 39):
        body += low_bits(after or [True] * columns)
    return event(kind, body + b"".join(images), checksum=checksum)


def transaction_payload(events: Sequence[bytes], *, kind: int = 0, position: int = 9000) -> bytes:
    """``codecs/binary.cpp``: fields with number and length (2: method, 3: size before, 1: size), 0, bytes.

    The events within have no checksum.
    """
    plain = b"".join(events)
    payload = zstandard.ZstdCompressor().compress(plain) if kind == 0 else plain
    head = b""
    for number, value in ((2, kind), (3, len(plain)), (1, len(payload))):
        head += packed(number) + text(packed(value))
    return event(40, head + packed(0) + payload, position=position)


def short(value: str | bytes) -> bytes:
    """A text with one byte of length."""
    raw = value.encode() if isinstance(value, str) else value
    return bytes([len(raw)]) + raw


def long(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<H", len(raw)) + raw


def blob(value: str | bytes, size: int = 4) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(size, "little") + raw


def int32(value: int) -> bytes:
    return struct.pack("<i", value)
