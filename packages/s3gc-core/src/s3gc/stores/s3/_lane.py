"""Many small reads at once over connections of their own, all driven by one thread.

A request through urllib3 costs 0.4 ms of processor time and two hops between threads; here it is 0.04 ms
(measured side by side on loopback). In return only the plain case is understood: an answer 200 whose length
is declared and whose headers are beyond doubt. Whatever else happens, the lane says None, and the caller asks
again the careful way (:class:`~s3gc.stores.s3._client.Client`), which retries and explains. So only reads go
through it.
"""

from __future__ import annotations

import contextlib
import errno
import re
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache

from attrs import define, field

MOST_BYTES = 128 * 1024
"""Largest body that is read here; for larger ones the costs of a request don't count."""

GROUP_OBJECTS = 128
GROUP_BYTES = 4 * 1024 * 1024
"""Answers are handed over in groups: few hops between threads, and the host's loop isn't held up for long."""

_HEAD_BYTES = 64 * 1024
_RECEIVE_BYTES = 64 * 1024
_TICK = 0.25  # seconds between looks at deadlines and at stop()
_IDLE_SECONDS = 4.0  # AWS closes a connection after about 5 seconds without a request
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a header's name, RFC 9110, 5.6.2
_STATUS = re.compile(r"HTTP/1\.1 [0-9]{3}(?: .*)?")
_BUSY = frozenset({429, 500, 502, 503, 504})

Plain = tuple[dict[str, str], bytes]
"""Headers and body of an answer 200."""

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@lru_cache(1024)
def _name(raw: str) -> str | None:
    return raw.lower() if _TOKEN.fullmatch(raw) else None


def read_head(head: bytes) -> tuple[int, dict[str, str]] | None:
    """Status and headers of an answer, as the careful way reads them; None when anything is odd.

    Args:
        head: up to and without the empty line.
    """
    ends = head.count(b"\r\n")
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        return None
    first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    if not _STATUS.fullmatch(first):
        return None
    headers: dict[str, str] = {}
    for line in lines:
        raw, colon, value = line.partition(":")
        name = _name(raw)
        if not colon or name is None:
            return None  # a continued line (RFC 9112, 5.2) among them
        value = value.lstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(first[9:12]), headers


@define(eq=False)
class _Connection:
    """One connection, and the request on it."""

    socket: socket.socket
    address: object
    connected: bool = False
    secured: bool = False
    fresh: bool = True  # nothing was answered on it
    waits_for: int = _WRITE
    index: int = -1
    out: bytes = b""
    got: bytes = b""
    body_at: int = -1  # where the body begins in ``got``, once the head was read
    whole: int = 0  # bytes of head and body
    headers: dict[str, str] = field(factory=dict)
    until: float = 0.0  # monotonic: fails then


