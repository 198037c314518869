"""A breaker that tripped holds every later cycle until a person has acknowledged it, with a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fixtures_kernel import (  # noqa: F401
    DAY,
    FREE,
    LIVE,
    Bench,
    anyio_backend,
    bench,
    entries,
    held_by,
)
from s3gc import Reference, Safety, cycle, journal_events
from s3gc.errors import CycleHeld, SourceError
from s3gc.testing.fakes import FakeSource

pytestmark = pytest.mark.anyio

FULL = Safety.none().but(self_clearing=())
DOWN = ("source_failed", "")
EMPTY = ("no_references", "db")


class Database(FakeSource):
    """It can be down, and it can be empty."""

    down = False

    def __init__(self) -> None:
        super().__init__("db", {"1": [LIVE]})

    async def references(self) -> AsyncIterator[Reference]:
        if self.down:
            raise SourceError("connection refused")
        async for reference in super().references():
            yield reference


async def trip_down(bench: Bench, source: Database, mode: str = "execute", safety: Safety = FULL) -> None:
    """A cycle while the database is down; afterwards it is up again."""
    source.down = True
    async with bench.open(source, mode=mode, safety=safety) as gc:
        with pytest.raises(CycleHeld, match="refused"):
            await gc.plan()
    source.down = False


@pytest.mark.parametrize("mode", ["execute", "audit_only"])
@pytest.mark.parametrize("next_mode", ["execute", "audit_only"])
async def test_it_stays_when_its_cause_is_gone(bench: Bench, mode: str, next_mode: str) -> None:
    source = Database()
    await trip_down(bench, source, mode)
    async with bench.open(source, mode=next_mode, safety=FULL) as gc:
        assert held_by(await gc.plan()) == [DOWN]
        bench.clock.advance(9 * DAY)
        with pytest.raises(CycleHeld, match="refused"):
            await gc.collect()
        assert await entries(gc, "would_delete") == []
        await gc.acknowledge("source_failed", "the network was changed")
        assert held_by(await gc.plan()) == []
        assert list((await gc.collect()).deleted) == (FREE if next_mode == "execute" else [])


async def test_it_stays_when_the_registry_is_lost_and_the_process_too(bench: Bench) -> None:
    source = Database()
    await trip_down(bench, source)
    bench.lose_registry()
    assert await bench.held(source, safety=FULL) == [DOWN]


async def test_one_that_is_in_a_plan_stays_too(bench: Bench) -> None:
    """Those raised and those written into the plan are one kind."""
    source = Database()
    source.rows.clear()
    assert await bench.held(source) == [EMPTY]
    source.rows["1"] = [LIVE]
    assert await bench.held(source) == [EMPTY]
    async with bench.open(source) as gc:
        with pytest.raises(CycleHeld, match="no_references"):
            await gc.collect()
    assert bench.keys == {LIVE, *FREE}


async def test_one_that_tripped_in_the_sweep_stays_too(bench: Bench) -> None:
    source = Database()
    bench.on["batch_backed_up"] = lambda: setattr(source, "down", True)
    async with bench.open(source, safety=FULL) as gc:
        with pytest.raises(CycleHeld, match="refused"):
            await gc.collect()
        bench.on.clear()
        source.down = False
        assert held_by(await gc.plan()) == [DOWN]


async def test_an_older_plan_is_held_too(bench: Bench) -> None:
    source = Database()
    async with bench.open(source, safety=FULL) as gc:
        plan = await gc.plan()
        assert held_by(plan) == []
        source.down = True
        with pytest.raises(CycleHeld):
            await gc.plan()
        source.down = False
        with pytest.raises(CycleHeld, match="refused") as held:
            await gc.collect(plan)
        assert held.value.report is not None
        assert list(held.value.report.deleted) == []
        await gc.acknowledge("source_failed", "a restart")
        assert sorted((await gc.collect(plan)).deleted) == FREE


# --------------------------------------------------------------------------- dry runs


async def test_a_dry_run_latches_nothing(bench: Bench) -> None:
    source = Database()
    await trip_down(bench, source, "dry_run")
    async with bench.open(source, safety=FULL) as gc:
        assert held_by(await gc.plan()) == []
        assert list(await gc.breakers()) == []


async def test_a_dry_run_looks_past_what_waits_and_releases_nothing(bench: Bench) -> None:
    source = Database()
    await trip_down(bench, source)
    async with bench.open(source, mode="dry_run", safety=FULL) as gc:
        assert held_by(await gc.plan()) == []
        assert [one.code for one in await gc.breakers()] == ["source_failed"]
    assert await bench.held(source, safety=FULL) == [DOWN]


# --------------------------------------------------------------------------- those that end by themselves


async def test_a_self_clearing_one_is_over_with_its_cause(bench: Bench) -> None:
    source = Database()
    safety = FULL.but(self_clearing=["source_failed"])
    await trip_down(bench, source, safety=safety)
    assert await bench.held(source, safety=safety) == []


async def test_one_that_was_over_by_itself_does_not_come_back(bench: Bench) -> None:
    """Another configuration later doesn't make it one that stayed."""
    source = Database()
    await trip_down(bench, source, safety=FULL.but(self_clearing=["source_failed"]))
    assert await bench.held(source, safety=FULL) == []


