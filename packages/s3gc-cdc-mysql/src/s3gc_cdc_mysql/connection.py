"""The stream of a binary log, over a connection that aiomysql has opened.

aiomysql speaks no replication, but it opens connections of every kind (TLS, sockets, all ways to log in).
Its private names that are used here: ``_connect``, to close what is cancelled in the middle of it,
``_execute_command`` and ``_read_packet`` for commands that it hasn't,
``_reader`` for what comes then, ``_writer`` for acknowledgements and to see that TLS was not left out,
``_next_seq_id`` for the numbers of packets. A test stands guard over them.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import aiomysql  # type: ignore[import-untyped]

from s3gc.errors import SourceError
from s3gc_cdc_mysql._commands import REGISTER, FilePosition, MariadbState, MysqlSet, Start, dump, register
from s3gc_cdc_mysql.failures import (
    ConnectionLost,
    EndOfLog,
    LogUnreadable,
    SameServerId,
    ServerError,
    refusal,
    translated,
)

__all__ = [
    "BinlogStream",
    "ConnectionLost",
    "EndOfLog",
    "FilePosition",
    "LogUnreadable",
    "MariadbState",
    "MysqlSet",
    "SameServerId",
    "ServerError",
    "Start",
]

READ_BYTES: Final = 256 * 1024
"""Most bytes that are taken from the network at a time."""

QUIET_SECONDS: Final = 30.0
"""A connection may be silent for so long: MariaDB sends nothing while it looks for a GTID in a large file."""

WRITE_TIMEOUT: Final = 86_400
"""Seconds that the server waits for a reader that is busy (``net_write_timeout``, a minute by itself)."""

_LONGEST = 0xFFFFFF
_DENIED = frozenset({1045, 1142, 1227})  # MariaDB says the first of a command, too
_SEMI_SYNC = 0xEF


class BinlogStream:
    """One connection of a reader of the log. All of it runs on one asyncio loop.

    First it answers :meth:`query`; after :meth:`start` it has only events, which :meth:`take` hands over.
    """

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._silence: float | None = None
        self._parts: list[bytes] = []  # of a packet that isn't whole yet
        self._have = self._need = 0
        self._long: list[bytes] = []  # the parts of one that is longer than a packet may be
        self._sequence = 0
        self._ended: Exception | None = None
        self._waiting: deque[bytes] = deque()
        self._semi_sync: bool | None = False
        self._file = ""
        self.version: str = connection.get_server_info()
        """As the server tells it, with MariaDB's prefix taken off."""
        self.mariadb = "mariadb" in self.version.lower()
        if self.mariadb:
            self.version = self.version.removeprefix("5.5.5-")
        self.checksum = False
        """Whether the first events have a checksum, to tell :class:`~s3gc_cdc_mysql.binlog.Decoder`."""

    # ------------------------------------------------------------------ life

    @classmethod
    async def connect(cls, settings: Mapping[str, Any], *, timeout: float) -> BinlogStream:
        """A new connection.

        Args:
            settings: arguments of :func:`aiomysql.connect` (``host``, ``port``, ``unix_socket``, ``user``,
                ``password``, ``ssl``, …).
            timeout: seconds for the connection, and for each answer before :meth:`start`.

        Raises:
            ServerError: the server refused it.
            ConnectionLost: it can't be reached.
            SourceError: TLS was asked for, and the server has none.
        """
        settings = {"charset": "utf8mb4", "autocommit": True, **settings}
        # Not aiomysql.connect(), which leaves the connection open when it is cancelled.
        connection = aiomysql.Connection(**settings)
        try:
            async with asyncio.timeout(timeout):
                await connection._connect()
        except aiomysql.Error as error:
            raise translated(error) from error
        except TimeoutError as error:
            connection.close()
            raise ConnectionLost(f"the server didn't answer within {timeout:g} seconds") from error
        except BaseException:
            connection.close()
            raise
        if isinstance(settings.get("ssl"), ssl.SSLContext) and not encrypted(connection):
            connection.close()
            raise SourceError("TLS was asked for, and the server doesn't offer it")
        return cls(connection, timeout)

    async def close(self) -> None:
        """End the connection. May be called at any time, and again; what was not taken is thrown away."""
        self._waiting.clear()
        self._long.clear()
        self._parts.clear()
        if self._ended is None:
            self._ended = ConnectionLost("the connection was closed")
        self._connection.close()
        # The transport tells its end on the loop's next turn; until then it would be reported as unclosed.
        await asyncio.sleep(0)

    @property
    def alive(self) -> bool:
        return self._ended is None

    # ------------------------------------------------------------------ questions

    async def query(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """The rows that the server answers, before :meth:`start`.

        Raises:
            ServerError: the server refused it.
            ConnectionLost: the connection ended, or there was no answer in time.
        """
        if self._ended is not None:
            raise self._ended
        try:
            async with asyncio.timeout(self._timeout), self._connection.cursor() as cursor:
                await cursor.execute(sql, arguments or None)
                return list(await cursor.fetchall() or ())
        except aiomysql.Error as error:
            raise self._translate(error) from error
        except TimeoutError as error:
            raise await self._late() from error
        except asyncio.CancelledError:
            await self.close()  # an answer would come that nobody waits for
            raise

    async def start(
        self,
        server_id: int,
        start: Start,
        *,
        heartbeat: float,
        uuid: str | None = None,
        name: str = "s3gc",
        semi_sync: bool = False,
        blocking: bool = True,
    ) -> None:
        """Ask for the log from a position.

        Whether the server has it shows with the first :meth:`take`.

        Args:
            server_id: must differ from that of every server and every other reader.
            heartbeat: seconds of silence after which the server is to say that it is there. After three times
                as long, and half a minute, the connection is taken for lost.
            uuid: what MySQL knows readers apart by.
            name: what ``SHOW SLAVE HOSTS`` tells of the reader.
            semi_sync: acknowledge events when the server asks. Only for servers that send to nobody else: the
                server takes what is acknowledged for safe, and a reader keeps nothing.
            blocking: wait at the log's end for more; otherwise the stream ends there with :class:`EndOfLog`.

        Raises:
            ServerError: the server refused it.
            ConnectionLost: the connection ended, or there was no answer in time.
            TypeError: the server has no such positions.
        """
        if isinstance(start, MysqlSet if self.mariadb else MariadbState):
            raise TypeError(f"{type(start).__name__} isn't a position of this server")
        await self.query(f"SET @@session.net_write_timeout = {WRITE_TIMEOUT}")
        await self.query(
            "SET @master_binlog_checksum = @@global.binlog_checksum,"
            " @source_binlog_checksum = @@global.binlog_checksum"
        )
        [[checksum]] = await self.query("SELECT @master_binlog_checksum")
        self.checksum = str(checksum).upper() not in ("NONE", "0")
        nanoseconds = int(heartbeat * 1_000_000_000)
        await self.query(
            f"SET @master_heartbeat_period = {nanoseconds}, @source_heartbeat_period = {nanoseconds}"
        )
        if uuid is not None:
            await self.query("SET @slave_uuid = %s, @replica_uuid = %s", uuid, uuid)
        if self.mariadb:
            await self.query(
                "SET @mariadb_slave_capability = 4,"
                " @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0"
            )
            if isinstance(start, MariadbState):
                await self.query("SET @slave_connect_state = %s", start.gtids)
        if semi_sync:
            await self.query("SET @rpl_semi_sync_slave = 1, @rpl_semi_sync_replica = 1")
        self._semi_sync = None if semi_sync else False
        try:
            await self._command(REGISTER, register(server_id, name))
        except ServerError as error:
            if error.code not in _DENIED:
                raise
            message = f"GRANT REPLICATION SLAVE ON *.* TO the user that reads the log: {error.message}"
            raise ServerError(error.code, message) from error
        try:
            await self._connection._execute_command(*dump(server_id, start, blocking=blocking))
        except aiomysql.Error as error:
            raise self._translate(error) from error
        self._sequence = self._connection._next_seq_id
        self._silence = max(3 * heartbeat, QUIET_SECONDS)

    async def _command(self, command: int, body: bytes) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._connection._execute_command(command, body)
                await self._connection._read_packet()
        except aiomysql.Error as error:
            raise self._translate(error) from error
        except TimeoutError as error:
            raise await self._late() from error
        except asyncio.CancelledError:
            await self.close()
            raise

    # ------------------------------------------------------------------ the stream

    async def take(self) -> list[bytes]:
        """The events that have come, each as it is in the log; waits for the first.

        May be cancelled, and called again: nothing is lost.

        Raises:
            ServerError: the server ended it with an error.
            EndOfLog: all was sent, and it shouldn't wait for more.
            ConnectionLost: the connection ended, or nothing came for three heartbeats and half a minute.
        """
        while True:
            if self._ended is not None and not self._waiting:
                raise self._ended
            events: list[bytes] = []
            if self._waiting:
                events.extend(self._waiting)
                self._waiting.clear()
                return events
            self._split(await self._read())

    async def _read(self) -> bytes:
        reader = self._connection._reader
        if reader is None:
            raise await self._lost("the connection was closed")
        try:
            async with asyncio.timeout(self._silence):
                data: bytes = await reader.read(READ_BYTES)
        except TimeoutError as error:
            raise await self._lost("the server sent no heartbeat: nobody is there any more") from error
        except OSError as error:
            raise await self._lost(f"the connection to the server ended: {error}") from error
        if not data:
            raise await self._lost("the server closed the connection")
        return data

    def _split(self, data: bytes) -> None:
        """Whole packets become events; the beginning of one waits for the rest."""
        self._have += len(data)
        if self._parts:
            self._parts.append(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        at, end = 0, len(data)
        self._need = 4
        while end - at >= 4:
            size = data[at] | data[at + 1] << 8 | data[at + 2] << 16
            start, stop = at + 4, at + 4 + size
            if stop > end:
                self._need = stop - at
                break
            if data[at + 3] != self._sequence:
                self._end(ConnectionLost("the server sent a packet out of order"))
                return
            self._sequence = self._sequence + 1 & 0xFF
            at = stop
            if size == _LONGEST:
                self._long.append(data[start:stop])
            elif self._long:
                whole = b"".join([*self._long, data[start:stop]])
                self._long.clear()
                self._packet(whole, 0, len(whole))
            else:
                self._packet(data, start, stop)
            if self._ended is not None:
                return
        self._have = end - at
        if self._have:
            self._parts.append(data[at:])

    def _packet(self, data: bytes, start: int, stop: int) -> None:
        kind = data[start] if stop > start else -1
        if kind == 0:
            if self._semi_sync is None:  # the first event's time is zero; what the server asks is not
                self._semi_sync = stop > start + 2 and data[start + 1] == _SEMI_SYNC
            if not self._semi_sync:
                self._waiting.append(data[start + 1 : stop])
                return
            event = data[start + 3 : stop]
            self._waiting.append(event)
            self._follow(event)
            if data[start + 2]:
                self._acknowledge(event)
        elif kind == 0xFF:
            code = data[start + 1] | data[start + 2] << 8
            text = data[start + 3 : stop].decode("utf-8", "replace")
            if text.startswith("#"):
                text = text[6:]
            self._end(refusal(code, text))
        elif kind == 0xFE and stop - start < 9:
            self._end(EndOfLog("the server has sent all of its log"))
        else:
            self._end(ConnectionLost("the server sent what is no event"))

    def _follow(self, event: bytes) -> None:
        """The file's name, which an acknowledgement must have: rotations tell it."""
        if len(event) > 27 and event[4] == 4:
            self._file = event[27 : -4 if self.checksum else None].decode("utf-8", "replace")

    def _acknowledge(self, event: bytes) -> None:
        position = int.from_bytes(event[13:17], "little")
        body = struct.pack("<BQ", _SEMI_SYNC, position) + self._file.encode()
        self._connection._writer.write(len(body).to_bytes(3, "little") + b"\0" + body)
        self._sequence = 1  # both sides begin to count anew: this packet was the first

    # ------------------------------------------------------------------ ends

    def _end(self, error: Exception) -> None:
        self._ended = error
        self._connection.close()

    async def _lost(self, why: str) -> Exception:
        self._end(ConnectionLost(why))
        await asyncio.sleep(0)
        assert self._ended is not None
        return self._ended

    async def _late(self) -> Exception:
        return await self._lost(f"the server didn't answer within {self._timeout:g} seconds")

    def _translate(self, error: Exception) -> Exception:
        found = translated(error)
        if isinstance(found, ConnectionLost):
            self._end(found)
        return found


def encrypted(connection: Any) -> bool:
    """Whether it is: aiomysql goes on in plain text where the server has no TLS, whatever was asked for."""
    return connection._writer.transport.get_extra_info("ssl_object") is not None
