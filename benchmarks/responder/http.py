"""HTTP/1.1 on the wire: requests out of a byte stream, responses into one."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

from attrs import Factory, define, field, frozen

_MAX_HEAD_BYTES = 64 * 1024


class BadRequest(Exception):
    """What arrived is no HTTP request that this server understands."""


@frozen(eq=False)
class Request:
    """One request, its body complete."""

    method: str
    target: str  # as sent
    path: str  # decoded, without the query
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@frozen(eq=False)
class Response:
    """One answer. ``content-length`` is added from the body unless given (HEAD gives it)."""

    status: int = 200
    headers: Mapping[str, str] = Factory(dict)
    body: bytes | memoryview = b""


def head_of(response: Response, date: str) -> bytes:
    """The status line and headers of a response."""
    reason = HTTPStatus(response.status).phrase
    lines = [f"HTTP/1.1 {response.status} {reason}", f"date: {date}", "server: benchmark"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if "content-length" not in response.headers and response.status not in (204, 304):
        lines.append(f"content-length: {len(response.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@define(eq=False)
class RequestParser:
    """Takes bytes as they come and gives requests as they are complete."""

    _buffer: bytearray = field(factory=bytearray, init=False)
    _head: tuple[str, str, dict[str, str]] | None = field(default=None, init=False)
    _chunks: bytearray | None = field(default=None, init=False)  # of a chunked body so far
    wants_continue: bool = field(default=False, init=False)
    """The client waits for '100 Continue' before it sends the body. Reset it when sent."""

    def feed(self, data: bytes) -> None:
        """Bytes from the network."""
        self._buffer += data

    def next(self) -> Request | None:
        """The next complete request, or None until more bytes come.

        Raises:
            BadRequest: what arrived can't be parsed; the connection is beyond help.
        """
        if self._head is None and not self._read_head():
            return None
        assert self._head is not None
        method, target, headers = self._head
        body = self._read_body(headers)
        if body is None:
            return None
        self._head = None
        if "aws-chunked" in headers.get("content-encoding", ""):
            body = _without_signatures(body)
        path, _, query = target.partition("?")
        try:
            return Request(
                method,
                target,
                unquote(path, errors="strict"),
                dict(parse_qsl(query, keep_blank_values=True, errors="strict")),
                headers,
                body,
            )
        except UnicodeDecodeError as error:
            raise BadRequest(f"the target is not UTF-8: {target}") from error

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise BadRequest("the headers are too long")
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        try:
            method, target, _ = lines[0].split(" ")
        except ValueError as error:
            raise BadRequest(f"no request line: {lines[0][:100]!r}") from error
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self._head = (method, target, headers)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            self._chunks = bytearray()
        self.wants_continue = headers.get("expect", "").lower() == "100-continue"
        return True

    def _read_body(self, headers: Mapping[str, str]) -> bytes | None:
        if self._chunks is not None:
            return self._read_chunks(self._chunks)
        length = headers.get("content-length", "0")
        if not length.isdigit():
            raise BadRequest(f"content-length is no number: {length!r}")
        need = int(length)
        if len(self._buffer) < need:
            return None
        body = bytes(self._buffer[:need]) if need else b""
        del self._buffer[:need]
        return body

    def _read_chunks(self, chunks: bytearray) -> bytes | None:
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = _hex(self._buffer[:end])
            if len(self._buffer) < end + size + 4:
                return None
            chunks += self._buffer[end + 2 : end + 2 + size]
            del self._buffer[: end + size + 4]
            if size == 0:
                self._chunks = None
                return bytes(chunks)
        return None


def _without_signatures(body: bytes) -> bytes:
    """The payload of an aws-chunked body: ``size;chunk-signature=…`` lines and trailers left out."""
    payload = bytearray()
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = _hex(body[at:end].partition(b";")[0])
        if size == 0:
            return bytes(payload)
        payload += body[end + 2 : end + 2 + size]
        at = end + size + 4
    raise BadRequest("an aws-chunked body without its last chunk")


def _hex(digits: bytes | bytearray) -> int:
    try:
        return int(digits.partition(b";")[0], 16)
    except ValueError as error:
        raise BadRequest(f"no chunk size: {bytes(digits[:40])!r}") from error
