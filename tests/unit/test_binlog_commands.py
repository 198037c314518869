"""What is sent to ask for a log, byte by byte, by the documentation of the protocol; what errors mean."""

from __future__ import annotations

import struct
from uuid import UUID

import aiomysql
import pytest

import binlog_bytes as b
from s3gc_cdc_mysql._commands import FilePosition, MariadbState, MysqlSet, dump, register
from s3gc_cdc_mysql.connection import BinlogStream
from s3gc_cdc_mysql.events import GtidRange
from s3gc_cdc_mysql.failures import (
    ConnectionLost,
    EndOfLog,
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


class Connection:
    """What aiomysql would have, for a stream that is handed its bytes."""

    def __init__(self) -> None:
        self.closed = False

    def get_server_info(self) -> str:
        return "8.0.36"

    def close(self) -> None:
        self.closed = True


def framed(*payloads: bytes) -> bytes:
    return b"".join(
        len(payload).to_bytes(3, "little") + bytes([number & 0xFF]) + payload
        for number, payload in enumerate(payloads)
    )


def stream(*, semi_sync: bool = False) -> BinlogStream:
    made = BinlogStream(Connection(), 1)
    made._semi_sync = None if semi_sync else False
    return made


def test_packets_however_they_are_cut() -> None:
    events = [bytes([n]) * size for n, size in enumerate((1, 300, 0, 70_000, 5))] * 60  # beyond 256 numbers
    whole = framed(*(b"\0" + event for event in events))
    for step in (1, 3, 5, 1000, len(whole)):
        reader = stream()
        for at in range(0, len(whole), step) if step > 4 else range(0, 4000, step):
            reader._split(whole[at : at + step])
        found = list(reader._waiting)
        assert found == events[: len(found)]
        assert len(found) == len(events) or step <= 4
        assert reader.alive


def test_a_server_without_semi_sync_sends_plain_events_though_asked_for_more() -> None:
    """MySQL without its plug-in. The first event is a rotation, which has no time: a zero, and no mark."""
    rotation = b.rotate("binlog.000001")
    late = b.event(16, bytes(8), time=0xEF)  # its first byte is the mark's
    reader = stream(semi_sync=True)
    reader._split(framed(b"\0" + rotation, b"\0" + late))
    assert list(reader._waiting) == [rotation, late]


def test_a_server_with_semi_sync_has_two_bytes_before_each_event() -> None:
    rotation, commit = b.rotate("binlog.000001"), b.xid()
    reader = stream(semi_sync=True)
    reader._split(framed(b"\0\xef\0" + rotation, b"\0\xef\0" + commit))
    assert list(reader._waiting) == [rotation, commit]


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        (b"\xff" + struct.pack("<H", 1236) + b"#HY000purged", LogUnreadable, "purged"),
        (b"\xff" + struct.pack("<H", 1234) + b"no", ServerError, "no"),
        (b"\xfe\0\0\2\0", EndOfLog, "all of its log"),
        (b"\xfe" + bytes(20), ConnectionLost, "no event"),
        (b"\x07", ConnectionLost, "no event"),
        (b"", ConnectionLost, "no event"),
    ],
)
def test_a_packet_that_is_no_event_ends_the_stream(payload: bytes, kind: type[Exception], text: str) -> None:
    reader = stream()
    reader._split(framed(b"\0event", payload, b"\0another"))
    assert list(reader._waiting) == [b"event"]
    assert type(reader._ended) is kind
    assert text in str(reader._ended)
    assert reader._connection.closed
