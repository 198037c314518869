"""An event loop without a clock of its own: when nothing is ready, time jumps to the next timer.

No selector, no sockets, no threads: all that a simulated world waits for is a timer or another task.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
"""When every simulation begins."""

MOST_STEPS = 200_000
"""Callbacks of one schedule; one that needs more runs in circles."""


class Stuck(BaseException):
    """The simulation can't go on: everything waits for ever, or it runs in circles."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order in which they became ready; the time is the one of the last timer."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self._now = 0.0
        self._pauses: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    async def pause(self, seconds: float) -> None:
        """As ``asyncio.sleep``, at half the cost."""
        waiter = self.create_future()
        self._count += 1
        heapq.heappush(self._pauses, (self._now + seconds, self._count, waiter))
        await waiter

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        timers: Any = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        pauses = self._pauses
        while pauses and pauses[0][2].done():  # cancelled
            heapq.heappop(pauses)
        if not ready:
            due = [timers[0]._when] if timers else []
            if pauses:
                due.append(pauses[0][0])
            if not due:
                raise Stuck("deadlock: nothing is ready and no timer is set")
            self._now = max(self._now, min(due))
        while pauses and pauses[0][0] <= self._now:
            waiter = heapq.heappop(pauses)[2]
            if not waiter.done():
                waiter.set_result(None)
        while timers and timers[0]._when <= self._now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        count = len(ready)
        self.steps += count
        if self.steps > MOST_STEPS:
            raise Stuck(f"it runs in circles: more than {MOST_STEPS} steps")
        for _ in range(count):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is dropped when its time comes

    def _write_to_self(self) -> None:
        pass  # there is no other thread that could wake us

    def _process_events(self, event_list: Any) -> None:
        raise AssertionError("a simulation has no events from outside")

    def run_to_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` and close the loop. Raises what it raises, and :class:`Stuck`."""
        try:
            return self.run_until_complete(work)
        finally:
            self.close()

    # ------------------------------------------------------------------ the loop as a Clock

    def now(self) -> datetime:
        """The present, of a clock that goes right."""
        return self.at(self._now)

    def at(self, seconds: float) -> datetime:
        """The date of a moment of the simulation."""
        return EPOCH + timedelta(microseconds=round(seconds * 1e6))

    def monotonic(self) -> float:
        return self._now
