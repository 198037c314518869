"""Blocking work goes through here: into a worker thread, or where a simulation runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread

T = TypeVar("T")

Runner = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a piece of blocking work and gives its result."""

_runner: ContextVar[Runner | None] = ContextVar("s3gc_threads", default=None)


async def run(work: Callable[[], T], *, limiter: anyio.CapacityLimiter | None = None) -> T:
    """Run ``work`` off the event loop; ``limiter`` bounds how many run at once."""
    runner = _runner.get()
    if runner is None:
        return await anyio.to_thread.run_sync(work, limiter=limiter)
    return cast(T, await runner(work))


@contextmanager
def run_by(runner: Runner) -> Iterator[None]:
    """In this context, and in tasks begun in it, blocking work is run by ``runner``."""
    token = _runner.set(runner)
    try:
        yield
    finally:
        _runner.reset(token)
