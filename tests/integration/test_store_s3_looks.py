"""HEAD doesn't say why it found nothing, so GET is asked; between the two an object may come."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

from collections.abc import Callable

import pytest

from fixtures_s3 import GONE, HELLO, RawHandler, RawServer, by_method, raw_answer, raw_server
from s3gc.errors import StoreError

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
NOTHING = raw_answer(404)
FOUND = raw_answer(200, b"hello", HELLO)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_an_object_that_comes_between_two_looks_is_found(raw_server: Start) -> None:
    store = raw_server(by_method(head=[NOTHING, NOTHING, FOUND], get=FOUND)).store()
    found = await store.stat("k")
    assert found is not None
    assert found.size == 5
    await store.aclose()


async def test_an_object_that_goes_again_is_missing(raw_server: Start) -> None:
    store = raw_server(by_method(head=NOTHING, get=[FOUND, GONE])).store()
    assert await store.stat("k") is None
    await store.aclose()


async def test_looks_that_never_agree_are_an_error(raw_server: Start) -> None:
    server = raw_server(by_method(head=NOTHING, get=FOUND))
    store = server.store()
    with pytest.raises(StoreError, match="HEAD says 404 where GET says that it exists"):
        await store.stat("k")
    assert len(server.sent("HEAD")) < 10
    await store.aclose()
