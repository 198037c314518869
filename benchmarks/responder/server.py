"""The asyncio side: connections, latency, faults, and answers that wait for a slow reader."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from functools import lru_cache
from typing import cast

from benchmarks.responder.control import PREFIX, Control
from benchmarks.responder.faults import Fault, Kind
from benchmarks.responder.http import BadRequest, Request, RequestParser, Response, head_of
from benchmarks.responder.operations import operation_of
from benchmarks.responder.s3 import S3Error

_JOIN_BELOW = 64 * 1024  # smaller bodies go out in one write with their head
_PIECE = 1 << 20


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)


class Connection(asyncio.Protocol):
    """One keep-alive connection: its requests one after the other."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._parser = RequestParser()
        self._transport: asyncio.Transport
        self._busy = False  # a request waits for its latency, or an answer for its reader
        self._paused = False
        self._rest: memoryview | None = None  # of a body that the reader hasn't taken yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        if not self._busy:
            self._advance()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._rest is not None:
            self._send_rest()
            if self._rest is None:
                self._busy = False
                self._advance()

    def _advance(self) -> None:
        """Handle the requests that are complete, until one has to wait."""
        while not self._busy and not self._transport.is_closing():
            try:
                request = self._parser.next()
            except BadRequest as error:
                self._write("GET", S3Error(400, "BadRequest", str(error)).response())
                self._transport.close()
                return
            if request is None:
                if self._parser.wants_continue:
                    self._parser.wants_continue = False
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._parser.wants_continue = False
            if request.path.startswith(PREFIX):
                self._write(request.method, self._control.handle(request))
            else:
                self._accept(request)

    def _accept(self, request: Request) -> None:
        operation = operation_of(request)
        self._control.log.begin(operation, request)
        fault = self._control.faults.take(operation, request)
        wait = self._control.latency + (fault.seconds if fault else 0.0)
        if wait > 0:
            self._busy = True
            asyncio.get_running_loop().call_later(wait, self._after_latency, operation, request, fault)
        else:
            self._answer(operation, request, fault)

    def _after_latency(self, operation: str, request: Request, fault: Fault | None) -> None:
        self._busy = False
        self._answer(operation, request, fault)
        self._advance()

    def _answer(self, operation: str, request: Request, fault: Fault | None) -> None:
        if self._transport.is_closing() or (fault and fault.kind is Kind.RESET):
            self._control.log.end(None)
            self._transport.abort()
            return
        if fault and fault.kind is Kind.STATUS:
            error = S3Error(fault.status, fault.code, "a fault that was asked for")
            response = error.response(with_body=request.method != "HEAD")
        else:
            response = self._control.s3.handle(operation, request)
        self._control.log.end(response)
        if fault and fault.kind is Kind.LOST:
            self._transport.abort()
        elif fault and fault.kind is Kind.TRUNCATE:
            head = head_of(response, _http_date(int(time.time())))
            self._transport.write(head + bytes(response.body[: len(response.body) // 2]))
            self._transport.close()
        else:
            self._write(request.method, response)

    def _write(self, method: str, response: Response) -> None:
        head = head_of(response, _http_date(int(time.time())))
        if method == "HEAD" or not response.body:
            self._transport.write(head)
        elif len(response.body) < _JOIN_BELOW:
            self._transport.write(b"".join((head, response.body)))
        else:
            self._transport.write(head)
            self._rest = memoryview(response.body)
            self._send_rest()
            self._busy = self._rest is not None

    def _send_rest(self) -> None:
        while self._rest is not None and not self._paused:
            piece, rest = self._rest[:_PIECE], self._rest[_PIECE:]
            self._rest = rest if len(rest) else None
            self._transport.write(piece)


async def serve(control: Control, host: str, port: int) -> asyncio.Server:
    """Listen. The port may be 0 for any free one."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(control), host, port, backlog=1024)
