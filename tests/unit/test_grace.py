"""Grace runs from when a key became free, as far as known; any change that names it starts it anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from fixtures_kernel import (  # noqa: F401
    DAY,
    FREE,
    HOUR,
    LIVE,
    Bench,
    Following,
    Scanned,
    anyio_backend,
    bench,
    observed,
    since,
)
from s3gc import Safety
from s3gc.model import ChangeBatch, Position

pytestmark = pytest.mark.anyio

GRACE = Safety.none().but(grace=3 * DAY)


class Clocked(Following):
    """Its clock is off by ``skew``; with None it tells no time at all."""

    skew: timedelta | None = timedelta(0)

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        async for batch in super().changes(after, until):
            known = batch.at is not None and self.skew is not None
            yield evolve(batch, at=batch.at + self.skew if known else None)  # type: ignore[operator]


async def test_it_runs_from_the_time_of_the_change(bench: Bench) -> None:
    bench.source.write("2", "free/1")
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        bench.clock.advance(DAY)
        bench.source.remove("2")
        gone = bench.clock.now()
        bench.clock.advance(DAY)
        await gc.plan()
        assert await observed(gc, "free/1") == (gone, 1)
        bench.clock.advance(2 * DAY)
        assert sorted((await gc.collect()).deleted) == FREE


async def test_it_runs_from_the_first_look_where_nobody_tells_changes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Scanned)
    bench.source.write("2", "free/1")
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        bench.source.remove("2")
        bench.clock.advance(DAY)
        await gc.plan()
        assert await since(gc, "free/1") == bench.clock.now()


async def test_a_source_whose_clock_is_behind_shortens_no_grace(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Clocked)
    bench.source.write("2", "free/1")
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        last_sync = bench.clock.now()
        bench.clock.advance(HOUR)
        bench.source.skew = -9 * DAY  # type: ignore[attr-defined]
        bench.source.remove("2")
        await gc.plan()
        assert await since(gc, "free/1") == last_sync, "until then it was known to be referenced"
        bench.clock.advance(HOUR)
        assert "free/1" not in (await gc.collect()).deleted


async def test_a_source_whose_clock_is_ahead_lengthens_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Clocked)
    bench.source.write("2", "free/1")
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        bench.source.skew = DAY  # type: ignore[attr-defined]
        bench.source.remove("2")
        await gc.plan()
        assert await since(gc, "free/1") == bench.clock.now() + DAY


async def test_a_change_without_a_time_happened_when_it_was_told(tmp_path: Path) -> None:
    """Not when the fence began that it came before: that may be a while earlier."""

    class Slow(Clocked):
        skew = None

        async def fence(self, timeout: timedelta) -> Position:
            if "2" in self.rows and self.released is not None:
                bench.clock.advance(HOUR)
                self.remove("2")
            return await super().fence(timeout)

    bench = Bench(tmp_path, Slow)
    bench.source.write("2", "free/1")
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        bench.clock.advance(DAY)
        await gc.plan()
        assert "2" not in bench.source.rows
        assert await since(gc, "free/1") == bench.clock.now()


@pytest.mark.parametrize("how", ["insert and delete", "one batch", "an update away and back", "a folder"])
async def test_what_names_a_key_between_two_cycles_starts_it_anew(bench: Bench, how: str) -> None:
    """A scan would not have seen it at all."""
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        bench.clock.advance(2 * DAY)
        await gc.plan()
        assert (await observed(gc, "free/1"))[1] == 2
        bench.clock.advance(DAY)
        bench.source.per_batch = 9 if how == "one batch" else 1
        if how == "an update away and back":
            bench.source.write("1", LIVE, "free/1")
            bench.source.write("1", LIVE)
        else:
            bench.source.write("2", *([] if how == "a folder" else ["free/1"]), folders=["free/"])
            bench.source.remove("2")
        named = bench.clock.now()
        bench.clock.advance(HOUR)
        await gc.plan()
        assert await observed(gc, "free/1") == (named, 1)
        report = await gc.collect()
        assert "free/1" not in report.deleted
        assert report.kept["in_grace"] == (1 if how == "an update away and back" else 3)


async def test_a_change_that_only_speaks_of_a_key_starts_it_anew(bench: Bench) -> None:
    """The registry knows nothing of an old value that the source tells: it speaks of the key all the same."""
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        with bench.source.unlogged():
            bench.source.write("2", "free/1")
        bench.clock.advance(4 * DAY)
        bench.source.remove("2")
        assert sorted((await gc.collect()).deleted) == FREE[1:]
        assert await observed(gc, "free/1") == (bench.clock.now(), 1)


async def test_a_parent_that_is_named_names_what_is_derived(bench: Bench) -> None:
    derived = {"free/{n}": "big/{n}"}
    async with bench.open(safety=GRACE, derived=derived) as gc:
        await gc.plan()
        bench.clock.advance(4 * DAY)
        bench.source.write("2", "big/1")
        bench.source.write("3", folders=["big/"])
        bench.source.remove("2")
        bench.source.remove("3")
        bench.clock.advance(HOUR)
        assert list((await gc.collect()).deleted) == []
        bench.source.write("2", "big/1")
        bench.source.remove("2")
        bench.clock.advance(3 * DAY - HOUR)
        assert sorted((await gc.collect()).deleted) == FREE[1:], "the folder's grace is over, not the key's"


@pytest.mark.parametrize("how", ["key", "folder", "parent", "the parent's folder"])
@pytest.mark.parametrize("event", ["batch_verified", "batch_backed_up"])
async def test_what_names_a_key_between_plan_and_delete_keeps_it(bench: Bench, how: str, event: str) -> None:
    """A row came and went while the batch was at work: no read saw it, its changes tell."""

    def came_and_went() -> None:
        folders = {"folder": ["free/1/"], "the parent's folder": ["big/"]}.get(how, [])
        keys = {"key": ["free/1"], "parent": ["big/1"]}.get(how, [])
        bench.source.write("2", *keys, folders=folders)
        bench.source.remove("2")

    bench.store.upload("free/1/below", b"")
    bench.clock.advance(DAY)
    bench.on[event] = came_and_went
    async with bench.open(derived={"free/{n}/below": "big/{n}"}) as gc:
        plan = await gc.plan()
        report = await gc.collect(plan)
    kept = {"free/1", "free/1/below"} & set(bench.keys)
    expected = {
        "key": {"free/1"},
        "folder": {"free/1/below"},
        "parent": {"free/1/below"},
        "the parent's folder": {"free/1/below"},
    }[how]
    assert kept == expected
    assert report.kept.get("too_few_observations", 0) == len(expected)


async def test_two_observations_are_needed_however_long_it_is_free(bench: Bench) -> None:
    bench.source.write("2", "free/1")
    safety = Safety.none().but(grace=DAY, min_observations=2)
    async with bench.open(safety=safety) as gc:
        await gc.plan()
        bench.source.remove("2")
        bench.clock.advance(9 * DAY)
        report = await gc.collect()
        assert sorted(report.deleted) == FREE[1:]
        assert report.kept["too_few_observations"] == 1
        assert list((await gc.collect()).deleted) == ["free/1"]


async def test_what_a_held_cycle_was_told_is_not_forgotten(bench: Bench) -> None:
    """Its changes are applied and nothing is observed: the next good cycle begins the grace at the change."""
    safety = GRACE.but(max_reference_drop=0.4)
    bench.source.write("2", "free/1")
    async with bench.open(safety=safety, mode="dry_run") as gc:
        await gc.plan()
        bench.clock.advance(4 * DAY)
        bench.source.remove("2")
        bench.source.write("2", "free/2")
        gone = bench.clock.now()
        bench.source.remove("2")
        bench.clock.advance(HOUR)
        assert (await gc.plan()).held_by
        bench.source.write("3", LIVE)
        bench.clock.advance(HOUR)
        plan = await gc.plan()
        assert list(plan.held_by) == []
        assert [entry.object.key for entry in plan] == ["free/3"]
        assert await observed(gc, "free/1") == await observed(gc, "free/2") == (gone, 1)