class Lane:
    """The connections to one server. May be used by several runs at once; each has its own of them."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        connections: int,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.connections = connections
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._idle: list[tuple[float, _Connection]] = []
        self._lock = threading.Lock()
        self._closed = False

    def run(self, count: int, request: Callable[[int], bytes | None]) -> Run:
        """Send ``count`` requests; ``request`` makes the bytes of each when its turn comes."""
        return Run(self, count, request)

    def take_idle(self, most: int) -> list[_Connection]:
        """Connections of earlier runs that the server has probably not closed yet."""
        with self._lock:
            idle, self._idle = self._idle, []
        young = time.monotonic() - _IDLE_SECONDS
        good = [one for since, one in idle if since >= young]
        for since, one in idle:
            if since < young:
                one.socket.close()
        self.keep_idle(good[most:])
        return good[:most]

    def keep_idle(self, connections: Sequence[_Connection]) -> None:
        """For the next run."""
        with self._lock:
            if not self._closed:
                now = time.monotonic()
                self._idle += [(now, one) for one in connections]
                return
        for one in connections:
            one.socket.close()

    def close(self) -> None:
        """Drop idle connections, and those in use when their run is over."""
        with self._lock:
            self._closed = True
        for one in self.take_idle(len(self._idle)):
            one.socket.close()


class Run:
    """Requests on their way. Call :meth:`group` until it returns nothing, from one thread at a time."""

    def __init__(self, lane: Lane, count: int, request: Callable[[int], bytes | None]) -> None:
        self._lane = lane
        self._request = request
        self._waiting = deque(range(count))
        self._again: set[int] = set()  # sent a second time, because an idle connection had been closed
        self._left = count
        self._window = lane.connections
        self._open: set[_Connection] = set()
        self._free: list[_Connection] = []
        self._connecting = 0
        self._next_look = 0.0  # monotonic: at the deadlines
        self._fresh = False  # no more connections of earlier runs
        self._addresses: list[tuple[int, int, int, object]] | None = None
        self._selector = selectors.DefaultSelector()
        self._done: list[tuple[int, Plain | None]] = []
        self._bytes = 0
        self._stopped = threading.Event()
        self._busy = threading.Lock()

    def group(self) -> Sequence[tuple[int, Plain | None]]:
        """The next answers, in the order in which they came. Blocks; empty at the end."""
        with self._busy:
            try:
                while self._left and not self._stopped.is_set():
                    self._fill()
                    if len(self._done) >= GROUP_OBJECTS or self._bytes >= GROUP_BYTES:
                        break
                    if self._left == len(self._done):
                        break
                    self._turn()
                if not self._stopped.is_set():
                    done, self._done, self._bytes = self._done, [], 0
                    self._left -= len(done)
                    if self._left:
                        return done
                    self._finish()
                    return done
            except BaseException:
                self._stopped.set()
                self._finish()
                raise
            self._finish()
            return ()

    @property
    def under_way(self) -> bool:
        """Whether it holds connections open."""
        return bool(self._open)

    def stop(self) -> None:
        """Give up what is under way. A thread in :meth:`group` notices within a quarter of a second."""
        self._stopped.set()
        if self._busy.acquire(blocking=False):
            try:
                self._finish()
            finally:
                self._busy.release()

    def _finish(self) -> None:
        for one in self._open:
            one.socket.close()
        self._open.clear()
        free, self._free = self._free, []
        self._lane.keep_idle(free)
        self._selector.close()
        self._left = 0

    # ------------------------------------------------------------------ requests

    def _fill(self) -> None:
        """Give each request a connection, as long as there may be more of them."""
        if not self._fresh:
            self._fresh = True
            self._free = self._lane.take_idle(self._window)
        while len(self._waiting) > self._connecting and len(self._open) < self._window:
            if self._free and self._waiting[0] not in self._again:
                self._send(self._free.pop())
            elif not self._connect():
                while self._waiting and not self._open:  # no server to be reached: the careful way tells why
                    self._settle(self._waiting.popleft(), None)
                return

    def _send(self, one: _Connection) -> None:
        """Put the next request on a connection that is ready for it."""
        while self._waiting:
            index = self._waiting.popleft()
            data = self._request(index)
            if data is None:
                self._settle(index, None)
                continue
            one.index, one.out, one.got, one.body_at = index, data, b"", -1
            one.until = time.monotonic() + self._lane.read_timeout
            if one not in self._open:
                self._open.add(one)
                self._selector.register(one.socket.fileno(), _READ, one)
                one.waits_for = _READ
            self._write(one)
            return
        self._rest(one)

    def _settle(self, index: int, answer: Plain | None) -> None:
        self._done.append((index, answer))
        if answer is not None:
            self._bytes += len(answer[1])

    def _turn(self) -> None:
        """Wait for the network once, and go on with whatever is ready."""
        for key, _ in self._selector.select(_TICK):
            one: _Connection = key.data
            try:
                self._go_on(one)
            except ssl.SSLWantReadError:
                self._wait_for(one, _READ)
            except ssl.SSLWantWriteError:
                self._wait_for(one, _WRITE)
            except BlockingIOError:
                pass
            except (OSError, ValueError):
                self._fail(one)
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _TICK
        for one in [one for one in self._open if one.until < now]:
            self._fail(one, again=False)

    def _go_on(self, one: _Connection) -> None:
        if not one.connected:
            if (number := one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                raise OSError(number, "no connection")
            one.connected = True
            if self._lane.tls is not None:
                one.socket = self._lane.tls.wrap_socket(
                    one.socket, server_hostname=self._lane.host, do_handshake_on_connect=False
                )
        if not one.secured:
            if isinstance(one.socket, ssl.SSLSocket):
                one.socket.do_handshake()
            one.secured = True
            self._connecting -= 1
            self._send(one)
        elif one.out:
            self._write(one)
        else:
            self._read(one)

    def _write(self, one: _Connection) -> None:
        try:
            sent = one.socket.send(one.out)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            sent = 0
        except OSError:
            self._fail(one)
            return
        one.out = one.out[sent:]
        self._wait_for(one, _WRITE if one.out else _READ)

    def _read(self, one: _Connection) -> None:
        secure = isinstance(one.socket, ssl.SSLSocket)
        while True:
            data = one.socket.recv(_RECEIVE_BYTES)
            if not data:
                raise OSError(errno.ECONNRESET, "closed")
            one.got = one.got + data if one.got else data
            one.until = time.monotonic() + self._lane.read_timeout
            if one.body_at < 0 and not self._read_head(one):
                return
            if one.body_at >= 0 and len(one.got) >= one.whole:
                self._answered(one)
                return
            if not secure:  # TLS hands over one record at a time, and more of them may be here
                return

    def _read_head(self, one: _Connection) -> bool:
        """Look for the head's end. False when the request is over: its answer isn't a plain one."""
        end = one.got.find(b"\r\n\r\n")
        if end < 0:
            if len(one.got) > _HEAD_BYTES:
                raise ValueError("a head without an end")
            return True
        read = read_head(one.got[:end])
        if read is None:
            raise ValueError("an odd head")
        status, headers = read
        length = headers.get("content-length", "")
        if status != 200 or "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
            if status in _BUSY:
                self._window = max(1, self._window // 2)
            raise ValueError("not a plain answer")
        if int(length) > MOST_BYTES:
            raise ValueError("too long for here")
        one.headers = headers
        one.body_at, one.whole = end + 4, end + 4 + int(length)
        return True

    def _answered(self, one: _Connection) -> None:
        if len(one.got) > one.whole:
            raise ValueError("more than was announced")
        index, one.index = one.index, -1
        one.fresh = False
        self._settle(index, (one.headers, one.got[one.body_at :]))
        if (
            one.headers.get("connection", "").lower() in ("", "keep-alive")
            and len(self._open) <= self._window
        ):
            self._send(one)
        else:
            self._drop(one)

    # ------------------------------------------------------------------ connections

    def _connect(self) -> bool:
        """Begin a connection to the next of the server's addresses. False when none is left."""
        if self._addresses is None:
            try:
                found = socket.getaddrinfo(self._lane.host, self._lane.port, type=socket.SOCK_STREAM)
            except OSError:
                found = []
            self._addresses = [(kind, type_, number, where) for kind, type_, number, _, where in found]
        while self._addresses:
            self._addresses.append(entry := self._addresses.pop(0))  # in turn
            kind, type_, number, where = entry
            made = None
            try:
                made = socket.socket(kind, type_, number)
                made.setblocking(False)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                code = made.connect_ex(where)  # type: ignore[arg-type]
                if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
                    raise OSError(code, "no connection")
            except OSError:
                if made is not None:
                    made.close()
                self._addresses.remove(entry)
                continue
            one = _Connection(made, entry, until=time.monotonic() + self._lane.connect_timeout)
            self._connecting += 1
            self._open.add(one)
            self._selector.register(made.fileno(), _WRITE, one)
            return True
        return False

    def _wait_for(self, one: _Connection, events: int) -> None:
        if one.waits_for != events and one in self._open:
            self._selector.modify(one.socket.fileno(), events, one)
            one.waits_for = events

    def _rest(self, one: _Connection) -> None:
        """Nothing to send: keep it for the next run."""
        if one in self._open:
            self._open.discard(one)
            self._selector.unregister(one.socket.fileno())
        self._free.append(one)

    def _drop(self, one: _Connection) -> None:
        if one in self._open:
            self._open.discard(one)
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(one.socket.fileno())
        one.socket.close()

    def _fail(self, one: _Connection, *, again: bool = True) -> None:
        self._drop(one)
        if not one.secured:  # this address leads nowhere; no request was on it
            self._connecting -= 1
            if self._addresses and one.address in self._addresses:
                self._addresses.remove(one.address)
            return
        index = one.index
        if index < 0:
            return
        if again and not one.fresh and not one.got and index not in self._again:
            # The server had closed the idle connection: once more, on a new one (RFC 9112, 9.3.1).
            self._again.add(index)
            self._waiting.appendleft(index)
            return
        self._settle(index, None)
