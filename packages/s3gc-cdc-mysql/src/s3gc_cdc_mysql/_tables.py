"""Table maps: what the rows after them are rows of.

The format is MySQL's (``Table_map_event`` in ``libs/mysql/binlog/event/rows_event.h``, with the optional
metadata of ``binlog_row_metadata``); MariaDB writes the same since 10.5, and two more types of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from s3gc_cdc_mysql._bytes import bits, packed, packed_piece, piece
from s3gc_cdc_mysql._charsets import BINARY, decoder
from s3gc_cdc_mysql.events import Column, ColumnType, KeyPart, Table

_T = ColumnType
_NUMBERS = frozenset(
    {
        _T.TINY, _T.SHORT, _T.INT24, _T.LONG, _T.LONGLONG, _T.DECIMAL, _T.NEWDECIMAL, _T.FLOAT, _T.DOUBLE,
        _T.YEAR,
    }
)  # fmt: skip
_TEXTS = frozenset(
    {
        _T.STRING, _T.VAR_STRING, _T.VARCHAR, _T.BLOB, _T.TINY_BLOB, _T.MEDIUM_BLOB, _T.LONG_BLOB,
        _T.VARCHAR_COMPRESSED, _T.BLOB_COMPRESSED,
    }
)  # fmt: skip
_ALSO_TEXTS = {True: _T.GEOMETRY, False: _T.VECTOR}
"""What MariaDB, and what MySQL counts among the columns that have a collation."""
_CHOICES = frozenset({_T.ENUM, _T.SET})

_NO_META = frozenset(
    {
        _T.DECIMAL, _T.TINY, _T.SHORT, _T.LONG, _T.NULL, _T.TIMESTAMP, _T.LONGLONG, _T.INT24, _T.DATE,
        _T.TIME, _T.DATETIME, _T.YEAR, _T.NEWDATE,
    }
)  # fmt: skip
_ONE_BYTE = frozenset(
    {
        _T.FLOAT, _T.DOUBLE, _T.BLOB, _T.TINY_BLOB, _T.MEDIUM_BLOB, _T.LONG_BLOB, _T.BLOB_COMPRESSED,
        _T.GEOMETRY, _T.JSON, _T.VECTOR, _T.TIMESTAMP2, _T.DATETIME2, _T.TIME2,
    }
)  # fmt: skip

_SIGNEDNESS, _DEFAULT_CHARSET, _COLUMN_CHARSET, _COLUMN_NAME, _SET_VALUES, _ENUM_VALUES = range(1, 7)
_GEOMETRY_TYPE, _SIMPLE_KEY, _KEY_WITH_PREFIX, _CHOICE_DEFAULT_CHARSET, _CHOICE_CHARSET = range(7, 12)
_VISIBILITY, _DIMENSIONS = 12, 13


def parse_table(body: bytes, *, mariadb: bool) -> Table:
    """The table of a table map, without the six bytes of its number.

    Args:
        mariadb: whether MariaDB wrote it.

    Raises:
        ValueError, IndexError: it isn't one, or has a type of column that isn't known.
    """
    flags = body[0] | body[1] << 8
    database, at = _name(body, 2)
    name, at = _name(body, at)
    count, at = packed(body, at)
    types, at = piece(body, at, count)
    meta, at = packed_piece(body, at)
    nullable, at = piece(body, at, (count + 7) // 8)
    nulls = bits(nullable, count)
    kinds = _kinds(types, meta)
    optional = dict(_fields(body, at))
    columns = tuple(_columns(kinds, nulls, optional, mariadb))
    return Table(database, name, columns, _key(optional, count), flags)


def parse_names(body: bytes) -> Table:
    """The same without columns.

    Raises:
        ValueError, IndexError: it isn't a table map.
    """
    database, at = _name(body, 2)
    name, _ = _name(body, at)
    return Table(database, name, (), None, body[0] | body[1] << 8)


def _name(body: bytes, at: int) -> tuple[str, int]:
    """A name: its length, itself, a zero."""
    raw, at = packed_piece(body, at)
    if body[at]:
        raise ValueError("a name doesn't end where it should")
    return raw.decode(), at + 1


def _kinds(types: bytes, meta: bytes) -> list[tuple[ColumnType, int]]:
    """The type and the meaning of the metadata of each column, see :attr:`Column.meta`."""
    found: list[tuple[ColumnType, int]] = []
    at = 0
    for number in types:
        try:
            kind = ColumnType(number)
        except ValueError:
            raise ValueError(f"a column has the type {number}, which isn't known") from None
        if kind in _NO_META:
            found.append((kind, 0))
            continue
        if kind in _ONE_BYTE:
            found.append((kind, meta[at]))
            at += 1
            continue
        if kind is _T.TYPED_ARRAY:
            raise ValueError("the table has a multi-valued index, whose hidden columns can't be read")
        first, second = meta[at], meta[at + 1]
        at += 2
        if kind in (_T.VARCHAR, _T.VARCHAR_COMPRESSED):
            found.append((kind, first | second << 8))
        elif kind is _T.NEWDECIMAL:
            found.append((kind, first << 8 | second))
        elif kind is _T.BIT:
            found.append((kind, first + 8 * second))
        elif first in _CHOICES:
            found.append((ColumnType(first), second))
        else:  # STRING: the two bits above the length's byte hide, inverted, in the type's byte
            if first | 0x30 not in (_T.STRING, _T.VAR_STRING):
                raise ValueError(f"a column of texts has the real type {first}, which isn't known")
            found.append((kind, second | ((first & 0x30) ^ 0x30) << 4))
    if at != len(meta):
        raise ValueError(f"the columns' metadata has {len(meta)} bytes where {at} were expected")
    return found


def _fields(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The optional metadata: pairs of number and bytes."""
    seen: set[int] = set()
    while at < len(body):
        number = body[at]
        value, at = packed_piece(body, at + 1)
        if number in seen:
            raise ValueError(f"the metadata {number} comes twice")
        seen.add(number)
        yield number, value


