"""Claims against sweeps, step by step: whoever was told that an object stays finds it there.

The real claim and the real registry, a file that three processes have open; the sweep is reduced to what it
does about claims. The order of all steps comes from hypothesis.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from s3gc import _threads, claims, journal_events
from s3gc.model import BackupRecord, JournalDraft, ObjectAttributes, ObjectInfo
from s3gc.parts import Parts
from s3gc.registry import Registry
from s3gc.safety import Safety
from s3gc.testing.fakes import FakeClock, FakeStore
from s3gc.vault.records import record_to_json

KEYS = ["a", "b"]
PROCESSES = 2  # besides the collector's
SECOND = timedelta(seconds=1)
T = TypeVar("T")


@define
class World:
    """What is true, and what was promised."""

    clock: FakeClock = field(factory=FakeClock)
    rows: set[str] = field(factory=set)
    promised: dict[tuple[str, str], datetime] = field(factory=dict)  # (who, key) → until
    journal: list[JournalDraft] = field(factory=list)
    parked: list[asyncio.Future[None]] = field(factory=list)
    granted: int = 0

    async def turn(self) -> None:
        """Stop here until the schedule goes on with this task."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.parked.append(future)
        await future

    def check(self, store: FakeStore) -> None:
        there = store.contents()
        for (who, key), until in self.promised.items():
            assert key in there or self.clock.now() >= until, f"{who} was promised {key!r} until {until}"
        for key in self.rows:
            assert key in there, f"a row names {key!r}, written under a claim"


class Bucket(FakeStore):
    """Each request is a turn."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self.world = world

    async def stat(self, key: str) -> ObjectInfo | None:
        await self.world.turn()
        return await super().stat(key)

    async def put(self, key: str, body: Any, **options: Any) -> ObjectInfo:
        await self.world.turn()
        return await super().put(key, body, **options)


class Vault:
    """A journal and backups in memory."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.journal = self

    async def append(self, drafts: Sequence[JournalDraft]) -> None:
        await self.world.turn()
        self.world.journal.extend(drafts)

    async def read(self, record: Any = None, **filters: Any) -> AsyncIterator[Any]:
        """A backup's bytes, or the journal's entries: two methods in life."""
        await self.world.turn()
        if record is not None:
            yield record.key.encode()
            return
        for draft in list(self.world.journal):
            if draft.key == filters["key"] and draft.event in filters["events"]:
                yield draft


def record_of(key: str, info: ObjectInfo) -> BackupRecord:
    return BackupRecord(
        key, info.etag, info.size, "", info.last_modified, None, ObjectAttributes(), "none", 1, "here"
    )


class Application:
    """One process that claims, writes its row and lets go."""

    def __init__(self, name: str, world: World, store: Bucket, registry: Registry) -> None:
        self.name = name
        self.world = world
        self.registry = registry
        self.serial = 0
        self.parts = cast(
            Parts,
            SimpleNamespace(
                config=SimpleNamespace(safety=Safety.none()),
                store=store,
                vault=Vault(world),
                registry=registry,
                clock=world.clock,
                new_id=self._new_id,
                log=None,
            ),
        )

    def _new_id(self) -> str:
        self.serial += 1
        return f"{self.name}{self.serial}"

    async def work(self, key: str, ttl: int, writes: bool) -> None:
        if not await claims.claim(self.parts, key, ttl * SECOND):
            return
        told = [draft for draft in self.world.journal if draft.event == journal_events.CLAIMED]
        mine = [draft for draft in told if draft.data["id"].startswith(f"{self.name}1.{self.name}")]
        until = datetime.fromisoformat(mine[-1].data["until"])
        self.world.promised[self.name, key] = until
        self.world.granted += 1
        await self.world.turn()
        if writes and self.world.clock.now() < until:
            self.world.rows.add(key)
            await self.world.turn()
            del self.world.promised[self.name, key]
            await claims.release(self.parts, key)


