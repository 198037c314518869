"""The coverage guard: an untracked column whose values name objects of the bucket holds the cycle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from fixtures_kernel import FREE, LIVE, Bench, Scanned, anyio_backend, bench, entries, held_by  # noqa: F401
from s3gc import Safety
from s3gc.errors import CycleHeld, SourceError
from s3gc.model import UntrackedColumn
from s3gc.registry import key_hash
from s3gc.testing.fakes import FakeClock

pytestmark = pytest.mark.anyio


class Surveyed(Scanned):
    """A database whose untracked columns a test chooses: name → values."""

    def __init__(self, clock: FakeClock, name: str = "db") -> None:
        super().__init__(clock, name)
        self.write("1", LIVE)
        self.columns_not_tracked: dict[str, Sequence[str]] = {}
        self.samples: list[int] = []
        self.broken = False

    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        self.samples.append(sample)
        if self.broken:
            raise SourceError("permission denied for information_schema")
        for name, values in self.columns_not_tracked.items():
            yield UntrackedColumn("posts", name, "text", frozenset(values), len(values))


@pytest.fixture
def source(bench: Bench) -> Surveyed:
    return Surveyed(bench.clock)


def waits_for(column: str) -> tuple[str, str]:
    return ("untracked_column", f"db:posts.{column}")


async def test_a_column_that_names_an_object_holds(bench: Bench, source: Surveyed) -> None:
    source.columns_not_tracked = {"cover": ["free/2", "nothing", "free/1"], "title": ["Hello"]}
    async with bench.open(source) as gc:
        with pytest.raises(CycleHeld) as held:
            await gc.collect()
    (one,) = held.value.breakers
    assert (one.code, one.subject) == waits_for("cover")
    assert "'free/1', 'free/2'" in one.reason
    assert one.evidence == {"keys": ["free/1", "free/2"], "found": 2, "sampled": 3}
    assert bench.keys == {LIVE, *FREE}


@pytest.mark.parametrize("values", [[], ["free", "free/", "free/10", "FREE/1", "/free/1"]])
async def test_a_column_that_names_none_does_not(
    bench: Bench, source: Surveyed, values: Sequence[str]
) -> None:
    source.columns_not_tracked = {"title": values}
    async with bench.open(source) as gc:
        assert sorted((await gc.collect()).deleted) == FREE


async def test_an_object_of_ours_is_no_object_of_the_bucket(bench: Bench, source: Surveyed) -> None:
    async with bench.open(source) as gc:
        await gc.collect()
        source.columns_not_tracked = {"lease": sorted(bench.store.reserved())}
        assert held_by(await gc.plan()) == []


async def test_two_keys_of_one_hash_are_two_keys(bench: Bench, source: Surveyed) -> None:
    async with bench.open(source, mode="dry_run") as gc:
        await gc.plan()
        listing = gc._parts.registry.listing
        assert await listing.listed_among({key_hash("free/1"): "free/1"}) == ["free/1"]
        assert await listing.listed_among({key_hash("free/1"): "another"}) == []


async def test_every_source_is_asked_and_how_much_to_look_at(bench: Bench, source: Surveyed) -> None:
    second = Surveyed(bench.clock, "second")
    second.columns_not_tracked = {"cover": [LIVE]}
    async with bench.open(source, second, safety=Safety.none().but(coverage_sample=77)) as gc:
        assert held_by(await gc.plan()) == [("untracked_column", "second:posts.cover")]
    assert source.samples == second.samples == [77]


async def test_a_schema_that_cannot_be_read_holds(bench: Bench, source: Surveyed) -> None:
    source.broken = True
    async with bench.open(source) as gc:
        with pytest.raises(CycleHeld, match="permission denied") as held:
            await gc.collect()
    assert [one.code for one in held.value.breakers] == ["source_failed"]


async def test_it_stays_until_it_is_tracked_and_acknowledged(bench: Bench, source: Surveyed) -> None:
    source.columns_not_tracked = {"cover": ["free/1"]}
    assert await bench.held(source) == [waits_for("cover")]
    source.columns_not_tracked = {}  # it is in the configuration now
    assert await bench.held(source) == [waits_for("cover")]
    async with bench.open(source) as gc:
        await gc.acknowledge("untracked_column", "tracked now", subject="db:posts.cover")
        assert held_by(await gc.plan()) == []


async def test_a_waiver_is_for_one_column_and_lasts_as_long_as_it(bench: Bench, source: Surveyed) -> None:
    source.columns_not_tracked = {"cover": ["free/1"], "log": ["free/2"]}
    async with bench.open(source) as gc:
        assert held_by(await gc.plan()) == [waits_for("cover"), waits_for("log")]
        await gc.acknowledge("untracked_column", "a log of uploads", subject="db:posts.log")
        assert held_by(await gc.plan()) == [waits_for("cover")]
        await gc.acknowledge("untracked_column", "written by nobody", subject="db:posts.cover")
        for _ in range(2):
            assert held_by(await gc.plan()) == []
        del source.columns_not_tracked["log"]
        assert held_by(await gc.plan()) == []
        source.columns_not_tracked["log"] = ["free/2"]
        assert held_by(await gc.plan()) == [waits_for("log")], "it came back: another decision"
        (first, second) = await entries(gc, "breaker_acknowledged")
        assert [first.data["reason"], second.data["reason"]] == ["a log of uploads", "written by nobody"]


async def test_it_may_be_waived_in_advance(bench: Bench, source: Surveyed) -> None:
    source.columns_not_tracked = {"log": ["free/2"]}
    async with bench.open(source) as gc:
        await gc.acknowledge("untracked_column", "a log of uploads", subject="db:posts.log")
        assert sorted((await gc.collect()).deleted) == FREE