def _columns(
    kinds: Sequence[tuple[ColumnType, int]], nulls: int, optional: dict[int, bytes], mariadb: bool
) -> Iterator[Column]:
    every = range(len(kinds))
    texts = [at for at in every if kinds[at][0] in _TEXTS or kinds[at][0] is _ALSO_TEXTS[mariadb]]
    choices = [at for at in every if kinds[at][0] in _CHOICES]
    names = _names(optional.get(_COLUMN_NAME), len(kinds))
    unsigned = _flags(optional.get(_SIGNEDNESS), [at for at in every if kinds[at][0] in _NUMBERS])
    visible = _flags(optional.get(_VISIBILITY), list(every))
    collations = _collations(optional, _DEFAULT_CHARSET, _COLUMN_CHARSET, texts)
    collations |= _collations(optional, _CHOICE_DEFAULT_CHARSET, _CHOICE_CHARSET, choices)
    members: dict[int, list[bytes]] = {}
    for field, kind in ((_SET_VALUES, _T.SET), (_ENUM_VALUES, _T.ENUM)):
        if field in optional:
            of = [at for at in choices if kinds[at][0] is kind]
            members.update(zip(of, _members(optional[field], len(of)), strict=True))
    for at, (kind, meta) in enumerate(kinds):
        yield Column(
            index=at,
            type=kind,
            meta=meta,
            nullable=bool(nulls >> at & 1),
            name=names[at] if names is not None else None,
            unsigned=unsigned.get(at, False),
            collation=collations.get(at),
            members=_texts(members[at], collations.get(at)) if at in members else None,
            visible=visible.get(at),
        )


def _texts(raw: Sequence[bytes], collation: int | None) -> tuple[str, ...] | None:
    """The members; ``None`` when nothing can decode them, which is an error once they are asked for."""
    read: Callable[[bytes], str] = bytes.decode
    if collation is not None and collation != BINARY:
        try:
            read = decoder(collation)
        except ValueError:
            return None
    return tuple(read(one) for one in raw)


def _names(raw: bytes | None, count: int) -> list[str] | None:
    if raw is None:
        return None
    names, at = [], 0
    while at < len(raw):
        one, at = packed_piece(raw, at)
        names.append(one.decode())
    if len(names) != count:
        raise ValueError(f"{len(names)} names for {count} columns")
    return names


def _flags(raw: bytes | None, of: Sequence[int]) -> dict[int, bool]:
    """Bits for some of the columns; here the first is the highest bit of the first byte."""
    if raw is None:
        return {}
    if len(raw) != (len(of) + 7) // 8:
        raise ValueError(f"{len(raw)} bytes of flags for {len(of)} columns")
    return {column: bool(raw[at >> 3] & 0x80 >> (at & 7)) for at, column in enumerate(of)}


def _numbers(raw: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(raw):
        one, at = packed(raw, at)
        numbers.append(one)
    return numbers


def _collations(optional: dict[int, bytes], common: int, each: int, of: Sequence[int]) -> dict[int, int]:
    """The collation of each of some columns: one that is common to all with exceptions, or all of them."""
    if common in optional:
        default, *exceptions = _numbers(optional[common])
        found = dict.fromkeys(of, default)
        for position, collation in zip(exceptions[::2], exceptions[1::2], strict=True):
            found[of[position]] = collation
        return found
    if each in optional:
        return dict(zip(of, _numbers(optional[each]), strict=True))
    return {}


def _members(raw: bytes, columns: int) -> list[list[bytes]]:
    found, at = [], 0
    while at < len(raw):
        count, at = packed(raw, at)
        values = []
        for _ in range(count):
            one, at = packed_piece(raw, at)
            values.append(one)
        found.append(values)
    if len(found) != columns:
        raise ValueError(f"the members of {len(found)} columns for {columns}")
    return found


def _key(optional: dict[int, bytes], columns: int) -> tuple[KeyPart, ...] | None:
    if _SIMPLE_KEY in optional:
        parts = tuple(KeyPart(column, 0) for column in _numbers(optional[_SIMPLE_KEY]))
    elif _KEY_WITH_PREFIX in optional:
        numbers = _numbers(optional[_KEY_WITH_PREFIX])
        parts = tuple(KeyPart(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True))
    else:  # FULL metadata of a table without primary key has names, and nothing about a key
        return () if _COLUMN_NAME in optional else None
    if any(part.column >= columns for part in parts):
        raise ValueError("the primary key has a column that the table hasn't")
    return parts