class Sweep:
    """What a sweep does about claims, and in which order."""

    def __init__(self, world: World, store: Bucket, registry: Registry) -> None:
        self.world = world
        self.store = store
        self.registry = registry

    async def run(self, operation: str, keys: Collection[str], dies: bool) -> None:
        world, store = self.world, self.store
        await world.turn()
        fence = world.clock.now()
        await world.turn()
        named = set(world.rows)
        free = [key for key in keys if key not in named and key in store.contents()]
        await world.turn()
        claimed = await self.registry.claims.doom(operation, free, fence)
        deleted: dict[str, BackupRecord] = {}
        for key in free:
            await world.turn()
            found = store._objects.get(key)
            if key not in claimed and found is not None:
                deleted[key] = record_of(key, found.info)
                store.remove(key)
        if dies:
            await world.turn()
        await self.settle(operation, deleted)

    async def settle(self, operation: str, deleted: dict[str, BackupRecord]) -> None:
        """After the deletes, or at the next start."""
        world = self.world
        await world.turn()
        world.journal.extend(
            JournalDraft(journal_events.DELETED, operation, key, {"backup": record_to_json(record)})
            for key, record in deleted.items()
        )
        await world.turn()
        back = {key for key in deleted if key in world.rows}
        await world.turn()
        back |= set(await self.registry.claims.active(deleted, world.clock.now()))
        for key in back:
            await world.turn()
            if key not in self.store.contents():
                self.store.upload(key, key.encode())
            world.journal.append(JournalDraft(journal_events.RESURRECTED, operation, key))
        await world.turn()
        await self.registry.claims.spare(operation)


def gated(world: World, registry: Registry) -> Registry:
    """Each call of the registry is a turn before and after it."""
    for name in ("add", "is_doomed", "remove", "release", "active", "doom", "spare"):
        inner: Callable[..., Awaitable[Any]] = getattr(registry.claims, name)

        async def stepped(
            *arguments: Any, _inner: Callable[..., Awaitable[Any]] = inner, **named: Any
        ) -> Any:
            await world.turn()
            result = await _inner(*arguments, **named)
            await world.turn()
            return result

        setattr(registry.claims, name, stepped)
    return registry


async def inline(work: Callable[[], T]) -> T:
    return work()


key = st.sampled_from(KEYS)
wishes = st.lists(st.tuples(key, st.integers(1, 6), st.booleans()), min_size=1, max_size=3)
sweeps = st.lists(st.tuples(st.lists(key, unique=True, min_size=1), st.booleans()), min_size=1, max_size=3)
schedules = st.lists(st.integers(0, 7), max_size=150)


async def play(
    folder: str,
    wanted: Sequence[Sequence[tuple[str, int, bool]]],
    swept: Sequence[tuple[list[str], bool]],
    schedule: Sequence[int],
) -> World:
    world = World()
    store = Bucket(world)
    for name in KEYS:
        store.upload(name, name.encode())
    registries = [Registry(f"{folder}/registry.sqlite3") for _ in range(PROCESSES + 1)]
    for registry in registries:
        await registry.open(store.url)
        gated(world, registry)
    sweep = Sweep(world, store, registries[0])

    async def collector() -> None:
        for number, (keys, dies) in enumerate(swept):
            await sweep.run(f"operation {number}", keys, dies)

    async def application(number: int) -> None:
        one = Application("ABC"[number], world, store, registries[number + 1])
        for wish in wanted[number]:
            await one.work(*wish)

    tasks = [asyncio.ensure_future(collector())]
    tasks += [asyncio.ensure_future(application(number)) for number in range(PROCESSES)]
    order = iter(schedule)
    for step in range(3_000):
        await quiesce()
        world.check(store)
        if all(task.done() for task in tasks):
            break
        choice = next(order, step % 5)
        if choice >= 6 and step < len(schedule):
            world.clock.advance(SECOND)
        else:
            world.parked.pop(choice % len(world.parked)).set_result(None)
    else:
        raise AssertionError("never ends")
    for task in tasks:
        task.result()
    for registry in registries:
        await registry.aclose()
    return world


async def quiesce() -> None:
    """Let every task run to its next turn."""
    for _ in range(12):
        await asyncio.sleep(0)


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        pass  # the next look at the registry is a turn anyway

    monkeypatch.setattr("s3gc.claims.anyio.sleep", sleep)


@pytest.mark.usefixtures("without_pauses")
def test_what_was_promised_is_there() -> None:
    granted = 0

    @given(st.tuples(*[wishes] * PROCESSES), sweeps, schedules)
    def run(
        wanted: Sequence[Sequence[tuple[str, int, bool]]],
        swept: Sequence[tuple[list[str], bool]],
        schedule: Sequence[int],
    ) -> None:
        nonlocal granted
        with tempfile.TemporaryDirectory() as folder, _threads.run_by(inline):
            granted += asyncio.run(play(folder, wanted, swept, schedule)).granted

    run()
    assert granted > 50
