"""The follower: the registry kept at the changes between two cycles, in turns with operations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from fixtures_kernel import DAY, FREE, HOUR, LIVE, Bench, Following, anyio_backend, bench, held_by, since  # noqa: F401
from s3gc import Safety, following, turns
from s3gc.errors import ConfigError, LeaseHeld, PositionLost, Reconfigured, SourceError
from s3gc.model import ChangeBatch, Position
from s3gc.testing.fakes import FakeClock

pytestmark = pytest.mark.anyio

SOON = timedelta(milliseconds=5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(following, "STAND_BY_SECONDS", 0.01)
    monkeypatch.setattr(following, "FIRST_PAUSE", 0.01)


async def until(true: Callable[[], Awaitable[bool] | bool]) -> None:
    with anyio.fail_after(30):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await anyio.sleep(0.005)


@asynccontextmanager
async def followed(gc: Any) -> AsyncIterator[None]:
    """While a follower of this collector runs."""
    async with anyio.create_task_group() as tasks:

        async def follow() -> None:
            await gc.follow(every=SOON, chance=Random(7))

        tasks.start_soon(follow)
        yield
        tasks.cancel_scope.cancel()


class Events:
    """What a collector has told."""

    def __init__(self, gc: Any) -> None:
        self._gc = gc
        self.told: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> Events:
        self._watching = self._gc.watching(lambda event, data: self.told.append((event, dict(data))))
        self._watching.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._watching.__exit__(None, None, None)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [data for event, data in self.told if event == name]


def knows(gc: Any, key: str, count: int = 1) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return bool(await gc._parts.registry.references.count_of(key) == count)

    return ask


# --------------------------------------------------------------------------- between two cycles


async def test_changes_are_applied_and_released_between_two_cycles(bench: Bench) -> None:
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        with Events(gc) as events:
            async with followed(gc):
                bench.source.write("2", "free/1")
                await until(knows(gc, "free/1"))
                bench.source.remove("2")
                await until(knows(gc, "free/1", 0))
                await until(lambda: bench.source.released == Position("following", "1:3", 3))
                await until(lambda: sum(one["changes"] for one in events.of("changes_followed")) == 2)
        bench.source.asked.clear()
        assert len(await gc.plan()) == 3
        assert bench.source.asked == ["changes"]


async def test_grace_counts_from_the_change(bench: Bench) -> None:
    """Not from when the follower saw it, and not from the next cycle."""
    bench.source.write("2", "free/1")
    async with bench.open(safety=Safety.none().but(grace=3 * DAY)) as gc:
        await gc.plan()
        bench.clock.advance(DAY)
        gone = bench.clock.now()
        bench.source.remove("2")
        bench.clock.advance(HOUR)
        async with followed(gc):
            await until(knows(gc, "free/1", 0))
        bench.clock.advance(2 * DAY)
        assert "free/1" not in (await gc.collect()).deleted
        assert await since(gc, "free/1") == gone
        bench.clock.advance(DAY)
        assert "free/1" in (await gc.collect()).deleted


async def test_a_reference_that_comes_and_goes_between_two_cycles_begins_a_new_grace(bench: Bench) -> None:
    async with bench.open(safety=Safety.none().but(grace=3 * DAY)) as gc:
        await gc.plan()
        bench.clock.advance(2 * DAY)
        async with followed(gc):
            bench.source.write("2", "free/1")
            await until(knows(gc, "free/1"))
            bench.source.remove("2")
            await until(knows(gc, "free/1", 0))
        bench.clock.advance(2 * DAY)
        assert set((await gc.collect()).deleted) == set(FREE[1:])


async def test_a_transaction_that_stays_open_keeps_nobody_from_following(tmp_path: Path) -> None:
    """A fence waits for it; the follower needs none where a source has a tip of its own."""

    class Blocked(Following):
        blocked = False

        async def fence(self, timeout: timedelta) -> Position:
            if self.blocked:
                raise SourceError("after 15 minutes 1 transaction is open still")
            return await super().fence(timeout)

        async def tip(self, after: Position, timeout: timedelta) -> Position | None:
            return self._position(self.number)

    bench = Bench(tmp_path, Blocked)
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        bench.source.blocked = True  # type: ignore[attr-defined]
        async with followed(gc):
            bench.source.write("2", "free/1")
            await until(knows(gc, "free/1"))


async def test_before_the_first_cycle_it_waits_and_says_so_once(bench: Bench) -> None:
    async with bench.open(mode="dry_run") as gc:
        with Events(gc) as events:
            async with followed(gc):
                await until(lambda: len(events.of("follow_waits")) == 1)
                bench.source.write("2", "free/1")
                await gc.plan()
                await until(lambda: len(events.of("follow_started")) == 2)
                bench.source.remove("2")
                await until(knows(gc, "free/1", 0))
        (waits,) = events.of("follow_waits")
        assert "the next cycle" in waits["reason"]
    assert bench.source.asked.count("scan") == 1


async def test_without_a_followed_source_there_is_nothing_to_do(bench: Bench) -> None:
    bench.source.follows_changes = False
    async with bench.open() as gc:
        with pytest.raises(ConfigError, match="no source"):
            await gc.follow()


async def test_how_far_behind_it_is_stands_in_the_metrics(bench: Bench) -> None:
    async with bench.open(mode="dry_run") as gc:
        assert (await gc.metrics())["capture"] == {"following": {"applied_at": None, "lag_seconds": None}}
        await gc.plan()
        bench.clock.advance(HOUR)
        assert (await gc.metrics())["capture"]["following"]["lag_seconds"] == 3600
        async with followed(gc):  # nothing is written, and that is known

            async def fresh() -> bool:
                return bool((await gc.metrics())["capture"]["following"]["lag_seconds"] == 0)

            await until(fresh)


# --------------------------------------------------------------------------- in turns


class Slotted(Following):
    """Its changes have one reader at a time, as a slot has. ``slot`` is shared by all who read the place."""

    def __init__(self, clock: FakeClock, name: str = "following") -> None:
        super().__init__(clock, name)
        self.slot: list[object] = []
        self.let_go_of = 0
        self.in_a_batch: Callable[[], Awaitable[None]] | None = None

    def another(self) -> Slotted:
        """The same place, opened by another process."""
        other = type(self)(self._clock)  # type: ignore[arg-type]
        other.rows, other.log, other.slot, other.number = self.rows, self.log, self.slot, self.number
        return other

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        if self.slot and self.slot[0] is not self:
            raise SourceError("the slot is active for another process")
        self.slot[:] = [self]
        async for batch in super().changes(after, until):
            if self.in_a_batch is not None:
                await self.in_a_batch()
            yield batch

    async def let_go(self) -> None:
        self.let_go_of += 1
        if self.slot == [self]:
            self.slot.clear()


async def test_a_cycle_of_another_process_gets_its_turn_and_the_follower_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Slotted)
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        with Events(gc) as events:
            async with followed(gc):
                bench.source.write("2", "free/1")
                await until(knows(gc, "free/1"))
                assert bench.source.slot == [bench.source]  # type: ignore[attr-defined]
                for number in (3, 4):
                    bench.source.write(str(number), "free/2")
                    other = bench.source.another()  # type: ignore[attr-defined]
                    async with bench.open(other, mode="dry_run") as cycle:
                        assert len(await cycle.plan()) == 1
                        # It lets go at the end of its operation, not only when it is closed.
                        bench.source.write(f"by {number}", LIVE)
                        await until(knows(gc, LIVE, number - 1))
        assert len(events.of("follow_paused")) == 2


async def test_a_cycle_of_the_same_collector_has_the_changes_alone(bench: Bench) -> None:
    """What is staged for a scan is thrown away by who applies changes meanwhile."""
    seen: list[int] = []

    def write() -> None:
        bench.source.write("2", "free/1")
        seen.append(0)

    bench.on["listing_completed"] = write
    async with bench.open(mode="dry_run") as gc, followed(gc):
        await gc.plan()
        bench.on["listing_completed"] = lambda: seen.append(_free(gc._parts.folder))
        await gc.plan()
    assert seen == [0, False]


def _free(folder: Path) -> bool:
    with turns.follower_turn(folder) as turn:
        return turn is not None


async def test_it_gives_way_within_a_long_catching_up(tmp_path: Path) -> None:
    """Where it stopped the cycle goes on."""
    bench = Bench(tmp_path, Slotted)
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        hanging = anyio.Event()

        async def hang() -> None:
            hanging.set()
            await anyio.sleep_forever()

        bench.source.in_a_batch = hang  # type: ignore[attr-defined]
        async with followed(gc):
            bench.source.write("2", "free/1")
            with anyio.fail_after(30):
                await hanging.wait()
                other = bench.source.another()  # type: ignore[attr-defined]
                async with bench.open(other, mode="dry_run") as cycle:
                    assert len(await cycle.plan()) == 2


async def test_one_that_does_not_give_way_holds_the_cycle(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "GIVES_WAY_SECONDS", 0.1)
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        with turns.follower_turn(gc._parts.folder) as turn:
            assert turn is not None
            with anyio.fail_after(30), pytest.raises(LeaseHeld, match=r"follower \(process \d+\)"):
                await gc.plan()
            assert not turn.wanted, "who gave up wants nothing any more"
        await gc.plan()


async def test_a_restore_needs_no_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "GIVES_WAY_SECONDS", 0.1)
    async with bench.open() as gc:
        assert set((await gc.collect()).deleted) == set(FREE)
        with turns.follower_turn(gc._parts.folder) as turn:
            assert len((await gc.restore(prefix="", dry_run=False)).restored) == 3
            assert turn is not None
            assert not turn.wanted


async def test_of_two_followers_one_stands_by_and_takes_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Slotted)
    async with bench.open(mode="dry_run") as gc, bench.open(bench.source.another()) as second:  # type: ignore[attr-defined]
        await gc.plan()
        with Events(gc) as events, Events(second) as others:
            async with anyio.create_task_group() as tasks:
                async with followed(gc):
                    await until(lambda: bool(events.of("follow_started")))
                    tasks.start_soon(lambda: second.follow(every=SOON, chance=Random(1)))
                    await until(lambda: bool(others.of("follow_paused")))
                    bench.source.write("2", "free/1")
                    await until(knows(gc, "free/1"))
                    await until(lambda: bench.source.released is not None)
                await until(lambda: bool(others.of("follow_started")))
                tasks.cancel_scope.cancel()
            assert len(events.of("follow_started")) == 1, "nobody took the other for an operation"
            assert not events.of("follow_paused")


def test_a_follower_that_stands_by_is_never_taken_for_an_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would make the one that works give way, again and again."""
    with turns.follower_turn(tmp_path) as first:
        assert first is not None

        def asks(_: turns.FollowerTurn) -> bool:
            raise AssertionError("the wish is asked for without the lock")

        monkeypatch.setattr(turns.FollowerTurn, "wanted", property(asks))
        with turns.follower_turn(tmp_path) as second:
            assert second is None


