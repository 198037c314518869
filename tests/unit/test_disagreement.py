"""Registry and direct read check each other: a row that one of them doesn't know holds all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest

from fixtures_kernel import (  # noqa: F401
    DAY,
    FREE,
    LIVE,
    Bench,
    Following,
    Scanned,
    anyio_backend,
    bench,
    entries,
    held_by,
)
from s3gc import Reference, Safety
from s3gc.errors import CycleHeld

pytestmark = pytest.mark.anyio


def drop_event(bench: Bench, key: str = "free/1") -> None:
    """A row is inserted, and the source's changes never tell."""
    with bench.source.unlogged():
        bench.source.write("2", key)


async def test_a_row_that_no_change_told_holds_with_both_evidences(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.plan()
        drop_event(bench)
        with pytest.raises(CycleHeld) as held:
            await gc.collect()
        (one,) = held.value.breakers
        assert one.code == "registry_disagrees"
        assert one.evidence["registry"] == "no reference"
        assert one.evidence["keys"] == {"free/1": "following: rows.key of row 2 names 'free/1'"}
        assert held.value.report is not None
        assert list(held.value.report.deleted) == []
        (entry,) = await entries(gc, "breaker_tripped")
        assert entry.data["evidence"]["keys"] == one.evidence["keys"]
    assert bench.keys == {LIVE, *FREE}


async def test_the_next_cycle_reads_all_rows_anew_and_waits_for_a_person(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.plan()
        drop_event(bench)
        with pytest.raises(CycleHeld):
            await gc.collect()
        bench.source.asked.clear()
        assert held_by(await gc.plan()) == [("registry_disagrees", "")]
        assert bench.source.asked == ["begin", "scan", "changes"]
        assert await gc._parts.registry.references.count_of("free/1") == 1
        await gc.acknowledge("registry_disagrees", "somebody set sql_log_bin=0")
        assert sorted((await gc.collect()).deleted) == FREE[1:]


async def test_a_disagreement_begins_every_grace_anew(bench: Bench) -> None:
    """What was lost may have named any key."""
    async with bench.open(safety=Safety.none().but(grace=DAY)) as gc:
        await gc.plan()
        bench.clock.advance(2 * DAY)
        drop_event(bench)
        with bench.source.unlogged():
            bench.source.write("3", "free/2")
            bench.source.remove("3")
        with pytest.raises(CycleHeld, match="registry_disagrees"):
            await gc.collect()
        await gc.acknowledge("registry_disagrees", "somebody set sql_log_bin=0")
        report = await gc.collect()
        assert (list(report.deleted), report.kept["in_grace"]) == ([], 2)


async def test_a_later_batch_that_disagrees_stops_the_sweep_and_confirms_the_first(bench: Bench) -> None:
    async with bench.open(safety=Safety.none().but(batch_objects=1)) as gc:
        await gc.plan()

        async def after_the_first(key: str) -> None:
            drop_event(bench, "free/3")
            bench.store.after_delete = None

        bench.store.after_delete = after_the_first
        with pytest.raises(CycleHeld, match="registry_disagrees") as held:
            await gc.collect()
        assert held.value.report is not None
        assert list(held.value.report.deleted) == ["free/1"]
        assert held.value.report.kept["batch_failed"] == 2, "free/2 was backed up already, and stays"
    assert bench.keys == {LIVE, "free/2", "free/3"}


@pytest.mark.parametrize("protects", ["folder", "parent"])
async def test_a_dropped_folder_or_parent_disagrees_too(bench: Bench, protects: str) -> None:
    async with bench.open(derived={"free/{n}": "big/{n}"}) as gc:
        await gc.plan()
        with bench.source.unlogged():
            if protects == "folder":
                bench.source.write("2", folders=["free/"])
            else:
                bench.source.write("2", "big/1")
        with pytest.raises(CycleHeld, match="registry_disagrees") as held:
            await gc.collect()
        assert len(held.value.breakers[0].evidence["keys"]) == (3 if protects == "folder" else 1)
    assert bench.keys == {LIVE, *FREE}


@pytest.mark.parametrize("kind", [Following, Scanned])
@pytest.mark.parametrize("event", ["plan_made", "batch_backed_up"])
async def test_a_row_that_only_came_later_is_no_disagreement(
    tmp_path: Path, kind: type[Following], event: str
) -> None:
    bench = Bench(tmp_path, kind)
    bench.on[event] = lambda: bench.source.write("2", "free/1")
    async with bench.open() as gc:
        report = await gc.collect()
        assert sorted(report.deleted) == FREE[1:]
        assert await gc._parts.registry.references.count_of("free/1") == 1, "it has learned of it"
    late = "referenced_now" if kind is Scanned or event == "plan_made" else "referenced"
    assert report.kept[late] == (1 if late == "referenced_now" else 2)


class Fleeting(Following):
    """A row that only the first direct read sees: it is deleted right after."""

    fleeting = False

    async def find(self, keys: Collection[str]) -> AsyncIterator[Reference]:
        async for reference in super().find(keys):
            yield reference
        if self.fleeting:
            self.fleeting = False
            with self.unlogged():
                self.remove("2")


async def test_a_row_that_went_meanwhile_is_no_disagreement(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Fleeting)
    async with bench.open() as gc:
        await gc.plan()
        plan = await gc.plan()
        drop_event(bench)
        bench.source.fleeting = True  # type: ignore[attr-defined]
        report = await gc.collect(plan)
    assert sorted(report.deleted) == FREE[1:]
    assert report.kept["referenced_now"] == 1, "it was seen once: kept for now"


async def test_a_position_lost_while_they_are_compared_holds(bench: Bench) -> None:
    async with bench.open() as gc:
        plan = await gc.plan()
        drop_event(bench)
        bench.source.lose_log()
        with pytest.raises(CycleHeld, match="position_lost"):
            await gc.collect(plan)
    assert bench.keys == {LIVE, *FREE}


async def test_only_the_sources_that_named_a_key_are_read_again(bench: Bench) -> None:
    second = Scanned(bench.clock, "second")
    second.write("1", LIVE)
    async with bench.open(bench.source, second) as gc:
        plan = await gc.plan()
        second.write("2", "free/1")
        bench.source.asked.clear()
        second.asked.clear()
        await gc.collect(plan)
    assert bench.source.asked == ["changes"], "at the fence"
    assert second.asked == ["scan"]


async def test_a_direct_read_that_misses_rows_is_caught_by_the_registry(bench: Bench) -> None:
    """The other way round: what the registry knows protects, whatever the direct read says."""
    bench.source.blind = True
    bench.on["batch_backed_up"] = lambda: bench.source.write("2", "free/1")
    async with bench.open() as gc:
        report: Any = await gc.collect()
    assert sorted(report.deleted) == FREE[1:]
    assert report.kept["referenced"] == 2
