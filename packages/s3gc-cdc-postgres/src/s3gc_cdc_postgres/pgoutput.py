"""pgoutput, version 1 of its protocol: from bytes to values, and nothing that isn't understood goes by.

The messages are named tuples: a backlog has millions of them, and these are the cheapest values there are.
Column values are the texts that PostgreSQL prints, as bytes; ``None`` is NULL, ``UNCHANGED`` is a value kept
out of line (TOAST) that the change left as it was and that the server therefore doesn't send.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from struct import Struct, error
from typing import Final, Literal, NamedTuple, TypeAlias

from s3gc.errors import SourceError


class PgOutputError(SourceError):
    """The server sent what isn't understood: changes could be missed, so nothing may be deleted."""


class Unchanged(enum.Enum):
    """Type of :data:`UNCHANGED`."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""A value that the change left as it was, and that wasn't sent."""

Value: TypeAlias = bytes | Literal[Unchanged.UNCHANGED] | None
Values: TypeAlias = tuple[Value, ...]


class Begin(NamedTuple):
    """A transaction begins; ``lsn`` is where its commit record begins, ``at`` is in µs since 2000."""

    lsn: int
    at: int
    xid: int


class Commit(NamedTuple):
    """The transaction that began last is committed."""

    lsn: int
    end: int
    at: int


class Origin(NamedTuple):
    """The transaction came from another server."""

    lsn: int
    name: str


class RelationColumn(NamedTuple):
    """A column of a relation as it is sent."""

    name: str
    type_oid: int
    type_modifier: int
    is_key: bool  # of the replica identity


class Relation(NamedTuple):
    """What the values of later changes of this relation are."""

    oid: int
    namespace: str
    name: str
    identity: str  # relreplident
    columns: tuple[RelationColumn, ...]


class Type(NamedTuple):
    """A type that isn't built in."""

    oid: int
    namespace: str
    name: str


class Insert(NamedTuple):
    """A new row."""

    oid: int
    new: Values


class Update(NamedTuple):
    """A row changed. ``old`` is there when its replica identity changed, or is FULL (``whole``)."""

    oid: int
    old: Values | None
    whole: bool
    new: Values


class Delete(NamedTuple):
    """A row is gone; ``old`` is its replica identity, or all of it (``whole``)."""

    oid: int
    old: Values
    whole: bool


class Truncate(NamedTuple):
    """Relations lost all rows."""

    oids: tuple[int, ...]
    flags: int


