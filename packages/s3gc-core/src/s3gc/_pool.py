"""A fixed pool of workers over a sequence: concurrency without a task per item."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import anyio

T = TypeVar("T")

REQUESTS_IN_FLIGHT = 64
"""Requests to the store at once (FACTS 1: throughput levels off near 64 at 20 ms a request)."""


async def each(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], *, workers: int = REQUESTS_IN_FLIGHT
) -> None:
    """Run ``work`` on every item. The first error stops the rest and is raised as it was."""
    items = items if isinstance(items, Sequence) else list(items)
    feed = iter(items)
    failed: list[BaseException] = []

    async def worker(scope: anyio.CancelScope) -> None:
        for item in feed:
            try:
                await work(item)
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below, as it was
                failed.append(error)
                scope.cancel()
                return

    async with anyio.create_task_group() as group:
        for _ in range(min(workers, len(items))):
            group.start_soon(worker, group.cancel_scope)
    if failed:
        raise failed[0]
