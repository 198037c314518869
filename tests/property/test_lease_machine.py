"""The lease against three contenders that stop, die, lose answers and have clocks that jump.

Time is virtual and each request is stepped by hand, so hypothesis finds the interleavings. What must hold: a
delete that the lease lets pass never comes after one that a later lease has let pass; a new token is greater
than all that went to work before; and whatever happened, the lease can be had again once everybody is dead.

Two of the contenders give the same holder without sharing a lock: a vault's folder that was copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from s3gc import lease
from s3gc.abc import ObjectReader, ObjectStore
from s3gc.errors import LeaseHeld, LeaseLost, PreconditionFailed, StoreError
from s3gc.lease import LEASE_PREFIX, Lease, bucket_lease
from s3gc.model import DeleteOutcome, ObjectHead, ObjectInfo, StoreCapabilities
from s3gc.safety import Safety
from s3gc.testing.fakes import FakeStore

MARGIN = 4
TTL = 12
SAFETY = Safety.none().but(lease_ttl=timedelta(seconds=TTL), lease_margin=timedelta(seconds=MARGIN))
BASE = datetime(2026, 1, 1, tzinfo=UTC)
CONTENDERS = [("A", "host 1"), ("B", "host 2"), ("A", "host 3")]
FAULTS = ["fails", "lost before", "lost after", "late"]

ALL = 200
"""More requests than any call makes."""

ORDERS = ["before_delete", "keep", "confirm", "end"]
ACTS = [*["go on"] * 5, *["start"] * 4, *ORDERS, *FAULTS, "dies", "dies in a request", "arrives"]

Step = tuple[Any, ...]


def _step(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), *arguments)


index = st.integers(0, 5)
distance = st.sampled_from([*[ALL] * 5, 0, 1, 1, 2, 3, 4, 4, 6])
acts = _step("act", st.sampled_from(ACTS), index, distance)
deletes = _step("all_delete", index, distance)
suspended = st.frozensets(st.integers(0, 2))
takeovers = _step("take_over", index, distance, suspended | st.none())
times = _step("pass_by", st.sampled_from([1, 1, MARGIN - 1, MARGIN, TTL + 1]))
suspensions = _step(
    "pass_by", st.sampled_from([MARGIN, TTL + 1]), st.frozensets(st.integers(0, 2), min_size=1)
)
jumps = _step("jump", st.integers(0, 3), st.sampled_from([-TTL - 1, -MARGIN, -1, 1, TTL + 1]))


@define
class World:
    """True time, which nobody can read, and what the contenders did in it."""

    time: int = 0
    store_offset: int = 0
    passed: list[tuple[int, int, str]] = field(factory=list)  # (true time, token, who)
    tokens: list[int] = field(factory=list)
    late: list[Callable[[], Coroutine[Any, Any, Any]]] = field(factory=list)

    def now(self) -> datetime:
        """The store's clock."""
        return BASE + timedelta(seconds=self.time + self.store_offset)

    def monotonic(self) -> float:
        raise AssertionError("the store's clock tells one time")

    def got(self, token: int, floor: int) -> None:
        """Somebody goes to work with a token; all before its creation were at most ``floor``."""
        assert token > floor, f"token {token} was created after {floor}"
        assert token not in self.tokens, f"token {token} twice"
        self.tokens.append(token)

    def passes(self, token: int, who: str) -> None:
        later = [one for one in self.passed if one[1] > token or (one[1] == token and one[2] != who)]
        assert not later, f"{who} passes with {token} at {self.time} after {later[0]}"
        self.passed.append((self.time, token, who))


class Loop(asyncio.SelectorEventLoop):
    """An event loop in virtual time that never waits."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def time(self) -> float:
        return float(self._world.time)

    def settle(self) -> None:
        """Run until everybody waits for something that isn't time's passing."""
        for _ in range(2_000):
            self.stop()
            self.run_forever()
            if not self._ready:  # type: ignore[attr-defined]
                self.stop()
                self.run_forever()  # timers that are due
                if not self._ready:  # type: ignore[attr-defined]
                    return
        raise AssertionError("never settles")


@define
class Clock:
    """A machine's clocks: monotonic stands still while suspended, wall jumps; on one machine never both."""

    world: World
    offset: int = 0
    stood: int = 0

    def now(self) -> datetime:
        return BASE + timedelta(seconds=self.world.time + self.offset)

    def monotonic(self) -> float:
        return float(self.world.time - self.stood)


@define
class Request:
    """One request at a point where the process can be stopped."""

    future: asyncio.Future[str]
    effect: Callable[[], Coroutine[Any, Any, Any]] | None  # None: it has happened, the answer is on its way
    writes: bool


