"""The benchmarks' responder byte by byte: bodies, framing, back-pressure."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from benchmarks.responder.content import Filler, key
from benchmarks.responder.process import Responder

SIZE = 4096


@pytest.fixture(scope="module")
def responder() -> Iterator[Responder]:
    with Responder() as server:
        server.fill("b", 0, SIZE)
        yield server


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, SIZE, 3 << 20])
def test_a_filled_body_has_its_size_and_its_md5_as_etag(size: int) -> None:
    filler = Filler(size)
    bodies = [filler.body(index) for index in range(5)]
    assert [len(body) for body in bodies] == [size] * 5
    assert [hashlib.md5(body).hexdigest() for body in bodies] == [filler.etag(index) for index in range(5)]
    if size >= 15:
        assert len(set(bodies)) == 5


def test_date_is_the_present_in_every_answer(responder: Responder) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", responder.port)
    for path in ("/b", "/nowhere", "/b/missing"):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        date = parsedate_to_datetime(response.headers["date"])
        assert abs(date - datetime.now(UTC)) < timedelta(seconds=30)
    connection.close()


def test_a_chunked_body_sent_in_odd_pieces(responder: Responder) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", responder.port)
    pieces = iter([b"one", b"0\r\n\r\n", b"two"])
    connection.request("PUT", "/b/k", pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.request("GET", "/b/k")
    assert connection.getresponse().read() == b"one0\r\n\r\ntwo"
    connection.close()


def test_nonsense_on_the_wire_is_refused(responder: Responder) -> None:
    for request in (
        b"hello\r\n\r\n",
        b"GET /b/%ff HTTP/1.1\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    ):
        connection = http.client.HTTPConnection("127.0.0.1", responder.port)
        connection.connect()
        connection.sock.sendall(request)
        assert connection.sock.recv(100).startswith(b"HTTP/1.1 400 ")
        connection.close()


def test_a_large_body_reaches_a_slow_reader_whole(responder: Responder) -> None:
    responder.fill("b", 1, 20 << 20)
    connection = http.client.HTTPConnection("127.0.0.1", responder.port)
    connection.request("GET", f"/b/{key(0)}")
    response = connection.getresponse()
    time.sleep(0.1)  # the socket's buffers fill; the rest has to wait in the responder
    assert hashlib.md5(response.read()).hexdigest() == Filler(20 << 20).etag(0)
    connection.request("HEAD", f"/b/{key(0)}")  # the connection still serves
    assert connection.getresponse().headers["content-length"] == str(20 << 20)
    connection.close()
