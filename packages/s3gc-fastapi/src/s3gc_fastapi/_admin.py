"""One bucket's admin in one process: its collector, what runs, and what was asked a moment ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

import anyio
import anyio.abc
from attrs import define, frozen
from ulid import ULID

from s3gc import Collector, Config
from s3gc._log import get_logger
from s3gc.clock import Clock, SystemClock
from s3gc.config import scrub
from s3gc.errors import AlreadyCollected, CycleHeld, LeaseHeld, S3GCError
from s3gc.health import Health
from s3gc_fastapi import _checks as checks
from s3gc_fastapi._errors import Refusal
from s3gc_fastapi._follower import Follower
from s3gc_fastapi._history import History
from s3gc_fastapi._keys import Keyring, Throttle
from s3gc_fastapi._plans import Plans
from s3gc_fastapi._running import Running
from s3gc_fastapi._schedule import Schedule, Timer
from s3gc_fastapi._tracing import span

START_WITHIN = 5.0
"""Seconds that the host application's start waits for the vault at most. It is opened later, then."""

BEGIN_WITHIN = 10.0
"""Seconds that a caller waits to hear whether an operation could begin."""

REMEMBERED = 50
"""Operations of this process whose end is kept in memory."""

FRESH = 5.0
"""Seconds that health is good for."""

STATS_FRESH = 30.0
"""Seconds that totals and vault numbers are good for: they go through much of the journal."""

LONGEST_WAIT = 60.0
"""Seconds between two attempts to open the vault, at most."""

T = TypeVar("T")
Opener = Callable[[], AbstractAsyncContextManager[Collector]]


@define
class _Kept:
    """An answer, and when it was given."""

    at: float
    value: Any


@frozen
class _Serving:
    """While the application runs: the collector, and where operations run."""

    gc: Collector
    tasks: anyio.abc.TaskGroup


