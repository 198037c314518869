"""A scan finds what a list finds, whatever the server does meanwhile, and leaves nothing running."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import pairwise
from urllib.parse import parse_qs

import anyio
import pytest
from benchmarks.responder.content import SHAPES
from benchmarks.responder.process import Responder

from fixtures_s3 import (
    RawHandler,
    RawRequest,
    RawServer,
    S3Client,
    S3Server,
    bucket,
    listing,
    raw_answer,
    raw_error,
    raw_server,
    s3_server,
    truth,
)
from s3gc.errors import AccessDenied, StoreError
from s3gc.model import ObjectInfo
from s3gc.stores.s3 import S3Options, S3Store
from s3gc.stores.s3._scan import PAGES_AHEAD, Pace
from s3gc.testing.keys import ODD_KEYS

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
OBJECTS = 5_000
PAGE = 50
LISTERS = 8


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server() -> Iterator[Responder]:
    with Responder() as responder:
        for shape in SHAPES:
            responder.fill(shape, OBJECTS, 1, shape=shape)
        yield responder


@pytest.fixture
def responder(server: Responder) -> Iterator[Responder]:
    server.reset()
    yield server
    server.latency(0)
    server.clear_faults()


def open_store(responder: Responder, shape: str = "spread", **options: float) -> S3Store:
    known = {
        "page_size": PAGE,
        "listers": LISTERS,
        "backoff_first": 0.01,
        "backoff_most": 0.05,
        "attempts": 30,
    }
    return S3Server(responder.endpoint).store(shape, options=S3Options(**(known | options)))  # type: ignore[arg-type]


async def scanned(store: S3Store) -> list[Sequence[ObjectInfo]]:
    return [page async for page in store.scan()]


def keys_of(pages: Sequence[Sequence[ObjectInfo]]) -> list[str]:
    """The keys of pages that rise in themselves and don't overlap."""
    for page in pages:
        assert page
        assert all(one.key < other.key for one, other in pairwise(page))
    ordered = sorted(pages, key=lambda page: page[0].key)
    assert all(one[-1].key < other[0].key for one, other in pairwise(ordered))
    return [info.key for page in ordered for info in page]


def requests(responder: Responder) -> int:
    return sum(responder.requests().counts.values())


# --------------------------------------------------------------------------- the same as a list


async def test_odd_keys(s3_server: S3Server, truth: S3Client, bucket: str) -> None:
    names = [key for key in ODD_KEYS if "\n" not in key]  # moto's router stops at a line feed
    names += [f"a/{number:03d}" for number in range(60)]
    for name in names:
        truth.put_object(Bucket=bucket, Key=name, Body=b"x")
    store = s3_server.store(bucket, options=S3Options(page_size=4, listers=LISTERS))
    listed = [info async for page in store.list() for info in page]
    for _ in range(2):  # the second time with the marks of the first
        pages = await scanned(store)
        assert keys_of(pages) == [info.key for info in listed] == sorted(names)
        assert sorted((info for page in pages for info in page), key=lambda info: info.key) == listed
    await store.aclose()


@pytest.mark.parametrize("shape", list(SHAPES))
async def test_every_shape_of_keys(responder: Responder, shape: str) -> None:
    responder.latency(3)
    store = open_store(responder, shape)
    for _ in range(2):
        responder.reset()
        pages = await scanned(store)
        assert keys_of(pages) == sorted(SHAPES[shape](number) for number in range(OBJECTS))
        seen = responder.requests()
        assert sum(seen.counts.values()) < 2 * OBJECTS / PAGE
        assert 1 < seen.most_open <= LISTERS
    await store.aclose()


async def test_one_lister_asks_for_one_page_after_the_other(responder: Responder) -> None:
    responder.latency(1)
    store = open_store(responder, listers=1)
    for _ in range(2):
        responder.reset(log=True)
        found = [info.key for page in await scanned(store) for info in page]
        assert found == sorted(SHAPES["spread"](number) for number in range(OBJECTS))
        seen = responder.requests()
        assert (len(seen.targets), seen.most_open) == (OBJECTS / PAGE, 1)
        assert not any("start-after" in target for target in seen.targets)
    await store.aclose()


async def test_a_bucket_of_one_page_costs_one_request(responder: Responder) -> None:
    responder.fill("small", PAGE, 1)
    responder.fill("empty", 0, 1)
    for name, objects in (("small", PAGE), ("empty", 0)):
        responder.reset()
        store = open_store(responder, name)
        assert len([info for page in await scanned(store) for info in page]) == objects
        assert requests(responder) == 1
        await store.aclose()


