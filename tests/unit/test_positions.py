"""A position that is lost or goes back holds, and all is read anew; deletes are confirmed all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

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
    entries,
    held_by,
    observed,
)
from s3gc import Safety
from s3gc.errors import CycleHeld, S3GCError, SourceError, Unsettled
from s3gc.model import ChangeBatch, Position
from s3gc.testing.fakes import FakeClock

pytestmark = pytest.mark.anyio

GRACE = Safety.none().but(grace=3 * DAY)
LOST = ("position_lost", "following")
BACK = ("position_went_back", "following")


# --------------------------------------------------------------------------- lost


async def test_lost_changes_hold_and_all_rows_are_read_anew(bench: Bench) -> None:
    async with bench.open() as gc:
        plan = await gc.plan()
        bench.source.write("2", "free/1")
        bench.source.lose_log()
        bench.source.asked.clear()
        with pytest.raises(CycleHeld, match="no more") as held:
            await gc.collect()
        assert [one.code for one in held.value.breakers] == ["position_lost"]
        assert bench.source.asked == ["changes", "begin", "scan", "changes"]
        assert await gc._parts.registry.references.count_of("free/1") == 1
        with pytest.raises(CycleHeld, match="position_lost"):
            await gc.collect(plan)
    assert bench.keys == {LIVE, *FREE}


async def test_after_lost_changes_every_grace_begins_anew(bench: Bench) -> None:
    """A row may have named any key meanwhile: nobody knows."""
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        bench.clock.advance(4 * DAY)
        assert len(await gc.plan()) == 3
        bench.source.write("2", "free/1")
        bench.source.remove("2")
        bench.source.lose_log()
        assert held_by(await gc.plan()) == [LOST]
        await gc.acknowledge("position_lost", "the slot was dropped by hand", subject="following")
        report = await gc.collect()
        assert (list(report.deleted), report.kept["in_grace"]) == ([], 3)
        assert await observed(gc, "free/2") == (bench.clock.now(), 1)
        bench.clock.advance(3 * DAY)
        assert sorted((await gc.collect()).deleted) == FREE


@pytest.mark.parametrize("keep_registry", [True, False])
async def test_lost_changes_hold_until_somebody_acknowledges(bench: Bench, keep_registry: bool) -> None:
    assert await bench.held() == []
    bench.source.lose_log()
    assert await bench.held() == [LOST]
    if not keep_registry:
        bench.lose_registry()
    assert await bench.held() == [LOST]
    async with bench.open() as gc:
        (waiting,) = await gc.breakers()
        assert "read anew" in waiting.reason
        await gc.acknowledge(waiting.code, "a failover", subject=waiting.subject)
    assert await bench.held() == []


async def test_changes_lost_in_the_sweep_hold_before_the_deletes(bench: Bench) -> None:
    bench.on["batch_backed_up"] = bench.source.lose_log
    async with bench.open() as gc:
        with pytest.raises(CycleHeld) as held:
            await gc.collect()
        assert [one.code for one in held.value.breakers] == ["position_lost"]
        assert bench.keys == {LIVE, *FREE}
        bench.on.clear()
        assert ("position_lost", "") in held_by(await gc.plan())


async def test_a_sweep_without_a_position_to_follow_from_deletes_nothing(bench: Bench) -> None:
    """Its registry was lost after the plan: nobody knows what changed since."""
    async with bench.open() as gc:
        plan = await gc.plan()
    bench.lose_registry()
    async with bench.open() as gc:
        with pytest.raises(CycleHeld, match="no position"):
            await gc.collect(plan)
    assert bench.keys == {LIVE, *FREE}


class Breaking(Following):
    """It breaks at one of its calls."""

    at = ""

    def _break(self, call: str) -> None:
        if self.at == call:
            raise SourceError(f"{call} failed")

    async def begin(self) -> Position:
        self._break("begin")
        return await super().begin()

    async def scan(self) -> AsyncIterator[Any]:
        self._break("scan")
        async for batch in super().scan():
            yield batch

    async def untracked(self, sample: int) -> AsyncIterator[Any]:
        self._break("untracked")
        return
        yield


@pytest.mark.parametrize("at", ["begin", "scan", "untracked"])
@pytest.mark.parametrize("other_source", [True, False])
async def test_a_loss_is_told_also_when_the_cycle_fails_right_after(
    bench: Bench, at: str, other_source: bool
) -> None:
    first, second = Breaking(bench.clock), Breaking(bench.clock, "second")
    for source in (first, second):
        source.write("1", LIVE)
    async with bench.open(first, second) as gc:
        await gc.plan()
        first.lose_log()
        breaks = second if other_source else first
        if at != "untracked":
            breaks.lose_log()  # else it has nothing to begin or to scan
        breaks.at = at
        with pytest.raises(CycleHeld, match="failed"):
            await gc.plan()
        breaks.at = ""
        assert LOST in held_by(await gc.plan())


async def test_a_loss_and_the_end_of_every_grace_are_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        bench.clock.advance(4 * DAY)
        bench.source.lose_log()
        database = gc._parts.registry._database

        class Dies:
            def __getattr__(self, name: str) -> Any:
                return getattr(connection, name)

            def execute(self, statement: str, *parameters: Any) -> Any:
                if statement == "DELETE FROM unreferenced":
                    raise SourceError("killed here")
                return connection.execute(statement, *parameters)

        connection: Any = database._connection
        with monkeypatch.context() as patched:
            patched.setattr(database, "_connection", Dies())
            with pytest.raises(CycleHeld, match="killed here"):
                await gc.plan()
        assert held_by(await gc.plan()) == [LOST]
        await gc.acknowledge("position_lost", "the slot was dropped by hand", subject="following")
        assert (await gc.plan()).kept["in_grace"] == 3


async def test_a_dry_run_that_notices_a_loss_keeps_it_for_those_that_count(bench: Bench) -> None:
    assert await bench.held() == []
    bench.source.lose_log()
    for _ in range(2):
        assert await bench.held(mode="dry_run") == [LOST]
    assert await bench.held() == [LOST]
    async with bench.open() as gc:
        await gc.acknowledge("position_lost", "a failover", subject="following")
    assert await bench.held(mode="dry_run") == await bench.held() == []


async def test_a_loss_that_only_dry_runs_noticed_can_be_acknowledged(bench: Bench) -> None:
    assert await bench.held() == []
    bench.source.lose_log()
    async with bench.open(mode="dry_run") as gc:
        assert held_by(await gc.plan()) == [LOST]
        await gc.acknowledge("position_lost", "a failover", subject="following")
    assert await bench.held() == []


# --------------------------------------------------------------------------- going back


@pytest.mark.parametrize("kind", [Following, Scanned])
@pytest.mark.parametrize("noticed", [True, False])
async def test_a_database_restored_to_its_past_is_held(
    tmp_path: Path, kind: type[Following], noticed: bool
) -> None:
    bench = Bench(tmp_path, kind)
    bench.source.write("2", LIVE)
    bench.source.write("3", LIVE)
    assert await bench.held() == []
    bench.source.restore(2, noticed=noticed)
    expected = [BACK] if kind is Scanned else [LOST, BACK]
    for _ in range(2):
        assert sorted(await bench.held()) == sorted(expected)
    async with bench.open() as gc:
        with pytest.raises(CycleHeld):
            await gc.collect()
        for code, subject in expected:
            await gc.acknowledge(code, "restored to yesterday", subject=subject)
        assert held_by(await gc.plan()) == []
        assert held_by(await gc.plan()) == [], "this is where it stands now"
    bench.source.restore(1, noticed=noticed)
    assert BACK in await bench.held(), "the next time it needs another decision"


async def test_a_source_that_notices_nothing_is_read_anew_too(bench: Bench) -> None:
    """As a server does that silently tells nothing after a position that it hasn't reached."""

    class Careless(Following):
        async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
            if after.ordinal > self.number:  # type: ignore[operator]
                yield ChangeBatch([], until)
                return
            async for batch in super().changes(after, until):
                yield batch

    source = Careless(bench.clock)
    source.write("1", LIVE)
    source.write("2", "free/1")
    source.remove("2")
    async with bench.open(source) as gc:
        await gc.plan()
        source.restore(2, noticed=False)
        assert held_by(await gc.plan()) == [LOST, BACK]
        assert await gc._parts.registry.references.count_of("free/1") == 1


