"""Drills: backups come back into the bucket exactly, or it is told; nothing else there is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from attrs import evolve

from s3gc import Collector, create_config, create_plugin_manager, drill
from s3gc.errors import StoreError
from s3gc.model import ObjectAttributes, ObjectInfo, Share
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore
from s3gc.testing.vault_contract import ATTRIBUTES, backed_up
from s3gc.testing.vault_contract import store as store_in
from s3gc.vault import LocalVault
from s3gc.vault.scrub import scrub

pytestmark = pytest.mark.anyio

CONTENT = {f"k{n}": b"%d " % n * n for n in range(30)}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class World:
    def __init__(self, gc: Collector, store: FakeStore, vault: LocalVault, clock: FakeClock) -> None:
        self.gc, self.store, self.vault, self.clock = gc, store, vault, clock

    async def everything(self) -> set[str]:
        """All keys of the bucket, those below the reserved prefix too."""
        return {info.key async for page in self.store.list() for info in page}

    async def noted(self) -> list[dict[str, object]]:
        return [dict(entry.data) async for entry in self.gc.history(events={"drilled"})]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = FakeClock()
    store = FakeStore(clock)
    store.upload("live", b"untouched")
    vault = LocalVault(tmp_path / "vault", compressors=[], clock=clock, codec="store")
    config = create_config(bucket="memory://fake", vault_path=tmp_path / "vault", mode="execute")
    plugins = create_plugin_manager(entry_points=False)
    async with Collector.open(
        config, store=store, vault=vault, sources=[FakeSource()], plugins=plugins, clock=clock
    ) as gc:
        await store_in(vault, CONTENT)
        yield World(gc, store, vault, clock)


async def test_all_come_back_and_nothing_is_left(world: World) -> None:
    report = await world.gc.drill(7, chance=Random(1))
    assert (report.ok, report.objects, report.restored, report.problems) == (True, 7, 7, ())
    assert await world.everything() == {"live"}
    (noted,) = await world.noted()
    assert (noted["objects"], noted["restored"], noted["problems"]) == (7, 7, [])
    assert set(noted["keys"]) <= CONTENT.keys()  # type: ignore[call-overload]
    metrics = await world.gc.metrics()
    assert metrics["last_drill_problems"] == 0
    assert metrics["last_drill_at"] is not None
    everything = await world.gc.drill(1_000)
    assert (everything.restored, everything.bytes) == (len(CONTENT), sum(map(len, CONTENT.values())))


async def test_which_are_chosen_is_chance(world: World) -> None:
    for seed in range(30):
        await world.gc.drill(3, chance=Random(seed))
    assert len({key for noted in await world.noted() for key in noted["keys"]}) > 20  # type: ignore[attr-defined]


async def test_a_store_that_changes_a_byte_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.store.put

    async def put(key: str, body: object, **named: object) -> ObjectInfo:
        data = b"".join([piece async for piece in body])  # type: ignore[attr-defined]
        return await real(key, data[:-1] + b"?", **named)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "put", put)
    report = await world.gc.drill(2, chance=Random(3))
    assert not report.ok
    assert "other bytes" in report.problems[0]
    assert await world.everything() == {"live"}
    assert len((await world.noted())[0]["problems"]) == len(report.problems)  # type: ignore[arg-type]


async def test_a_store_that_loses_an_attribute_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.store.put

    async def put(key: str, body: bytes, *, attributes: ObjectAttributes, **named: object) -> ObjectInfo:
        assert attributes == ATTRIBUTES
        return await real(key, body, attributes=evolve(attributes, tags={}), **named)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "put", put)
    report = await world.gc.drill(1)
    assert (report.ok, report.restored) == (False, 0)
    assert "another tags" in report.problems[0]


async def test_a_backup_that_cannot_be_read_is_told_and_the_rest_goes_on(world: World) -> None:
    for path in (world.vault.folder / "packs").glob("*.pack"):
        data = bytearray(path.read_bytes())
        data[-5] ^= 1  # of the last frame
        path.write_bytes(data)
    report = await world.gc.drill(len(CONTENT))
    assert (report.objects, report.restored, len(report.problems)) == (30, 29, 1)


async def test_a_copy_that_cannot_be_removed_is_told_and_goes_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(key: str, *, if_match: str) -> None:
        raise StoreError("locked")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "delete", refuse)
        report = await world.gc.drill(1)
        assert not report.ok
        assert "could not be removed" in report.problems[0]
        left = await world.everything() - {"live"}
        assert len(left) == 1
        assert all(key.startswith(drill.FOLDER) for key in left)
        world.clock.advance(timedelta(days=2))
        assert any("earlier drill" in problem for problem in (await world.gc.drill(1)).problems)
    young = await world.everything() - {"live"} - left
    world.clock.advance(timedelta(hours=1))
    await world.gc.drill(1)
    assert await world.everything() == {"live", *young}  # that drill may still run
    world.clock.advance(timedelta(days=2))
    await world.gc.drill(1)
    assert await world.everything() == {"live"}


async def test_a_put_whose_answer_was_lost_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.store.put

    async def put(*arguments: object, **named: object) -> ObjectInfo:
        await real(*arguments, **named)  # type: ignore[arg-type]
        raise StoreError("no answer", outcome_unknown=True)

    monkeypatch.setattr(world.store, "put", put)
    report = await world.gc.drill(2)
    assert len(report.problems) == 2
    assert await world.everything() == {"live"}


async def test_objects_that_are_too_large_are_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill, "MOST_BYTES", 5)
    report = await world.gc.drill(1_000)
    assert report.objects == sum(len(body) <= 5 for body in CONTENT.values())


async def test_a_storage_class_is_not_given_to_the_copy(world: World) -> None:
    """An archived copy could not be read back; the backup is found all the same."""
    info = world.store.upload("cold", b"archived", evolve(ATTRIBUTES, storage_class="GLACIER"))
    async with world.vault.session("op") as session, world.store.get("cold") as reader:
        await session.add(info, reader.attributes, reader.chunks())
        await world.vault.journal.append(backed_up(await session.commit()))
    world.store.remove("cold")
    report = await world.gc.drill(1_000)
    assert (report.restored, report.problems) == (len(CONTENT) + 1, ())


async def test_metrics_tell_of_verifications_by_share(world: World) -> None:
    before = await world.gc.metrics()
    assert (before["last_verify_at"], before["last_verify_problems"], before["verified_whole_at"]) == (
        None,
    ) * 3
    for number in range(2):
        world.clock.advance(timedelta(days=1))
        await scrub(world.vault, world.clock, "op", Share(number, 2))
    told = await world.gc.metrics()
    assert told["last_verify_at"] == world.clock.now().isoformat()
    assert told["verified_whole_at"] == (world.clock.now() - timedelta(days=1)).isoformat()
    assert told["last_verify_problems"] == 0
