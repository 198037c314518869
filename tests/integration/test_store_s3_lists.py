"""Listings that repeat, go back, break off or lie end in an error."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

from collections.abc import Callable

import pytest

from fixtures_s3 import (
    RESET,
    RawHandler,
    RawServer,
    listing,
    raw_answer,
    raw_error,
    raw_server,
    script,
)
from s3gc.errors import AccessDenied, StoreError

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pages_of(*pages: bytes) -> RawHandler:
    return script(pages)


async def list_all(server: RawServer, prefix: str = "", start_after: str = "") -> list[str]:
    store = server.store()
    try:
        return [info.key async for page in store.list(prefix, start_after) for info in page]
    finally:
        await store.aclose()


@pytest.mark.parametrize(
    ("pages", "text"),
    [
        ([listing(["a", "b"], token="t"), listing(["a", "b"])], "repeats or goes back"),
        ([listing(["a", "b"], token="t"), listing(["b", "c"])], "repeats or goes back"),
        ([listing(["b", "a"])], "repeats or goes back"),
        ([listing(["a", "a"])], "repeats or goes back"),
        ([listing(["a"], truncated="true")], "more"),
        ([listing(["a"], truncated="")], "whether it is the last"),
        ([listing(["a"], truncated="maybe")], "whether it is the last"),
        ([listing(["a"], token="t"), raw_error(400, "InvalidArgument")[-60:]], "XML|not <ListBucketResult>"),
        ([listing([], token="t")], "held no key"),
        ([b"<ListBucketResult><IsTruncated>false</IsTruncated>"], "not XML"),
        ([b"<html><body>welcome</body></html>"], "<html>"),
        ([b""], "not XML"),
        ([b'<?xml version="1.0" encoding="ATF-8"?><ListBucketResult/>'], "encoding is unknown"),
        ([b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult>&a;</ListBucketResult>'], "DOCTYPE"),
        ([listing(["a"]).replace(b"<Size>1</Size>", b"")], "Size"),
        ([listing(["a"]).replace(b"<Size>1</Size>", b"<Size>many</Size>")], "many"),
        ([listing(["a"]).replace(b".000Z", b"")], "zone"),
    ],
)
async def test_a_listing_that_is_not_one(raw_server: Start, pages: list[bytes], text: str) -> None:
    with pytest.raises(StoreError, match=text):
        await list_all(raw_server(pages_of(*(raw_answer(200, page) for page in pages))))


async def test_a_listing_of_something_else_is_refused(raw_server: Start) -> None:
    with pytest.raises(StoreError, match="not below"):
        await list_all(raw_server(pages_of(raw_answer(200, listing(["other/x"])))), prefix="mine/")
    with pytest.raises(StoreError, match="goes back"):
        await list_all(raw_server(pages_of(raw_answer(200, listing(["a", "b"])))), start_after="a")


async def test_a_listing_survives_faults(raw_server: Start) -> None:
    first, second = raw_answer(200, listing(["a", "b"], token="t")), raw_answer(200, listing(["c"]))
    cut = raw_answer(200, listing(["c"])[:-40], length=len(listing(["c"])))
    server = raw_server(script([raw_error(503, "SlowDown"), first, RESET, cut, second]))
    assert await list_all(server) == ["a", "b", "c"]
    assert [r.query.count("continuation-token=t") for r in server.requests] == [0, 0, 1, 1, 1]


async def test_a_listing_that_keeps_failing_ends_in_an_error(raw_server: Start) -> None:
    first = raw_answer(200, listing(["a", "b"], token="t"))
    seen: list[str] = []
    store = raw_server(script([first, RESET])).store()
    with pytest.raises(StoreError, match="no answer"):  # noqa: PT012
        async for page in store.list():
            seen += [info.key for info in page]
    assert seen == ["a", "b"]
    await store.aclose()
    with pytest.raises(AccessDenied, match="s3:ListBucket"):
        await list_all(raw_server(script([first, raw_error(403, "AccessDenied")])))


async def test_keys_that_could_be_two_things_are_ambiguous(raw_server: Start) -> None:
    async def ambiguous(page: bytes) -> list[tuple[str, bool]]:
        store = raw_server(pages_of(raw_answer(200, page))).store()
        found = [(info.key, info.ambiguous) async for infos in store.list() for info in infos]
        await store.aclose()
        return found

    plain = listing(["a%20b", "a&amp;b"], encoded=False, quote=str)
    assert await ambiguous(plain) == [("a%20b", True), ("a&b", False)]
    assert await ambiguous(listing(["a%FFb", "c"], quote=str)) == [("a\\xffb", True), ("c", False)]
    twice = listing(["it&amp;apos;s"], quote=str)  # as RGW writes it
    assert await ambiguous(twice) == [("it's", False)]
