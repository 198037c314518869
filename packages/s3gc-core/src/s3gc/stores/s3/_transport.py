"""One request and its answer, in the thread of the caller. No retries here."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import IO

import botocore.httpsession
import urllib3
import urllib3.exceptions as faults
from attrs import Factory, frozen

from s3gc.clock import Clock
from s3gc.errors import AmbiguousKey, StoreError
from s3gc.stores.s3._address import Address
from s3gc.stores.s3._credentials import CredentialSource
from s3gc.stores.s3._lane import Lane, Run
from s3gc.stores.s3._options import S3Options
from s3gc.stores.s3._pool import open_pool, proxy_for
from s3gc.stores.s3._quick import QuickReads
from s3gc.stores.s3._signing import EMPTY_SHA256, Signer, encode_key, encode_query

MAX_ERROR_BYTES = 1024 * 1024
"""Most bytes that are read of an answer that tells of an error."""


MOVED = frozenset({301, 307, 400})
"""Answers that may say that the bucket is elsewhere; what was asked for was not done."""

_NOT_SENT = (
    faults.NewConnectionError,
    faults.ConnectTimeoutError,
    faults.EmptyPoolError,
    faults.ProxyError,  # urllib3 raises it only while there is no connection through the proxy
)


LANE_CONNECTIONS = 3
"""Small reads at once, in multiples of ``max_connections``: they cost no threads. At 20 ms a request 192 of
them keep one processor busy."""


class NotSent(Exception):
    """No connection: the request can't have reached the server."""


class Lost(Exception):
    """The request may have reached the server, and there is no usable answer."""


@frozen
class Body:
    """Bytes to send, hashed beforehand. ``source`` is bytes or a file to be read from its start."""

    source: bytes | IO[bytes]
    size: int
    sha256: str  # hex
    md5: str  # base64, as Content-MD5 wants it
    md5_hex: str


@frozen
class Call:
    """A request as data. ``key`` None means the bucket itself."""

    method: str
    key: str | None = None
    query: tuple[tuple[str, str | None], ...] = ()
    headers: Mapping[str, str] = Factory(dict)  # lower-case names, values as text
    body: Body | None = None
    most: int | None = None  # bytes of a good answer's body to read at once; None: all


class Rest:
    """What is still to come of a body. Close it, or read it to its end."""

    def __init__(self, response: urllib3.BaseHTTPResponse, left: int) -> None:
        self._response = response
        self.left = left

    def read(self, most: int) -> bytes:
        """At least one byte, at most ``most``.

        Raises:
            Lost: the body ended early, or nothing came in time.
        """
        try:
            data = self._response.read(min(most, self.left))
        except (faults.HTTPError, OSError) as error:
            self.close()
            raise Lost(_plain(error)) from error
        if not data:
            self.close()
            raise Lost(f"the body ended {self.left} bytes early")
        self.left -= len(data)
        if self.left == 0:
            self._finish()
        return data

    def _finish(self) -> None:
        try:
            self._response.read()  # lets urllib3 see the end, so that the connection can be used again
        except (faults.HTTPError, OSError):
            self.close()
            return
        self._response.release_conn()

    def close(self) -> None:
        """Drop the connection: what is left on it must not be read as another answer."""
        self._response.close()


@frozen
class Answer:
    """An answer. ``body`` is its beginning when ``rest`` is there, else all of it."""

    status: int
    headers: Mapping[str, str]  # lower-case names; values as text, see :func:`header_text`
    body: bytes
    rest: Rest | None = None


def header_text(raw: str) -> str:
    """A header's value as http.client gives it (bytes as Latin-1) read as UTF-8.

    What isn't UTF-8 keeps its bytes as lone surrogates, for the caller to notice.
    """
    return raw.encode("latin-1").decode("utf-8", "surrogateescape")