class Admin:
    """What all endpoints and pages share.

    Args:
        collector: one that the host opened, or
        opener: how to open one while the application runs.
        follow: keep the registry at the changes meanwhile.
    """

    def __init__(
        self,
        config: Config,
        *,
        keyring: Keyring,
        collector: Collector | None = None,
        opener: Opener | None = None,
        schedule: Schedule | None = None,
        clock: Clock | None = None,
        follow: bool = False,
    ) -> None:
        self.config = config
        self.keyring = keyring
        self.clock = clock or SystemClock()
        self.throttle = Throttle(self.clock)
        self.schedule = schedule
        self.timer: Timer | None = None
        self.history = History.new()
        self.plans = Plans.new()
        self.log = get_logger("s3gc_fastapi").bind(bucket=config.store_url)
        self.follower = Follower(self.clock, self.log, self.safe)
        self.current: Running | None = None
        self.problem: str | None = "the application hasn't started yet, or doesn't run its lifespan"
        self._given = collector
        self._opener = opener
        self._follow = follow
        self._serving: _Serving | None = None
        self._starting = False
        self._tried = anyio.Event()
        self._beside: dict[str, Running] = {}
        self._recent: OrderedDict[str, Running] = OrderedDict()
        self._kept: dict[str, _Kept] = {}
        self._locks: dict[str, anyio.Lock] = {}

    # ------------------------------------------------------------------ while the application runs

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the collector open, and the schedule. A second one inside the first does nothing.

        Never fails, and doesn't wait for long: what can't be opened now is opened later, and health tells.
        """
        if self._starting:
            yield
            return
        self._starting, self._tried = True, anyio.Event()
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._serve)
                with anyio.move_on_after(START_WITHIN):
                    await self._tried.wait()
                if self.schedule is not None:
                    self.timer = Timer(self.schedule, self.clock, self._scheduled, self._missed)
                    tasks.start_soon(self.timer.serve)
                try:
                    yield
                except Exception as error:  # noqa: BLE001 - raised below, outside of the group that would wrap it
                    failure = error
                tasks.cancel_scope.cancel()
        finally:
            self._starting = False
            self.timer = None
        if failure is not None:
            raise failure

    async def _serve(self) -> None:
        if self._given is not None:
            await self._with(self._given)
            return
        assert self._opener is not None
        wait = 1.0
        while True:
            try:
                async with self._opener() as gc:
                    await self._with(gc)
            except Exception as error:  # noqa: BLE001 - a guest must not end its host; health tells, and it goes on
                self.problem = self.safe(error)
                self.log.error("admin_not_open", error=self.problem, again_in=wait)
            self._tried.set()
            await anyio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _with(self, gc: Collector) -> None:
        """Operations end before the collector is closed: what they do at their end needs it."""
        with gc.watching(self._event):
            try:
                async with anyio.create_task_group() as operations:
                    self._serving, self.problem = _Serving(gc, operations), None
                    self._tried.set()
                    if self._follow:
                        operations.start_soon(self.follower.run, gc)
                    await anyio.sleep_forever()
            finally:
                self._serving = None
                self.problem = "the application is stopping"

    def _event(self, event: str, data: Mapping[str, Any]) -> None:
        self.follower.told(event, data)
        if self.current is not None:
            self.current.told(event, data)

    def safe(self, error: BaseException) -> str:
        """An error's text without secrets."""
        told = str(error) if isinstance(error, S3GCError) else f"{type(error).__name__}: {error}"
        return scrub(told, self.config)

    @property
    def gc(self) -> Collector:
        """The collector.

        Raises:
            Refusal: it isn't open.
        """
        if self._serving is not None:
            return self._serving.gc
        if self._given is not None:
            return self._given
        raise Refusal(503, "not_open", f"the vault isn't open: {self.problem}", headers={"retry-after": "5"})

    # ------------------------------------------------------------------ operations

    async def run(self, by: str, *, not_since: datetime | None = None) -> Running:
        """Begin a collect. See :meth:`begin`."""

        async def work(gc: Collector, own_id: str) -> Any:
            return await gc.collect(own_id=own_id, not_since=not_since)

        return await self.begin("collect", by, work)

    async def plan(self, by: str) -> Running:
        """Begin a plan. See :meth:`begin`."""

        async def work(gc: Collector, own_id: str) -> Any:
            return await gc.plan(own_id=own_id)

        return await self.begin("plan", by, work)

    async def restore(self, by: str, **chosen: Any) -> Running:
        """Begin a restore. See :meth:`begin`."""

        async def work(gc: Collector, own_id: str) -> Any:
            return await gc.restore(own_id=own_id, **chosen)

        return await self.begin("restore", by, work)

    async def missing(self, by: str) -> Running:
        """Begin to look for rows that name nothing. See :meth:`begin`."""

        async def work(gc: Collector, _own_id: str) -> Any:
            return await checks.missing(gc)

        return await self.begin("missing", by, work)

    async def verify(self, by: str, share_of: int | None) -> Running:
        """Begin to read backups again, beside whatever else runs. See :meth:`begin`."""

        async def work(gc: Collector, own_id: str) -> Any:
            return checks.verified(await gc.verify_backups(share_of=share_of, own_id=own_id), self.config)

        return await self.begin("verify", by, work, beside=True)

    async def drill(self, by: str, objects: int) -> Running:
        """Begin to restore backups by way of trial, beside whatever else runs. See :meth:`begin`."""

        async def work(gc: Collector, own_id: str) -> Any:
            return checks.drilled(await gc.drill(objects, own_id=own_id), self.config)

        return await self.begin("drill", by, work, beside=True)

    async def begin(
        self,
        kind: str,
        by: str,
        work: Callable[[Collector, str], Awaitable[Any]],
        *,
        beside: bool = False,
    ) -> Running:
        """Begin an operation, and return when it is under way or over.

        Args:
            beside: it holds up no other operation, and none of them it; only one of its own kind.

        Raises:
            Refusal: another one runs, here or elsewhere (409 with its id), or nothing can run now (503).
        """
        gc = self.gc
        serving = self._serving
        if serving is None:
            raise Refusal(503, "not_open", f"nothing can run: {self.problem}")
        before = self._beside.get(kind) if beside else self.current
        if before is not None:
            raise self._busy(before.operation_id)
        operation_id = str(ULID.from_datetime(self.clock.now()))
        running = Running(operation_id, kind, self.clock.now(), by)
        if beside:
            self._beside[kind] = running
            running.begun.set()
        else:
            self.current = running
        self._recent[operation_id] = running
        while len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        self.log.info("admin_operation_started", operation_id=operation_id, kind=kind, by=by)
        serving.tasks.start_soon(self._run, running, lambda: work(gc, operation_id))
        with anyio.move_on_after(BEGIN_WITHIN):
            await running.begun.wait()
        if isinstance(running.error, LeaseHeld):
            raise self._busy(running.error.operation_id or await self._open_elsewhere(gc)) from running.error
        return running

    def _busy(self, operation_id: str | None) -> Refusal:
        which = f"operation {operation_id}" if operation_id else "another operation"
        return Refusal(409, "busy", f"{which} is running: wait until it has ended", operation_id=operation_id)

    async def _open_elsewhere(self, gc: Collector) -> str | None:
        await self.history.refresh(gc)
        found = self.history.open()
        return found.operation_id if found else None

    async def _run(self, running: Running, work: Callable[[], Awaitable[Any]]) -> None:
        bucket, mode = str(self.config.redacted()["bucket"]), self.config.mode.value
        with span(running, bucket, mode) as ended:
            await self._do(running, work)
            ended()

    async def _do(self, running: Running, work: Callable[[], Awaitable[Any]]) -> None:
        state = "failed"
        message: str | None = "cancelled: the application stopped; the next operation settles what is open"
        try:
            done = await work()
            running.outcome = done if running.kind == "restore" else None  # a report may be long
            running.result = done if running.kind in checks.KINDS else None
            state, message = "completed", None
        except CycleHeld as held:
            running.error = held
            state, message = "held", self.safe(held)
        except (LeaseHeld, AlreadyCollected) as refused:
            running.error = refused
            state, message = "refused", self.safe(refused)
        except Exception as error:  # noqa: BLE001 - told to whoever asks for it, and to the log
            running.error = error
            message = self.safe(error)
        finally:
            if self._beside.get(running.kind) is running:
                del self._beside[running.kind]
            else:
                self.current = None
            self._kept.clear()
            running.end(state, message, self.clock.now())
            self.log.info(
                "admin_operation_ended",
                operation_id=running.operation_id,
                kind=running.kind,
                state=state,
                why=message,
            )

    def known(self, operation_id: str) -> Running | None:
        """An operation of this process, running or ended not long ago."""
        return self._recent.get(operation_id)

    def newest(self, kind: str) -> Running | None:
        """The newest operation of this process and kind that has a result."""
        return next(
            (each for each in reversed(self._recent.values()) if each.kind == kind and each.result), None
        )

    # ------------------------------------------------------------------ schedule

    async def _scheduled(self, due: datetime) -> None:
        try:
            running = await self.run("schedule", not_since=due)
        except Refusal as refused:
            self.log.warning("scheduled_run_skipped", due=due.isoformat(), why=refused.message)
            return
        await running.finished.wait()
        if running.state == "refused":
            self.log.info("scheduled_run_elsewhere", due=due.isoformat(), why=running.message)

    def _missed(self, due: datetime) -> None:
        self.log.warning("scheduled_run_missed", due=due.isoformat())

    @property
    def next_run(self) -> datetime | None:
        """When the next scheduled run begins."""
        if self.schedule is None or self.timer is None:
            return None
        return self.timer.next_run or self.schedule.after(self.clock.now())

    # ------------------------------------------------------------------ questions, asked once at a time

    async def health(self) -> Health:
        """As the collector's, at most five seconds old."""
        return await self._fresh("health", FRESH, lambda: self.gc.health())

    async def metrics(self) -> Mapping[str, Any]:
        """As the collector's, at most 30 seconds old."""
        return await self._fresh("metrics", STATS_FRESH, lambda: self.gc.metrics())

    async def vault_stats(self) -> Any:
        """As the collector's, at most 30 seconds old."""
        return await self._fresh("vault", STATS_FRESH, lambda: self.gc.vault_stats())

    def forget_answers(self) -> None:
        """What was asked before is no longer so."""
        self._kept.clear()

    async def _fresh(self, name: str, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        """Many callers, one question. An answer is dropped when an operation ends."""
        lock = self._locks.setdefault(name, anyio.Lock())
        async with lock:
            kept = self._kept.get(name)
            now = self.clock.monotonic()
            if kept is None or now - kept.at > seconds:
                kept = self._kept[name] = _Kept(now, await ask())
            found: T = kept.value
            return found
