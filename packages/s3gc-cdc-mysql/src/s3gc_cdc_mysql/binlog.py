"""The binary log of MySQL and MariaDB: from bytes to events, and nothing that isn't understood goes by.

Checksums are verified where the server writes them (``binlog_checksum``). Of the rows, only the columns that
somebody asked for are decoded; the rows of other tables aren't looked at.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from s3gc_cdc_mysql._bytes import bits, packed, piece
from s3gc_cdc_mysql._compression import inflate_maria, inside, payload_events
from s3gc_cdc_mysql._control import PARSERS
from s3gc_cdc_mysql._rows import ReadRow, row_reader
from s3gc_cdc_mysql._tables import parse_names, parse_table
from s3gc_cdc_mysql.events import (
    BinlogError,
    Delete,
    Event,
    Format,
    Header,
    Image,
    Insert,
    Other,
    Rotate,
    Table,
    TableMap,
    Update,
)

Projection: TypeAlias = Callable[[Table], Sequence[int] | None]
"""Which columns of a table to decode, by index; ``None``: its rows are of no interest."""

HEADER: Final = struct.Struct("<IBIIIH")
_FORMAT = struct.Struct("<H50sIB")
_CHECKSUM = struct.Struct("<I")
_CACHED_TABLES = 4096

_FORMAT_DESCRIPTION, _TABLE_MAP, _PAYLOAD = 15, 19, 40
_INSERT, _UPDATE, _DELETE = range(3)
_ROWS: Final = {
    23: (_INSERT, 1, False), 24: (_UPDATE, 1, False), 25: (_DELETE, 1, False),
    30: (_INSERT, 2, False), 31: (_UPDATE, 2, False), 32: (_DELETE, 2, False),
    166: (_INSERT, 1, True), 167: (_UPDATE, 1, True), 168: (_DELETE, 1, True),
    169: (_INSERT, 2, True), 170: (_UPDATE, 2, True), 171: (_DELETE, 2, True),
}  # fmt: skip
"""Number of the type → what it does, its version, whether it is compressed (MariaDB)."""

_DUMMY_TABLE = 0xFFFFFF
_LAST_OF_STATEMENT = 1

_REFUSED: Final = {
    1: ("START_V3", "the server is older than MySQL 5.0"),
    6: ("LOAD", "the server is older than MySQL 5.0"),
    7: ("SLAVE", "the server is older than MySQL 5.0"),
    8: ("CREATE_FILE", "the server is older than MySQL 5.0"),
    10: ("EXEC_LOAD", "the server is older than MySQL 5.0"),
    12: ("NEW_LOAD", "the server is older than MySQL 5.0"),
    20: ("PRE_GA_WRITE_ROWS", "the server is older than MySQL 5.1"),
    21: ("PRE_GA_UPDATE_ROWS", "the server is older than MySQL 5.1"),
    22: ("PRE_GA_DELETE_ROWS", "the server is older than MySQL 5.1"),
    39: ("PARTIAL_UPDATE_ROWS", "set binlog_row_value_options = '' on the server"),
    42: ("GTID_TAGGED", "write transactions without tags in their GTIDs"),
    43: ("LARGE_TRANSACTION_HEADER", "this version of s3gc is too old for the server"),
}
"""Events that are known and not read, and what to do."""


class _Known:
    """A table whose rows may follow, and how its rows are read, by the columns that are present."""

    __slots__ = ("columns", "readers", "table")

    def __init__(self, table: Table, columns: tuple[int, ...] | None) -> None:
        self.table = table
        self.columns = columns
        self.readers: dict[bytes, ReadRow] = {}


class Decoder:
    """Decodes the events of one stream, in their order.

    Args:
        projection: asked once for each definition of a table that the log has.
        checksum: whether the first events end with a CRC32, before the log says so itself: what
            ``@@global.binlog_checksum`` isn't NONE means.
    """

    def __init__(self, projection: Projection, *, checksum: bool) -> None:
        self._projection = projection
        self._checksum = checksum
        self._mariadb = False
        self._known: dict[int, _Known] = {}
        self._cache: dict[bytes, _Known] = {}

    @property
    def checksum(self) -> bool:
        """Whether events are verified by their CRC32."""
        return self._checksum

    def decode(self, packet: bytes) -> Iterable[Event]:
        """The events that one event of the stream is: one, none (rows of no interest), or, in a compressed
        transaction of MySQL, many, which are decoded while they are taken.

        Raises:
            BinlogError: it is damaged, or of a kind or a form that isn't known. The stream can't be followed
                any further.
        """
        try:
            header = Header._make(HEADER.unpack_from(packet))
        except struct.error:
            raise BinlogError(f"the server sent an event of {len(packet)} bytes") from None
        if header.size != len(packet):
            raise BinlogError(f"an event of {len(packet)} bytes says that it has {header.size}")
        try:
            if header.type == _FORMAT_DESCRIPTION:
                return (self._format(header, packet),)
            if self._checksum:
                body = packet[19:-4]
                [expected] = _CHECKSUM.unpack_from(packet, len(packet) - 4)
                if zlib.crc32(memoryview(packet)[:-4]) != expected:
                    raise ValueError("its checksum is wrong: it is damaged")
            else:
                body = packet[19:]
            return self._event(header, body)
        except (ValueError, IndexError, struct.error) as error:
            raise _problem(header, error) from error

    def _event(self, header: Header, body: bytes) -> Iterable[Event]:
        kind = header.type
        if kind in _ROWS:
            return self._rows(header, body)
        if kind == _TABLE_MAP:
            return (self._table_map(header, body),)
        parse = PARSERS.get(kind)
        if parse is not None:
            event = parse(header, body)
            if type(event) is Rotate:
                self._known.clear()
            return (event,)
        if kind == _PAYLOAD:
            return self._payload(header, body)
        raise _unknown(kind)

    def _format(self, header: Header, packet: bytes) -> Event:
        version, server, created, header_size = _FORMAT.unpack_from(packet, HEADER.size)
        # A list of sizes by type follows, then a byte for the kind of checksum, and always a checksum.
        kind = packet[-5]
        if version != 4 or header_size != HEADER.size:
            raise ValueError(f"a log of version {version} with heads of {header_size} bytes")
        if kind not in (0, 1):
            raise ValueError(f"checksums of the kind {kind}, which isn't known")
        # With the kind 0 the checksum is that of the file, which servers change on the way. But were it right
        # for the kind 1, the kind itself is what is damaged.
        as_one = packet[:-5] + b"\1"
        if (zlib.crc32(as_one) == _CHECKSUM.unpack_from(packet, len(packet) - 4)[0]) != bool(kind):
            raise ValueError("its checksum is wrong: it is damaged")
        name = server.rstrip(b"\0").decode()
        self._checksum = bool(kind)
        self._known.clear()
        if self._mariadb != ("mariadb" in name.lower()):
            self._mariadb = not self._mariadb
            self._cache.clear()
        return Format(header, name, version, created, self._checksum)

    # ------------------------------------------------------------------ rows

    def _table_map(self, header: Header, body: bytes) -> Event:
        number = int.from_bytes(body[:6], "little")
        text = body[6:]
        known = self._cache.get(text)
        if known is None:
            table, problem = self._table(text)
            chosen = self._projection(table)
            if chosen is not None and problem is not None:
                raise ValueError(f"{table.database}.{table.name}: {problem}") from problem
            if chosen is not None and any(not 0 <= column < len(table.columns) for column in chosen):
                raise ValueError(f"{table.database}.{table.name} hasn't all the columns that are asked for")
            known = _Known(table, None if chosen is None else tuple(sorted(set(chosen))))
            if len(self._cache) >= _CACHED_TABLES:
                self._cache.clear()
            self._cache[text] = known
        self._known[number] = known
        return TableMap(header, number, known.table)

    def _table(self, text: bytes) -> tuple[Table, ValueError | None]:
        """A table, without its columns if they can't be read: that matters to those only who ask for it."""
        try:
            return parse_table(text, mariadb=self._mariadb), None
        except ValueError as error:
            return parse_names(text), error

    def _rows(self, header: Header, body: bytes) -> Iterable[Event]:
        does, version, compressed = _ROWS[header.type]
        number = int.from_bytes(body[:6], "little")
        last = bool(body[6] & _LAST_OF_STATEMENT)
        at = 8
        if version == 2:
            more = body[8] | body[9] << 8
            if more < 2:
                raise ValueError(f"{more} bytes of further data, of which two are their length")
            at += more
        known = self._known.get(number)
        if known is None:
            if number == _DUMMY_TABLE and last:
                self._known.clear()
                return (Other(header, "END_OF_STATEMENT"),)
            raise ValueError("rows of a table that the log hasn't described")
        if last:
            self._known.clear()  # as servers do: the next statement describes its tables itself
        if known.columns is None:
            return ()
        table = known.table
        count, at = packed(body, at)
        if count != len(table.columns):
            raise ValueError(f"rows of {count} columns for a table that has {len(table.columns)}")
        size = (count + 7) // 8
        present, at = piece(body, at, size)
        after = present
        if does == _UPDATE:
            after, at = piece(body, at, size)
        if not any(present):
            raise ValueError(f"{table.database}.{table.name}: rows without any column")
        try:
            read = self._reader(known, present)
            data = inflate_maria(body[at:]) if compressed else body
            at = 0 if compressed else at
            if does == _UPDATE:
                pairs = _read_pairs(read, self._reader(known, after), data, at)
                return (Update(header, table, known.columns, last, pairs),)
            rows = _read_rows(read, data, at)
        except (ValueError, IndexError, struct.error) as error:
            raise ValueError(f"{table.database}.{table.name}: {error}") from error
        made = Insert if does == _INSERT else Delete
        return (made(header, table, known.columns, last, rows),)

    def _reader(self, known: _Known, present: bytes) -> ReadRow:
        read = known.readers.get(present)
        if read is None:
            assert known.columns is not None
            mask = bits(present, len(known.table.columns))
            read = known.readers[present] = row_reader(known.table, mask, known.columns)
        return read

    # ------------------------------------------------------------------ compressed transactions

    def _payload(self, header: Header, body: bytes) -> Iterator[Event]:
        try:
            for packet in payload_events(body, HEADER.size):
                inner = inside(Header._make(HEADER.unpack_from(packet)), header)
                if inner.type in (_FORMAT_DESCRIPTION, _PAYLOAD):
                    raise ValueError(f"an event of the type {inner.type} within a compressed transaction")
                try:
                    yield from self._event(inner, packet[HEADER.size :])
                except (ValueError, IndexError, struct.error) as error:
                    raise _problem(inner, error) from error
        except (ValueError, IndexError, struct.error) as error:
            raise _problem(header, error) from error


def _read_rows(read: ReadRow, data: bytes, at: int) -> list[Image]:
    rows = []
    end = len(data)
    while at < end:
        row, at = read(data, at)
        rows.append(row)
    if at != end:
        raise ValueError("the rows don't end where their event does")
    return rows


def _read_pairs(before: ReadRow, after: ReadRow, data: bytes, at: int) -> list[tuple[Image, Image]]:
    pairs = []
    end = len(data)
    while at < end:
        old, at = before(data, at)
        new, at = after(data, at)
        pairs.append((old, new))
    if at != end:
        raise ValueError("the rows don't end where their event does")
    return pairs


def _unknown(kind: int) -> BinlogError:
    name, advice = _REFUSED.get(kind, (str(kind), "this version of s3gc is too old for the server"))
    return BinlogError(
        f"the log has an event of the type {name}, which isn't read, so changes could be missed: {advice}"
    )


def _problem(header: Header, error: Exception) -> BinlogError:
    if isinstance(error, BinlogError):
        return error
    where = f" that ends at {header.next_position}" if header.next_position else ""
    return BinlogError(f"the event of the type {header.type}{where} can't be read: {error}")
