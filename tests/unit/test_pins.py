"""A bucket is bound to its sources: another database is held, not obeyed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from s3gc import Collector, Safety, create_config, create_plugin_manager
from s3gc.errors import CycleHeld
from s3gc.model import SourceIdentity
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Database(FakeSource):
    """A database with a system identifier, reached under some name."""

    def __init__(self, name: str, identifier: str, version: str = "15.1") -> None:
        super().__init__(name, {"1": ["live"]})
        self.details = {"system_identifier": identifier, "server_version": version}

    async def check(self) -> SourceIdentity:
        return SourceIdentity(self.name, "postgresql", self.details)


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(self.clock)
        self.folder = folder
        for key in ("live", "free"):
            self.store.upload(key, b"")
        self.clock.advance(timedelta(days=9))

    def open(self, *sources: FakeSource, mode: str = "execute") -> Any:
        config = create_config(
            bucket="fake-bucket",
            mode=mode,
            retention_days=0,
            vault_path=self.folder / "vault",
            safety=Safety.none(),
        )
        return Collector.open(
            config,
            store=self.store,
            sources=sources,
            clock=self.clock,
            plugins=create_plugin_manager(entry_points=False),
        )

    async def held(self, *sources: FakeSource) -> list[str]:
        async with self.open(*sources) as gc:
            return [breaker.code for breaker in (await gc.plan()).held_by]


PRODUCTION = Database("prod", "7001")


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    assert await world.held(PRODUCTION) == []
    return world


async def test_the_same_database_by_another_name_or_version_is_the_same(world: World) -> None:
    assert await world.held(Database("prod-replica-promoted", "7001", "16.0")) == []


async def test_another_database_is_held_and_deletes_nothing(world: World) -> None:
    async with world.open(Database("prod", "7002")) as gc:
        with pytest.raises(CycleHeld, match="system_identifier 7002"):
            await gc.collect()
    assert set(world.store.contents()) == {"live", "free"}


async def test_a_source_that_is_missing_or_new_is_held(world: World) -> None:
    second = Database("second", "7002")
    assert await world.held(PRODUCTION, second) == ["identity_changed"]
    async with world.open(PRODUCTION, second) as gc:
        await gc.acknowledge("identity_changed", "the shop has a database of its own now")
        assert (await gc.plan()).held_by == []
    assert await world.held(PRODUCTION, second) == []
    assert await world.held(second, PRODUCTION) == [], "their order means nothing"
    assert await world.held(PRODUCTION) == ["identity_changed"]


async def test_pins_outlive_the_registry(world: World) -> None:
    for path in (world.folder / "vault").glob("registry.sqlite3*"):
        path.unlink()
    assert await world.held(Database("prod", "7002")) == ["identity_changed"]


async def test_a_dry_run_and_a_held_cycle_bind_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open(Database("staging", "6"), mode="dry_run") as gc:
        await gc.plan()
    empty = Database("half restored", "5")
    empty.rows.clear()
    assert await world.held(empty) == ["no_references"]
    assert await world.held(PRODUCTION) == ["no_references"], "a breaker stays until it is acknowledged"
    async with world.open(PRODUCTION) as gc:
        [waiting] = await gc.breakers()
        await gc.acknowledge(waiting.code, "a database was half restored", subject=waiting.subject)
    assert await world.held(PRODUCTION) == []
    async with world.open(Database("staging", "6"), mode="dry_run") as gc:
        assert [breaker.code for breaker in (await gc.plan()).held_by] == ["identity_changed"]
        entries = [entry async for entry in gc.history(events={"sources_pinned"})]
    assert [entry.data["sources"] for entry in entries] == [
        [{"kind": "postgresql", "system_identifier": "7001"}]
    ]


async def test_a_source_without_details_is_known_by_its_name(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert await world.held(FakeSource("cms", {"1": ["live"]})) == []
    assert await world.held(FakeSource("cms", {"1": ["live"]})) == []
    assert await world.held(FakeSource("wiki", {"1": ["live"]})) == ["identity_changed"]
