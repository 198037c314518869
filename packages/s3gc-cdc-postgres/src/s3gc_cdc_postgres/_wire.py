"""The replication protocol over a connection that asyncpg has opened.

asyncpg speaks no replication, but it opens connections of every kind (TLS, SCRAM, several hosts, sockets),
and a walsender is one more parameter at its start. From there on the transport is ours. ``_transport`` is the
one private name that is used; a test stands guard over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections import deque
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from s3gc.errors import SourceError

HIGH_BYTES, LOW_BYTES = 8 * 1024 * 1024, 2 * 1024 * 1024
"""Reading pauses when so much waits to be taken, and goes on below the second."""

STATUS_SECONDS = 5.0
"""The server hears from us so often, however long the registry takes (``wal_sender_timeout`` is a minute)."""

_EPOCH = 946_684_800  # seconds from 1970 to 2000
_STATUS = struct.Struct("!cIcqqqqB")
_KEEPALIVE = struct.Struct("!qqB")


class ServerError(Exception):
    """The server refused, with its own code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConnectionLost(Exception):
    """The connection ended, for whatever reason: one may connect again."""


class ReplicationConnection(asyncio.Protocol):
    """One walsender. All of it runs on one asyncio loop.

    Received are the payloads of XLogData as bytes, and the positions of keepalives as numbers.
    """

    def __init__(self) -> None:
        self._connection: Any = None  # holds asyncpg's connection, which must not be collected
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []  # of a message that isn't whole yet
        self._have = 0
        self._need = 5
        self._queue: deque[bytes | int] = deque()
        self._queued = 0
        self._paused = False
        self._changed = asyncio.Event()
        self._rows: list[list[str | None]] = []
        self._error: Exception | None = None
        self._ready = False
        self._streaming = False
        self._lost = asyncio.Event()
        self._seen = 0
        self._resting = self._asked = self._closing = False
        self.confirmed = 0
        """Position up to which the server may forget; 0 leaves it as it is."""
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ life

    @classmethod
    async def connect(cls, dsn: str, settings: dict[str, str], timeout: float) -> ReplicationConnection:
        """A new connection in replication mode.

        Raises:
            OSError, asyncpg's errors: it can't be had.
        """
        self = cls()
        connection = await asyncpg.connect(
            dsn,
            timeout=timeout,
            statement_cache_size=0,
            server_settings={**settings, "replication": "database"},
        )
        self._connection = connection
        self._transport = connection._transport
        self._transport.set_protocol(self)
        return self

    async def close(self) -> None:
        """End streaming and the connection; waits a moment so that the slot is free for the next."""
        if self._timer is not None:
            self._timer.cancel()
        transport = self._transport
        if transport is not None and not self._lost.is_set():
            if self._paused:
                transport.resume_reading()
            self._queue.clear()
            self._queued = 0
            self._closing = True  # what comes from here on is thrown away
            self._send_status()
            self._leave()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), 2)
        if self._connection is not None:
            self._connection.terminate()

    @property
    def alive(self) -> bool:
        return not self._lost.is_set() and self._error is None

    # ------------------------------------------------------------------ questions

    async def query(self, sql: str) -> list[list[str | None]]:
        """The rows of one command of the replication protocol, as texts.

        Raises:
            ServerError: the server refused it.
            ConnectionLost: the connection ended.
        """
        self._rows, self._ready, self._error = [], False, None
        self._write(b"Q", sql.encode() + b"\0")
        while not self._ready and self._error is None:
            await self._wait()
        if self._error is not None:
            raise self._error
        return self._rows

    async def start(self, slot: str, publication: str, lsn: int) -> None:
        """Begin to stream from a position.

        Raises:
            ServerError: the server refused it.
            ConnectionLost: the connection ended.
        """
        names = '"' + publication.replace('"', '""') + '"'
        options = (
            f"proto_version '1', publication_names '{names.replace(chr(39), chr(39) * 2)}', messages 'true'"
        )
        await self.query(
            f'START_REPLICATION SLOT "{slot}" LOGICAL {lsn >> 32:X}/{lsn & 0xFFFFFFFF:X} ({options})'
        )
        if not self._streaming:
            raise SourceError("the server didn't begin to stream changes")
        self._send_status()
        self._tick()

    async def take(self) -> list[bytes | int]:
        """All that has come, in order; waits for the first.

        Raises:
            ServerError: the server ended it with an error.
            ConnectionLost: the connection ended.
        """
        while not self._queue:
            if self._error is not None:
                raise self._error
            await self._wait()
        taken = list(self._queue)
        self._queue.clear()
        self._queued = 0
        if self._paused and self._transport is not None and not self._lost.is_set():
            self._paused = False
            self._transport.resume_reading()
        return taken

    def rest(self, resting: bool) -> None:
        """Whether nobody waits for changes at this moment.

        A server that is told to stop waits until its streams have confirmed all, which we don't, and asks for
        it; otherwise it has no reason to ask, for it hears from us often. A resting stream ends itself then.
        """
        self._resting = resting
        if resting and self._asked:
            self._leave()

    def _leave(self) -> None:
        if self._transport is not None and not self._lost.is_set():
            if self._streaming:
                self._transport.write(b"c\0\0\0\4")
                self._streaming = False
            self._transport.write(b"X\0\0\0\4")
            self._error = ConnectionLost("the server wants to stop")

    def confirm(self, lsn: int) -> None:
        """The server may forget what lies before a position."""
        if lsn > self.confirmed:
            self.confirmed = lsn
            if self._streaming and not self._lost.is_set():
                self._send_status()

    async def _wait(self) -> None:
        if self._lost.is_set() and self._error is None and not self._queue:
            raise ConnectionLost("the server closed the connection")
        self._changed.clear()
        await self._changed.wait()

    # ------------------------------------------------------------------ asyncio's protocol

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        if self._error is None:
            self._error = ConnectionLost(f"the connection to the server ended{f': {exc}' if exc else ''}")
        self._changed.set()

    def data_received(self, data: bytes) -> None:
        self._have += len(data)
        if self._parts:
            self._parts.append(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts = []
        at, size = 0, len(data)
        while size - at >= 5:
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
            if end > size:
                self._need = end - at
                break
            if data[at] == 0x64:
                self._copied(data, at + 5, end)
            else:
                self._told(data[at : at + 1], data[at + 5 : end])
            at = end
        else:
            self._need = 5
        self._have = size - at
        if self._have:
            self._parts = [data[at:]]
        self._changed.set()
        if self._queued > HIGH_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _copied(self, data: bytes, at: int, end: int) -> None:
        kind = data[at]
        if self._closing:
            return
        if kind == 0x77:
            self._asked = False
            self._queue.append(data[at + 25 : end])
            self._queued += end - at
        elif kind == 0x6B:
            lsn, _, reply = _KEEPALIVE.unpack_from(data, at + 1)
            self._seen = max(self._seen, lsn)
            if not (self._queue and type(self._queue[-1]) is int):
                self._queue.append(lsn)
            else:
                self._queue[-1] = lsn
            self._asked = bool(reply)
            if reply:
                self._send_status()
                if self._resting:
                    self._leave()
        else:
            self._error = SourceError(f"the server streams what isn't known: {data[at : at + 1]!r}")

    def _told(self, kind: bytes, body: bytes) -> None:
        if kind == b"D":
            self._rows.append(_row(body))
        elif kind == b"E":
            fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
            self._error = ServerError(fields.get(b"C", ""), fields.get(b"M", "an error without a message"))
        elif kind == b"W":
            self._streaming = self._ready = True
        elif kind == b"Z":
            self._ready = True
            self._streaming = False
        elif kind == b"c":
            self._streaming = False
            self._error = ConnectionLost("the server ended the stream")
        elif kind not in (b"T", b"C", b"N", b"S", b"K", b"H"):
            self._error = SourceError(f"the server answers what isn't known: {kind!r}")

    # ------------------------------------------------------------------ sending

    def _tick(self) -> None:
        self._send_status()
        self._timer = asyncio.get_running_loop().call_later(STATUS_SECONDS, self._tick)

    def _send_status(self) -> None:
        if self._transport is None or self._lost.is_set() or not self._streaming:
            return
        now = int((time.time() - _EPOCH) * 1_000_000)
        flushed = self.confirmed
        self._transport.write(
            _STATUS.pack(b"d", 38, b"r", max(self._seen, flushed), flushed, flushed, now, 0)
        )

    def _write(self, kind: bytes, body: bytes) -> None:
        if self._transport is None or self._lost.is_set():
            raise ConnectionLost("the connection is closed")
        self._transport.write(kind + struct.pack("!I", 4 + len(body)) + body)


def _row(body: bytes) -> list[str | None]:
    count = int.from_bytes(body[:2], "big")
    at = 2
    row: list[str | None] = []
    for _ in range(count):
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        if length < 0:
            row.append(None)
        else:
            row.append(body[at : at + length].decode())
            at += length
    return row