@pytest.mark.parametrize("kind", [Following, Scanned])
async def test_a_database_restored_after_the_plan_is_held_at_the_fence(
    tmp_path: Path, kind: type[Following]
) -> None:
    bench = Bench(tmp_path, kind)
    bench.source.write("2", LIVE)
    bench.on["batch_backed_up"] = lambda: bench.source.restore(1, noticed=False)
    async with bench.open() as gc:
        with pytest.raises(CycleHeld, match="restored to its past") as held:
            await gc.collect()
        assert [one.code for one in held.value.breakers] == ["position_lost"]
    assert bench.keys == {LIVE, *FREE}


async def test_a_restored_database_that_has_grown_again_is_read_anew(bench: Bench) -> None:
    """Noticed in the sweep; by the next cycle its position is ahead of the registry's again."""
    bench.source.write("2", LIVE)
    bench.source.write("3", LIVE)
    bench.on["batch_backed_up"] = lambda: bench.source.restore(1, noticed=False)
    async with bench.open() as gc:
        with pytest.raises(CycleHeld, match="restored to its past"):
            await gc.collect()
        bench.on.clear()
        bench.source.write("2", "free/1")
        for number in range(3, 9):
            bench.source.write(str(number), LIVE)
        assert LOST in held_by(await gc.plan())
        assert await gc._parts.registry.references.count_of("free/1") == 1


