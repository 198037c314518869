"""Reads from servers that fail, lie or contradict themselves: retried or raised, never guessed."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
import urllib3

from fixtures_s3 import (
    GOOD,
    HELLO,
    NO_TAGS,
    RESET,
    SHORT,
    RawHandler,
    RawServer,
    S3Server,
    get_then_tags,
    raw_answer,
    raw_error,
    raw_server,
)
from s3gc.errors import AccessDenied, NoSuchBucket, PreconditionFailed, StoreError, UnreadableObject
from s3gc.model import ObjectAttributes
from s3gc.stores.s3 import S3Options

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
NONE = ObjectAttributes()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def read(server: RawServer, **options: Any) -> bytes:
    store = server.store(**options)
    try:
        async with store.get("k") as reader:
            return b"".join([chunk async for chunk in reader.chunks()])
    finally:
        await store.aclose()


@pytest.mark.parametrize(
    "first",
    [
        RESET,
        SHORT,
        raw_error(503, "SlowDown"),
        raw_error(500, "InternalError"),
        raw_answer(502, b"<html>"),
        b"",
    ],
)
async def test_a_read_is_tried_again(raw_server: Start, first: bytes) -> None:
    server = raw_server(get_then_tags(first, GOOD))
    assert await read(server) == b"hello"
    assert len([r for r in server.requests if not r.query]) == 2


@pytest.mark.parametrize(
    "answer", [RESET, SHORT, raw_error(503, "SlowDown"), raw_error(500, "InternalError")]
)
async def test_retries_are_bounded(raw_server: Start, answer: bytes) -> None:
    server = raw_server(get_then_tags(answer))
    with pytest.raises(StoreError) as caught:
        await read(server)
    assert not caught.value.outcome_unknown
    assert len(server.requests) == 3


async def test_a_deadline_ends_retries(raw_server: Start) -> None:
    class Clock:
        def __init__(self) -> None:
            self.time = 0.0

        def now(self) -> datetime:
            return datetime.now(UTC)

        def monotonic(self) -> float:
            self.time += 100.0
            return self.time

    server = raw_server(get_then_tags(RESET))
    with pytest.raises(StoreError):
        await read(server, clock=Clock(), options=S3Options(attempts=50, backoff_first=0.001, deadline=150.0))
    assert len(server.requests) == 2


async def test_a_big_body_cut_short_is_an_error(raw_server: Start) -> None:
    headers = {"ETag": '"e"', "Last-Modified": HELLO["Last-Modified"]}
    server = raw_server(get_then_tags(raw_answer(200, b"x" * 5000, headers, length=9000)))
    with pytest.raises(StoreError, match="can't be read to its end"):
        await read(server, options=S3Options(first_read=1000, chunk=1000))


async def test_bytes_that_are_not_those_of_the_etag_are_an_error(raw_server: Start) -> None:
    flipped = raw_answer(200, b"hellO", HELLO)
    with pytest.raises(StoreError, match="ETag"):
        await read(raw_server(get_then_tags(flipped)))
    with pytest.raises(StoreError, match="ETag"):
        await read(raw_server(get_then_tags(flipped)), options=S3Options(first_read=2, chunk=2))
    assert await read(raw_server(get_then_tags(flipped)), options=S3Options(verify_md5=False)) == b"hellO"
    kms = raw_answer(200, b"hellO", HELLO | {"x-amz-server-side-encryption": "aws:kms"})
    assert await read(raw_server(get_then_tags(kms))) == b"hellO"
    parts = raw_answer(200, b"hellO", HELLO | {"ETag": '"5d41402abc4b2a76b9719d911017c592-2"'})
    assert await read(raw_server(get_then_tags(parts))) == b"hellO"


async def test_a_server_that_ignores_if_match_on_get_is_noticed(raw_server: Start) -> None:
    store = raw_server(get_then_tags(GOOD)).store()
    with pytest.raises(PreconditionFailed):
        async with store.get("k", if_match="another"):
            pass
    await store.aclose()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (raw_error(404, "NoSuchKey"), PreconditionFailed, "no object"),
        (raw_error(412, "PreconditionFailed"), PreconditionFailed, "no longer"),
        (raw_error(404, "NoSuchBucket"), NoSuchBucket, "bkt"),
        (raw_error(403, "AccessDenied"), AccessDenied, "s3:GetObject"),
        (raw_error(403, "InvalidObjectState"), UnreadableObject, "archived"),
        (
            raw_error(400, "InvalidRequest", "The object was stored using a form of Server Side Encryption."),
            UnreadableObject,
            "encrypted",
        ),
        (raw_error(400, "KMS.DisabledException"), UnreadableObject, "KMS"),
        (raw_error(403, "InvalidAccessKeyId"), AccessDenied, "not accepted"),
        (raw_error(403, "RequestTimeTooSkewed"), StoreError, "clock"),
        (
            raw_answer(
                301, b"<Error><Code>PermanentRedirect</Code></Error>", {"x-amz-bucket-region": "eu-west-3"}
            ),
            StoreError,
            "'eu-west-3'",
        ),
        (
            raw_error(400, "AuthorizationHeaderMalformed", "", "<Region>eu-west-3</Region>"),
            StoreError,
            "'eu-west-3'",
        ),
        (raw_answer(404, b"<html>not S3</html>"), StoreError, "404"),
        (raw_answer(200, b"hello", {"Last-Modified": HELLO["Last-Modified"]}), StoreError, "ETag"),
        (raw_answer(200, b"hello", {"ETag": '"e"'}), StoreError, "last-modified"),
        (raw_answer(200, b"hello", HELLO | {"x-amz-missing-meta": "1"}), UnreadableObject, "metadata"),
        (raw_answer(200, b"hello", HELLO | {"Content-Disposition": "\xe9"}), UnreadableObject, "UTF-8"),
    ],
)
async def test_what_an_answer_means(
    raw_server: Start,
    answer: bytes,
    error: type[StoreError],
    text: str,
) -> None:
    store = raw_server(get_then_tags(answer)).store()
    with pytest.raises(StoreError, match=text) as caught:
        async with store.get("k"):
            pass
    assert type(caught.value) is error
    await store.aclose()


async def test_tags_that_change_or_are_forbidden(raw_server: Start) -> None:
    counted = raw_answer(200, b"hello", HELLO | {"x-amz-tagging-count": "2"})
    with pytest.raises(StoreError, match="tags"):
        await read(raw_server(get_then_tags(counted)))
    denied = raw_server(lambda r: raw_error(403, "AccessDenied") if r.query else GOOD)
    with pytest.raises(AccessDenied, match="s3:GetObjectTagging"):
        await read(denied)
    without = raw_server(lambda r: raw_error(501, "NotImplemented") if r.query else GOOD)
    assert await read(without) == b"hello"
    body_for_tags = raw_server(lambda r: GOOD)
    with pytest.raises(StoreError, match="tags"):
        await read(body_for_tags)


async def test_no_one_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = S3Options(attempts=2, backoff_first=0.001)
    store = S3Server(f"http://127.0.0.1:{port}").store("bkt", options=options)
    for attempt in (store.now, lambda: store.put("k", b"x", size=1, attributes=NONE)):
        with pytest.raises(StoreError, match=r"no answer from 127\.0\.0\.1") as caught:
            await attempt()
        assert not caught.value.outcome_unknown  # nothing was sent
    await store.aclose()


async def test_a_bucket_that_is_gone_is_not_an_object_that_is_gone(raw_server: Start) -> None:
    store = raw_server(lambda request: raw_error(404, "NoSuchBucket")).store()
    for attempt in (
        lambda: store.stat("k"),
        lambda: store.head("k"),
        lambda: store.delete("k", if_match="x"),
    ):
        with pytest.raises(NoSuchBucket):
            await attempt()
    await store.aclose()


async def test_a_short_body_is_noticed_without_urllib3(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = urllib3.HTTPConnectionPool.urlopen

    def lax(self: Any, *args: Any, **options: Any) -> Any:
        return real(self, *args, **options, enforce_content_length=False)  # the default of urllib3 1.26

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", lax)
    server = raw_server(get_then_tags(SHORT, GOOD))
    assert await read(server, options=S3Options(backoff_first=0.001, verify_md5=False)) == b"hello"


async def into(found: list[bytes], chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        found.append(chunk)


class Slow:
    """A server that sends the head and half of a body, and the rest only when it is told to."""

    def __init__(self, body: bytes, headers: dict[str, str]) -> None:
        self.go = threading.Event()
        self._body, self._head = body, raw_answer(200, b"", headers, length=len(body))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.go.set()
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            request = connection.recv(65536)
            if b"?tagging" in request:
                connection.sendall(NO_TAGS)
                return
            half = len(self._body) // 2
            connection.sendall(self._head + self._body[:half])
            self.go.wait(30)
            connection.sendall(self._body[half:])


@pytest.fixture
def slow() -> Iterator[Slow]:
    server = Slow(b"x" * 10_000, {"ETag": '"e"', "Last-Modified": HELLO["Last-Modified"]})
    yield server
    server.close()


async def test_a_slow_body_is_lost_after_the_read_timeout(slow: Slow) -> None:
    options = S3Options(first_read=1000, chunk=1000, read_timeout=0.2, attempts=1)
    store = S3Server(slow.endpoint_url).store("bkt", options=options)
    async with store.get("k") as reader:
        with pytest.raises(StoreError, match="can't be read to its end"):
            await into([], reader.chunks())
    await store.aclose()


async def test_a_slow_body_is_read_while_it_comes(slow: Slow) -> None:
    store = S3Server(slow.endpoint_url).store("bkt", options=S3Options(first_read=1000, chunk=1000))
    got = 0
    async with store.get("k") as reader:
        async for chunk in reader.chunks():
            got += len(chunk)
            if got == 4000:
                slow.go.set()
    assert got == 10_000
    await store.aclose()


async def test_who_stops_reading_waits_for_the_thread_that_reads(slow: Slow) -> None:
    """The event loop isn't held up, and the connection isn't closed under the thread's hands."""
    store = S3Server(slow.endpoint_url).store("bkt", options=S3Options(first_read=1000, chunk=5000))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.01)
            ticks += 1
            if ticks == 10:
                slow.go.set()

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        async with store.get("k") as reader:
            async for _ in reader.chunks():
                break
        group.cancel_scope.cancel()
    assert ticks >= 10
    await store.aclose()


async def test_a_listed_etag_is_held_against_the_answer(raw_server: Start) -> None:
    """Another object under the same key: by the server's word, by its ETag, by its bytes."""
    lies = raw_answer(200, b"other", HELLO)  # the listed ETag, and bytes that aren't its
    store = raw_server(get_then_tags(lies)).store()
    async with store.get("k", if_match=HELLO["ETag"].strip('"')) as reader:
        with pytest.raises(StoreError, match="not those of its ETag"):
            assert [chunk async for chunk in reader.chunks()] == []
    await store.aclose()


async def test_a_wrong_last_piece_is_not_given_out(raw_server: Start) -> None:
    headers = {"ETag": f'"{hashlib.md5(b"y" * 3000).hexdigest()}"', "Last-Modified": HELLO["Last-Modified"]}
    server = raw_server(get_then_tags(raw_answer(200, b"x" * 3000, headers)))
    store = server.store(options=S3Options(first_read=1000, chunk=1000))
    got: list[bytes] = []
    async with store.get("k") as reader:
        with pytest.raises(StoreError, match="ETag"):
            await into(got, reader.chunks())
    assert [len(chunk) for chunk in got] == [1000, 1000]
    await store.aclose()
