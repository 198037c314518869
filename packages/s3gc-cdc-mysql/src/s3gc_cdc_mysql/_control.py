"""The events without rows: from the bytes after the header, without checksum, to values.

The formats are those of MySQL's ``libs/mysql/binlog/event/`` and of MariaDB's ``sql/log_event.cc``.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TypeAlias
from uuid import UUID

from s3gc_cdc_mysql._bytes import U32, U64, packed, packed_piece, piece
from s3gc_cdc_mysql._compression import inflate_maria
from s3gc_cdc_mysql.events import (
    Annotation,
    Commit,
    Event,
    GtidList,
    GtidRange,
    Header,
    Heartbeat,
    Incident,
    MariadbGtid,
    MariadbGtidId,
    MysqlGtid,
    Other,
    PreviousGtids,
    Query,
    Rotate,
    Stop,
    Variable,
    XaPrepare,
)

Parse: TypeAlias = Callable[[Header, bytes], Event]
"""Raises ValueError, IndexError or struct.error when the bytes aren't of the event."""

_QUERY = Struct("<IIBHH")
_MARIADB_GTID = Struct("<QIB")
_GTID_IN_LIST = Struct("<IIQ")
_MYSQL_GTID = Struct("<B16sq")
_XA = Struct("<BIII")
_XID = Struct("<IBB")


# ----------------------------------------------------------------------------------------- the stream


def rotate(header: Header, body: bytes) -> Event:
    name = body[8:].rstrip(b"\0")
    if not name:
        raise ValueError("it names no file")
    return Rotate(header, name.decode(), U64.unpack_from(body)[0])


def heartbeat(header: Header, body: bytes) -> Event:
    if not body:
        raise ValueError("it names no file")
    return Heartbeat(header, body.rstrip(b"\0").decode(), header.next_position)


def heartbeat_v2(header: Header, body: bytes) -> Event:
    """MySQL, for files beyond 4 GiB: fields with number and length."""
    file, position, at = "", 0, 0
    while True:
        field, at = packed(body, at)
        if not field:
            break
        value, at = packed_piece(body, at)
        if field == 1:
            file = value.decode()
        elif field == 2:
            position, _ = packed(value, 0)
    if not file:
        raise ValueError("it names no file")
    return Heartbeat(header, file, position)


def stop(header: Header, _body: bytes) -> Event:
    return Stop(header)


def incident(header: Header, body: bytes) -> Event:
    size = body[2] if len(body) > 2 else 0
    message, _ = piece(body, 3, size) if size else (b"", 0)
    return Incident(header, body[0] | body[1] << 8, message.decode("utf-8", "replace"))


def other(kind: str) -> Parse:
    return lambda header, _body: Other(header, kind)


# ----------------------------------------------------------------------------------------- transactions


def mariadb_gtid(header: Header, body: bytes) -> Event:
    sequence, domain, flags = _MARIADB_GTID.unpack_from(body)
    at, group, xid = _MARIADB_GTID.size, None, None
    if flags & 2:
        [group] = U64.unpack_from(body, at)
        at += 8
    if flags & 0xC0:
        size = _XID.size + sum(_XID.unpack_from(body, at)[1:])
        xid, at = piece(body, at, size)
    if len(body) < 19:  # short ones are filled up with zeros
        raise ValueError(f"it has {len(body)} bytes")
    return MariadbGtid(
        header=header,
        gtid=MariadbGtidId(domain, header.server_id, sequence),
        standalone=bool(flags & 1),
        transactional=bool(flags & 4),
        ddl=bool(flags & 32),
        group_commit_id=group,
        prepared_xa=xid if flags & 64 else None,
        completed_xa=xid if flags & 128 else None,
    )


def gtid_list(header: Header, body: bytes) -> Event:
    [word] = U32.unpack_from(body)
    count = word & 0x0FFFFFFF
    end = 4 + count * _GTID_IN_LIST.size
    if len(body) != end and (count or len(body) != 6):  # an empty one is filled up with zeros
        raise ValueError(f"{count} GTIDs in {len(body)} bytes")
    gtids = tuple(MariadbGtidId(*one) for one in _GTID_IN_LIST.iter_unpack(body[4:end]))
    return GtidList(header, gtids, word >> 28)


def mysql_gtid(header: Header, body: bytes) -> Event:
    flags, source, sequence = _MYSQL_GTID.unpack_from(body)
    anonymous = header.type == 34
    if anonymous != (sequence == 0) or sequence < 0:
        raise ValueError(f"a transaction with the number {sequence}")
    at, clock = _MYSQL_GTID.size, (0, 0)
    if len(body) >= at + 17 and body[at] == 2:
        clock = (U64.unpack_from(body, at + 1)[0], U64.unpack_from(body, at + 9)[0])
    return MysqlGtid(header, None if anonymous else UUID(bytes=source), sequence, "", *clock, bool(flags & 1))