# --------------------------------------------------------------------------- what goes wrong


async def test_a_loss_is_told_and_left_to_the_next_cycle(bench: Bench) -> None:
    async with bench.open(safety=Safety.none().but(grace=3 * DAY)) as gc:
        await gc.plan()
        bench.clock.advance(4 * DAY)
        with Events(gc) as events:
            async with followed(gc):
                bench.source.write("2", "free/1")
                bench.source.lose_log()
                await until(lambda: bool(events.of("follow_lost")))
                state = await gc._parts.registry.references.state("following")
                assert not state.followed
                plan = await gc.plan()
                assert ("position_lost", "following") in held_by(plan)
                assert len(plan) == 0, "every grace begins anew"
                await gc.acknowledge("position_lost", "the test", subject="following")
                bench.source.write("3", "free/2")
                await until(knows(gc, "free/2"))
        assert len(events.of("follow_lost")) == 1


async def test_a_source_put_back_to_its_past_is_a_loss(bench: Bench) -> None:
    bench.source.write("2", "free/1")
    async with bench.open() as gc:
        await gc.plan()
        bench.source.restore(1, noticed=False)
        with Events(gc) as events:
            async with followed(gc):
                await until(lambda: bool(events.of("follow_lost")))
        assert "restored to its past" in events.of("follow_lost")[0]["reason"]


