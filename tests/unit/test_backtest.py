"""What the past says of a grace: each kind of return is noted, and "safe" is said only with reason."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from fixtures_kernel import DAY, FREE, HOUR, Bench, Scanned, anyio_backend, bench  # noqa: F401
from s3gc import Safety
from s3gc.backtest import Absence, Policy, Verdict, judge, suggest
from s3gc.errors import CycleHeld
from s3gc.registry import _absences

pytestmark = pytest.mark.anyio

GRACE = Safety.none().but(grace=3 * DAY)


async def plan_daily(gc: Any, bench: Bench, days: int) -> None:
    for _ in range(days):
        bench.clock.advance(DAY)
        await gc.plan()


def hows(found: Any) -> list[tuple[str, str]]:
    return [(one.key, one.how) for one in found.absences]


async def test_nothing_is_known_before_the_first_cycle(bench: Bench) -> None:
    async with bench.open(safety=GRACE) as gc:
        found = await gc.backtest()
        assert (found.begun, found.judgement.verdict) == (None, Verdict.UNKNOWN)
        assert found.suggested_grace is None


async def test_a_row_that_names_a_key_again_ends_an_absence(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Scanned)
    async with bench.open(safety=GRACE, mode="dry_run") as gc:
        await gc.plan()
        begun = bench.clock.now()
        await plan_daily(gc, bench, 2)
        seen = bench.clock.now()
        bench.source.write("2", FREE[0])
        await plan_daily(gc, bench, 1)
        (one,) = (await gc.backtest()).absences
        back = bench.clock.now()
        known = (one.key, one.how, one.since, one.seen, one.back, one.observations)
        assert known == (FREE[0], "referenced", begun, seen, back, 3)
        assert one.after is None, "it was free when the first cycle looked"
        bench.source.remove("2")
        await plan_daily(gc, bench, 3)
        bench.source.write("2", FREE[0])
        await plan_daily(gc, bench, 1)
        second = max((await gc.backtest()).absences, key=lambda one: one.since)
        assert second.after == back, "the cycle before knew it to be named"
        assert (second.least, second.length) == (2 * DAY, 4 * DAY)


async def test_a_reference_that_came_and_went_ends_an_absence(bench: Bench) -> None:
    async with bench.open(safety=GRACE, mode="dry_run") as gc:
        await plan_daily(gc, bench, 3)
        bench.source.write("2", FREE[0])
        bench.source.remove("2")
        await plan_daily(gc, bench, 1)
        assert hows(await gc.backtest()) == [(FREE[0], "spoken_of")]


async def test_a_claim_ends_an_absence(bench: Bench) -> None:
    async with bench.open(safety=GRACE, mode="dry_run") as gc:
        await plan_daily(gc, bench, 3)
        bench.clock.advance(HOUR)
        assert await gc.claim(FREE[0], 5 * HOUR)
        (one,) = (await gc.backtest()).absences
        assert (one.how, one.back) == ("claimed", bench.clock.now())


async def test_what_the_direct_read_finds_ends_an_absence(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Scanned)
    async with bench.open(safety=Safety.none()) as gc:
        plan = await gc.plan()
        bench.source.write("2", FREE[0])
        await gc.collect(plan)
        assert (FREE[0], "found") in hows(await gc.backtest())


async def test_a_row_that_names_what_has_gone_tells_that_it_was_deleted_too_early(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Scanned)
    async with bench.open(safety=Safety.none()) as gc:
        assert sorted((await gc.collect()).deleted) == FREE
        await plan_daily(gc, bench, 1)
        assert not (await gc.backtest()).absences
        assert (await gc.backtest()).gone == len(FREE)
        bench.source.write("2", FREE[0])
        await plan_daily(gc, bench, 1)
        found = await gc.backtest()
        (one,) = found.absences
        assert (one.how, one.deleted, found.deleted, found.needed) == ("after_it_went", True, 3, 1)
        assert found.judgement.verdict is Verdict.UNSAFE
        assert found.gone == len(FREE) - 1


async def test_a_reference_to_what_has_gone_that_came_and_went_tells_it_too(bench: Bench) -> None:
    async with bench.open(safety=Safety.none()) as gc:
        assert sorted((await gc.collect()).deleted) == FREE
        await plan_daily(gc, bench, 1)
        bench.source.write("2", FREE[0])
        bench.source.remove("2")
        await plan_daily(gc, bench, 1)
        assert hows(await gc.backtest()) == [(FREE[0], "after_it_went")]


async def test_what_was_put_there_again_is_nobodys_fault(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Scanned)
    async with bench.open(safety=Safety.none()) as gc:
        await gc.collect()
        await plan_daily(gc, bench, 1)
        bench.store.upload(FREE[0], b"new")
        bench.source.write("2", FREE[0])
        await plan_daily(gc, bench, 1)
        assert not (await gc.backtest()).absences


async def test_what_a_sweep_put_back_and_what_a_person_restored_count(bench: Bench) -> None:
    async def late(key: str) -> None:
        if key == FREE[1]:
            bench.source.write("2", FREE[1])

    bench.store.after_delete = late
    async with bench.open(safety=Safety.none()) as gc:
        await gc.collect()
        await gc.restore(key=FREE[0], dry_run=False)
        found = await gc.backtest()
        assert sorted(hows(found)) == [(FREE[0], "restored"), (FREE[1], "resurrected")]
        assert (found.deleted, found.needed) == (3, 2)
        assert found.judgement.verdict is Verdict.UNSAFE
        assert found.judgement.would_go == 2


async def test_a_batch_that_nobody_could_confirm_tells_nothing(bench: Bench) -> None:
    rows = bench.source.rows

    async def gone(_: str) -> None:
        bench.source.rows = None  # type: ignore[assignment]

    bench.store.after_delete = gone
    async with bench.open(safety=Safety.none()) as gc:
        with pytest.raises(CycleHeld):
            await gc.collect()
        bench.source.rows = rows
        found = await gc.backtest()
        assert bench.keys >= set(FREE), "all are back"
        assert not found.absences


async def test_a_lost_position_begins_the_watch_anew(bench: Bench) -> None:
    async with bench.open(safety=GRACE, mode="dry_run") as gc:
        await plan_daily(gc, bench, 9)
        assert (await gc.backtest()).watched == 8 * DAY
        await gc._parts.registry.references.lose_position("following", None)
        assert (await gc.backtest()).begun is None
        await plan_daily(gc, bench, 1)
        assert (await gc.backtest()).begun == bench.clock.now()


async def test_it_stays_small(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("MOST_ABSENCES", 2), ("MOST_CYCLES", 4), ("MOST_GONE", 1)):
        monkeypatch.setattr(_absences, name, most)
    async with bench.open(safety=GRACE, mode="dry_run") as gc:
        await plan_daily(gc, bench, 2)
        for days, key in ((1, FREE[0]), (1, FREE[1]), (1, FREE[2])):
            bench.source.write(key, key)
            await plan_daily(gc, bench, days)
        found = await gc.backtest()
        assert [one.key for one in found.absences] == [FREE[2], FREE[1]], "the longest stay"
        assert (found.dropped, found.cycles) == (1, 4)
        for key in FREE:
            bench.source.remove(key)
        await plan_daily(gc, bench, 1)
        for key in FREE:
            bench.store.remove(key)
        await plan_daily(gc, bench, 1)
        assert (await gc.backtest()).gone == 1


async def test_a_registry_of_before_gets_the_tables(bench: Bench) -> None:
    async with bench.open(safety=GRACE, mode="dry_run") as gc:
        await plan_daily(gc, bench, 1)
    with sqlite3.connect(bench.folder / "vault" / "registry.sqlite3") as registry:
        for name in ("observed", "absences", "gone"):
            registry.execute(f"DROP TABLE {name}")
    registry.close()
    async with bench.open(safety=GRACE, mode="dry_run") as gc:
        assert (await gc.backtest()).begun is None
        await plan_daily(gc, bench, 1)
        assert (await gc.backtest()).begun == bench.clock.now()


# --------------------------------------------------------------------------- the judgement

AT = datetime(2026, 1, 1, tzinfo=UTC)
ONE = Absence("k", AT, AT - DAY, AT + 2 * DAY, AT + 3 * DAY, 3, AT - 30 * DAY, "referenced")


@pytest.mark.parametrize(
    ("policy", "watched", "verdict"),
    [
        (Policy(2 * DAY), 90 * DAY, Verdict.UNSAFE),
        (Policy(2 * DAY, 4), 90 * DAY, Verdict.TIGHT),
        (Policy(2 * DAY + HOUR), 90 * DAY, Verdict.TIGHT),
        (Policy(4 * DAY), 90 * DAY, Verdict.TIGHT),
        (Policy(4 * DAY + HOUR), 90 * DAY, Verdict.SAFE),
        (Policy(5 * DAY), 10 * DAY - HOUR, Verdict.UNKNOWN),
        (Policy(5 * DAY), 10 * DAY, Verdict.SAFE),
        (Policy(2 * DAY, 1, 32 * DAY), 90 * DAY, Verdict.UNSAFE),
        (Policy(2 * DAY, 1, 33 * DAY), 90 * DAY, Verdict.TIGHT),
        (Policy(2 * DAY, 1, 34 * DAY), 90 * DAY, Verdict.SAFE),
    ],
)
def test_verdicts(policy: Policy, watched: timedelta, verdict: Verdict) -> None:
    assert judge([ONE], policy, watched).verdict is verdict


def test_a_grace_of_none_needs_a_day_of_watching() -> None:
    assert judge([], Policy(timedelta(0)), DAY - HOUR).verdict is Verdict.UNKNOWN
    assert judge([], Policy(timedelta(0)), DAY).verdict is Verdict.SAFE


def test_what_was_deleted_needs_no_further_observation() -> None:
    assert judge([evolve(ONE, deleted=True)], Policy(2 * DAY, 99), 90 * DAY).verdict is Verdict.UNSAFE


def test_nothing_is_safe_while_something_is_left_out() -> None:
    assert judge([], Policy(DAY), 90 * DAY, whole=False).verdict is Verdict.UNKNOWN
    assert suggest([], 90 * DAY, whole=False)[0] is None


@pytest.mark.parametrize(
    ("absences", "watched", "grace"),
    [
        ([ONE], 90 * DAY, 8 * DAY),
        ([ONE], 16 * DAY, 8 * DAY),
        ([ONE], 16 * DAY - HOUR, None),
        ([], 2 * DAY, DAY),
        ([], DAY, None),
    ],
)
def test_suggestions(absences: list[Absence], watched: timedelta, grace: timedelta | None) -> None:
    assert suggest(absences, watched)[0] == grace
