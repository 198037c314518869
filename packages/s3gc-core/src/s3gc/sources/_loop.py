"""An asyncio loop in a thread of its own, for drivers that know only asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio import get_cancelled_exc_class, to_thread

T = TypeVar("T")

_CLOSING_SECONDS = 5.0


class LoopThread:
    """Runs coroutines of asyncio for a host on asyncio or trio, whose own loop stays free.

    The thread starts at first use.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run ``function(*args)`` in the thread and wait for it. A cancelled wait cancels it there too."""
        future = asyncio.run_coroutine_threadsafe(function(*args), self._started())
        try:
            return await to_thread.run_sync(future.result, abandon_on_cancel=True)
        except get_cancelled_exc_class():
            future.cancel()
            raise

    async def aclose(self) -> None:
        """End the thread. May be called twice; a later ``run`` starts another."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            await to_thread.run_sync(thread.join)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        if tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            # What was cancelled closes its connections, which takes some turns.
            loop.run_until_complete(asyncio.wait(tasks, timeout=_CLOSING_SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
