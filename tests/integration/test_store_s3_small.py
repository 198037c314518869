"""Small objects in groups: what comes is what `get` brings, and whatever is odd is left to `get`."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from urllib.parse import unquote, unquote_to_bytes

import anyio
import pytest

from fixtures_s3 import (
    GOOD,
    HELLO,
    NO_TAGS,
    RESET,
    SHORT,
    FakeS3,
    RawHandler,
    RawRequest,
    RawServer,
    raw_answer,
    raw_error,
    raw_server,
)
from s3gc.abc import WholeObject
from s3gc.errors import StoreError
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.stores.s3 import S3Options, S3Store
from s3gc.stores.s3._lane import GROUP_OBJECTS, MOST_BYTES, Plain, Run
from s3gc.testing.keys import ODD_KEYS

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
MADE = datetime(2026, 1, 1, tzinfo=UTC)
ETAG = HELLO["ETag"].strip('"')


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def listed(*keys: str, size: int = 5, etag: str = ETAG) -> list[ObjectInfo]:
    return [ObjectInfo(key, size, etag, MADE) for key in keys]


async def small(store: S3Store, objects: Sequence[ObjectInfo]) -> dict[str, WholeObject]:
    found: dict[str, WholeObject] = {}
    async with aclosing(store.get_small(objects)) as groups:  # type: ignore[type-var]
        async for group in groups:
            assert len(group) <= GROUP_OBJECTS + 192
            for one in group:
                assert one.listed.key not in found
                found[one.listed.key] = one
    return found


async def test_every_key_comes_as_get_brings_it(raw_server: Start) -> None:
    fake = FakeS3()
    server = raw_server(fake)
    store = server.store()
    infos = []
    for number, key in enumerate(ODD_KEYS):
        tags = {"t": str(number)} if number % 3 == 0 else {}
        attributes = ObjectAttributes(content_type="text/x", metadata={"a": "two  é"}, tags=tags)
        infos.append(await store.put(key, key.encode(), size=len(key.encode()), attributes=attributes))
    server.requests.clear()
    found = await small(store, infos)
    assert found.keys() == set(ODD_KEYS)
    for request in server.requests:
        assert request.path.isascii()
        assert unquote_to_bytes(request.path).removeprefix(b"/bkt/").decode() in ODD_KEYS
    for info in infos:
        async with store.get(info.key, if_match=info.etag) as reader:
            assert found[info.key].data == b"".join([chunk async for chunk in reader.chunks()])
            assert (found[info.key].info, found[info.key].attributes) == (reader.info, reader.attributes)
            assert found[info.key].listed is info
    await store.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        RESET,
        SHORT,
        b"",
        raw_error(503, "SlowDown"),
        raw_error(404, "NoSuchKey"),
        raw_error(412, "PreconditionFailed"),
        raw_answer(200, b"hellO", HELLO),  # not the bytes of its ETag
        raw_answer(200, b"hello", {**HELLO, "ETag": '"another"'}),
        raw_answer(200, b"hello", {**HELLO, "Content-Length": "5", "content-length": "5"}),
        raw_answer(200, b"hello and more", {**HELLO, "ETag": '"parts-2"'}, length=5),
        raw_answer(200, b"x" * (MOST_BYTES + 1), {**HELLO, "ETag": '"parts-2"'}),
        raw_answer(200, b"hello", {**HELLO, "Transfer-Encoding": "chunked"}),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
        b"nonsense\r\n\r\n",
        raw_answer(200, b"hello", {**HELLO, "x-amz-missing-meta": "1"}),
    ],
)
async def test_what_is_odd_is_left_to_get(raw_server: Start, answer: bytes) -> None:
    def handler(request: RawRequest) -> bytes:
        if request.query == "tagging":
            return NO_TAGS
        return answer if request.path.endswith("odd") else GOOD

    store = raw_server(handler).store()
    [odd] = listed("odd", etag="parts-2" if b"parts-2" in answer else ETAG)
    found = await small(store, [*listed("a"), odd, *listed("b", "c")])
    assert found.keys() == {"a", "b", "c"}
    assert all(one.data == b"hello" for one in found.values())
    await store.aclose()


async def test_an_idle_connection_that_the_server_closed_is_no_loss(raw_server: Start) -> None:
    closing = raw_answer(200, b"hello", {**HELLO, "X": "y"}).replace(b"Content-Length", b"content-lengTh")
    ends = threading.Event()

    def handler(request: RawRequest) -> bytes:
        if request.query == "tagging":
            return NO_TAGS
        if ends.is_set() and request.path.endswith("again"):
            ends.clear()
            return b""  # closes without a word: as a server does with an idle connection
        return closing

    server = raw_server(handler)
    store = server.store(max_connections=1)
    assert (await small(store, listed("a"))).keys() == {"a"}
    ends.set()
    assert (await small(store, listed("again"))).keys() == {"again"}
    assert [r.path for r in server.sent("GET") if not r.query].count("/bkt/again") == 2
    ends.set()  # a new connection that is closed: not tried again here
    await store.aclose()


async def test_a_server_that_is_too_slow_is_left_to_get(raw_server: Start) -> None:
    wait = threading.Event()

    def handler(request: RawRequest) -> bytes:
        if request.path.endswith("slow"):
            wait.wait(20)
        return NO_TAGS if request.query == "tagging" else GOOD

    store = raw_server(handler).store(options=S3Options(read_timeout=0.3))
    with anyio.fail_after(10):
        assert (await small(store, listed("a", "slow", "b"))).keys() == {"a", "b"}
    wait.set()
    await store.aclose()


async def test_a_cancel_does_not_wait_for_the_server(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Run] = []
    group = Run.group

    def noted(run: Run) -> Sequence[tuple[int, Plain | None]]:
        runs.append(run)
        return group(run)

    monkeypatch.setattr(Run, "group", noted)
    wait = threading.Event()

    def handler(request: RawRequest) -> bytes:
        wait.wait(20)
        return GOOD

    store = raw_server(handler).store()
    began = anyio.current_time()
    with anyio.move_on_after(0.2) as scope:
        await small(store, listed("a", "b"))
    assert scope.cancelled_caught
    assert anyio.current_time() - began < 5
    with anyio.fail_after(5):
        while runs[0].under_way:  # noqa: ASYNC110 - a thread that nobody waits for any more
            await anyio.sleep(0.05)
    wait.set()
    await store.aclose()


async def test_a_server_that_is_overloaded_gets_fewer_requests(raw_server: Start) -> None:
    lock = threading.Lock()
    now = most = 0

    def handler(request: RawRequest) -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        if len(server.requests) < 40:
            most = 0
        threading.Event().wait(0.005)
        with lock:
            now -= 1
        return raw_error(503, "SlowDown")

    server = raw_server(handler)
    store = server.store(max_connections=8)
    assert await small(store, listed(*(f"k{n}" for n in range(100)))) == {}
    assert most <= 3  # of 24
    await store.aclose()


async def test_tags_that_no_header_tells_of_are_asked_for(raw_server: Start) -> None:
    tags = NO_TAGS.replace(b"<TagSet/>", b"<TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet>")
    tags = raw_answer(200, tags.partition(b"\r\n\r\n")[2])
    server = raw_server(lambda request: tags if request.query == "tagging" else GOOD)
    store = server.store()
    assert (await small(store, listed("a")))["a"].attributes.tags == {"a": "b"}
    await store.aclose()


async def test_nobody_there(raw_server: Start) -> None:
    server = raw_server(lambda request: GOOD)
    store = server.store()
    server.close()
    assert await small(store, listed("a", "b")) == {}
    await store.aclose()


async def test_a_closed_store_says_so(raw_server: Start) -> None:
    store = raw_server(lambda request: GOOD).store()
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await small(store, listed("a"))


async def test_what_is_large_or_no_key_is_not_asked_for(raw_server: Start) -> None:
    server = raw_server(lambda request: NO_TAGS if request.query == "tagging" else GOOD)
    store = server.store()
    objects = [*listed("large", size=MOST_BYTES + 1), *listed("", "x" * 1025, "a")]
    assert (await small(store, objects)).keys() == {"a"}
    assert {unquote(request.path) for request in server.requests} == {"/bkt/a"}
    await store.aclose()


async def test_an_odd_etag_is_left_to_get(raw_server: Start) -> None:
    server = raw_server(lambda request: GOOD)
    store = server.store()
    assert await small(store, listed("a", etag='x"\r\nx-evil: 1')) == {}
    assert server.requests == []
    await store.aclose()
