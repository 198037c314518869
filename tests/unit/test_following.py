"""A source that is followed: scanned once, then kept by its changes, position and rows together."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from fixtures_kernel import FREE, LIVE, Bench, Following, Scanned, anyio_backend, bench, held_by  # noqa: F401
from s3gc import Safety
from s3gc.errors import CycleHeld, Reconfigured, SourceError
from s3gc.model import ChangeBatch, Column, ColumnCount, Position, ScanBatch
from s3gc.reading import sync_again
from s3gc.testing.fakes import FakeClock, FakeFollowingSource
from s3gc.testing.source_contract import Place, SourceContract, found, scanned

pytestmark = pytest.mark.anyio


# --------------------------------------------------------------------------- the fake itself


class TestFakeFollowingSource(SourceContract):
    @pytest.fixture
    async def place(self) -> Place:
        return _Place()

    @pytest.fixture
    async def source(self, place: Any) -> FakeFollowingSource:
        return place.source  # type: ignore[no-any-return]


class _Place(Place):
    def __init__(self) -> None:
        self.source = FakeFollowingSource(FakeClock())

    async def add(self, value: str) -> str:
        row = str(len(self.source.log))
        self.source.write(row, value)
        return row

    async def change(self, row: str, value: str) -> None:
        self.source.write(row, *([value] if value else []))

    async def remove(self, row: str) -> None:
        self.source.remove(row)

    async def break_down(self) -> None:
        self.source.rows = None  # type: ignore[assignment]


async def told(source: FakeFollowingSource, after: Position) -> list[ChangeBatch]:
    return [batch async for batch in source.changes(after, await source.fence(timedelta(1)))]


async def test_the_fake_tells_what_was_written_after_a_position() -> None:
    source = FakeFollowingSource(FakeClock())
    source.write("1", "a")
    begun = await source.begin()
    source.write("1", "b", folders=["f/"])
    source.rename("1", "2")
    source.truncate()
    written, renamed, emptied, end = await told(source, begun)
    assert [one.key for one in written.changes[0].references] == ["b", "f/"]
    assert list(written.changes[0].named) == ["a"]
    assert (renamed.changes[0].previous_row_id, renamed.changes[0].columns) == ("1", frozenset())
    assert (list(emptied.emptied), emptied.changes) == (["rows"], [])
    assert end == ChangeBatch([], emptied.position)
    assert end.position == await source.fence(timedelta(1))
    assert await told(source, end.position) == [end], "the fence is told also when nothing changed"
    source.per_batch = 9
    joined = ChangeBatch([*written.changes, *renamed.changes], renamed.position, renamed.at)
    assert await told(source, begun) == [joined, emptied, end], "an emptied table begins a batch"
    source.repeats = 2
    again = [evolve(one, again=True) for one in (renamed, emptied)]
    assert await told(source, end.position) == [*again, end]


async def test_the_faults_of_the_fake() -> None:
    source = FakeFollowingSource(FakeClock())
    source.write("1", "a")
    at_a = await source.begin()
    with source.unlogged():
        source.write("2", "hidden")
    assert await told(source, at_a) == [ChangeBatch([], at_a)]
    assert await found(source, "hidden") == {"hidden"}
    source.remove("1")
    source.restore(1)
    assert {one.key for one in await scanned(source)} == {"a"}
    with pytest.raises(SourceError, match="history"):
        await told(source, at_a)
    source.restore(0, noticed=False)
    begun = await source.begin()
    source.write("1", "b")
    source.lose_log()
    with pytest.raises(SourceError, match="no more"):
        await told(source, begun)
    again = await source.begin()
    assert await told(source, again) == [ChangeBatch([], again)]


# --------------------------------------------------------------------------- scanned once, then followed


async def test_the_first_cycle_scans_and_later_ones_only_follow(bench: Bench) -> None:
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        assert bench.source.asked == ["begin", "scan", "changes"]
        bench.source.asked.clear()
        bench.source.write("2", "free/1")
        assert len(await gc.plan()) == 2
        bench.source.remove("2")
        assert len(await gc.plan()) == 3
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
    assert bench.source.asked == ["changes"] * 3


async def test_a_row_that_the_scan_missed_is_followed_in_the_same_cycle(bench: Bench) -> None:
    class Moving(Following):
        async def scan(self) -> AsyncIterator[Any]:
            async for batch in super().scan():
                yield batch
            self.write("late", "free/1")

    source = Moving(bench.clock)
    source.rows, source.log, source.number = bench.source.rows, bench.source.log, bench.source.number
    async with bench.open(source, mode="dry_run") as gc:
        plan = await gc.plan()
    assert [entry.object.key for entry in plan] == FREE[1:]


async def test_a_source_may_begin_and_cease_to_be_followed(bench: Bench) -> None:
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        bench.source.follows_changes = False
        bench.source.write("2", "free/1")
        assert len(await gc.plan()) == 2
        bench.source.remove("2")
        bench.source.follows_changes = True
        bench.source.asked.clear()
        assert len(await gc.plan()) == 3
    assert bench.source.asked == ["begin", "scan", "changes"], "a scan's position is none to follow from"


async def test_beginning_may_fail(bench: Bench) -> None:
    class Refusing(Following):
        async def begin(self) -> Position:
            raise SourceError("wal_level must be logical")

    with pytest.raises(CycleHeld, match="wal_level"):
        await bench.held(Refusing(bench.clock))


# --------------------------------------------------------------------------- position and rows together


async def test_a_crash_before_the_position_is_written_undoes_the_rows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        references = gc._parts.registry.references
        before = await references.state("following")
        bench.source.write("2", "free/1")
        bench.source.remove("1")
        bench.source.per_batch = 2
        database = gc._parts.registry._database

        class Dies:
            def __getattr__(self, name: str) -> Any:
                return getattr(connection, name)

            def execute(self, statement: str, *parameters: Any) -> Any:
                if statement.startswith("UPDATE sources SET position"):
                    raise SourceError("killed here")
                return connection.execute(statement, *parameters)

        connection: Any = database._connection
        with monkeypatch.context() as patched:
            patched.setattr(database, "_connection", Dies())
            with pytest.raises(CycleHeld, match="killed here"):
                await gc.plan()
        assert await references.count_of("free/1") == 0
        assert await references.count_of(LIVE) == 1
        assert await references.state("following") == before
        bench.source.remove("2")
        bench.source.write("1", LIVE)
        assert [entry.object.key for entry in await gc.plan()] == FREE


async def test_the_source_may_forget_only_what_the_registry_has_written(bench: Bench) -> None:
    file = bench.folder / "vault" / "registry.sqlite3"

    class Watching(Following):
        async def applied(self, position: Position) -> None:
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as other:
                row = other.execute("SELECT position FROM sources").fetchone()
                seen.append((position.value, row[0]))

    seen: list[tuple[str, str]] = []
    source = Watching(bench.clock)
    source.write("1", LIVE)
    async with bench.open(source, mode="dry_run") as gc:
        await gc.plan()
        source.write("2", "free/1")
        source.remove("2")
        await gc.plan()
    assert seen == [(f"1:{number}", f"1:{number}") for number in (1, 2, 3, 3)]


async def test_a_crash_before_the_source_heard_of_it_costs_nothing(bench: Bench) -> None:
    class Deaf(Following):
        deaf = False

        async def applied(self, position: Position) -> None:
            if self.deaf:
                raise SourceError("connection lost")

    source = Deaf(bench.clock)
    source.write("1", LIVE)
    async with bench.open(source, mode="dry_run") as gc:
        await gc.plan()
        source.deaf = True
        source.write("2", "free/1")
        with pytest.raises(CycleHeld, match="connection lost"):
            await gc.plan()
        source.deaf = False
        source.repeats = 2  # it tells again what the registry has already
        assert len(await gc.plan()) == 2
        source.remove("2")
        assert len(await gc.plan()) == 3
        assert await gc._parts.registry.references.count_of(LIVE) == 1


async def test_what_is_told_again_is_no_news_of_its_keys(bench: Bench) -> None:
    """A quiet database whose last transaction is told in each cycle: its keys become free all the same."""
    bench.source.write("2", "free/1")
    async with bench.open(safety=Safety.none().but(min_observations=2)) as gc:
        await gc.plan()
        bench.source.remove("2")
        bench.source.repeats = 1
        assert "free/1" not in (await gc.collect()).deleted
        assert list((await gc.collect()).deleted) == ["free/1"]


# --------------------------------------------------------------------------- up to the fence


async def test_positions_that_cannot_be_compared_are_refused(bench: Bench) -> None:
    """Nobody could say whether the changes reached the fence."""

    class Uncounted(Following):
        async def fence(self, timeout: timedelta) -> Position:
            return evolve(await super().fence(timeout), ordinal=None)

    source = Uncounted(bench.clock)
    source.write("1", LIVE)
    with pytest.raises(CycleHeld, match="no ordinal"):
        await bench.held(source)


async def test_a_source_that_times_out_by_itself_is_told_as_what_it_is(bench: Bench) -> None:
    class Slow(Following):
        async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
            raise TimeoutError("the server didn't answer")
            yield

    source = Slow(bench.clock)
    source.write("1", LIVE)
    with pytest.raises(CycleHeld, match="the server didn't answer"):
        await bench.held(source)


class Short(Following):
    """Its changes end before the fence."""

    short = 0

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        assert until.ordinal is not None
        async for batch in super().changes(after, until):
            if self.short and batch.position.ordinal > until.ordinal - self.short:  # type: ignore[operator]
                return
            yield batch


async def test_changes_that_end_before_the_fence_hold_and_what_came_stays(bench: Bench) -> None:
    source = Short(bench.clock)
    source.write("1", LIVE)
    async with bench.open(source) as gc:
        await gc.plan()
        source.write("2", "free/1")
        source.write("3", "free/2")
        source.short = 1
        with pytest.raises(CycleHeld, match=r"ended at .* before the fence") as held:
            await gc.collect()
        assert [one.code for one in held.value.breakers] == ["source_failed"]
        state = await gc._parts.registry.references.state("following")
        assert (state.position, await gc._parts.registry.references.count_of("free/1")) == ("1:2", 1)
        source.short = 0
        assert list((await gc.collect()).deleted) == ["free/3"]


async def test_a_fence_that_no_change_reaches_holds_also_in_the_sweep(bench: Bench) -> None:
    source = Short(bench.clock)
    source.write("1", LIVE)

    def late() -> None:
        source.write("2", "free/1")
        source.short = 1

    bench.on["batch_backed_up"] = late
    async with bench.open(source) as gc:
        with pytest.raises(CycleHeld, match="before the fence"):
            await gc.collect()
    assert bench.keys == {LIVE, *FREE}


async def test_a_source_that_hangs_holds_after_max_catch_up(bench: Bench) -> None:
    class Hanging(Following):
        hangs = False

        async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
            async for batch in super().changes(after, until):
                yield batch
                if self.hangs:
                    await anyio.sleep_forever()

    source = Hanging(bench.clock)
    source.write("1", LIVE)
    safety = Safety.none().but(max_catch_up=timedelta(milliseconds=200))
    async with bench.open(source, safety=safety) as gc:
        await gc.plan()
        source.hangs = True
        source.write("2", "free/1")
        source.write("3", "free/2")
        with anyio.fail_after(30), pytest.raises(CycleHeld, match="max_catch_up"):
            await gc.collect()
        state = await gc._parts.registry.references.state("following")
        assert state.position == "1:2", "the next cycle goes on from here"
        source.hangs = False
        assert list((await gc.collect()).deleted) == ["free/3"]


async def test_all_sources_are_brought_up_to_the_fence_in_the_sweep(tmp_path: Path) -> None:
    """What changed while a batch was backed up is in the registry before its deletes."""
    bench = Bench(tmp_path)
    second = Following(bench.clock, "second")
    second.write("1", LIVE)
    bench.source.blind = second.blind = True  # nothing but the registry protects here

    def late() -> None:
        bench.source.write("2", "free/1")
        second.write("2", "free/2")

    bench.on["batch_backed_up"] = late
    async with bench.open(bench.source, second) as gc:
        report = await gc.collect()
    assert list(report.deleted) == ["free/3"]
    assert report.kept["referenced"] == 3


async def test_a_scanned_source_is_scanned_in_each_cycle(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Scanned)
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        await gc.plan()
    assert bench.source.asked == ["scan", "scan"]


async def test_the_evidence_of_a_followed_source_is_what_the_registry_has(bench: Bench) -> None:
    """No scan counts its rows, and yet emptiness and a drop are noticed."""
    safety = Safety.none().but(max_reference_drop=0.2)
    bench.source.write("2", LIVE)
    async with bench.open(safety=safety, mode="dry_run") as gc:
        assert held_by(await gc.plan()) == []
        bench.source.remove("2")
        assert held_by(await gc.plan()) == [("reference_drop", "following")]
        bench.source.truncate()
        assert ("no_references", "following") in held_by(await gc.plan())


async def test_an_empty_column_of_a_followed_source_is_noticed(bench: Bench) -> None:
    """Only the first cycle scans and counts; later ones look at what the registry has of each column."""

    class Tracking(Following):
        def columns(self) -> Sequence[Column]:
            return [Column("rows", "key"), Column("rows", "folder")]

        async def scan(self) -> AsyncIterator[ScanBatch]:
            async for batch in super().scan():
                yield evolve(batch, counts=dict.fromkeys(self.columns(), ColumnCount(1, 1)))

    source = Tracking(bench.clock)
    source.write("1", LIVE, folders=["photos/"])
    async with bench.open(source, mode="dry_run") as gc:
        for _ in range(2):
            assert held_by(await gc.plan()) == []
        source.write("1", LIVE)
        assert held_by(await gc.plan()) == [("empty_column", "following:rows.folder")]
        source.write("1", LIVE, folders=["photos/"])
        assert held_by(await gc.plan()) == []


# --------------------------------------------------------------------------- rows that went untold


async def test_rows_that_went_untold_are_scanned_again_and_nothing_is_held(bench: Bench) -> None:
    """Every key keeps its grace; one that is named no more begins it when that is known."""
    bench.source.write("2", "free/1")
    async with bench.open(safety=Safety.none().but(grace=timedelta(days=3), min_observations=2)) as gc:
        await gc.plan()
        bench.clock.advance(timedelta(days=2))
        bench.source.drop_rows("2")
        bench.source.asked.clear()
        assert held_by(await gc.plan()) == []
        assert bench.source.asked == ["changes", "scan", "changes"]
        bench.clock.advance(timedelta(days=2))
        bench.source.asked.clear()
        assert list((await gc.collect()).deleted) == ["free/2", "free/3"]
        assert "scan" not in bench.source.asked
        bench.clock.advance(timedelta(days=1))
        assert list((await gc.collect()).deleted) == ["free/1"]


async def test_what_changes_while_rows_are_scanned_again_is_told(bench: Bench) -> None:
    """A reference that comes and goes under the scan begins a new grace all the same."""

    class Moving(Following):
        moving = False

        async def scan(self) -> AsyncIterator[Any]:
            if self.moving:
                self.write("3", "free/2")
                self.remove("3")
            async for batch in super().scan():
                yield batch
            if self.moving:
                self.write("4", "free/3")

    source = Moving(bench.clock)
    source.write("1", LIVE)
    source.write("2", "free/1")
    async with bench.open(source, safety=Safety.none().but(grace=timedelta(days=3))) as gc:
        await gc.plan()
        bench.clock.advance(timedelta(days=4))
        source.drop_rows("2")
        source.moving = True
        plan = await gc.plan()
        assert [entry.object.key for entry in plan] == []
        assert await gc._parts.registry.references.count_of("free/3") == 1


async def test_a_second_scan_that_fails_is_tried_again(bench: Bench) -> None:
    class Failing(Following):
        fails = False

        async def scan(self) -> AsyncIterator[Any]:
            async for batch in super().scan():
                yield batch
            if self.fails:
                raise SourceError("connection lost")

    source = Failing(bench.clock)
    source.write("1", LIVE)
    source.write("2", "free/1")
    async with bench.open(source, mode="dry_run") as gc:
        await gc.plan()
        source.drop_rows("2")
        source.fails = True
        with pytest.raises(CycleHeld, match="connection lost"):
            await gc.plan()
        assert await gc._parts.registry.references.count_of("free/1") == 1, "too many, never too few"
        source.fails = False
        assert len(await gc.plan()) == 3
        source.asked.clear()
        await gc.plan()
        assert source.asked == ["changes"]


# --------------------------------------------------------------------------- a scan that is cut off


class Cut(Following):
    """Its scans can go on. ``stop_after`` rows the process is killed."""

    resumes_scans = True
    stop_after: int | None = None

    async def scan(self) -> AsyncIterator[Any]:
        async for batch in self._cut(super().scan()):
            yield batch

    async def scan_on(self, begun: Position, mark: str) -> AsyncIterator[Any]:
        self.asked.append(f"scan_on {mark}")
        async for batch in self._cut(super().scan_on(begun, mark)):
            yield batch

    async def _cut(self, batches: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for batch in batches:
            if self.stop_after == 0:
                raise SourceError("killed here")
            if self.stop_after is not None:
                self.stop_after -= 1
            yield batch


@pytest.fixture
def cut(bench: Bench) -> Cut:
    source = Cut(bench.clock)
    for number in range(1, 10):
        source.write(str(number), LIVE)
    return source


async def references(gc: Any) -> int:
    return int((await gc._parts.registry.references.states())["following"].references)


async def test_a_scan_that_is_cut_off_goes_on_where_it_was(bench: Bench, cut: Cut) -> None:
    """In another process, and what changed in between is told afterwards."""
    cut.stop_after = 4
    async with bench.open(cut, mode="dry_run") as gc:
        with pytest.raises(CycleHeld, match="killed here"):
            await gc.plan()
        assert await gc._parts.registry.references.states() == {}, "half of it counts for nothing"
    cut.stop_after = None
    cut.remove("2")  # read already
    cut.write("3", "free/1")
    cut.write("8", "free/2")  # not read yet
    cut.asked.clear()
    seen: list[int] = []
    bench.on["scan_resumed"] = lambda: seen.append(1)
    async with bench.open(cut, mode="dry_run") as gc:
        plan = await gc.plan()
        assert [entry.object.key for entry in plan] == ["free/3"]
        assert await references(gc) == 8
        assert (cut.asked, seen) == (["scan_on 4", "changes"], [1])
        cut.asked.clear()
        await gc.plan()
        assert cut.asked == ["changes"]


async def test_a_scan_may_be_cut_off_again_and_again(bench: Bench, cut: Cut) -> None:
    for number in range(9):
        cut.stop_after = 1
        async with bench.open(cut, mode="dry_run") as gc:
            if number < 8:
                with pytest.raises(CycleHeld, match="killed here"):
                    await gc.plan()
    cut.stop_after = None
    async with bench.open(cut, mode="dry_run") as gc:
        assert held_by(await gc.plan()) == []
        assert await references(gc) == 9
    assert cut.asked.count("begin") == 1


async def test_the_counts_of_a_column_are_those_of_the_whole_scan(bench: Bench) -> None:
    class Counting(Cut):
        def columns(self) -> Sequence[Column]:
            return [Column("rows", "key")]

        async def _cut(self, batches: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for batch in super()._cut(batches):
                values = len(batch.references)
                yield evolve(batch, counts={Column("rows", "key"): ColumnCount(batch.rows, values)})

    source = Counting(bench.clock)
    for number in range(1, 5):
        source.write(str(number), LIVE)
    source.stop_after = 2
    async with bench.open(source, mode="dry_run") as gc:
        with pytest.raises(CycleHeld, match="killed here"):
            await gc.plan()
        source.stop_after = None
        for row in ("3", "4"):  # the part that is read last has no value
            source.rows[row] = ()
        assert held_by(await gc.plan()) == []


async def test_a_scan_whose_changes_are_lost_begins_anew(bench: Bench, cut: Cut) -> None:
    cut.stop_after = 4
    async with bench.open(cut, mode="dry_run") as gc:
        with pytest.raises(CycleHeld, match="killed here"):
            await gc.plan()
        cut.stop_after = None
        cut.remove("2")
        cut.lose_log()
        cut.asked.clear()
        assert len(await gc.plan()) == 3
        assert await references(gc) == 8
    assert cut.asked == ["scan_on 4", "begin", "scan", "changes"]


async def test_a_loss_forgets_what_was_scanned(bench: Bench, cut: Cut) -> None:
    cut.stop_after = 4
    async with bench.open(cut, mode="dry_run") as gc:
        with pytest.raises(CycleHeld, match="killed here"):
            await gc.plan()
        await gc._parts.registry.references.lose_position("following", "a test")
        assert await gc._parts.registry.scans.cut_off("following") is None
        cut.stop_after = None
        cut.asked.clear()
        await gc.plan()
    assert cut.asked == ["begin", "scan", "changes"]


async def test_a_second_scan_goes_on_only_where_the_registry_stands_still(bench: Bench, cut: Cut) -> None:
    """What the follower has applied since would be undone by rows that were read before it."""
    async with bench.open(cut, mode="dry_run") as gc:
        await gc.plan()
        cut.drop_rows("9")
        cut.stop_after = 4
        with pytest.raises(CycleHeld, match="killed here"):
            await gc.plan()
        cut.stop_after = None
        cut.asked.clear()
        await gc.plan()
        assert cut.asked == ["changes", "scan_on 4", "changes"]
        cut.drop_rows("8")
        cut.stop_after = 4
        with pytest.raises(CycleHeld, match="killed here"):
            await gc.plan()
        cut.stop_after = None
        cut.write("2", "free/1")  # read already
        cut.asked.clear()
        plan = await gc.plan()
        assert cut.asked == ["changes", "scan", "changes"]
        assert [entry.object.key for entry in plan] == ["free/2", "free/3"]


async def test_what_a_plan_reads_in_a_sweep_is_never_a_scan(bench: Bench, cut: Cut) -> None:
    """A partition that is dropped under a sweep is scanned by the next plan, not between two deletes."""
    bench.on["batch_backed_up"] = lambda: cut.drop_rows("9")
    async with bench.open(cut) as gc:
        cut.asked.clear()
        assert set((await gc.collect()).deleted) == {"free/1", "free/2", "free/3"}
        assert cut.asked.count("scan") == 1
        bench.on.clear()
        cut.asked.clear()
        await sync_again(gc._parts, {"following"})
        assert cut.asked == ["changes"]
        cut.asked.clear()
        await gc.plan()
        assert cut.asked == ["changes", "scan", "changes"]


async def test_progress_is_told(bench: Bench, cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3gc.scanning.PROGRESS_EVERY", 3)
    told: list[Any] = []
    async with bench.open(cut, mode="dry_run") as gc:
        with gc.watching(lambda event, data: told.append(dict(data)) if event == "scan_progress" else None):
            await gc.plan()
    assert told == [{"source": "following", "rows": rows, "expected": 9} for rows in (3, 6, 9)]


async def test_a_batch_of_changes_reads_no_more_than_it_changes(bench: Bench) -> None:
    """Else each batch would read all that is known: a registry of millions could not follow at all."""
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        bench.source.write("2", "free/1", folders=["f/"])
        bench.source.write("2", "free/2")
        bench.source.rename("2", "3")
        bench.source.remove("3")
        bench.source.per_batch = 9
        connection = gc._parts.registry._database._connection
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        fence = await bench.source.fence(timedelta(1))
        state = await gc._parts.registry.references.state("following")
        async for batch in bench.source.changes(Position("following", state.position, 1), fence):
            await gc._parts.registry.references.change("following", batch, bench.clock.now())
        connection.set_trace_callback(None)
        plans = {
            (statement, row[3])
            for statement in statements
            if statement.split(" ", 1)[0] in ("SELECT", "INSERT", "DELETE", "UPDATE")
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        }
        assert len(plans) > 5
        assert not [plan for plan in plans if plan[1].startswith(("SCAN r", "SCAN refs", "SCAN touched"))]


async def test_another_configuration_is_read_anew_and_holds_nothing(bench: Bench) -> None:
    """Every grace begins anew: what was free by the old configuration may have been referenced by the new."""

    class Configured(Following):
        changed = False

        async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
            if self.changed:
                self.changed = False
                raise Reconfigured("the tables are others")
            async for batch in super().changes(after, until):
                yield batch

    source = Configured(bench.clock)
    source.write("1", LIVE)
    told: list[Any] = []
    async with bench.open(source, safety=Safety.none().but(grace=timedelta(days=3))) as gc:
        await gc.plan()
        bench.clock.advance(timedelta(days=4))
        source.changed = True
        source.asked.clear()
        with gc.watching(
            lambda event, data: told.append(data["reason"]) if event == "source_scanned_again" else None
        ):
            plan = await gc.plan()
        assert (held_by(plan), len(plan)) == ([], 0)
        assert told == ["the tables are others"]
        assert source.asked[-3:] == ["begin", "scan", "changes"]
        bench.clock.advance(timedelta(days=3))
        assert len(await gc.plan()) == 3
