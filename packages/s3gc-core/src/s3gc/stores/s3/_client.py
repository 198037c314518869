"""Requests with retries, on asyncio and trio: each attempt is one hop into a worker thread."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeVar

import anyio
import anyio.to_thread
from attrs import frozen

from s3gc.clock import Clock
from s3gc.errors import StoreError
from s3gc.stores.s3._errors import may_repeat, was_rejected
from s3gc.stores.s3._lane import Plain
from s3gc.stores.s3._options import S3Options
from s3gc.stores.s3._transport import Answer, Call, Lost, NotSent, Transport

T = TypeVar("T")

_READS = frozenset({"GET", "HEAD"})


@frozen
class Reply:
    """An answer, and whether an earlier attempt of the same request may have been carried out too."""

    answer: Answer
    doubtful: bool


class Backoff:
    """When to try again: bounded in attempts and in time, pauses with full jitter."""

    def __init__(self, options: S3Options, clock: Clock, rng: random.Random) -> None:
        self._options = options
        self._clock = clock
        self._rng = rng
        self._end = clock.monotonic() + options.deadline
        self.attempts = 0

    def again(self) -> bool:
        """Count one attempt that failed; whether there may be another."""
        self.attempts += 1
        return self.attempts < self._options.attempts and self._clock.monotonic() < self._end

    def seconds(self) -> float:
        """How long to wait before the next attempt."""
        most = min(self._options.backoff_most, self._options.backoff_first * 2 ** (self.attempts - 1))
        return self._rng.uniform(0, most)

    async def pause(self) -> None:
        await anyio.sleep(self.seconds())


class Client:
    """Sends calls through a transport. One per store."""

    def __init__(
        self,
        transport: Transport,
        options: S3Options,
        clock: Clock,
        rng: random.Random,
        max_connections: int,
        where: str,
    ) -> None:
        self.options = options
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._max = max_connections
        self._where = where
        self._limiter: anyio.CapacityLimiter | None = None

    def close(self) -> None:
        self._transport.close()

    def backoff(self) -> Backoff:
        return Backoff(self.options, self._clock, self._rng)

    def monotonic(self) -> float:
        """The clock that the pauses go by."""
        return self._clock.monotonic()

    def send(self, call: Call) -> Answer:
        """One attempt, in the caller's thread. Raises as :meth:`Transport.send`."""
        return self._transport.send(call)

    async def in_thread(self, work: Callable[[], T], *, abandon: bool = False) -> T:
        """Run ``work`` in a thread of this store's own number of them.

        Args:
            abandon: on cancellation leave the thread to itself; only for what changes nothing.
        """
        if self._limiter is None:  # made here: it belongs to the event loop
            self._limiter = anyio.CapacityLimiter(self._max)
        return await anyio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=abandon)

    async def request(self, call: Call, *, repeat: bool = True) -> Reply:
        """Send ``call`` until there is an answer that a repetition wouldn't better.

        Args:
            repeat: sending it twice does no harm. If not, it is sent again only when the attempt before
                certainly was not carried out: no connection, or the server says that it rejected it.

        Raises:
            StoreError: no answer; with ``outcome_unknown`` when a write may have been carried out.
        """
        backoff = self.backoff()
        doubtful = False
        while True:
            try:
                answer = await self.in_thread(
                    lambda: self._transport.send(call), abandon=call.method in _READS
                )
            except NotSent as error:
                if not backoff.again():
                    raise self.unreachable(backoff, error, doubtful) from error
            except Lost as error:
                doubtful = call.method not in _READS
                if not repeat or not backoff.again():
                    raise self.unreachable(backoff, error, doubtful) from error
            else:
                if not may_repeat(answer):
                    return Reply(answer, doubtful)
                rejected = was_rejected(answer)
                if not (repeat or rejected) or not backoff.again():
                    return Reply(answer, doubtful)
                doubtful = doubtful or (not rejected and call.method not in _READS)
            await backoff.pause()

    async def plain_answers(
        self,
        wanted: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        then: Callable[[Sequence[tuple[int, Plain | None]]], Sequence[T]],
    ) -> AsyncIterator[Sequence[T]]:
        """Read many small objects at once; groups of answers, as they come.

        Args:
            wanted: of each its key, and its ETag as If-Match wants it.
            headers: what all these requests have besides.
            then: what is made of a group, in the thread that has it. None stands for what isn't plain.

        Raises:
            AccessDenied, StoreError: there are no credentials, the store is closed.
        """
        run = self._transport.run(wanted, headers)
        if run is None:
            return

        def step() -> Sequence[T] | None:
            return then(group) if (group := run.group()) else None

        try:
            while (group := await self.in_thread(step, abandon=True)) is not None:
                yield group
        finally:
            run.stop()

    def unreachable(self, backoff: Backoff, error: Exception, doubtful: bool) -> StoreError:
        times = f"{backoff.attempts} attempts" if backoff.attempts > 1 else "one attempt"
        return StoreError(f"no answer from {self._where} after {times}: {error}", outcome_unknown=doubtful)