async def test_whoever_writes_self_clearing_later_clears_what_waits(bench: Bench) -> None:
    source = Database()
    await trip_down(bench, source)
    assert await bench.held(source, safety=FULL) == [DOWN]
    assert await bench.held(source, safety=FULL.but(self_clearing=["source_failed"])) == []


@pytest.mark.parametrize("code", ["position_lost", "registry_disagrees", "identity_changed", "nonsense"])
def test_only_a_few_may_clear_themselves(code: str) -> None:
    with pytest.raises(ValueError, match="self_clearing can hold"):
        FULL.but(self_clearing=[code])


async def test_a_recovery_that_was_pending_is_over_when_it_is_done(bench: Bench) -> None:
    async with bench.open(safety=FULL) as gc:
        parts = gc._parts
        await cycle.journal(parts, "01OPEN", journal_events.OPERATION_STARTED, {"kind": "collect"})
        append = parts.vault.journal.append

        async def broken(drafts: object) -> None:
            if any(draft.event == "operation_recovered" for draft in drafts):  # type: ignore[attr-defined]
                raise SourceError("not now")
            await append(drafts)

        parts.vault.journal.append = broken
        with pytest.raises(CycleHeld, match="recovery_pending"):
            await gc.plan()
        parts.vault.journal.append = append
        assert held_by(await gc.plan()) == []


# --------------------------------------------------------------------------- acknowledging


async def test_acknowledging_names_code_subject_and_reason(bench: Bench) -> None:
    source = Database()
    source.rows.clear()
    await bench.held(source)
    source.rows["1"] = [LIVE]
    async with bench.open(source) as gc:
        with pytest.raises(ValueError, match="reason"):
            await gc.acknowledge("no_references", "  ", subject="db")
        with pytest.raises(ValueError, match="doesn't wait"):
            await gc.acknowledge("position_lost", "why not", subject="db")
        assert held_by(await gc.plan()) == [EMPTY]
        await gc.acknowledge("no_references", "a migration emptied it", subject="db")
        assert held_by(await gc.plan()) == []
        (entry,) = await entries(gc, "breaker_acknowledged")
        assert entry.data == {
            "code": "no_references",
            "subject": "db",
            "reason": "a migration emptied it",
        }


async def test_a_wrong_subject_is_refused_and_says_which_waits(bench: Bench) -> None:
    source = Database()
    await bench.held(bench.source, source)
    bench.source.lose_log()
    source.rows.clear()
    async with bench.open(bench.source, source) as gc:
        waiting = held_by(await gc.plan())
        assert sorted(waiting) == [EMPTY, ("position_lost", "following")]
        with pytest.raises(ValueError, match="'following'"):
            await gc.acknowledge("position_lost", "a failover")
        with pytest.raises(ValueError, match="'db'"):
            await gc.acknowledge("no_references", "empty so far", subject="following")
        assert sorted(held_by(await gc.plan())) == sorted(waiting)


async def test_one_that_was_not_cured_trips_again(bench: Bench) -> None:
    source = Database()
    await trip_down(bench, source)
    source.down = True
    async with bench.open(source, safety=FULL) as gc:
        await gc.acknowledge("source_failed", "it is up again, I think")
        with pytest.raises(CycleHeld, match="refused"):
            await gc.plan()
        source.down = False
        assert held_by(await gc.plan()) == [DOWN], "it tripped again, and stays again"


async def test_what_must_be_cured_passes_by_no_entry_in_the_registry(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.plan()
        bench.source.lose_log()
        await gc._parts.registry.acknowledge("position_lost", "following", "edited", bench.clock.now())
        assert held_by(await gc.plan()) == [("position_lost", "following")]


async def test_an_acknowledgement_lasts_as_long_as_its_cause(bench: Bench) -> None:
    second = FakeSource("second")
    source = Database()
    both = (source, second)
    assert await bench.held(*both) == [("no_references", "second")]
    async with bench.open(*both) as gc:
        await gc.acknowledge("no_references", "new, and empty so far", subject="second")
        assert held_by(await gc.plan()) == []
        assert held_by(await gc.plan()) == [], "the cause lasts"
        second.rows["1"] = [LIVE]
        assert held_by(await gc.plan()) == []
        second.rows.clear()
        assert held_by(await gc.plan()) == [("no_references", "second")], "the next time is another one"


async def test_each_waits_with_the_time_since_when(bench: Bench) -> None:
    source = Database()
    first = bench.clock.now()
    await trip_down(bench, source)
    bench.clock.advance(DAY)
    await trip_down(bench, source)
    source.rows.clear()
    async with bench.open(source, safety=FULL) as gc:
        second = bench.clock.now()
        assert sorted(held_by(await gc.plan())) == [EMPTY, DOWN]
        bench.clock.advance(DAY)
        waiting = {(one.code, one.subject): one for one in await gc.breakers()}
    assert {name: one.since for name, one in waiting.items()} == {DOWN: first, EMPTY: second}
    assert "refused" in waiting[DOWN].reason
    assert waiting[EMPTY].evidence == {"source": "db"}


async def test_one_that_waits_is_journalled_once(bench: Bench) -> None:
    source = Database()
    await trip_down(bench, source)
    for _ in range(3):
        await bench.held(source, safety=FULL)
    async with bench.open(source, safety=FULL) as gc:
        assert len(await entries(gc, "breaker_tripped")) == 1