# --------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "times": 60},
        {"kind": "status", "times": 20, "status": 500, "code": "InternalError"},
        {"kind": "reset", "times": 20},
        {"kind": "truncate", "times": 20},
    ],
)
async def test_a_scan_survives_faults(responder: Responder, fault: dict[str, object]) -> None:
    store = open_store(responder)
    found: list[Sequence[ObjectInfo]] = []
    async with aclosing(store.scan()) as pages:  # type: ignore[type-var]
        async for page in pages:
            if len(found) == 10:
                responder.fault(**fault)
            found.append(page)
    assert keys_of(found) == sorted(SHAPES["spread"](number) for number in range(OBJECTS))
    await store.aclose()


async def test_a_scan_that_keeps_failing_ends_in_an_error(responder: Responder) -> None:
    store = open_store(responder, attempts=2)
    responder.fault(kind="status", times=10_000)
    with pytest.raises(StoreError, match="SlowDown"):
        await scanned(store)
    responder.clear_faults()
    responder.fault(kind="reset", times=10_000)
    with pytest.raises(StoreError, match="no answer"):
        await scanned(store)
    responder.clear_faults()
    responder.fault(kind="status", status=403, code="AccessDenied")
    with pytest.raises(AccessDenied, match="s3:ListBucket"):
        await scanned(store)
    assert keys_of(await scanned(store))
    await store.aclose()


def test_a_slow_down_halves_the_requests_under_way() -> None:
    pace = Pace(16)
    period = pace.period
    for _ in range(8):  # all that were under way together count once
        pace.slow_down(period)
    assert pace.now == 8
    for _ in range(9):
        pace.good()
    assert pace.now == 9
    for _ in range(10):
        pace.slow_down(pace.period)
    assert pace.now == 1
    for _ in range(1000):
        pace.good()
    assert pace.now == 16


async def test_after_a_slow_down_fewer_requests_are_under_way(raw_server: Start) -> None:
    """A server that bears four requests at once is asked by sixteen listers."""
    names = [f"k/{number:05d}" for number in range(2_000)]
    lock = threading.Lock()
    open_now = 0
    slowed: list[bool] = []

    def handler(request: RawRequest) -> bytes:
        nonlocal open_now
        with lock:
            open_now += 1
            slow = open_now > 4
            slowed.append(slow)
        time.sleep(0.003)
        with lock:
            open_now -= 1
        return raw_error(503, "SlowDown") if slow else page_of(names, request, 10)

    options = S3Options(listers=16, page_size=10, attempts=30, backoff_first=0.005, backoff_most=0.02)
    store = raw_server(handler).store(options=options)
    assert keys_of(await scanned(store)) == names
    await store.aclose()
    assert sum(slowed) > 2
    assert sum(slowed) < len(slowed) / 3


async def test_parts_that_wait_for_another_attempt_are_listers_too(raw_server: Start) -> None:
    names = [f"k/{number:05d}" for number in range(2_000)]
    parts: set[str] = set()
    left = 60

    def handler(request: RawRequest) -> bytes:
        nonlocal left
        if "start-after" not in request.query and "continuation-token" not in request.query:
            return page_of(names, request, 10)
        left -= 1
        if left > 0:
            parts.add(request.query)
            return raw_error(503, "SlowDown")
        return page_of(names, request, 10)

    options = S3Options(listers=4, page_size=10, attempts=100, backoff_first=0.05, backoff_most=0.05)
    store = raw_server(handler).store(options=options)
    assert keys_of(await scanned(store)) == names
    assert len(parts) <= 4
    await store.aclose()


# --------------------------------------------------------------------------- servers that lie


def page_of(names: Sequence[str], request: RawRequest, size: int, *, by_marks: bool = True) -> bytes:
    query = {name: values[0] for name, values in parse_qs(request.query).items()}
    after = query.get("start-after", "") if by_marks else ""
    start = int(query.get("continuation-token", "0")) or sum(name <= after for name in names)
    more = start + size < len(names)
    return raw_answer(200, listing(names[start : start + size], token=str(start + size) if more else None))


async def test_a_server_that_knows_no_start_after_is_noticed(raw_server: Start) -> None:
    names = [f"k/{number:05d}" for number in range(200)]
    server = raw_server(lambda request: page_of(names, request, 10, by_marks=False))
    store = server.store(options=S3Options(listers=8, page_size=10))
    with pytest.raises(StoreError, match=r"goes back, .*set listers=1 \(\[s3\] in s3gc\.toml"):
        await scanned(store)
    await store.aclose()
    store = server.store(options=S3Options(listers=1, page_size=10))
    assert keys_of(await scanned(store)) == names
    await store.aclose()


