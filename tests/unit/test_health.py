"""What a face asks of the collector besides the cycle: health, the newest plan, events, an id of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

from fixtures_kernel import Bench, anyio_backend, bench  # noqa: F401
from s3gc import Reference, Safety, health
from s3gc.abc import ReferenceSource
from s3gc.errors import AlreadyCollected, CycleHeld, LeaseHeld, SourceError, StoreError
from s3gc.vault import _queries

pytestmark = pytest.mark.anyio


class Broken(ReferenceSource):
    """A source that answers as a test wants."""

    name = "broken"
    error: Exception | None = None
    silent = False

    async def references(self) -> AsyncIterator[Reference]:
        yield Reference("live")

    async def check(self) -> Any:
        if self.silent:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error
        return await super().check()


async def test_all_is_well_and_says_where_the_registry_stands(bench: Bench) -> None:
    async with bench.open(bench.source) as gc:
        before = await gc.health()
        assert before.ok
        assert before.sources[0].position is None
        await gc.plan()
        bench.clock.advance(timedelta(minutes=3))
        (after,) = (await gc.health()).sources
    assert after.ok
    assert after.follows_changes
    assert after.position is not None
    assert after.lag == timedelta(minutes=3)


async def test_each_part_that_is_ill_is_told_and_nothing_is_raised(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE", 0.01)
    source = Broken()
    async with bench.open(source, admin_api_key="hunter22hunter22") as gc:
        source.error = SourceError("down: hunter22hunter22")
        found = await gc.health()
        assert not found.ok
        assert not found.sources[0].ok
        assert "down: ***" in found.sources[0].detail
        source.error = OSError("a driver's own")
        assert "a driver's own" in (await gc.health()).sources[0].detail
        source.error = None

        async def silent() -> datetime:
            raise StoreError("503 slow down, hunter22hunter22")

        monkeypatch.setattr(bench.store, "now", silent)
        found = await gc.health()
        assert (found.ok, found.store.ok, found.store.detail) == (False, False, "503 slow down, ***")


async def test_a_part_that_does_not_answer_is_not_waited_for(bench: Bench) -> None:
    source = Broken()
    source.silent = True
    async with bench.open(source) as gc:
        found = await health.health(gc._parts, 0.01)
    assert not found.ok
    assert "no answer within 0.01 s" in found.sources[0].detail


async def test_a_clock_that_is_wrong_is_no_health(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.open(bench.source) as gc:

        async def late() -> datetime:
            return bench.clock.now() - timedelta(minutes=6)

        monkeypatch.setattr(bench.store, "now", late)
        found = await gc.health()
    assert not found.store.ok
    assert "set the clock" in found.store.detail


async def test_a_breaker_that_waits_and_a_missing_source_are_no_health(bench: Bench) -> None:
    source = Broken()
    async with bench.open(source, safety=Safety.none().but(self_clearing=())) as gc:
        source.error = SourceError("down")
        with pytest.raises(CycleHeld):
            await gc.collect()
        source.error = None
        found = await gc.health()
        assert all(part.ok for part in (found.vault, found.store, *found.sources))
        assert not found.ok
        assert [breaker.code for breaker in found.waiting] == ["source_failed"]


async def test_a_journal_that_takes_nothing_is_no_health(bench: Bench) -> None:
    async with bench.open(bench.source) as gc:
        gc._parts.vault.journal._refusal = "its head is lost"  # type: ignore[attr-defined]
        found = await gc.health()
    assert not found.vault.ok
    assert "its head is lost" in found.vault.detail


async def test_the_newest_plan(bench: Bench) -> None:
    async with bench.open(bench.source) as gc:
        assert await gc.latest_plan() is None
        await gc.plan()
        made = await gc.plan()
        assert await gc.latest_plan() == made.path


async def test_a_collect_has_the_id_that_it_was_given_and_others_are_told_it(bench: Bench) -> None:
    seen: list[tuple[str, Mapping[str, Any]]] = []
    async with bench.open(bench.source) as gc, bench.open(bench.source) as other:

        def observer(event: str, data: Mapping[str, Any]) -> None:
            seen.append((event, data))

        with gc.watching(observer), other.watching(lambda *_: pytest.fail("another's event")):
            async with gc._operation(writes=False, own_id="01KTHEOPERATION"):
                with pytest.raises(LeaseHeld) as held:
                    await other.plan()
            assert held.value.operation_id == "01KTHEOPERATION"
            report = await gc.collect(own_id="01KTHEOPERATION")
        await gc.plan()
    assert report.operation_id == "01KTHEOPERATION"
    assert [data["kind"] for event, data in seen if event == "gc_cycle_started"] == ["plan", "collect"]


async def test_of_several_schedulers_one_collects(bench: Bench) -> None:
    async with bench.open(bench.source) as gc, bench.open(bench.source) as other:
        due = bench.clock.now()
        first = await gc.collect(not_since=due)
        with pytest.raises(AlreadyCollected) as already:
            await other.collect(not_since=due)
        assert already.value.operation_id == first.operation_id
        bench.clock.advance(timedelta(days=1))
        await other.collect(not_since=bench.clock.now())


async def test_the_vault_in_numbers_and_what_it_was_opened_with(bench: Bench) -> None:
    async with bench.open(bench.source) as gc:
        assert (await gc.vault_stats()).backups == 0
        assert gc.config.store_url == "s3://fake-bucket"


async def test_several_rare_events_are_read_without_going_through_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever way they are read, the answer is the same."""
    async with bench.open(bench.source) as gc:
        for _ in range(3):
            await gc.collect()
        rare = {"operation_started", "operation_completed"}
        direct = [e async for e in gc.history(events=rare)]
        later = [e async for e in gc.history(events=rare, after_seq=direct[2].seq)]
        monkeypatch.setattr(_queries, "NARROW_ROWS", 0)
        assert direct == [e async for e in gc.history(events=rare)]
        assert later == direct[3:]
    assert [e.event for e in direct] == ["operation_started", "operation_completed"] * 3
