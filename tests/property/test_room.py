"""Whatever is backed up, no more is on its way at one time than memory is meant for, and all arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from s3gc import backup
from s3gc._pool import Room
from s3gc.abc import BackupSession, ObjectReader
from s3gc.clock import SystemClock
from s3gc.model import BackupRecord, ObjectAttributes, ObjectInfo
from s3gc.testing.fakes import FakeStore

MIB = 1 << 20
sizes = st.integers(0, 4 * MIB) | st.integers(0, 2 * backup.LARGE_BYTES) | st.just(1000 * MIB)


class Watched(FakeStore):
    """Objects that claim to be large, and what of them is on its way, from when they are asked for."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(SystemClock())
        self.sizes = {f"{index:04d}": size for index, size in enumerate(sizes)}
        self.listed = [evolve(self.upload(key, b""), size=size) for key, size in self.sizes.items()]
        self.now = self.most = self.at_once = self.most_at_once = 0

    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[ObjectReader]:
        counts = min(self.sizes[key], backup.LARGE_BYTES)
        self.now, self.at_once = self.now + counts, self.at_once + 1
        self.most, self.most_at_once = max(self.most, self.now), max(self.most_at_once, self.at_once)
        try:
            async with super().get(key, if_match=if_match) as reader:
                claims = evolve(reader.info, size=self.sizes[key])
                yield cast(
                    Any, SimpleNamespace(info=claims, attributes=reader.attributes, chunks=reader.chunks)
                )
        finally:
            self.now, self.at_once = self.now - counts, self.at_once - 1


class Session(BackupSession):
    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.taken: list[str] = []

    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        for _ in range(self.turns):
            await anyio.lowlevel.checkpoint()
        self.taken.append(info.key)

    async def commit(self) -> Sequence[BackupRecord]:
        return []


class Journal:
    async def append(self, drafts: Sequence[object]) -> None:
        assert not drafts


async def backed_up(store: Watched, session: Session) -> None:
    parts = SimpleNamespace(
        store=store, vault=SimpleNamespace(journal=Journal()), config=SimpleNamespace(backup_copies=1)
    )
    with anyio.fail_after(20):
        await backup.back_up(cast(Any, parts), session, store.listed, "op")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(st.lists(sizes, max_size=120), st.integers(0, 5))
def test_what_is_on_its_way_has_room(backend: str, sizes: list[int], turns: int) -> None:
    store, session = Watched(sizes), Session(turns)
    anyio.run(backed_up, store, session, backend=backend)
    assert sorted(session.taken) == sorted(store.sizes)
    assert store.most <= backup.ON_THEIR_WAY_BYTES
    assert store.now == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_two_large_ones_or_many_small_ones(backend: str) -> None:
    large, small = Watched([1000 * MIB] * 20), Watched([1000] * 200)
    anyio.run(backed_up, large, Session(3), backend=backend)
    anyio.run(backed_up, small, Session(3), backend=backend)
    assert (large.most_at_once, small.most_at_once) == (2, 64)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4), st.integers(-1, 6)), max_size=30))
def test_whoever_gives_up_leaves_no_room_taken(backend: str, askers: list[tuple[int, int, int]]) -> None:
    """Tasks that ask, hold, and are cancelled at any moment: what they had comes back, and nobody hangs."""
    room, held, most = Room(20, 10), 0, 0

    async def ask(size: int, turns: int, scope: anyio.CancelScope) -> None:
        nonlocal held, most
        with scope:
            async with room.of(size):
                held += min(size, 10)
                most = max(most, held)
                try:
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                finally:
                    held -= min(size, 10)

    async def give_up(after: int, scope: anyio.CancelScope) -> None:
        if after >= 0:
            for _ in range(after):
                await anyio.lowlevel.checkpoint()
            scope.cancel()

    async def run() -> None:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for size, turns, after in askers:
                    scope = anyio.CancelScope()
                    tasks.start_soon(ask, size, turns, scope)
                    tasks.start_soon(give_up, after, scope)
            for _ in range(2):  # all of it is free again
                async with room.of(10), room.of(10):
                    pass

    anyio.run(run, backend=backend)
    assert most <= 20
