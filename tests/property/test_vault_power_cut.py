"""The power goes at any write of a sweep: no deleted object is ever without a readable backup.

The disk loses, tears and reorders whatever wasn't synced (``tests/power_cut.py``). The vault makes solid
blocks, shares bytes, rolls its packs, and has large objects. By default some steps are tried, others on each
event loop; ``VAULT_CUT_STRIDE=1 pytest tests/property/test_vault_power_cut.py --timeout 0`` tries all.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from power_cut import Dead, TornDisk
from s3gc import Collector, ObjectAttributes, Safety, create_config, create_plugin_manager
from s3gc.compressors import ZstdCompressor
from s3gc.lease import LEASE_PREFIX
from s3gc.model import DeleteOutcome, JournalDraft
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore
from s3gc.testing.vault_contract import add, read
from s3gc.vault import LocalVault, _encode, _session, record_to_json
from s3gc.vault._locations import index_of
from s3gc.vault.browse import Wanted, latest
from s3gc.vault.prune import forget

STRIDE = int(os.environ.get("VAULT_CUT_STRIDE", "0")) or 9

LARGE_BYTES = 60_000
"""From here on objects are streamed, here."""


def contents() -> dict[str, bytes]:
    """What is free: in the order of the keys, which is that of the batches."""
    chance = random.Random(7)
    twin, large = chance.randbytes(9_000), chance.randbytes(150_000)
    made: dict[str, bytes] = {}
    for part in "ab":
        for n in range(5):
            document = {"id": chance.randrange(10**9), "roles": ["reader"] * n, "part": part}
            made[f"{part}/doc{n}.json"] = json.dumps(document).encode()
        made[f"{part}/empty"] = b""
        made[f"{part}/large.bin"] = large
        made[f"{part}/text.txt"] = b"some text that compresses well, " * 3_000
        made[f"{part}/twin1"] = made[f"{part}/twin2"] = twin
    return made


FREE = contents()


class Bucket(FakeStore):
    """Takes no request of a process that is dead."""

    disk: TornDisk | None = None

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        self._alive()
        return await super().delete(key, if_match=if_match)

    async def put(self, key: str, *arguments: Any, **named: Any) -> Any:
        self._alive()
        return await super().put(key, *arguments, **named)

    def _alive(self) -> None:
        if self.disk is not None and self.disk.dead:
            raise Dead


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = Bucket(self.clock)
        for key, data in FREE.items():
            self.store.upload(key, data, ObjectAttributes(content_type="x/y", tags={"t": key}))
        self.store.upload("live", b"live")
        self.clock.advance(timedelta(days=30))

    def open(self, folder: Path) -> Any:
        config = create_config(
            bucket="fake-bucket",
            mode="execute",
            retention_days=0,
            vault_path=folder,
            safety=Safety.none().but(batch_objects=7),
        )
        codecs = [ZstdCompressor()]
        return Collector.open(
            config,
            store=self.store,
            sources=[FakeSource(rows={"1": ["live"]})],
            vault=LocalVault(folder, compressors=codecs, clock=self.clock, solid=ZstdCompressor()),
            clock=self.clock,
            plugins=create_plugin_manager(entry_points=False),
        )

    async def collect(self, folder: Path) -> None:
        async with self.open(folder) as gc:
            await gc.collect()


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_session, "SMALL_OBJECT_BYTES", LARGE_BYTES)
    monkeypatch.setattr(_session, "STRETCH_BYTES", 65_536)
    monkeypatch.setattr(_encode, "PACK_ROLL_BYTES", 3_000)


def causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from causes(one)
    else:
        yield error
        for one in (error.__cause__, error.__context__):
            if one is not None:
                yield from causes(one)


@contextmanager
def dies() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if not any(isinstance(one, Dead) for one in causes(error)):
            raise


def after_a_cut(folder: Path, step: int, backend: str) -> TornDisk:
    """A sweep that dies at a step, and all that is asked of what is left."""
    world = World()
    disk = TornDisk(folder / "vault", folder / "found", step, step)
    world.store.disk = disk
    with disk.watched(), dies():
        anyio.run(world.collect, folder / "vault", backend=backend)
    if disk.dead:
        world.store.disk = None
        for key in [key for key in world.store._objects if key.startswith(LEASE_PREFIX)]:
            world.store.remove(key)  # a minute later: the next process would wait for so long
        anyio.run(check, world, folder / "found", backend=backend)
    return disk


async def check(world: World, folder: Path) -> None:
    left = world.store.contents()
    assert left["live"] == b"live"
    world.clock.advance(timedelta(days=1))
    async with world.open(folder) as gc:
        vault = gc._parts.vault
        audit = await vault.journal.verify()
        assert audit.ok, audit.problems
        assert vault.problems == ()
        found = await vault.verify()
        assert found.ok, found.problems
        backups = {stored.record.key: stored.record async for stored in latest(vault, Wanted())}
        for key in FREE.keys() - left.keys():
            assert await read(vault, backups[key]) == FREE[key], key
            assert backups[key].attributes.tags == {"t": key}
        report = await gc.collect()
        assert not report.errors
        assert world.store.contents() == {"live": b"live"}
        back = await gc.restore(prefix="", dry_run=False)
        assert not back.errors
        assert world.store.contents() == FREE | {"live": b"live"}
        assert (await vault.verify()).ok


def steps_in(folder: Path) -> int:
    return after_a_cut(folder, 10**9, "asyncio").steps


async def made_of(folder: Path) -> tuple[set[str], int, int]:
    """Codecs, objects in blocks, packs."""
    world = World()
    await world.collect(folder)
    async with world.open(folder) as gc:
        records = [stored.record async for stored in latest(gc._parts.vault, Wanted())]
    blocks = [record for record in records if index_of(record.location) is not None]
    return {record.codec for record in records}, len(blocks), len(list((folder / "packs").iterdir()))


def test_the_sweep_meets_all_that_it_is_for(tmp_path: Path) -> None:
    codecs, in_blocks, packs = anyio.run(made_of, tmp_path / "vault")
    assert codecs == {"zstd", "store", "same"}
    assert in_blocks >= 8
    assert packs >= 5


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_power_cut_at_any_write_of_a_sweep(tmp_path: Path, backend: str) -> None:
    whole = steps_in(tmp_path / "whole")
    assert whole > 100
    begin = 0 if backend == "asyncio" else STRIDE // 2
    cut = {after_a_cut(tmp_path / str(step), step, backend).last for step in range(begin, whole, STRIDE)}
    assert cut >= {"pwrite", "fdatasync", "within append"}


# --------------------------------------------------------------------------- removing one for ever

ONE, NOW = "01K00000000000000000000000", "01K0000000000000000000000Z"
GONE = "a/twin1"
"""Three others share its bytes."""


async def forgets(folder: Path, begun: list[int], disk: TornDisk) -> None:
    """Fill a vault, and forget one backup; ``begun`` is told how many steps came before that."""
    clock = FakeClock()
    vault = LocalVault(folder, compressors=[ZstdCompressor()], clock=clock, solid=ZstdCompressor())
    await vault.open("memory://fake")
    try:
        async with vault.session(ONE) as session:
            for key, data in FREE.items():
                await add(session, key, data)
            made = await session.commit()
        drafts = [
            JournalDraft(event, ONE, record.key, {"backup": record_to_json(record)})
            for event in ("backed_up", "deleted")
            for record in made
        ]
        await vault.journal.append(drafts)
    finally:
        await vault.aclose()
    vault = LocalVault(folder, compressors=[ZstdCompressor()], clock=clock, solid=ZstdCompressor())
    await vault.open("memory://fake", create=False)
    begun.append(disk.steps)
    try:
        assert (await forget(vault, NOW, GONE, reason="law", dry_run=False)).problems == ()
    finally:
        await vault.aclose()


async def check_forgotten(folder: Path) -> None:
    vault = LocalVault(folder, compressors=[ZstdCompressor()], clock=FakeClock(), solid=ZstdCompressor())
    await vault.open("memory://fake", create=False)
    for again in (False, True):
        assert vault.problems == ()
        assert (await vault.journal.verify()).ok
        assert (await vault.verify()).problems == ()
        found = {stored.record.key: stored.record async for stored in latest(vault, Wanted())}
        assert found.keys() >= FREE.keys() - {GONE}
        for key, record in found.items():
            assert await read(vault, record) == FREE[key], key
        if again:
            assert GONE not in found
        elif GONE in found:
            assert (await forget(vault, NOW, GONE, reason="law", dry_run=False)).problems == ()
    await vault.aclose()


def forgotten_until(folder: Path, step: int, seed: int, backend: str) -> tuple[TornDisk, int]:
    disk = TornDisk(folder / "vault", folder / "found", step, seed)
    begun: list[int] = []
    with disk.watched(), dies():
        anyio.run(forgets, folder / "vault", begun, disk, backend=backend)
    if disk.dead:
        anyio.run(check_forgotten, folder / "found", backend=backend)
    return disk, begun[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_power_cut_at_any_write_of_forgetting(tmp_path: Path, backend: str) -> None:
    whole, begun = forgotten_until(tmp_path / "whole", 10**9, 0, backend)
    assert whole.steps > begun + 5
    cut: set[str] = set()
    for step in range(begun, whole.steps):
        for seed in range(4):
            disk, _ = forgotten_until(tmp_path / f"{step}-{seed}", step, seed, backend)
            cut.add(disk.last)
    assert cut >= {"pwrite", "fdatasync", "within append", "unlink"}
