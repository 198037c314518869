"""All of a bucket, several parts of it at once: pages in any order, complete or an error."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import count
from queue import Empty, SimpleQueue

import anyio.lowlevel
import anyio.to_thread
from attrs import define

from s3gc.errors import StoreError
from s3gc.model import ObjectInfo
from s3gc.stores.s3._client import Backoff, Client
from s3gc.stores.s3._errors import may_repeat
from s3gc.stores.s3._listing import fetch_page
from s3gc.stores.s3._ranges import Range, Ranges
from s3gc.stores.s3._transport import Answer, Lost, NotSent
from s3gc.stores.s3._xml import Page

_SLOW_DOWN = (429, 503)


@define(eq=False)
class _Asked:
    """A page that is being asked for, from the first attempt to the last."""

    range: Range
    backoff: Backoff
    period: int = 0  # what :attr:`Pace.period` was when the attempt began


class Pace:
    """How many requests may be under way: half as many after a SlowDown, slowly more after good answers."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._now = float(most)
        self.period = 0

    @property
    def now(self) -> int:
        return int(self._now)

    def good(self) -> None:
        self._now = min(self._most, self._now + 1 / self._now)

    def slow_down(self, period: int) -> None:
        """Count a SlowDown once for all requests that were under way together."""
        if period == self.period:
            self.period += 1
            self._now = max(1.0, self._now / 2)


class Scanner:
    """One scan. The generator itself starts the requests, in the store's threads, and waits for any of them.

    There is no task group: one must not be held open across a ``yield``.
    """

    def __init__(
        self,
        client: Client,
        executor: ThreadPoolExecutor,
        failed: Callable[[Answer], StoreError],
        ranges: Ranges,
        *,
        listers: int,
        plus_is_space: bool,
    ) -> None:
        self._client = client
        self._executor = executor
        self._failed = failed
        self._ranges = ranges
        self._listers = listers
        self._plus_is_space = plus_is_space
        self._pace = Pace(listers)
        self._done: SimpleQueue[tuple[_Asked, Future[Page | Answer]] | None] = SimpleQueue()
        self._running: set[Future[Page | Answer]] = set()
        self._paused: list[tuple[float, int, _Asked]] = []  # a heap by the time to go on
        self._numbers = count()
        self._ready: deque[Sequence[ObjectInfo]] = deque()

    async def pages(self) -> AsyncIterator[Sequence[ObjectInfo]]:
        """The pages; an empty bucket has none."""
        try:
            while True:
                self._submit()
                if self._ready:
                    await anyio.lowlevel.checkpoint()
                    yield self._ready.popleft()
                elif self._ranges.finished:
                    return
                else:
                    self._handle(await self._wait())
                while not self._done.empty():
                    self._handle(self._done.get_nowait())
        finally:
            for future in tuple(self._running):
                future.cancel()
            self._done.put(None)  # ends a thread that still waits for an answer

    # ------------------------------------------------------------- asking

    def _submit(self) -> None:
        """Start as many requests as may be under way. Pages that wait for the caller hold new ones back."""
        while len(self._running) < self._pace.now and len(self._running) + len(self._ready) < self._ahead:
            if self._paused and self._paused[0][0] <= self._client.monotonic():
                asked = heapq.heappop(self._paused)[2]
            elif len(self._running) + len(self._paused) >= self._listers:
                return
            else:
                chosen = self._ranges.next()
                if chosen is None:
                    return
                asked = _Asked(chosen, self._client.backoff())
            self._start(asked)

    @property
    def _ahead(self) -> int:
        return 2 * self._listers

    def _start(self, asked: _Asked) -> None:
        asked.period = self._pace.period
        part = asked.range
        try:
            future = self._executor.submit(
                fetch_page, self._client, part.token, part.last, plus_is_space=self._plus_is_space
            )
        except RuntimeError as error:  # the executor is shut down
            raise _closed() from error
        self._running.add(future)
        future.add_done_callback(lambda done: self._done.put((asked, done)))

    async def _wait(self) -> tuple[_Asked, Future[Page | Answer]] | None:
        """The next answer; None when a pause is over first."""
        pause = max(0.0, self._paused[0][0] - self._client.monotonic()) if self._paused else None

        def get() -> tuple[_Asked, Future[Page | Answer]] | None:
            try:
                return self._done.get(timeout=pause)
            except Empty:
                return None

        return await anyio.to_thread.run_sync(get, abandon_on_cancel=True)

    # ------------------------------------------------------------- answers

    def _handle(self, answered: tuple[_Asked, Future[Page | Answer]] | None) -> None:
        if answered is None:
            return
        asked, future = answered
        self._running.discard(future)
        try:
            got = future.result()
        except CancelledError as error:
            raise _closed() from error
        except (NotSent, Lost) as error:
            if not self._again(asked):
                raise self._client.unreachable(asked.backoff, error, False) from error
        else:
            if isinstance(got, Page):
                self._pace.good()
                objects = self._ranges.arrived(asked.range, got)
                if objects:
                    self._ready.append(objects)
                return
            if got.status in _SLOW_DOWN:
                self._pace.slow_down(asked.period)
            if not may_repeat(got) or not self._again(asked):
                raise self._failed(got)

    def _again(self, asked: _Asked) -> bool:
        """Ask for the same page once more after a pause; False: that has been tried often enough."""
        if not asked.backoff.again():
            return False
        due = self._client.monotonic() + asked.backoff.seconds()
        heapq.heappush(self._paused, (due, next(self._numbers), asked))
        return True


def _closed() -> StoreError:
    return StoreError("the store is closed: open a new one")
