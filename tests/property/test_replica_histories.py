"""Whatever happens to a run: the replica is a prefix of the vault's history that verifies, and catches up."""

from __future__ import annotations

import base64
import itertools
import os
import random
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures_replica import (
    CALLED,
    FAULTS,
    Crash,
    FakeRemote,
    fetched,
    journal_of,
    local_vault,
    replicator_of,
)
from s3gc.errors import VaultError
from s3gc.model import JournalDraft
from s3gc.testing.vault_contract import OPERATION, STORE_URL, add, backed_up
from s3gc.vault import LocalVault, _encode
from s3gc.vault.replica import ReplicaKeys, Replicator

ACTIONS = ("back up", "journal", "leave garbage", "sync", "ensure", "restart", "forget notes", "tear", "down")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS),
        st.integers(0, 6),
        st.sampled_from((None, CALLED, *FAULTS)),
    ),
    min_size=1,
    max_size=7,
)


class Watched(FakeRemote):
    """Refuses to forget: an object that changes or goes is a failure of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, bytes] = {}

    def check(self) -> None:
        for name, data in self.seen.items():
            assert self.objects.get(name) == data, f"{name} was changed"
        self.seen = dict(self.objects)


class World:
    def __init__(self, folder: Path, keys: ReplicaKeys | None, seed: int) -> None:
        self.folder = folder
        self.keys = keys
        self.remote = Watched()
        self.random = random.Random(seed)
        self.vault: LocalVault
        self.replicator: Replicator
        self.records: list[Any] = []
        self.count = 0

    async def start(self) -> None:
        self.vault = local_vault(self.folder / "vault")
        await self.vault.open(STORE_URL)
        self.replicator = await replicator_of(self.vault, self.remote, keys=self.keys)

    async def stop(self) -> None:
        await self.replicator.aclose()
        await self.vault.aclose()

    async def back_up(self, count: int, *, commit: bool = True) -> None:
        async with self.vault.session(OPERATION) as session:
            for _ in range(count):
                self.count += 1
                await add(session, f"k{self.count}", self.random.randbytes(self.random.randrange(900)))
            if not commit:
                return
            records = await session.commit()
        await self.vault.journal.append(backed_up(records))
        self.records = list(records) or self.records

    async def act(self, action: str, number: int, fault: str | None) -> None:
        if action == "back up":
            await self.back_up(1 + number)
        elif action == "leave garbage":
            await self.back_up(1 + number, commit=False)
        elif action == "journal":
            drafts = [JournalDraft("claimed", OPERATION, None, {"n": n}) for n in range(number)]
            await self.vault.journal.append(drafts)
        elif action in ("sync", "ensure"):
            writes = partial(anyio.from_thread.run, self.back_up, 2)  # another task, in the middle of it
            self.remote.fail(fault, number, writes if fault == CALLED else None)
            await self.replicate(action)
            self.remote.fail(None)
        elif action == "down":
            self.remote.down = True
            await self.replicate("ensure")
            self.remote.down = False
        else:
            await self.stop()
            if action == "forget notes":
                for path in (self.folder / "vault").glob("replicas.*"):
                    path.unlink()
            if action == "tear":
                self.tear(number)
            await self.start()

    def tear(self, number: int) -> None:
        """What a power cut leaves: the beginning of a frame at a pack's end."""
        packs = sorted((self.folder / "vault" / "packs").glob("*.pack"))
        if packs:
            whole = packs[-1].read_bytes()
            packs[-1].write_bytes(whole + whole[: 40 + number])

    async def replicate(self, action: str) -> None:
        try:
            if action == "sync":
                await self.replicator.sync()
            elif records := self.records:
                await self.replicator.ensure(records, 2)
                assert all(self.replicator.copies(record) == 2 for record in records)
        except Crash:
            await self.stop()
            await self.start()
        except VaultError:
            assert action == "ensure"  # sync tells, ensure insists

    async def check(self) -> None:
        self.remote.check()
        if "replica.json" not in self.remote.objects:
            return
        target = self.folder / "back"
        back = await fetched(self.remote, target, self.keys)
        shutil.rmtree(target)
        assert back.problems == []
        mine = await journal_of(self.vault)
        assert back.entries == mine[: len(back.entries)]
        assert self.replicator.replicated_up_to() <= len(back.entries)


