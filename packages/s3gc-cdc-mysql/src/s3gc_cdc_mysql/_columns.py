"""How the bytes of one column in a row are read, or gone over.

Slices of bytes don't fail when they are cut short. That is no matter here: positions only grow, and whoever
reads rows compares the last one with the end of its event.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import date, datetime, timedelta
from struct import Struct
from typing import TypeAlias

from s3gc_cdc_mysql._charsets import BINARY, decoder
from s3gc_cdc_mysql._decimal import decimal_size, decimal_value
from s3gc_cdc_mysql._json import json_text
from s3gc_cdc_mysql.events import Column, ColumnType, Value

Add: TypeAlias = Callable[[Value], None]
Take: TypeAlias = Callable[[bytes, int, Add], int]
"""Reads a value at a position, adds it to the row, and returns where it ends."""

_T = ColumnType
_INTEGERS = {_T.TINY: 1, _T.SHORT: 2, _T.INT24: 3, _T.LONG: 4, _T.LONGLONG: 8}
_BLOBS = frozenset(
    {_T.BLOB, _T.TINY_BLOB, _T.MEDIUM_BLOB, _T.LONG_BLOB, _T.BLOB_COMPRESSED, _T.GEOMETRY, _T.VECTOR, _T.JSON}
)
_FLOAT, _DOUBLE = Struct("<f"), Struct("<d")


def fixed_size(column: Column) -> int | None:
    """Bytes of every value of a column; ``None`` when they begin with their length.

    Raises:
        ValueError: the type can't be measured.
    """
    kind, meta = column.type, column.meta
    if kind in _INTEGERS:
        return _INTEGERS[kind]
    if kind in (_T.FLOAT, _T.DOUBLE):
        if meta != (4 if kind is _T.FLOAT else 8):
            raise ValueError(f"a {kind.name} of {meta} bytes")
        return meta
    if kind in (_T.ENUM, _T.SET):
        return meta
    if kind is _T.NEWDECIMAL:
        return decimal_size(meta >> 8, meta & 0xFF)
    if kind is _T.BIT:
        return (meta + 7) // 8
    if kind in (_T.TIME2, _T.DATETIME2, _T.TIMESTAMP2):
        if meta > 6:
            raise ValueError(f"a {kind.name} with {meta} digits of a second")
        return {_T.TIME2: 3, _T.DATETIME2: 5, _T.TIMESTAMP2: 4}[kind] + (meta + 1) // 2
    if kind in _OLD_SIZES:
        return _OLD_SIZES[kind]
    length_bytes(column)
    return None


_OLD_SIZES = {
    _T.NULL: 0, _T.YEAR: 1, _T.DATE: 3, _T.NEWDATE: 3, _T.TIME: 3, _T.TIMESTAMP: 4, _T.DATETIME: 8,
}  # fmt: skip


def length_bytes(column: Column) -> int:
    """Bytes of the length before a value.

    Raises:
        ValueError: the type isn't one that has it.
    """
    kind, meta = column.type, column.meta
    if kind in _BLOBS:
        if not 1 <= meta <= 4:
            raise ValueError(f"a {kind.name} with a length of {meta} bytes")
        return meta
    if kind in (_T.VARCHAR, _T.VAR_STRING, _T.STRING, _T.VARCHAR_COMPRESSED):
        return 1 if meta < 256 else 2
    raise ValueError(f"a column has the type {kind.name}, which isn't read")


def taker(column: Column) -> Take:
    """What reads the values of a column.

    Raises:
        ValueError: the type isn't read, or the table map doesn't say enough (``binlog_row_metadata``).
    """
    size = fixed_size(column)
    if size is None:
        return _prefixed(length_bytes(column), _text(column))
    read = _fixed(column)

    def take(data: bytes, at: int, add: Add) -> int:
        end = at + size
        add(read(data[at:end]))
        return end

    return take


def _prefixed(size: int, read: Callable[[bytes], Value]) -> Take:
    if size == 1:

        def take_short(data: bytes, at: int, add: Add) -> int:
            at += 1
            end = at + data[at - 1]
            add(read(data[at:end]))
            return end

        return take_short

    def take(data: bytes, at: int, add: Add) -> int:
        start = at + size
        end = start + int.from_bytes(data[at:start], "little")
        add(read(data[start:end]))
        return end

    return take


# ----------------------------------------------------------------------------------------- texts


def _text(column: Column) -> Callable[[bytes], Value]:
    kind = column.type
    if kind is _T.JSON:
        return json_text
    if kind in (_T.GEOMETRY, _T.VECTOR):
        return bytes
    if column.collation is None:
        raise ValueError(
            "the log doesn't say the character set of a text: set binlog_row_metadata = FULL on the server"
        )
    read: Callable[[bytes], Value] = bytes if column.collation == BINARY else decoder(column.collation)
    if kind in (_T.VARCHAR_COMPRESSED, _T.BLOB_COMPRESSED):
        return lambda raw: read(_inflated(raw))
    if kind is _T.STRING and column.collation == BINARY:
        size = column.meta
        return lambda raw: raw.ljust(size, b"\0")  # the log has BINARY without the zeros at its end
    return read


def _inflated(raw: bytes) -> bytes:
    """A value of a COMPRESSED column of MariaDB: how, how long, and the value."""
    if not raw:
        return raw
    head = raw[0]
    if not head:
        return raw[1:]
    start = 1 + (head & 7)
    if head >> 4 != 8 or start > 5:
        raise ValueError(f"a compressed column in the form {head:#x}, which isn't known")
    size = int.from_bytes(raw[1:start], "big")
    try:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS if head & 8 else zlib.MAX_WBITS)
        found = inflate.decompress(raw[start:], size + 1)
    except zlib.error as error:
        raise ValueError(f"a compressed column can't be read: {error}") from error
    if len(found) != size or not inflate.eof:
        raise ValueError(f"a compressed column has not the {size} bytes that it says")
    return found


# ----------------------------------------------------------------------------------------- of one size


def _fixed(column: Column) -> Callable[[bytes], Value]:
    kind, meta = column.type, column.meta
    if kind in _INTEGERS:
        signed = not column.unsigned
        return lambda raw: int.from_bytes(raw, "little", signed=signed)
    if kind is _T.FLOAT:
        return lambda raw: float(_FLOAT.unpack(raw)[0])
    if kind is _T.DOUBLE:
        return lambda raw: float(_DOUBLE.unpack(raw)[0])
    if kind is _T.NEWDECIMAL:
        precision, scale = meta >> 8, meta & 0xFF
        return lambda raw: decimal_value(raw, precision, scale)
    if kind is _T.BIT:
        return bytes
    if kind in (_T.ENUM, _T.SET):
        return _choice(column)
    return _time(kind, meta)


def _choice(column: Column) -> Callable[[bytes], Value]:
    members = column.members
    if members is None:
        if column.collation is not None:
            decoder(column.collation)
        raise ValueError(
            "the log doesn't have the members of an ENUM or SET: set binlog_row_metadata = FULL on the server"
        )
    if column.type is _T.ENUM:
        values = ("", *members)
        return lambda raw: values[int.from_bytes(raw, "little")]

    def chosen(raw: bytes) -> str:
        number = int.from_bytes(raw, "little")
        if number >> len(members):
            raise ValueError("a SET has a member that the table hasn't")
        return ",".join(member for at, member in enumerate(members) if number >> at & 1)

    return chosen


# ----------------------------------------------------------------------------------------- time


def _time(kind: ColumnType, digits: int) -> Callable[[bytes], Value]:
    match kind:
        case _T.YEAR:
            return lambda raw: raw[0] + 1900 if raw[0] else 0
        case _T.DATE | _T.NEWDATE:
            return _date
        case _T.DATETIME2:
            return lambda raw: _datetime2(raw, digits)
        case _T.TIMESTAMP2:
            return lambda raw: _timestamp2(raw, digits)
        case _T.TIME2:
            return _time2
        case _T.DATETIME:
            return _datetime
        case _T.TIMESTAMP:
            return lambda raw: _timestamp2(raw[::-1], 0)
        case _T.TIME:
            return _old_time
        case _:
            raise ValueError(f"a column has the type {kind.name}, which isn't read")


def _date(raw: bytes) -> Value:
    number = int.from_bytes(raw, "little")
    year, month, day = number >> 9, number >> 5 & 15, number & 31
    try:
        return date(year, month, day)
    except ValueError:
        return f"{year:04}-{month:02}-{day:02}"


def _moment(
    year: int, month: int, day: int, hour: int, minute: int, second: int, micros: int, digits: int
) -> Value:
    try:
        return datetime(year, month, day, hour, minute, second, micros)
    except ValueError:
        fraction = f".{micros:06}"[: digits + 1] if digits else ""
        return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}"


def _fraction(raw: bytes) -> int:
    """Microseconds from one, two or three bytes, which are hundredths, ten-thousandths or millionths."""
    return int.from_bytes(raw, "big") * 100 ** (3 - len(raw)) if raw else 0


def _datetime2(raw: bytes, digits: int) -> Value:
    number = int.from_bytes(raw[:5], "big") - (1 << 39)
    year, month = divmod(number >> 22, 13)
    return _moment(
        year, month, number >> 17 & 31, number >> 12 & 31, number >> 6 & 63, number & 63,
        _fraction(raw[5:]), digits,
    )  # fmt: skip


_EPOCH = datetime(1970, 1, 1)


def _timestamp2(raw: bytes, digits: int) -> Value:
    seconds, micros = int.from_bytes(raw[:4], "big"), _fraction(raw[4:])
    if not seconds and not micros:
        return _moment(0, 0, 0, 0, 0, 0, 0, digits)
    return _EPOCH + timedelta(seconds=seconds, microseconds=micros)


def _time2(raw: bytes) -> Value:
    # Seconds and fraction are one number, turned as a whole when it is negative.
    scale = len(raw) - 3
    number = int.from_bytes(raw, "big") - (1 << 8 * len(raw) - 1)
    size = abs(number)
    hms = size >> 8 * scale
    found = timedelta(
        hours=hms >> 12 & 0x3FF,
        minutes=hms >> 6 & 63,
        seconds=hms & 63,
        microseconds=_fraction((size & (1 << 8 * scale) - 1).to_bytes(scale, "big")),
    )
    return -found if number < 0 else found


def _datetime(raw: bytes) -> Value:
    days, clock = divmod(int.from_bytes(raw, "little"), 1_000_000)
    return _moment(
        days // 10_000, days // 100 % 100, days % 100, clock // 10_000, clock // 100 % 100, clock % 100, 0, 0
    )


def _old_time(raw: bytes) -> Value:
    number = int.from_bytes(raw, "little", signed=True)
    size = abs(number)
    found = timedelta(hours=size // 10_000, minutes=size // 100 % 100, seconds=size % 100)
    return -found if number < 0 else found