def previous_gtids(header: Header, body: bytes) -> Event:
    [sources] = U64.unpack_from(body)
    if sources >> 56:
        raise ValueError("it has tagged GTIDs, which aren't read: write transactions without tags")
    at, ranges = 8, []
    for _ in range(sources):
        source, at = piece(body, at, 16)
        [count] = U64.unpack_from(body, at)
        at += 8
        for _ in range(count):
            first, after = U64.unpack_from(body, at)[0], U64.unpack_from(body, at + 8)[0]
            if not 0 < first < after:
                raise ValueError(f"a range from {first} to before {after}")
            ranges.append(GtidRange(UUID(bytes=source), "", first, after - 1))
            at += 16
    if at != len(body):
        raise ValueError(f"{len(body) - at} bytes are left over")
    return PreviousGtids(header, tuple(ranges))


def commit(header: Header, body: bytes) -> Event:
    if len(body) != 8:
        raise ValueError(f"it has {len(body)} bytes")
    return Commit(header, U64.unpack(body)[0])


def xa_prepare(header: Header, body: bytes) -> Event:
    one_phase, _, transaction, branch = _XA.unpack_from(body)
    if len(body) != _XA.size + transaction + branch:
        raise ValueError("its lengths don't fit")
    # In the form in which MariaDB's GTIDs have it, so that the two can be compared
    kind, data = body[1:5], body[_XA.size :]
    return XaPrepare(header, kind + bytes((transaction, branch)) + data, bool(one_phase))


# ----------------------------------------------------------------------------------------- statements

_FLAGS2, _SQL_MODE, _CATALOG, _CHARSET = 0, 1, 2, 4
_VARIABLE_SIZES = {_FLAGS2: 4, _SQL_MODE: 8, 3: 4, _CHARSET: 6}


def query(header: Header, body: bytes) -> Event:
    return _query(header, body, 0)


def compressed_query(header: Header, body: bytes) -> Event:
    """MariaDB's ``log_bin_compress``: only the text is compressed."""
    return _query(header, body, 0, compressed=True)


def execute_load_query(header: Header, body: bytes) -> Event:
    """LOAD DATA that wasn't logged by rows: a query with thirteen bytes more before it."""
    return _query(header, body, 13)


def _query(header: Header, body: bytes, more: int, *, compressed: bool = False) -> Event:
    thread, _, database_size, error_code, variables_size = _QUERY.unpack_from(body)
    variables, at = piece(body, _QUERY.size + more, variables_size)
    database, at = piece(body, at, database_size)
    if body[at]:
        raise ValueError("the database's name doesn't end where it should")
    text = body[at + 1 :]
    if compressed:
        text = inflate_maria(text)
    known = _known(variables)
    charset = None
    if _CHARSET in known:
        raw = known[_CHARSET]
        charset = (raw[0] | raw[1] << 8, raw[2] | raw[3] << 8, raw[4] | raw[5] << 8)
    return Query(
        header=header,
        thread_id=thread,
        database=database.decode(),
        text=text.decode("utf-8", "replace"),
        error_code=error_code,
        flags2=int.from_bytes(known[_FLAGS2], "little") if _FLAGS2 in known else None,
        sql_mode=int.from_bytes(known[_SQL_MODE], "little") if _SQL_MODE in known else None,
        charset=charset,
        variables=variables,
    )


def _known(variables: bytes) -> dict[int, bytes]:
    """The status variables up to the first of the rarer ones, which come last."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(variables):
        code = variables[at]
        if code in _VARIABLE_SIZES:
            found[code], at = piece(variables, at + 1, _VARIABLE_SIZES[code])
        elif code == 6:  # the catalogue, as a text with its length; always "std"
            at += 2 + variables[at + 1]
        elif code == _CATALOG:
            at += 3 + variables[at + 1]
        else:
            break
    return found


def variable(kind: str) -> Parse:
    return lambda header, _body: Variable(header, kind)


def annotation(header: Header, body: bytes) -> Event:
    return Annotation(header, body.decode("utf-8", "replace"))


def rows_query(header: Header, body: bytes) -> Event:
    """MySQL; the byte before the text was meant to be its length, and is too small for that."""
    if not body:
        raise ValueError("it is empty")
    return Annotation(header, body[1:].decode("utf-8", "replace"))


PARSERS: dict[int, Parse] = {
    2: query,
    3: stop,
    4: rotate,
    5: variable("INTVAR"),
    9: other("APPEND_BLOCK"),
    11: other("DELETE_FILE"),
    13: variable("RAND"),
    14: variable("USER_VAR"),
    16: commit,
    17: other("BEGIN_LOAD_QUERY"),
    18: execute_load_query,
    26: incident,
    27: heartbeat,
    28: other("IGNORABLE"),
    29: rows_query,
    33: mysql_gtid,
    34: mysql_gtid,
    35: previous_gtids,
    36: other("TRANSACTION_CONTEXT"),
    37: other("VIEW_CHANGE"),
    38: xa_prepare,
    41: heartbeat_v2,
    160: annotation,
    161: other("BINLOG_CHECKPOINT"),
    162: mariadb_gtid,
    163: gtid_list,
    164: other("START_ENCRYPTION"),
    165: compressed_query,
}
"""By the number of the type in the log. Format descriptions, table maps, rows and compressed transactions
need what came before them, and are read in :mod:`s3gc_cdc_mysql.binlog`."""
