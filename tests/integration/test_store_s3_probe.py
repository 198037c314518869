"""What a probe finds out about servers that differ, and what the store does then."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from fixtures_s3 import (
    FakeS3,
    RawHandler,
    RawRequest,
    RawServer,
    listing,
    raw_answer,
    raw_error,
    raw_server,
)
from s3gc.errors import AccessDenied, PreconditionFailed, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes
from s3gc.stores.s3 import S3Options

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
NONE = ObjectAttributes()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("how", ["honoured", "ignored", "refused"])
async def test_a_probe_tells_what_the_server_does(raw_server: Start, how: str) -> None:
    fake = FakeS3(delete_condition=how, put_condition=how)
    server = raw_server(fake)
    store = server.store()
    capabilities = await store.probe()
    assert capabilities.conditional_delete is (how == "honoured")
    assert capabilities.conditional_put is (how == "honoured")
    assert fake.objects == {}
    old = await store.put("k", b"old", size=3, attributes=NONE)
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"other", size=5, attributes=NONE, if_none_match=True)
    new = await store.put("k", b"new", size=3, attributes=NONE)
    assert await store.delete("k", if_match=old.etag) is DeleteOutcome.CHANGED
    assert await store.delete("k", if_match=new.etag) is DeleteOutcome.DELETED
    assert await store.delete("k", if_match=new.etag) is DeleteOutcome.MISSING
    await store.aclose()


@pytest.mark.parametrize("counts", [True, False])
async def test_tags_are_asked_for_unless_their_number_is_told(raw_server: Start, counts: bool) -> None:
    fake = FakeS3(counts_tags=counts, objects={"k": (b"x", {})})
    server = raw_server(fake)

    async def requests(options: S3Options, probed: bool) -> int:
        store = server.store(options=options)
        if probed:
            await store.probe()
        fake.objects["tagged"] = (b"x", {"x-amz-tagging": "a=b"})
        async with store.get("tagged") as reader:
            assert reader.attributes.tags == {"a": "b"}
        server.requests.clear()
        async with store.get("k") as reader:
            assert reader.attributes.tags == {}
        await store.aclose()
        return len(server.requests)

    assert await requests(S3Options(), probed=False) == 2
    assert await requests(S3Options(), probed=True) == (1 if counts else 2)
    assert await requests(S3Options(trust_tag_count=False), probed=True) == 2


async def test_a_probe_learns_how_listings_write_a_plus(raw_server: Start) -> None:
    store = raw_server(FakeS3(plus_stays=True, objects={"a b": (b"x", {}), "a+b": (b"x", {})})).store()
    await store.probe()
    assert [info.key async for page in store.list() for info in page] == ["a b", "a+b"]
    await store.aclose()


async def test_a_probe_learns_that_etags_are_not_md5(raw_server: Start) -> None:
    fake = FakeS3(etag=lambda body: hashlib.sha256(body).hexdigest()[:32], objects={"k": (b"hello", {})})
    store = raw_server(fake).store()
    with pytest.raises(StoreError, match="ETag"):
        async with store.get("k") as reader:
            [chunk async for chunk in reader.chunks()]
    assert (await store.probe()).details["etag_is_md5"] == "no"
    async with store.get("k") as reader:
        assert [chunk async for chunk in reader.chunks()] == [b"hello"]
    await store.aclose()


@pytest.mark.parametrize("fails", ["GET", "HEAD", "DELETE"])
async def test_a_probe_that_fails_cleans_up(raw_server: Start, fails: str) -> None:
    fake = FakeS3()

    def handler(request: RawRequest) -> bytes:
        if request.method == fails and (fails != "DELETE" or "if-match" in request.headers):
            return raw_error(403, "AccessDenied")
        return fake(request)

    store = raw_server(handler).store()
    with pytest.raises(AccessDenied):
        await store.probe()
    assert fake.objects == {}
    await store.aclose()


async def test_a_listing_that_lags_fails_the_probe(raw_server: Start) -> None:
    fake = FakeS3()
    store = raw_server(lambda r: raw_answer(200, listing([])) if "list-type" in r.query else fake(r)).store()
    with pytest.raises(StoreError, match="just written"):
        await store.probe()
    assert fake.objects == {}
    await store.aclose()