class Wire(ObjectStore):
    """The bucket as one process reaches it."""

    def __init__(self, process: Process, bucket: FakeStore) -> None:
        self.url, self.bucket = bucket.url, bucket.bucket
        self._process = process
        self._bucket = bucket

    async def _send(self, effect: Callable[[], Coroutine[Any, Any, Any]], *, writes: bool) -> Any:
        fault = await self._process.stop(Request(_future(), effect, writes))
        if fault == "fails":
            raise StoreError("refused")
        if fault == "lost before":
            raise StoreError("lost", outcome_unknown=writes)
        if fault == "late":
            self._process.world.late.append(effect)
            raise StoreError("lost", outcome_unknown=writes)
        error: PreconditionFailed | None = None
        result: Any = None
        try:
            result = await effect()
        except PreconditionFailed as found:
            error = found
        fault = fault or await self._process.stop(Request(_future(), None, writes))
        if fault:
            raise StoreError("lost", outcome_unknown=writes)
        if error is not None:
            raise error
        return result

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        async def effect() -> list[Sequence[ObjectInfo]]:
            return [page async for page in self._bucket.list(prefix, start_after)]

        for page in await self._send(effect, writes=False):
            yield page

    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[ObjectReader]:
        async def effect() -> ObjectReader:
            async with self._bucket.get(key, if_match=if_match) as reader:
                return reader

        yield await self._send(effect, writes=False)

    async def put(self, key: str, body: Any, **options: Any) -> ObjectInfo:
        async def effect() -> ObjectInfo:
            if options.get("if_none_match"):
                self._process.floor = max(self._process.world.tokens, default=0)
            return await self._bucket.put(key, body, **options)

        found: ObjectInfo = await self._send(effect, writes=True)
        return found

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        found: DeleteOutcome = await self._send(
            lambda: self._bucket.delete(key, if_match=if_match), writes=True
        )
        return found

    async def now(self) -> datetime:
        found: datetime = await self._send(self._bucket.now, writes=False)
        return found

    async def head(self, key: str) -> ObjectHead | None:
        raise AssertionError

    async def probe(self) -> StoreCapabilities:
        raise AssertionError


def _future() -> asyncio.Future[str]:
    return asyncio.get_running_loop().create_future()


class Process:
    """One run of a collector, as far as the lease goes."""

    def __init__(self, world: World, clock: Clock, bucket: FakeStore, holder: str, number: int) -> None:
        self.world = world
        self.name = f"{holder} {number}"
        self.request: Request | None = None
        self.command: asyncio.Future[str] | None = None
        self.dead = False
        self.ended = ""
        self.floor = 0  # the highest token at work when ours was created
        self._ids = iter(range(1_000))
        self._clock = clock
        self._holder = holder
        self._wire = Wire(self, bucket)

    async def stop(self, request: Request) -> str:
        if self.dead:
            raise StoreError("this process is dead")
        self.request = request
        try:
            return await request.future
        finally:
            self.request = None

    async def live(self) -> None:
        try:
            async with bucket_lease(
                self._wire, self._clock, SAFETY, holder=self._holder, new_id=self._new_id
            ) as held:
                self.world.got(held.token, self.floor)
                await self._work(held)
            self.ended = "ended"
        except (LeaseHeld, LeaseLost, StoreError) as error:
            self.ended = type(error).__name__

    async def _work(self, held: Lease) -> None:
        while True:
            self.command = _future()
            command = await self.command
            self.command = None
            if command == "end":
                return
            try:
                await getattr(held, command)()
            except StoreError:
                continue
            if command == "before_delete":
                self.world.passes(held.token, self.name)

    def _new_id(self) -> str:
        return f"{self.name} {next(self._ids)}"


