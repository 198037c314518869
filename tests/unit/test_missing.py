"""References to objects that don't exist, over all sources: nothing too many, nothing too few."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from fixtures_kernel import DAY, FREE, LIVE, Bench, Following, Scanned, anyio_backend, bench  # noqa: F401
from s3gc import Reference
from s3gc.abc import ReferenceSource
from s3gc.errors import CycleHeld, LeaseHeld, SourceError
from s3gc.missing import Missing
from s3gc.reading import likely

pytestmark = pytest.mark.anyio


class Told(ReferenceSource):
    """Tells just these references."""

    name = "told"

    def __init__(self, *references: Reference) -> None:
        self.all: Sequence[Reference] = references
        self.error: Exception | None = None

    async def references(self) -> AsyncIterator[Reference]:
        for one in self.all:
            yield one
        if self.error is not None:
            raise self.error


async def missing(bench: Bench, *sources: Any, **options: Any) -> list[Missing]:
    async with bench.open(*sources, mode="dry_run", **options) as gc:
        return [one async for one in gc.missing()]


async def test_every_source_is_asked(bench: Bench) -> None:
    bench.source.write("2", "gone/a", "gone/b")
    second = Scanned(bench.clock, "second")
    second.write("7", "gone/a")
    second.write("8", "free/1")
    assert await missing(bench, bench.source, second) == [
        Missing("following", "rows", "key", "2", ["gone/a", "gone/b"]),
        Missing("second", "rows", "key", "7", ["gone/a"]),
    ]


async def test_one_reading_that_exists_is_enough(bench: Bench) -> None:
    source = Told(
        Reference("media/live", "t", "1", "c"),
        Reference(LIVE, "t", "1", "c"),
        Reference("media/live", "t", "1", "other"),
        Reference("media/live", "u", "1", "c"),
        Reference("media/live", "t", "2", "c"),
    )
    assert [(one.table, one.column, one.row_id) for one in await missing(bench, source)] == [
        ("t", "other", "1"),
        ("u", "c", "1"),
        ("t", "c", "2"),
    ]


async def test_readings_of_one_row_may_lie_in_two_batches(bench: Bench) -> None:
    class Batches(Told):
        async def scan(self) -> AsyncIterator[Any]:
            batches = [batch async for batch in super().scan()]
            for reference in batches[0].references:
                yield type(batches[0])([reference])

    readings = [Reference("media/live", "t", "1", "c"), Reference(LIVE, "t", "1", "c")]
    assert await missing(bench, Batches(*readings)) == []
    assert await missing(bench, Batches(*reversed(readings))) == []
    assert len(await missing(bench, Batches(*readings, Reference("gone", "t", "2", "c")))) == 1


async def test_a_folder_may_be_empty(bench: Bench) -> None:
    bench.source.write("2", folders=["nothing/", "free/"])
    assert await missing(bench) == []


async def test_keys_are_compared_exactly(bench: Bench) -> None:
    bench.store.upload("é", b"")
    bench.source.write("2", "LIVE")
    bench.source.write("3", "free")
    bench.source.write("4", "free/")
    bench.source.write("5", "e\u0301")
    bench.source.write("6", "é")
    assert [one.row_id for one in await missing(bench)] == ["2", "3", "4", "5"]


async def test_what_s3gc_deleted_is_missing_when_a_row_names_it(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.collect()
        bench.source.write("2", "free/1")
        assert [one.row_id async for one in gc.missing()] == ["2"]
        await gc.restore(key="free/1", dry_run=False)
        assert [one async for one in gc.missing()] == []


async def test_it_looks_at_the_bucket_as_it_is_now_and_changes_nothing(bench: Bench) -> None:
    bench.source.write("2", "late")
    async with bench.open() as gc:
        plan = await gc.plan()
        assert len([one async for one in gc.missing()]) == 1
        bench.store.upload("late", b"")
        assert [one async for one in gc.missing()] == []
        assert sorted((await gc.collect(plan)).deleted) == FREE
        names = {entry.event async for entry in gc.history()}
    assert "late" in bench.keys
    assert names.isdisjoint({"breaker_tripped", "operation_failed"})


@pytest.mark.parametrize("error", [SourceError("down"), RuntimeError("a bug in a plugin")])
async def test_a_source_that_breaks_half_way_holds(bench: Bench, error: Exception) -> None:
    source = Told(Reference("gone", "t", "1", "c"))
    source.error = error
    with pytest.raises(CycleHeld, match=r"down|a bug in a plugin"):
        await missing(bench, source)


async def test_no_other_operation_runs_at_the_same_time(bench: Bench) -> None:
    bench.source.write("2", "gone")
    async with bench.open() as gc, bench.open() as other:
        report = gc.missing()
        assert (await anext(report)).row_id == "2"
        with pytest.raises(LeaseHeld):
            await other.collect()
        await report.aclose()
        await other.collect()


async def test_a_followed_source_is_not_disturbed(bench: Bench) -> None:
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        bench.source.write("2", "gone")
        assert len([one async for one in gc.missing()]) == 1
        bench.source.asked.clear()
        await gc.plan()
    assert bench.source.asked == ["changes"]
    assert isinstance(bench.source, Following)


async def test_a_row_that_names_a_folder_need_not_name_an_object_of_that_name(bench: Bench) -> None:
    source = Told(
        Reference("albums/1", "t", "1", "folder"),
        Reference("albums/1/", "t", "1", "folder", prefix=True),
        Reference("gone", "t", "1", "file"),
        Reference("albums/2", "t", "2", "folder"),
        Reference("albums/2/", "t", "2", "folder", prefix=True),
    )
    assert [(one.column, one.row_id) for one in await missing(bench, source)] == [("file", "1")]


def test_of_a_values_readings_the_likely_ones_come_first() -> None:
    keys = ["x", "camera", "raw/r1.dng", "s3://b/raw/r1.dng", "/"]
    assert sorted(keys, key=likely)[:2] == ["raw/r1.dng", "s3://b/raw/r1.dng"]