def _plain(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


@frozen(eq=False)
class _Route:
    """Where requests go, and how they are signed there."""

    address: Address
    signer: Signer
    pool: urllib3.HTTPConnectionPool
    lane: Lane
    is_straight: bool  # no proxy

    @classmethod
    def open(
        cls,
        options: S3Options,
        max_connections: int,
        ca_bundle: str | None,
        address: Address,
        signer: Signer,
    ) -> _Route:
        trusted = ca_bundle or str(botocore.httpsession.get_cert_path(True))
        proxy = proxy_for(address)
        lane = Lane(
            address.host,
            address.port,
            ssl.create_default_context(cafile=trusted) if address.scheme == "https" else None,
            connections=LANE_CONNECTIONS * max_connections,
            connect_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
        )
        pool = open_pool(address, proxy, options, max_connections, trusted)
        return cls(address, signer, pool, lane, proxy is None)

    def close(self) -> None:
        self.pool.close()
        self.lane.close()


class Transport:
    """A pool of connections to one bucket. Every method may be called from several threads."""

    def __init__(
        self,
        address: Address,
        signer: Signer,
        credentials: CredentialSource,
        options: S3Options,
        clock: Clock,
        max_connections: int,
        ca_bundle: str | None,
        *,
        every: Mapping[str, str] | None = None,
        relocated: Callable[[Answer], tuple[Address, Signer] | None] | None = None,
    ) -> None:
        """
        Args:
            every: headers of every request.
            relocated: where the bucket really is, if an answer tells. Called under a lock.
        """
        self._every = dict(every or {})
        self._relocated = relocated
        self._open = partial(_Route.open, options, max_connections, ca_bundle)
        self._moving = threading.Lock()
        self._route = self._open(address, signer)
        self._credentials = credentials
        self._clock = clock
        self._options = options
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()
        self._route.close()

    def run(self, wanted: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Run | None:
        """Read many small objects over connections of their own, without retries; None behind a proxy.

        Args:
            wanted: of each its key, and its ETag as If-Match wants it.
            headers: what all these requests have besides.
        """
        route = self._route
        if not route.is_straight:
            return None
        common = self._headers(Call("GET", headers=headers), route.address)
        reads = QuickReads(
            route.address.base, route.signer, common, self._credentials.current, self._clock.now
        )

        def request(index: int) -> bytes | None:
            if self._closed.is_set():
                raise StoreError("the store is closed: open a new one")
            return reads.request(*wanted[index])

        return route.lane.run(len(wanted), request)

    def send(self, call: Call) -> Answer:
        """Send ``call`` once; once more where the answer says that the bucket is elsewhere.

        Raises:
            NotSent, Lost: there is no answer.
            AccessDenied, StoreError: there are no credentials, the store is closed, the certificate is wrong.
        """
        if self._closed.is_set():
            raise StoreError("the store is closed: open a new one")
        if call.key == "":  # the path would be the bucket's own
            raise AmbiguousKey("the empty key names no object; nothing was sent")
        route = self._route
        answer = self._once(call, route)
        with self._moving:
            where = self._relocated(answer) if self._relocated and route is self._route else None
            if where is not None:
                route.close()  # only what isn't in use
                self._route = self._open(*where)
            if route is self._route or answer.status not in MOVED:
                return answer
        return self._once(call, self._route)

    def _once(self, call: Call, route: _Route) -> Answer:
        target, headers = self.signed(call, route)
        source = call.body.source if call.body else None
        if source is not None and not isinstance(source, bytes):
            source.seek(0)
        try:
            # A target that begins with '/' and holds nothing but unreserved characters, '/' and upper-case
            # escapes goes through urlopen unchanged; tests/integration/test_store_s3_wire.py watches it.
            response = route.pool.urlopen(
                call.method,
                target,
                body=source,
                headers={
                    **(route.pool.headers or {}),  # for a proxy
                    **{name: value.encode("utf-8").decode("latin-1") for name, value in headers.items()},
                },
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except _NOT_SENT as error:
            raise NotSent(_plain(error)) from error
        except faults.SSLError as error:
            raise StoreError(
                f"no trusted connection to {route.address.host_header}: {error}; "
                "check the endpoint, or pass ca_bundle with the issuer's certificate"
            ) from error
        except (faults.HTTPError, OSError) as error:
            raise Lost(_plain(error)) from error
        return self._read(call, response)

    def signed(self, call: Call, route: _Route | None = None) -> tuple[str, dict[str, str]]:
        """The target and the headers of a request, as they go over the wire."""
        route = route or self._route
        path = f"{route.address.base}/{encode_key(call.key or '')}"
        wire_query, canonical_query = encode_query(call.query)
        headers = route.signer.sign(
            call.method,
            path,
            canonical_query,
            self._headers(call, route.address),
            payload_sha256=call.body.sha256 if call.body else EMPTY_SHA256,
            credentials=self._credentials.current(),
            now=self._clock.now(),
        )
        return f"{path}?{wire_query}" if wire_query else path, headers

    def _headers(self, call: Call, address: Address) -> dict[str, str]:
        headers = {
            "host": address.host_header,
            "user-agent": "s3gc",
            "accept-encoding": "identity",  # a body is read as it is stored
            **self._every,
            **call.headers,
        }
        if call.body is not None:
            headers["content-length"] = str(call.body.size)
            headers["content-md5"] = call.body.md5
        elif call.method in ("PUT", "POST"):
            headers["content-length"] = "0"
        return headers

    def _read(self, call: Call, response: urllib3.BaseHTTPResponse) -> Answer:
        headers = {name.lower(): header_text(value) for name, value in response.headers.itermerged()}
        good = response.status < 300
        most = call.most if good else MAX_ERROR_BYTES
        try:
            declared = int(headers["content-length"]) if "content-length" in headers else None
            if call.method == "HEAD" or response.status in (204, 304):
                declared = 0
            if most is None or declared is None or declared <= most:
                # Without an amount, http.client itself raises when the body is shorter than declared.
                body = response.read() if most is None or declared is not None else response.read(most + 1)
                if most is not None and len(body) > most:
                    raise Lost("the answer is longer than expected and doesn't say how long it is")
                response.release_conn()
                return Answer(response.status, headers, body)
            rest = Rest(response, declared)
            first = bytearray()
            while len(first) < most:
                first += rest.read(most - len(first))
            if not good:
                rest.close()
                return Answer(response.status, headers, bytes(first))
            return Answer(response.status, headers, bytes(first), rest)
        except (faults.HTTPError, OSError, ValueError) as error:
            response.close()
            raise Lost(_plain(error)) from error
        except Lost:
            response.close()
            raise
