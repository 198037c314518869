"""Whoever is cancelled while it connects leaves no connection behind."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import CancelledError

import anyio
import pytest

from s3gc.resolver import Resolver
from s3gc.sources._loop import LoopThread
from s3gc.sources.sql import SqlSource

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
async def test_a_server_that_never_answers_is_left(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        url = f"{scheme}://u:p@127.0.0.1:{silent.getsockname()[1]}/shop"
        source = SqlSource(url, {"files": ["key"]}, Resolver("my-bucket"))
        with anyio.move_on_after(0.5):
            await source.check()
        connection, _ = await anyio.to_thread.run_sync(silent.accept)
        with connection:
            connection.settimeout(20)
            while await anyio.to_thread.run_sync(connection.recv, 4096):
                pass  # what it said before it went; a timeout if it is still there
        await source.aclose()


async def test_what_is_cancelled_at_the_end_may_close_what_it_has() -> None:
    closed = threading.Event()
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(3_600)
        finally:
            for _ in range(10):  # as a connection that says goodbye
                await asyncio.sleep(0)
            closed.set()

    loop = LoopThread("test")
    async with anyio.create_task_group() as group:

        async def run() -> None:
            with pytest.raises(CancelledError):
                await loop.run(work)

        group.start_soon(run)
        await anyio.to_thread.run_sync(begun.wait)
        await loop.aclose()
        assert closed.is_set()
