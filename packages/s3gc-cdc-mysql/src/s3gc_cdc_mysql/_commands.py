"""Where a stream begins, and the commands that ask for it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

from attrs import frozen

from s3gc_cdc_mysql.events import GtidRange

REGISTER: Final = 0x15
_DUMP, _DUMP_GTID = 0x12, 0x1E
_NON_BLOCK, _THROUGH_GTID = 0x01, 0x04


@frozen
class FilePosition:
    """Begin at a byte of a file, which must be the beginning of a transaction."""

    file: str
    position: int = 4


@frozen
class MariadbState:
    """Begin after the GTIDs, one for each domain: ``0-1-100,1-2-7``. Empty: with all that there is."""

    gtids: str


@frozen
class MysqlSet:
    """Begin with all transactions that aren't in a set."""

    ranges: Sequence[GtidRange]


Start: TypeAlias = FilePosition | MariadbState | MysqlSet


def register(server_id: int, name: str) -> bytes:
    """COM_REGISTER_SLAVE: makes the reader known to ``SHOW SLAVE HOSTS``."""
    host = name.encode()[:60]
    return struct.pack("<IB", server_id, len(host)) + host + struct.pack("<BBHII", 0, 0, 0, 0, 0)


def dump(server_id: int, start: Start, *, blocking: bool) -> tuple[int, bytes]:
    """The command that asks for the log: its number and its bytes."""
    flags = 0 if blocking else _NON_BLOCK
    if isinstance(start, MysqlSet):
        known = _gtid_set(start.ranges)
        return _DUMP_GTID, struct.pack("<HIIQI", flags | _THROUGH_GTID, server_id, 0, 4, len(known)) + known
    if isinstance(start, MariadbState):
        return _DUMP, struct.pack("<IHI", 4, flags, server_id)
    return _DUMP, struct.pack("<IHI", start.position, flags, server_id) + start.file.encode()


def _gtid_set(ranges: Sequence[GtidRange]) -> bytes:
    if any(one.tag for one in ranges):
        raise ValueError("tagged GTIDs aren't supported")
    by_source: dict[bytes, list[GtidRange]] = {}
    for one in ranges:
        by_source.setdefault(one.source.bytes, []).append(one)
    parts = [struct.pack("<Q", len(by_source))]
    for source, its in sorted(by_source.items()):
        parts.append(source + struct.pack("<Q", len(its)))
        parts.extend(
            struct.pack("<QQ", one.first, one.last + 1) for one in sorted(its, key=lambda r: r.first)
        )
    return b"".join(parts)