async def test_a_restored_database_begins_every_grace_anew(bench: Bench) -> None:
    bench.source.write("2", LIVE)
    async with bench.open(safety=GRACE) as gc:
        await gc.plan()
        bench.clock.advance(4 * DAY)
        bench.source.restore(1, noticed=False)
        assert held_by(await gc.plan()) == [LOST, BACK]
        for code, subject in (LOST, BACK):
            await gc.acknowledge(code, "restored", subject=subject)
        assert (await gc.collect()).kept["in_grace"] == 3


async def test_a_source_that_counts_nothing_cannot_go_back(bench: Bench) -> None:
    class Uncounted(Scanned):
        async def fence(self, timeout: timedelta) -> Position:
            return Position(self.name, str(self.number))

    source = Uncounted(FakeClock(), "uncounted")
    source.write("1", LIVE)
    source.write("2", LIVE)
    assert await bench.held(source) == []
    source.restore(1)
    assert await bench.held(source) == []


# --------------------------------------------------------------------------- confirmation and recovery


async def test_deletes_are_confirmed_by_a_direct_read_when_changes_are_lost(bench: Bench) -> None:
    async def late(key: str) -> None:
        bench.source.lose_log()
        bench.source.write("late", "free/1")

    bench.store.after_delete = late
    async with bench.open() as gc:
        report = await gc.collect()
        assert list(report.resurrected) == ["free/1"]
        assert sorted(report.deleted) == ["free/2", "free/3"]
    assert bench.keys == {LIVE, "free/1"}


async def test_a_whole_operation_is_confirmed_when_changes_are_lost(bench: Bench) -> None:
    """The last confirmation covers the batches before."""

    async def late(key: str) -> None:
        if key == "free/3":
            bench.source.lose_log()
            bench.source.write("late", "free/1")

    bench.store.after_delete = late
    async with bench.open(safety=Safety.none().but(batch_objects=1)) as gc:
        report = await gc.collect()
    assert list(report.resurrected) == ["free/1"]
    assert bench.keys == {LIVE, "free/1"}


async def test_what_cannot_be_confirmed_is_put_back_and_holds_the_sweep(bench: Bench) -> None:
    class Down(Following):
        down = False

        async def fence(self, timeout: timedelta) -> Position:
            if self.down:
                self.down = False  # for a moment only
                raise SourceError("connection refused")
            return await super().fence(timeout)

    source = Down(bench.clock)
    source.write("1", LIVE)

    async def goes_down(key: str) -> None:
        source.down = key == "free/2"

    bench.store.after_delete = goes_down
    async with bench.open(source, safety=Safety.none().but(batch_objects=1)) as gc:
        with pytest.raises(CycleHeld, match="refused") as held:
            await gc.collect()
        assert held.value.report is not None
        assert list(held.value.report.resurrected) == ["free/2"]
    assert bench.keys == {LIVE, "free/2", "free/3"}, "the third batch did not begin"


async def test_the_last_confirmation_covers_the_time_of_batches_that_deleted_nothing(bench: Bench) -> None:
    """The first batch deletes; while the second finds that its key is named, a row names the first's."""

    def late() -> None:
        if LIVE in bench.keys and "free/1" not in bench.keys:
            bench.source.write("2", "free/1", "free/2", "free/3")

    bench.on["batch_completed"] = late  # the second is copied already, and not fenced yet
    async with bench.open(safety=Safety.none().but(batch_objects=1)) as gc:
        report = await gc.collect()
    assert (list(report.resurrected), list(report.deleted)) == (["free/1"], [])
    assert bench.keys == {LIVE, *FREE}


@pytest.mark.parametrize("what", ["lost", "back"])
async def test_recovery_needs_no_changes(bench: Bench, what: str) -> None:
    bench.source.write("0", LIVE)
    async with bench.open() as gc:
        append = gc._parts.vault.journal.append

        async def dies(drafts: Any) -> None:
            if any(draft.event == "batch_confirmed" for draft in drafts):
                raise S3GCError("killed here")
            await append(drafts)

        gc._parts.vault.journal.append = dies
        with pytest.raises(Unsettled):
            await gc.collect()
    assert bench.keys == {LIVE}
    if what == "lost":
        bench.source.lose_log()
    else:
        bench.source.restore(1)
    bench.source.write("late", "free/1")
    async with bench.open() as gc:
        assert bench.keys == {LIVE, "free/1"}
        assert len(await entries(gc, "operation_recovered")) == 1
        assert LOST in held_by(await gc.plan())


async def test_a_gap_between_the_scan_and_its_changes_is_lost_too(bench: Bench) -> None:
    """The slot is gone again before the first changes were read."""

    class Gone(Following):
        async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
            self.lose_log()
            async for batch in super().changes(after, until):
                yield batch

    source = Gone(bench.clock)
    source.write("1", LIVE)
    async with bench.open(source) as gc:
        with pytest.raises(CycleHeld):
            await gc.collect()
    assert bench.keys == {LIVE, *FREE}