async def run(steps: list[tuple[str, int, str | None]], sealed: bool, seed: int) -> None:
    keys = ReplicaKeys({"k": bytes(range(32))}) if sealed else None
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), keys, seed)
        await world.start()
        try:
            for step in steps:
                await world.act(*step)
                await world.check()
            (status,) = await world.replicator.sync()
            assert (status.error, status.entries_behind, status.bytes_behind) == (None, 0, 0)
            assert list(status.problems) == []
            assert all(world.replicator.copies(record) == 2 for record in world.records)
            await world.check()
            back = await fetched(world.remote, Path(folder, "last"), keys)
            assert back.entries == await journal_of(world.vault)
        finally:
            await world.stop()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=STEPS, sealed=st.booleans(), seed=st.integers(0, 2**32), roll=st.sampled_from([600, 3000, 10**6])
)
def test_any_history(
    backend: str, steps: list[tuple[str, int, str | None]], sealed: bool, seed: int, roll: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_encode, "PACK_ROLL_BYTES", roll)
        anyio.run(run, steps, sealed, seed, backend=backend)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_request(fault: str) -> None:
    for number in range(12):
        anyio.run(run, [("back up", 4, None), ("sync", number, fault), ("ensure", 0, None)], False, 1)


# ---------------------------------------------------------------------------------- flipped bits


async def _small(folder: Path, keys: ReplicaKeys | None) -> tuple[FakeRemote, int]:
    vault = local_vault(folder)
    await vault.open(STORE_URL)
    async with vault.session(OPERATION) as session:
        for n in range(4):
            await add(session, f"k{n}", os.urandom(120))
        records = await session.commit()
    await vault.journal.append(backed_up(records))
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote, keys=keys)
    (status,) = await replicator.sync()
    assert status.error is None
    await replicator.aclose()
    await vault.aclose()
    return remote, len(records)


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [False, True])
def test_a_flipped_bit_in_a_replica_is_found(tmp_path: Path, sealed: bool) -> None:
    """Every object, at bytes all over it."""
    keys = ReplicaKeys({"k": base64.b64decode("A" * 43 + "=")}) if sealed else None
    remote, count = anyio.run(_small, tmp_path / "vault", keys)
    whole = dict(remote.objects)
    chance = random.Random(7)

    async def look() -> list[tuple[str, int, int]]:
        unseen: list[tuple[str, int, int]] = []
        number = 0
        for name, data in whole.items():
            places = {0, len(data) - 1, *(chance.randrange(len(data)) for _ in range(14))}
            for at in places:
                bit = chance.randrange(8)
                changed = bytearray(data)
                changed[at] ^= 1 << bit
                remote.objects = {**whole, name: bytes(changed)}
                number += 1
                try:
                    back = await fetched(remote, tmp_path / f"back{number}", keys)
                except VaultError:
                    continue
                if not back.problems:
                    unseen.append((name, at, bit))
                shutil.rmtree(tmp_path / f"back{number}")
        return unseen

    assert count == 4
    assert anyio.run(look) == []


def test_a_renamed_object_is_found(tmp_path: Path) -> None:
    """Sealed: two pieces, or two segments, that change places."""
    keys = ReplicaKeys({"k": bytes(32)})
    remote, _ = anyio.run(_small, tmp_path / "vault", keys)
    names = sorted(name for name in remote.objects if name != "replica.json")
    whole = dict(remote.objects)
    for one, other in itertools.pairwise(names):
        remote.objects = {**whole, one: whole[other], other: whole[one]}
        back = anyio.run(partial(fetched, remote, tmp_path / one.replace("/", "-"), keys))
        assert any(one in problem for problem in back.problems), one


def test_a_replica_is_sealed_wholly_or_not_at_all(tmp_path: Path) -> None:
    keys = ReplicaKeys({"k": bytes(32)})

    async def go(folder: str, first: ReplicaKeys | None, second: ReplicaKeys | None, why: str) -> None:
        remote, _ = await _small(tmp_path / folder, first)
        vault = local_vault(tmp_path / folder)
        await vault.open(STORE_URL)
        before = dict(remote.objects)
        replicator = await replicator_of(vault, remote, keys=second)
        (status,) = await replicator.sync()
        assert why in str(status.error)
        assert remote.objects == before
        await replicator.aclose()
        await vault.aclose()
        with pytest.raises(VaultError, match=why):
            await fetched(remote, tmp_path / (folder + "back"), second)

    anyio.run(go, "a", None, keys, "isn't sealed")
    anyio.run(go, "b", keys, None, "give its keys")
    anyio.run(go, "c", keys, ReplicaKeys({"other": bytes(range(32))}), "the keys given are other")
    anyio.run(go, "d", keys, ReplicaKeys({"k": bytes(range(32))}), "another key had this id")
