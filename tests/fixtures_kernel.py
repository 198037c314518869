"""A bench for tests of the safety kernel: a bucket whose deletes can be watched, a followed source."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from s3gc import Collector, ObjectAttributes, Safety, create_config, create_plugin_manager, hookimpl
from s3gc.abc import RESERVED_PREFIX
from s3gc.model import DeleteOutcome
from s3gc.testing.fakes import FakeClock, FakeFollowingSource, FakeStore

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
LIVE = "live"
FREE = ["free/1", "free/2", "free/3"]


class Bucket(FakeStore):
    """A bucket; a test may act right before and after each delete of an object that isn't s3gc's own."""

    before_delete: Callable[[str], Awaitable[None]] | None = None
    after_delete: Callable[[str], Awaitable[None]] | None = None

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        ours = key.startswith(RESERVED_PREFIX)
        if self.before_delete and not ours:
            await self.before_delete(key)
        outcome = await super().delete(key, if_match=if_match)
        if self.after_delete and not ours:
            await self.after_delete(key)
        return outcome

    def reserved(self) -> set[str]:
        """The keys of s3gc's own objects."""
        return {key for key in self._objects if key.startswith(RESERVED_PREFIX)}


class Following(FakeFollowingSource):
    """A followed source that tells what it was asked."""

    def __init__(self, clock: FakeClock, name: str = "following") -> None:
        super().__init__(clock, name)
        self.asked: list[str] = []
        self.blind = False  # a direct read finds nothing

    async def begin(self) -> Any:
        self.asked.append("begin")
        return await super().begin()

    async def scan(self) -> Any:
        self.asked.append("scan")
        async for batch in super().scan():
            yield batch

    async def changes(self, after: Any, until: Any) -> Any:
        self.asked.append("changes")
        async for batch in super().changes(after, until):
            yield batch

    async def find(self, keys: Any) -> Any:
        if self.blind:
            return
        async for reference in FakeFollowingSource.references(self):
            if reference.prefix or reference.key in keys:
                yield reference


class Scanned(Following):
    """The same place, read as a whole in each cycle."""

    follows_changes = False


class Bench:
    """One row that names ``live``, and three free objects, all 30 days old."""

    def __init__(self, folder: Path, source: type[Following] = Following) -> None:
        self.clock = FakeClock()
        self.store = Bucket(self.clock)
        self.source = source(self.clock)
        self.folder = folder
        self.on: dict[str, Callable[[], None]] = {}
        """What to do at an event of s3gc's, by its name."""
        self.plugins: list[object] = []
        for key in (LIVE, *FREE):
            self.store.upload(key, key.encode(), ObjectAttributes(content_type="text/plain"))
        self.source.write("1", LIVE)
        self.clock.advance(30 * DAY)

    @property
    def keys(self) -> set[str]:
        """What is in the bucket."""
        return set(self.store.contents())

    def open(self, *sources: Any, **options: Any) -> Any:
        """A collector that waits for nothing unless ``options`` say so."""
        known: dict[str, Any] = {
            "bucket": "fake-bucket",
            "mode": "execute",
            "retention_days": 0,
            "vault_path": self.folder / "vault",
            "safety": Safety.none(),
        }
        plugins = create_plugin_manager(entry_points=False)
        for plugin in (_Listener(self), *self.plugins):
            plugins.register(plugin)
        return Collector.open(
            create_config(**known | options),
            store=self.store,
            sources=sources or [self.source],
            clock=self.clock,
            plugins=plugins,
        )

    async def held(self, *sources: Any, **options: Any) -> list[tuple[str, str]]:
        """(code, subject) of what holds a plan of a collector opened for it."""
        async with self.open(*sources, **options) as gc:
            return held_by(await gc.plan())

    def lose_registry(self) -> None:
        """As when its file was deleted."""
        for path in (self.folder / "vault").glob("registry.sqlite3*"):
            path.unlink()


class _Listener:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @hookimpl
    def s3gc_event(self, event: str, data: Any) -> None:
        if event in self._bench.on:
            self._bench.on[event]()


def held_by(plan: Any) -> list[tuple[str, str]]:
    """(code, subject) of what holds a plan."""
    return [(breaker.code, breaker.subject) for breaker in plan.held_by]


async def entries(gc: Any, *events: str) -> list[Any]:
    """Journal entries of these kinds."""
    return [entry async for entry in gc.history(events=set(events))]


async def since(gc: Any, key: str) -> datetime:
    """Since when the registry counts a key as free, to a sweep."""
    return (await observed(gc, key))[0]


async def observed(gc: Any, key: str) -> tuple[datetime, int]:
    """Since when, and in how many cycles, the registry has seen a key free, as a sweep is told."""
    parts = gc._parts
    info = await parts.store.stat(key)
    (found,) = await parts.registry.listing.candidates_among(
        [info], parts.clock.now(), parts.protection.hashes
    )
    return found.unreferenced_since, found.observations


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
