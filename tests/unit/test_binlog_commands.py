"""What is sent to ask for a log, byte by byte, by the documentation of the protocol; what errors mean."""

from __future__ import annotations

import struct
from uuid import UUID

import aiomysql
import pytest

from s3gc_cdc_mysql._commands import FilePosition, MariadbState, MysqlSet, dump, register
from s3gc_cdc_mysql.events import GtidRange
from s3gc_cdc_mysql.failures import (
    ConnectionLost,
    LogUnreadable,
    SameServerId,
    ServerError,
    refusal,
    translated,
)

ONE, TWO = UUID(int=1), UUID(int=2)


def test_a_file_and_a_position() -> None:
    """COM_BINLOG_DUMP: position, flags, server id, file."""
    assert dump(7, FilePosition("binlog.000009", 4711), blocking=True) == (
        0x12, struct.pack("<IHI", 4711, 0, 7) + b"binlog.000009"
    )  # fmt: skip
    assert dump(7, FilePosition("b"), blocking=False)[1] == struct.pack("<IHI", 4, 1, 7) + b"b"


def test_mariadb_takes_gtids_from_a_variable() -> None:
    assert dump(7, MariadbState("0-1-5"), blocking=True) == (0x12, struct.pack("<IHI", 4, 0, 7))


def test_a_set_of_gtids() -> None:
    """COM_BINLOG_DUMP_GTID: flags, server id, no file, position, size; servers, ranges, ends exclusive."""
    ranges = [GtidRange(TWO, "", 5, 5), GtidRange(ONE, "", 7, 9), GtidRange(ONE, "", 1, 3)]
    known = struct.pack("<Q", 2)
    known += ONE.bytes + struct.pack("<QQQQQ", 2, 1, 4, 7, 10)
    known += TWO.bytes + struct.pack("<QQQ", 1, 5, 6)
    assert dump(7, MysqlSet(ranges), blocking=True) == (
        0x1E, struct.pack("<HIIQI", 4, 7, 0, 4, len(known)) + known
    )  # fmt: skip
    assert dump(7, MysqlSet([]), blocking=False)[1] == struct.pack("<HIIQIQ", 5, 7, 0, 4, 8, 0)
    with pytest.raises(ValueError, match="tagged"):
        dump(7, MysqlSet([GtidRange(ONE, "tag", 1, 1)]), blocking=True)


def test_a_reader_makes_itself_known() -> None:
    """COM_REGISTER_SLAVE: server id, three texts, port, rank, the other's id."""
    assert register(7, "s3gc") == struct.pack("<I", 7) + b"\4s3gc\0\0" + struct.pack("<HII", 0, 0, 0)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (1236, "Could not find first log file name in binary log index file", LogUnreadable),
        # MySQL says by a text what MariaDB says by a code.
        (1236, "A replica with the same server_uuid/server_id as this replica has connected", SameServerId),
        (4052, "A slave with the same server_uuid/server_id", SameServerId),
        (1146, "no such table", ServerError),
    ],
)
def test_what_a_server_says(code: int, text: str, kind: type[ServerError]) -> None:
    found = refusal(code, text)
    assert (type(found), found.code, found.message) == (kind, code, text)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiomysql.OperationalError(2013, "Lost connection"), ConnectionLost),
        (aiomysql.OperationalError(1053, "Server shutdown in progress"), ConnectionLost),
        (aiomysql.InterfaceError("Cancelled during execution"), ConnectionLost),
        (aiomysql.InternalError("Packet sequence number wrong"), ConnectionLost),
        (aiomysql.OperationalError(1045, "Access denied"), ServerError),
    ],
)
def test_what_aiomysql_says(error: Exception, kind: type[Exception]) -> None:
    assert type(translated(error)) is kind