async def test_one_lister_is_not_told_to_be_one(raw_server: Start) -> None:
    store = raw_server(lambda _: raw_answer(200, listing(["b", "a"]))).store(options=S3Options(listers=1))
    with pytest.raises(StoreError, match="goes back") as caught:
        await scanned(store)
    assert "listers" not in str(caught.value)
    await store.aclose()


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (listing(["a", "b"]), "repeats or goes back"),
        (listing([], token="t"), "held no key"),
        (listing(["c"], truncated="true"), "more"),
        (b"<html/>", "<html>"),
    ],
)
async def test_a_listing_that_is_not_one(raw_server: Start, second: bytes, text: str) -> None:
    first = listing(["a", "b"], token="t")

    def handler(request: RawRequest) -> bytes:
        if "start-after" in request.query:
            return raw_answer(200, listing([]))
        return raw_answer(200, second if "continuation-token" in request.query else first)

    store = raw_server(handler).store()
    with pytest.raises(StoreError, match=text):
        await scanned(store)
    await store.aclose()


# --------------------------------------------------------------------------- the caller


def threads_at_work() -> list[str]:
    """Threads that fetch a page, or wait for one."""
    frames = sys._current_frames()
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is None or thread is threading.main_thread():
            continue
        try:
            calls = [each.f_code for each, _ in traceback.walk_stack(frame)]
        except AttributeError:  # it ran on while CPython followed its frames: so it is at work
            found.append(thread.name)
            continue
        found += [f"{thread.name}: {code.co_name}" for code in calls if code.co_filename.endswith("_scan.py")]
    return found


async def all_at_rest() -> None:
    with anyio.fail_after(5):
        while threads_at_work():  # noqa: ASYNC110 - threads set no event when they end
            await anyio.sleep(0.01)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seen", [0, 1, 30])
async def test_a_scan_that_is_cancelled_leaves_no_thread(responder: Responder, seen: int) -> None:
    responder.latency(50)
    store = open_store(responder)
    with anyio.move_on_after(30) as scope:
        count = 0
        if seen == 0:
            scope.deadline = anyio.current_time() + 0.02
        async with aclosing(store.scan()) as pages:  # type: ignore[type-var]
            async for _ in pages:
                count += 1
                if count == seen:
                    scope.cancel()
    assert scope.cancelled_caught
    await all_at_rest()
    asked = requests(responder)
    await anyio.sleep(0.1)
    assert requests(responder) == asked
    responder.latency(0)
    assert len(keys_of(await scanned(store))) == OBJECTS  # the store can still be used
    await store.aclose()


@pytest.mark.filterwarnings("error")
async def test_a_scan_that_is_left_early_leaves_no_thread(responder: Responder) -> None:
    store = open_store(responder)
    async with aclosing(store.scan()) as pages:  # type: ignore[type-var]
        async for _ in pages:
            break
    await all_at_rest()
    await store.aclose()


async def test_a_scan_that_was_left_asks_for_nothing_more(raw_server: Start) -> None:
    names = [f"k/{number:05d}" for number in range(2_000)]
    go_on = threading.Event()

    def handler(request: RawRequest) -> bytes:
        if "start-after" in request.query or "continuation-token" in request.query:
            go_on.wait(10)
        return page_of(names, request, 10)

    server = raw_server(handler)
    store = server.store(options=S3Options(listers=4, page_size=10))
    async with aclosing(store.scan()) as pages:  # type: ignore[type-var]
        async for _ in pages:
            break
        with anyio.fail_after(5):
            while len(server.requests) < 5:  # noqa: ASYNC110 - the server is threads
                await anyio.sleep(0.01)
    go_on.set()
    await all_at_rest()
    assert len(server.requests) == 5
    await store.aclose()


async def test_a_caller_who_reads_slowly_holds_the_scan_back(responder: Responder) -> None:
    store = open_store(responder)
    async with aclosing(store.scan()) as pages:  # type: ignore[type-var]
        taken = 0
        async for _ in pages:
            taken += 1
            if taken < 5:
                await anyio.sleep(0.2)
                # Pages that wait, and guesses that found nothing.
                assert requests(responder) <= taken + PAGES_AHEAD * LISTERS + LISTERS
                await all_at_rest()
    assert taken >= OBJECTS / PAGE
    await store.aclose()


async def test_closing_the_store_ends_a_scan_with_an_error(responder: Responder) -> None:
    responder.latency(30)
    store = open_store(responder)
    with anyio.fail_after(10), pytest.raises(StoreError, match="closed"):  # noqa: PT012
        async for _ in store.scan():
            await store.aclose()
    await all_at_rest()


async def test_closing_the_store_ends_a_scan_that_has_no_thread_yet(responder: Responder) -> None:
    responder.latency(100)
    store = S3Server(responder.endpoint).store("spread", max_connections=1)
    ended: list[bool] = []

    async def one() -> None:
        with pytest.raises(StoreError, match="closed"):
            await scanned(store)
        ended.append(True)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(one)
            await anyio.sleep(0.05)
            await store.aclose()
    assert len(ended) == 2


async def test_several_scans_at_once(responder: Responder) -> None:
    store = open_store(responder)
    found: list[int] = []

    async def one() -> None:
        found.append(len(keys_of(await scanned(store))))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
    assert found == [OBJECTS] * 3
    await store.aclose()