class LeaseMachine(RuleBasedStateMachine):
    """Three machines and a bucket."""

    @initialize(jumps=st.lists(st.booleans(), min_size=3, max_size=3))
    def begin(self, jumps: list[bool]) -> None:
        self.world = World()
        self.loop = Loop(self.world)
        self.bucket = FakeStore(self.world)
        self.clocks = [Clock(self.world) for _ in CONTENDERS]
        self.jumps = jumps  # whether the machine's wall clock jumps; else its monotonic clock may stand still
        self.processes: list[Process | None] = [None] * len(CONTENDERS)
        self.tasks: dict[Process, asyncio.Task[None]] = {}
        self.runs = 0

    # ----------------------------------------------------------------- processes

    @rule(step=st.one_of(*[acts] * 3, *[deletes] * 3, *[takeovers] * 2, *[times] * 2, suspensions, jumps))
    def step(self, step: Step) -> None:
        """One rule for all: of several, hypothesis leaves some out for a whole example."""
        getattr(self, step[0])(*step[1:])

    def take_over(self, which: int, how_far: int, suspended: frozenset[int] | None) -> None:
        """Somebody finds the lease expired, as a store's clock that runs wild can make it at any time."""
        free = self._free()
        if free:
            self.world.store_offset += TTL + 1
            process = self._start(free[which % len(free)], how_far)
            if suspended is not None:
                self.pass_by(MARGIN, suspended)
                self._go(process, how_far)

    def all_delete(self, which: int, how_far: int) -> None:
        """Whoever believes that it has the lease."""
        idle = self._idle()
        for process in idle[which % (len(idle) + 1) :] + idle[: which % (len(idle) + 1)]:
            self._order(process, "before_delete", how_far)

    def act(self, act: str, which: int, how_far: int) -> None:
        """One of the processes that can, does it."""
        idle, stopped, alive = self._idle(), self._stopped(), self._alive()
        free = self._free()
        if act == "go on" and stopped:
            self._go(stopped[which % len(stopped)], max(1, how_far))
        elif act in FAULTS and stopped:
            self._fault(stopped[which % len(stopped)], act)
        elif act in ("dies", "dies in a request") and alive:
            self._crash(alive[which % len(alive)], late=act != "dies")
        elif act == "arrives" and self.world.late:
            self._arrive(which)
        elif act in ORDERS and idle:
            self._order(idle[which % len(idle)], act, how_far)
        elif free:
            self._start(free[which % len(free)], how_far)

    def _free(self) -> list[int]:
        return [n for n in range(len(CONTENDERS)) if self._running(n) is None]

    def _start(self, machine: int, how_far: int) -> Process:
        """The lock lets one process of a machine run."""
        holder, host = CONTENDERS[machine]
        self.runs += 1
        process = Process(self.world, self.clocks[machine], self.bucket, holder, self.runs)
        self.processes[machine] = process
        self.tasks[process] = self.loop.create_task(process.live(), name=host)
        self._settle()
        self._go(process, how_far)
        return process

    def _order(self, process: Process, command: str, how_far: int) -> None:
        assert process.command is not None
        process.command.set_result(command)
        self._settle()
        self._go(process, how_far)

    def _fault(self, process: Process, fault: str) -> None:
        """A request gets lost, or its answer does."""
        assert process.request is not None
        process.request.future.set_result(fault)
        self._settle()
        self._go(process, ALL)

    def _crash(self, process: Process, *, late: bool) -> None:
        """It dies; a request that it has sent may still arrive."""
        request = process.request
        if late and request is not None and request.effect is not None and request.writes:
            self.world.late.append(request.effect)
        process.dead = True
        self.tasks[process].cancel()
        self._settle()
        assert self.tasks[process].done()

    def _arrive(self, which: int) -> None:
        """A request that everybody thought lost."""
        effect = self.world.late.pop(which % len(self.world.late))

        async def deliver() -> None:
            with suppress(PreconditionFailed):
                await effect()

        self.loop.create_task(deliver())
        self._settle()

    def _go(self, process: Process, how_far: int) -> None:
        """Requests and answers get through."""
        for _ in range(min(how_far, ALL)):
            if process.request is None:
                return
            process.request.future.set_result("")
            self._settle()
        assert how_far < ALL, "goes on for ever"

    def _running(self, machine: int) -> Process | None:
        process = self.processes[machine]
        return process if process is not None and not self.tasks[process].done() else None

    def _alive(self) -> list[Process]:
        running = [self._running(machine) for machine in range(len(CONTENDERS))]
        return [process for process in running if process is not None]

    def _idle(self) -> list[Process]:
        return [process for process in self._alive() if process.command is not None]

    def _stopped(self) -> list[Process]:
        return [process for process in self._alive() if process.request is not None]

    def _settle(self) -> None:
        self.loop.settle()
        for task in self.tasks.values():
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]

    # ----------------------------------------------------------------- time

    def pass_by(self, span: int, suspended: frozenset[int] = frozenset()) -> None:
        self.world.time += span
        for machine in suspended:
            if not self.jumps[machine]:
                self.clocks[machine].stood += span
        self._settle()

    def jump(self, machine: int, span: int) -> None:
        """With a store's clock that runs wild, leases are taken from living holders."""
        if machine == len(CONTENDERS):
            self.world.store_offset += span
        elif self.jumps[machine]:
            self.clocks[machine].offset += span

    # ----------------------------------------------------------------- the end

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self._ends_well()
        finally:
            for process in self._alive():
                process.dead = True
                self.tasks[process].cancel()
            self.loop.settle()
            self.loop.close()

    def _ends_well(self) -> None:
        for process in self._alive():
            self._crash(process, late=False)
        while self.world.late:
            self._arrive(0)
        newest = max((info.last_modified for info in self._listed()), default=self.world.now())
        self.world.store_offset += max(0, round((newest - self.world.now()).total_seconds()))
        self.pass_by(TTL + 1)
        process = self._start(1, ALL)
        self.pass_by(MARGIN)
        self._go(process, ALL)
        self._order(process, "before_delete", ALL)
        assert self.world.passed[-1][2] == process.name
        assert [info.key for info in self._listed()] == [f"{LEASE_PREFIX}{max(self.world.tokens):012d}"]

    def _listed(self) -> list[ObjectInfo]:
        return [stored.info for stored in self.bucket._objects.values()]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is on its machine's host: its task is named after it."""

    def whereabouts() -> tuple[str, int]:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name(), 1

    monkeypatch.setattr(lease, "_whereabouts", whereabouts)


def test_never_two_that_may_delete(hosts: None) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        LeaseMachine,
        settings=settings(stateful_step_count=60, max_examples=max(300, settings().max_examples)),
    )
