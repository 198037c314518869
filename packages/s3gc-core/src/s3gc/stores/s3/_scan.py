"""All of a bucket, several parts of it at once: pages in any order, complete or an error."""

from __future__ import annotations

import heapq
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from s3gc.stores.s3._ranges import ONE_LISTER, Range, Ranges
from s3gc.stores.s3._transport import Answer, Lost, NotSent
from s3gc.stores.s3._xml import GoesBack, Page

PAGES_AHEAD = 2
"""Pages for each lister that are under way or wait for the caller: all that a scan keeps in memory."""

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
    """One scan. Its threads are the store's: each asks for page after page, and the generator hands them on.

    There is no task group, which must not be held open across a ``yield``: a thread that comes back with a
    page takes up the next one itself, and ends when there is none or the caller has enough to read.
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
        self._parsing = threading.Lock()  # parsing is Python's work alone: two at once only hinder each other
        self._news: SimpleQueue[Sequence[ObjectInfo] | BaseException | None] = SimpleQueue()
        self._lock = threading.Lock()  # for all that follows, and the ranges
        self._pace = Pace(listers)
        self._running = 0
        self._waiting = 0  # pages among the news
        self._paused: list[tuple[float, int, _Asked]] = []  # a heap by the time to go on
        self._numbers = count()
        self._stopped = False

    async def pages(self) -> AsyncIterator[Sequence[ObjectInfo]]:
        """The pages; an empty bucket has none."""
        try:
            while True:
                with self._lock:
                    self._start()
                    if self._ranges.finished and not self._waiting:
                        return
                    due = self._paused[0][0] if self._paused else None
                news = await self._next_news(due)
                if isinstance(news, BaseException):
                    raise news
                if news is not None:
                    with self._lock:
                        self._waiting -= 1
                    yield news
        finally:
            with self._lock:
                self._stopped = True
            self._news.put(None)  # ends a thread that still waits for them

    async def _next_news(self, due: float | None) -> Sequence[ObjectInfo] | BaseException | None:
        """What a thread had to tell; None when only the state has changed, or a pause is over."""
        if not self._news.empty():
            await anyio.lowlevel.checkpoint()
            return self._news.get_nowait()

        def wait() -> Sequence[ObjectInfo] | BaseException | None:
            try:
                timeout = None if due is None else max(0.0, due - self._client.monotonic())
                return self._news.get(timeout=timeout)
            except Empty:
                return None

        return await anyio.to_thread.run_sync(wait, abandon_on_cancel=True)

    # ------------------------------------------------------------- under the lock

    def _start(self) -> None:
        """Start as many requests as may be under way."""
        while (asked := self._take()) is not None:
            try:
                future = self._executor.submit(self._work, asked)
            except RuntimeError as error:  # the executor is shut down
                raise _closed() from error
            future.add_done_callback(self._ended)

    def _take(self) -> _Asked | None:
        """A page to ask for now, if there is one, and room for it."""
        room = PAGES_AHEAD * self._listers - self._running - self._waiting
        if self._stopped or self._running >= self._pace.now or room <= 0:
            return None
        if self._paused and self._paused[0][0] <= self._client.monotonic():
            asked = heapq.heappop(self._paused)[2]
        else:
            if self._running + len(self._paused) >= self._listers:
                return None
            chosen = self._ranges.next()
            if chosen is None:
                return None
            asked = _Asked(chosen, self._client.backoff())
        asked.period = self._pace.period
        self._running += 1
        return asked

    def _took(self, asked: _Asked, got: Page | Answer | NotSent | Lost) -> Sequence[ObjectInfo] | None:
        """What came of an attempt: objects to deliver, if any.

        Raises:
            StoreError: the scan can't go on.
        """
        if isinstance(got, Page):
            self._pace.good()
            return self._ranges.arrived(asked.range, got) or None
        if isinstance(got, Answer):
            if got.status in _SLOW_DOWN:
                self._pace.slow_down(asked.period)
            if not may_repeat(got) or not asked.backoff.again():
                raise self._failed(got)
        elif not asked.backoff.again():
            raise self._client.unreachable(asked.backoff, got, False) from got
        due = self._client.monotonic() + asked.backoff.seconds()
        heapq.heappush(self._paused, (due, next(self._numbers), asked))
        return None

    # ------------------------------------------------------------- in the store's threads

    def _work(self, asked: _Asked) -> None:
        more: _Asked | None = asked
        while more is not None:
            more = self._ask(more)

    def _ask(self, asked: _Asked) -> _Asked | None:
        """Ask for one page; what this thread shall ask for next."""
        part = asked.range
        got: Page | Answer | NotSent | Lost
        try:
            try:
                got = fetch_page(
                    self._client,
                    part.token,
                    part.last,
                    plus_is_space=self._plus_is_space,
                    parsing=self._parsing,
                )
            except (NotSent, Lost) as error:
                got = error
            except GoesBack as error:
                if self._listers == 1:
                    raise
                raise StoreError(f"{error}; {ONE_LISTER}") from error
            with self._lock:
                self._running -= 1
                if self._stopped:
                    return None
                objects = self._took(asked, got)
                self._waiting += objects is not None
                self._news.put(objects)
                more = self._take()
                self._start()
                return more
        except BaseException as error:  # noqa: BLE001 - raised by the generator
            with self._lock:
                self._stopped = True
            self._news.put(error)
            return None

    def _ended(self, work: Future[None]) -> None:
        if work.cancelled():
            self._news.put(_closed())


def _closed() -> StoreError:
    return StoreError("the store is closed: open a new one")
