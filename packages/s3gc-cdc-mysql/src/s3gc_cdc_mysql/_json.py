"""MySQL's JSON in its binary form (``sql-common/json_binary.h`` describes it) to the text that MySQL prints.

Objects and arrays have their members' positions before them; small ones in two bytes each, large ones in
four. What fits into a position stands there itself.
"""

from __future__ import annotations

import base64
import json
from struct import Struct
from typing import NamedTuple

from s3gc_cdc_mysql._decimal import decimal_value
from s3gc_cdc_mysql.events import ColumnType

_DEPTH = 100
"""MySQL's own bound (JSON_DOCUMENT_MAX_DEPTH), and one more for a scalar."""

_DOUBLE = Struct("<d")
_LITERALS = {0: "null", 1: "true", 2: "false"}
_INTEGERS = {
    0x05: (2, True),
    0x06: (2, False),
    0x07: (4, True),
    0x08: (4, False),
    0x09: (8, True),
    0x0A: (8, False),
}
_TIMES = (ColumnType.DATE, ColumnType.DATETIME, ColumnType.TIMESTAMP)


class _Sizes(NamedTuple):
    """Bytes of a position, of the entry of a key and of the entry of a value."""

    position: int
    key: int
    value: int


_SMALL, _LARGE = _Sizes(2, 4, 3), _Sizes(4, 6, 5)


def json_text(raw: bytes) -> str:
    """A document as text.

    Raises:
        ValueError: it isn't one, or has a type that isn't known.
    """
    if not raw:
        return "null"  # what IGNORE leaves where a NULL was refused
    found: list[str] = []
    _value(raw[0], memoryview(raw)[1:], found, 0)
    return "".join(found)


def _value(kind: int, data: memoryview, found: list[str], depth: int) -> None:
    if depth > _DEPTH:
        raise ValueError(f"a JSON document is deeper than {_DEPTH}")
    if kind in (0x00, 0x01):
        _object(data, _LARGE if kind else _SMALL, found, depth)
    elif kind in (0x02, 0x03):
        _array(data, _LARGE if kind == 0x03 else _SMALL, found, depth)
    elif kind == 0x04:
        found.append(_literal(_cut(data, 0, 1)[0]))
    elif kind in _INTEGERS:
        size, signed = _INTEGERS[kind]
        found.append(str(int.from_bytes(_cut(data, 0, size), "little", signed=signed)))
    elif kind == 0x0B:
        found.append(_double(_DOUBLE.unpack(_cut(data, 0, 8))[0]))
    elif kind == 0x0C:
        found.append(_quoted(_sized(data, 0).decode()))
    elif kind == 0x0F:
        found.append(_opaque(_cut(data, 0, 1)[0], _sized(data, 1)))
    else:
        raise ValueError(f"a JSON value has the type {kind:#x}, which isn't known")


def _cut(data: memoryview, at: int, size: int) -> memoryview:
    if at < 0 or at + size > len(data):
        raise ValueError("a JSON document points outside itself")
    return data[at : at + size]


def _number(data: memoryview, at: int, size: int) -> int:
    return int.from_bytes(_cut(data, at, size), "little")


def _sized(data: memoryview, at: int) -> bytes:
    """Bytes after their length, which has seven bits of each of its bytes."""
    size = shift = 0
    while True:
        one = _number(data, at, 1)
        at += 1
        size |= (one & 0x7F) << shift
        shift += 7
        if not one & 0x80:
            return bytes(_cut(data, at, size))
        if shift > 28:
            raise ValueError("a JSON text has a length that can't be")


def _header(data: memoryview, sizes: _Sizes) -> tuple[int, memoryview]:
    count, size = _number(data, 0, sizes.position), _number(data, sizes.position, sizes.position)
    return count, _cut(data, 0, size)


def _object(data: memoryview, sizes: _Sizes, found: list[str], depth: int) -> None:
    count, data = _header(data, sizes)
    entries = 2 * sizes.position
    found.append("{")
    for index in range(count):
        at = entries + index * sizes.key
        start, size = _number(data, at, sizes.position), _number(data, at + sizes.position, 2)
        found.append((", " if index else "") + _quoted(bytes(_cut(data, start, size)).decode()) + ": ")
        _member(data, entries + count * sizes.key + index * sizes.value, sizes, found, depth)
    found.append("}")


def _array(data: memoryview, sizes: _Sizes, found: list[str], depth: int) -> None:
    count, data = _header(data, sizes)
    found.append("[")
    for index in range(count):
        if index:
            found.append(", ")
        _member(data, 2 * sizes.position + index * sizes.value, sizes, found, depth)
    found.append("]")


def _member(data: memoryview, at: int, sizes: _Sizes, found: list[str], depth: int) -> None:
    kind = _number(data, at, 1)
    inlined = kind in (0x04, 0x05, 0x06) or (sizes is _LARGE and kind in (0x07, 0x08))
    if inlined:
        _value(kind, _cut(data, at + 1, sizes.position), found, depth + 1)
        return
    start = _number(data, at + 1, sizes.position)
    if start < 2 * sizes.position:  # else one document could hold itself
        raise ValueError("a JSON document points into its own head")
    _value(kind, data[start:], found, depth + 1)


def _literal(number: int) -> str:
    if number not in _LITERALS:
        raise ValueError(f"a JSON literal {number:#x}, which isn't known")
    return _LITERALS[number]


def _double(number: float) -> str:
    return repr(number).replace("e+", "e")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _opaque(kind: int, raw: bytes) -> str:
    """A value of another type of MySQL's inside a document."""
    if kind == ColumnType.NEWDECIMAL:
        if len(raw) < 2:
            raise ValueError("a DECIMAL in a JSON document ends early")
        return f"{decimal_value(raw[2:], raw[0], raw[1]):f}"
    if kind in _TIMES:
        return f'"{_moment(_eight(raw), kind)}"'
    if kind == ColumnType.TIME:
        return f'"{_clock(_eight(raw))}"'
    return f'"base64:type{kind}:{base64.b64encode(raw).decode()}"'


def _eight(raw: bytes) -> int:
    if len(raw) != 8:
        raise ValueError(f"a time of {len(raw)} bytes in a JSON document")
    return int.from_bytes(raw, "little", signed=True)


def _moment(number: int, kind: int) -> str:
    micros, number = number & 0xFFFFFF, number >> 24
    year, month = divmod(number >> 22, 13)
    day = f"{year:04}-{month:02}-{number >> 17 & 31:02}"
    if kind == ColumnType.DATE:
        return day
    return f"{day} {number >> 12 & 31:02}:{number >> 6 & 63:02}:{number & 63:02}.{micros:06}"


def _clock(number: int) -> str:
    size = abs(number)
    micros, size = size & 0xFFFFFF, size >> 24
    sign = "-" if number < 0 else ""
    return f"{sign}{size >> 12 & 0x3FF:02}:{size >> 6 & 63:02}:{size & 63:02}.{micros:06}"