async def test_an_error_is_tried_again_and_told_once(tmp_path: Path) -> None:
    class Away(Slotted):
        away = 0

        async def tip(self, after: Position, timeout: timedelta) -> Position | None:
            if self.away:
                self.away -= 1
                raise SourceError("connection refused")
            return await super().tip(after, timeout)

    bench = Bench(tmp_path, Away)
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        before = bench.source.let_go_of  # type: ignore[attr-defined]
        bench.source.away = 3  # type: ignore[attr-defined]
        bench.source.write("2", "free/1")
        with Events(gc) as events:
            async with followed(gc):
                await until(knows(gc, "free/1"))
        assert len(events.of("follow_waits")) == 1
        assert bench.source.let_go_of >= before + 3  # type: ignore[attr-defined]


async def test_the_pauses_grow_and_differ(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    class Stop(Exception):
        pass

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 9:
            raise Stop

    class Away(Following):
        async def tip(self, after: Position, timeout: timedelta) -> Position | None:
            raise SourceError("connection refused")

    source = Away(bench.clock)
    source.write("1", LIVE)
    monkeypatch.setattr(following, "FIRST_PAUSE", 1.0)
    async with bench.open(source, mode="dry_run") as gc:
        await gc.plan()
        one = following._Follower(gc._parts, source, SOON, Random(3))
        monkeypatch.setattr(following.anyio, "sleep", sleep)
        with pytest.raises(Stop):
            await one.run()
    for number, seconds in enumerate(slept):
        most = min(2.0**number, following.LAST_PAUSE)
        assert most / 2 <= seconds <= most
    assert len({round(seconds / 2**number, 3) for number, seconds in enumerate(slept[:5])}) == 5


async def test_what_nobody_expected_ends_it(bench: Bench) -> None:
    """As it was, not wrapped, so that its host sees it."""

    class Broken(Following):
        async def tip(self, after: Position, timeout: timedelta) -> Position | None:
            return await super().tip(after, timeout)

    source = Broken(bench.clock)
    source.write("1", LIVE)

    def fail() -> None:
        raise ZeroDivisionError("a plugin's")

    async with bench.open(source, mode="dry_run") as gc:
        await gc.plan()
        bench.on["changes_followed"] = fail
        source.write("2", "free/1")
        with anyio.fail_after(30), pytest.raises(ZeroDivisionError):
            await gc.follow(every=SOON)
        assert _free(gc._parts.folder)


async def test_a_store_that_does_not_answer_keeps_nobody_from_following(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3gc.errors import StoreError

    async def away() -> Any:
        raise StoreError("timeout")

    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        before = await gc._parts.registry.references.state("following")
        monkeypatch.setattr(bench.store, "now", away)
        async with followed(gc):
            for row in ("2", "3"):  # after the second, the first step is over
                bench.source.write(row, "free/1")
                await until(knows(gc, "free/1", int(row) - 1))
        after = await gc._parts.registry.references.state("following")
        assert after.synced == before.synced, "nobody knows when that was"


@pytest.fixture(params=["asyncio", "trio"])
def any_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param  # type: ignore[no-any-return]


def test_on_either_backend(any_backend: str, tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path)
        async with bench.open(mode="dry_run") as gc:
            await gc.plan()
            async with followed(gc):
                bench.source.write("2", "free/1")
                await until(knows(gc, "free/1"))
                await gc.plan()

    anyio.run(run, backend=any_backend)


async def test_a_loss_of_the_last_moment_is_no_end(bench: Bench) -> None:
    """PositionLost is a SourceError: it must not be taken for one that is tried again for ever."""

    class Lost(Following):
        lost = True

        async def tip(self, after: Position, timeout: timedelta) -> Position | None:
            if self.lost:
                raise PositionLost("the log is purged")
            return await super().tip(after, timeout)

    source = Lost(bench.clock)
    source.write("1", LIVE)
    async with bench.open(source) as gc:
        await gc.plan()
        async with followed(gc):

            async def lost() -> bool:
                state = await gc._parts.registry.references.state("following")
                return not state.followed

            await until(lost)
        assert ("position_lost", "following") in held_by(await gc.plan())


async def test_a_follower_of_another_configuration_leaves_the_registry_alone(bench: Bench) -> None:
    """A process that runs on with an old one must not throw away what the new one has read."""

    class Old(Following):
        old = True

        async def tip(self, after: Position, timeout: timedelta) -> Position | None:
            if self.old:
                raise Reconfigured("the tables are others")
            return await super().tip(after, timeout)

    source = Old(bench.clock)
    source.write("1", LIVE)
    async with bench.open(source, mode="dry_run") as gc:
        await gc.plan()
        with Events(gc) as events:
            async with followed(gc):
                await until(lambda: bool(events.of("follow_waits")))
        assert "another configuration" in events.of("follow_waits")[0]["reason"]
        state = await gc._parts.registry.references.state("following")
        assert (state.followed, state.lost) == (True, None)
