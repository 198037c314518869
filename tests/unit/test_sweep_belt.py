"""While a batch is fenced, deleted and confirmed, the next is copied: what that may change and what not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from s3gc import Collector, Safety, create_config, create_plugin_manager, sweep
from s3gc.abc import ObjectAttributes
from s3gc.errors import CycleHeld, S3GCError, SourceError, StoreError, Unsettled, VaultError
from s3gc.model import DeleteOutcome
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore

pytestmark = pytest.mark.anyio

FREE = ["free/1", "free/2", "free/3"]


class World:
    """Three free objects in batches of one, and all that is asked of store and source, in its order."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(self.clock)
        self.source = FakeSource(rows={"1": ["live"]})
        self.folder = folder
        for key in ("live", *FREE):
            self.store.upload(key, key.encode(), ObjectAttributes())
        self.clock.advance(timedelta(days=30))
        self.told: list[str] = []
        self.before: dict[str, Any] = {}  # what is told → what happens then
        self._watch()

    def _watch(self) -> None:
        get, delete, find = self.store.get, self.store.delete, self.source.find

        def reading(key: str, *, if_match: str | None = None) -> Any:
            self._tell(f"copy {key}")
            return get(key, if_match=if_match)

        async def deleting(key: str, *, if_match: str) -> DeleteOutcome:
            self._tell(f"delete {key}")
            await anyio.sleep(0.05)  # in flight
            outcome = await delete(key, if_match=if_match)
            self._tell(f"deleted {key}")
            return outcome

        async def finding(keys: Any) -> AsyncIterator[Any]:
            self._tell(f"read {sorted(set(keys) & set(FREE))}")
            async for reference in find(keys):
                yield reference

        self.store.get = reading  # type: ignore[method-assign]
        self.store.delete = deleting  # type: ignore[method-assign]
        self.source.find = finding  # type: ignore[method-assign, assignment]

    def _tell(self, what: str) -> None:
        if ".s3gc/" in what:  # the probe's and the lease's own
            return
        self.told.append(what)
        if what in self.before:
            self.before.pop(what)()

    def open(self) -> Any:
        config = create_config(
            bucket="fake-bucket",
            mode="execute",
            retention_days=0,
            vault_path=self.folder / "vault",
            safety=Safety.none().but(batch_objects=1),
        )
        return Collector.open(
            config,
            store=self.store,
            sources=[self.source],
            clock=self.clock,
            plugins=create_plugin_manager(entry_points=False),
        )

    def order(self, *told: str) -> Sequence[str]:
        """These, in the order in which they were told."""
        return [one for one in self.told if one in told]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def fails(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail


async def test_the_next_batch_is_copied_while_the_one_before_is_deleted(world: World) -> None:
    async with world.open() as gc:
        assert list((await gc.collect()).deleted) == FREE
    assert world.order("delete free/1", "copy free/2", "deleted free/1").index("copy free/2") < 2
    assert world.order("deleted free/1", "copy free/3") == ["deleted free/1", "copy free/3"], "one ahead"


async def test_no_other_batch_is_read_between_a_last_fence_and_its_confirmation(world: World) -> None:
    async with world.open() as gc:
        await gc.collect()
    reads = [one for one in world.told if one.startswith("read")]
    one, two, three = (f"read {[key]}" for key in FREE)
    # verify; then of each batch the read after its fence and the one that confirms it, side by side
    assert reads == [one, two, one, one, three, two, two, three, three, f"read {FREE}"]


async def test_a_copy_that_fails_ends_the_sweep_only_after_the_batch_before_is_confirmed(
    world: World,
) -> None:
    world.before["copy free/2"] = fails(VaultError("the disk is full"))
    async with world.open() as gc:
        with pytest.raises(CycleHeld, match="the disk is full") as held:
            await gc.collect()
        assert list(held.value.report.deleted) == ["free/1"]
        assert held.value.report.kept["batch_failed"] == 1
        events = [entry.event async for entry in gc.history()]
        assert events.count("batch_confirmed") == 1
        assert not (await gc.plan()).held_by
    assert set(world.store.contents()) >= {"live", "free/2", "free/3"}


async def test_a_store_that_fails_one_copy_costs_only_that_batch(world: World) -> None:
    world.before["copy free/2"] = fails(StoreError("503"))
    async with world.open() as gc:
        report = await gc.collect()
    assert list(report.deleted) == ["free/1", "free/3"]
    assert (report.kept["batch_failed"], len(report.errors)) == (1, 1)


async def test_what_is_copied_ahead_stays_when_the_batch_before_stops_the_sweep(world: World) -> None:
    """Its second read: the first is the one before the copy, the third would be the confirmation's."""
    seen = []

    def second() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise SourceError("the database went away")
        world.before["read ['free/1']"] = second

    world.before["read ['free/1']"] = second
    async with world.open() as gc:
        with pytest.raises(CycleHeld, match="went away") as held:
            await gc.collect()
        assert list(held.value.report.deleted) == []
        assert held.value.report.kept["batch_failed"] == 2 or "copy free/2" not in world.told
    assert "copy free/3" not in world.told
    assert set(world.store.contents()) >= {"live", *FREE}


async def test_what_is_copied_to_its_end_is_told_as_kept_when_the_batch_before_ends_the_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, over = sweep._copy, anyio.Event()

    async def copying(parts: Any, session: Any, batch: Any, *more: Any) -> None:
        await copy(parts, session, batch, *more)
        if "free/2" in batch.entries:
            over.set()

    async def finishing(*_: Any) -> None:
        await over.wait()
        raise SourceError("the database went away")

    monkeypatch.setattr(sweep, "_copy", copying)
    monkeypatch.setattr(sweep, "_finish", finishing)
    async with world.open() as gc:
        with pytest.raises(CycleHeld, match="went away") as held:
            await gc.collect()
    report = held.value.report
    assert (report.kept["batch_failed"], report.backed_up) == (1, 2), "free/1's own end tells of it, not here"
    assert set(world.store.contents()) >= {"live", *FREE}


async def test_a_backup_made_ahead_counts_after_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal has free/2's backup before free/1's confirmation, and its intent after it."""
    monkeypatch.setattr("s3gc.deletion.LOOKS", 1)
    monkeypatch.setattr("s3gc.recovery.request_life", lambda parts: timedelta(0))
    stat = world.store.stat

    async def down(key: str) -> Any:
        raise StoreError("503")

    def lost() -> None:
        world.store.stat = down  # type: ignore[method-assign]
        raise StoreError("timeout", outcome_unknown=True)

    world.before["delete free/2"] = lost
    async with world.open() as gc:
        with pytest.raises(Unsettled):
            await gc.collect()
        order = [
            (entry.event, entry.key)
            async for entry in gc.history()
            if entry.event in ("backed_up", "batch_confirmed", "delete_intended")
        ]
        assert order.index(("backed_up", "free/2")) < order.index(("batch_confirmed", None))
        world.store.stat = stat  # type: ignore[method-assign]
        report = await gc.collect()  # settles first
        assert (await gc.verify())[0].ok
    assert sorted(report.deleted) == ["free/2", "free/3"]


async def test_a_sweep_that_is_cancelled_confirms_what_it_was_deleting(world: World) -> None:
    async with world.open() as gc:
        with anyio.CancelScope() as scope:
            world.before["delete free/1"] = scope.cancel
            await gc.collect()
        assert scope.cancelled_caught
        ends = [entry.event async for entry in gc.history() if entry.event.startswith(("operation", "batch"))]
        assert "batch_confirmed" in ends
    assert set(world.store.contents()) >= {"live", "free/2", "free/3"}
    assert "free/1" not in world.store.contents()


async def test_three_batches_in_a_row_that_fail_end_the_sweep(world: World) -> None:
    for key in FREE:
        world.before[f"copy {key}"] = fails(StoreError("503"))
    async with world.open() as gc:
        with pytest.raises(S3GCError, match="3 batches in a row"):
            await gc.collect()