class Message(NamedTuple):
    """A message that somebody wrote by ``pg_logical_emit_message``."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


AnyMessage: TypeAlias = (
    Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate | Message
)

_BEGIN = Struct("!cqqI")
_COMMIT = Struct("!cBqqq")
_OID = Struct("!cI")
_COLUMN_TAIL = Struct("!Ii")
_TRUNCATE = Struct("!cIB")
_MESSAGE = Struct("!cBq")
_NULL, _UNCHANGED, _TEXT = 0x6E, 0x75, 0x74
_NEW, _KEY, _OLD = 0x4E, 0x4B, 0x4F
_IDENTITIES = "dnfi"


def decode(data: bytes) -> AnyMessage:
    """One message.

    Raises:
        PgOutputError: it is of an unknown kind, too short, too long, or has a value that isn't text.
    """
    try:
        read = _READERS[data[0]]
    except (IndexError, KeyError):
        raise PgOutputError(
            f"the server sent a message of an unknown kind ({data[:1]!r}): changes could be missed"
        ) from None
    try:
        message, end = read(data)
    except (error, IndexError, ValueError) as problem:
        raise PgOutputError(f"a message of kind {data[:1]!r} can't be read: {problem}") from problem
    if end != len(data):
        raise PgOutputError(f"a message of kind {data[:1]!r} has {len(data)} bytes where {end} were expected")
    return message


def _values(data: bytes, at: int) -> tuple[Values, int]:
    count = (data[at] << 8) | data[at + 1]
    at += 2
    values: list[Value] = []
    for _ in range(count):
        kind = data[at]
        if kind == _TEXT:
            start = at + 5
            at = start + int.from_bytes(data[at + 1 : start], "big")
            values.append(data[start:at])
        elif kind == _NULL:
            values.append(None)
            at += 1
        elif kind == _UNCHANGED:
            values.append(UNCHANGED)
            at += 1
        else:
            raise ValueError(f"a value of the unknown form {chr(kind)!r}")
    return tuple(values), at


def _expect(data: bytes, at: int, kinds: tuple[int, ...]) -> int:
    kind = data[at]
    if kind not in kinds:
        raise ValueError(f"unexpected part {chr(kind)!r}")
    return kind


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode(), end + 1


def _begin(data: bytes) -> tuple[AnyMessage, int]:
    _, lsn, at, xid = _BEGIN.unpack_from(data)
    return Begin(lsn, at, xid), _BEGIN.size


def _commit(data: bytes) -> tuple[AnyMessage, int]:
    _, flags, lsn, end, at = _COMMIT.unpack_from(data)
    if flags:
        raise ValueError(f"flags {flags}")
    return Commit(lsn, end, at), _COMMIT.size


def _origin(data: bytes) -> tuple[AnyMessage, int]:
    name, end = _text(data, 9)
    return Origin(int.from_bytes(data[1:9], "big"), name), end


def _relation(data: bytes) -> tuple[AnyMessage, int]:
    _, oid = _OID.unpack_from(data)
    namespace, at = _text(data, 5)
    name, at = _text(data, at)
    identity = chr(data[at])
    if identity not in _IDENTITIES:
        raise ValueError(f"replica identity {identity!r}")
    count = (data[at + 1] << 8) | data[at + 2]
    at += 3
    columns = []
    for _ in range(count):
        flags = data[at]
        if flags > 1:
            raise ValueError(f"flags {flags} of a column")
        column, at = _text(data, at + 1)
        type_oid, modifier = _COLUMN_TAIL.unpack_from(data, at)
        at += _COLUMN_TAIL.size
        columns.append(RelationColumn(column, type_oid, modifier, bool(flags)))
    # The schema pg_catalog is sent as an empty text.
    return Relation(oid, namespace or "pg_catalog", name, identity, tuple(columns)), at


def _type(data: bytes) -> tuple[AnyMessage, int]:
    _, oid = _OID.unpack_from(data)
    namespace, at = _text(data, 5)
    name, at = _text(data, at)
    return Type(oid, namespace or "pg_catalog", name), at


def _insert(data: bytes) -> tuple[AnyMessage, int]:
    _expect(data, 5, (_NEW,))
    values, end = _values(data, 6)
    return Insert(int.from_bytes(data[1:5], "big"), values), end


def _update(data: bytes) -> tuple[AnyMessage, int]:
    oid = int.from_bytes(data[1:5], "big")
    kind = _expect(data, 5, (_NEW, _KEY, _OLD))
    old: Values | None = None
    at = 6
    if kind != _NEW:
        old, at = _values(data, 6)
        _expect(data, at, (_NEW,))
        at += 1
    values, end = _values(data, at)
    return Update(oid, old, kind == _OLD, values), end


def _delete(data: bytes) -> tuple[AnyMessage, int]:
    kind = _expect(data, 5, (_KEY, _OLD))
    values, end = _values(data, 6)
    return Delete(int.from_bytes(data[1:5], "big"), values, kind == _OLD), end


def _truncate(data: bytes) -> tuple[AnyMessage, int]:
    _, count, flags = _TRUNCATE.unpack_from(data)
    if flags > 3:
        raise ValueError(f"flags {flags}")
    oids = Struct(f"!{count}I").unpack_from(data, _TRUNCATE.size)
    return Truncate(oids, flags), _TRUNCATE.size + 4 * count


def _message(data: bytes) -> tuple[AnyMessage, int]:
    _, flags, lsn = _MESSAGE.unpack_from(data)
    if flags > 1:
        raise ValueError(f"flags {flags}")
    prefix, at = _text(data, _MESSAGE.size)
    start = at + 4
    end = start + int.from_bytes(data[at:start], "big")
    if len(data) < start:
        raise ValueError("it ends early")
    return Message(bool(flags), lsn, prefix, data[start:end]), end


_READERS: dict[int, Callable[[bytes], tuple[AnyMessage, int]]] = {
    ord("B"): _begin,
    ord("C"): _commit,
    ord("O"): _origin,
    ord("R"): _relation,
    ord("Y"): _type,
    ord("I"): _insert,
    ord("U"): _update,
    ord("D"): _delete,
    ord("T"): _truncate,
    ord("M"): _message,
}
