"""The cycle on fakes: what is journalled, explained, restored, counted and recovered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from s3gc import (
    Collector,
    ObjectAttributes,
    Position,
    Reference,
    Safety,
    create_config,
    create_plugin_manager,
    hookimpl,
)
from s3gc.abc import RESERVED_PREFIX
from s3gc.backup import back_up
from s3gc.errors import (
    CycleHeld,
    PlanError,
    PreconditionFailed,
    S3GCError,
    SourceError,
    StoreError,
    Unsettled,
)
from s3gc.model import DeleteOutcome
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class World(FakeStore):
    """A bucket whose requests a test can watch and spoil."""

    before_delete: Callable[[str], None] | None = None
    after_delete: Callable[[str], None] | None = None
    stat_fails = False

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        if self.before_delete:
            self.before_delete(key)
        outcome = await super().delete(key, if_match=if_match)
        if self.after_delete:
            self.after_delete(key)
        return outcome

    async def head(self, key: str) -> Any:
        if self.stat_fails:
            raise StoreError("503 slow down")
        return await super().head(key)


class Bench:
    """A world with one referenced and three free objects."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.store = World(self.clock)
        self.source = FakeSource(rows={"1": ["live"]})
        self.folder = folder
        for key in ("free/1", "free/2", "free/3", "live"):
            self.store.upload(key, key.encode(), ObjectAttributes(content_type="text/plain", tags={"t": key}))
        self.clock.advance(timedelta(days=30))

    def open(self, *sources: Any, **options: Any) -> Any:
        known: dict[str, Any] = {
            "bucket": "fake-bucket",
            "mode": "execute",
            "retention_days": 0,
            "vault_path": self.folder / "vault",
            "safety": Safety.none(),
        }
        return Collector.open(
            create_config(**known | options),
            store=self.store,
            sources=sources or [self.source],
            clock=self.clock,
            plugins=create_plugin_manager(entry_points=False),
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


FREE = ["free/1", "free/2", "free/3"]


async def test_the_journal_alone_tells_why_an_object_went(bench: Bench) -> None:
    async with bench.open() as gc:
        report = await gc.collect()
        history = [entry async for entry in gc.history(operation_id=report.operation_id)]
        plans = [entry async for entry in gc.history(events={"plan_made"})]
    names = [entry.event for entry in history if entry.key in (None, "free/1")]
    assert names == [
        "operation_started",
        "store_probed",
        "backed_up",
        "fence_reached",
        "delete_intended",
        "deleted",
        "batch_confirmed",
        "operation_completed",
    ]
    started, store, backed_up, fence, intended, deleted, confirmed, completed = (
        entry for entry in history if entry.key in (None, "free/1")
    )
    (plan,) = plans
    assert started.data["plan"] == plan.operation_id
    assert started.data["plan_sha256"] == plan.data["sha256"]
    assert started.data["config"] == plan.data["config"]
    assert set(plan.data["positions"]) == set(fence.data["positions"]) == set(confirmed.data["positions"])
    assert {"too_young", "in_grace", "excluded_prefix"} <= set(plan.data["gates"])
    assert plan.data["scanned"] == 4
    assert store.data["capabilities"]["conditional_delete"] is True
    assert intended.data["etag"] == backed_up.data["backup"]["etag"] == deleted.data["backup"]["etag"]
    assert "no row" in intended.data["reason"]
    assert completed.data["deleted"] == 3
    assert {entry.bucket for entry in history} == {"fake://fake"}


async def test_a_held_cycle_is_no_observation(bench: Bench) -> None:
    safety = Safety.none().but(min_observations=2, max_reference_drop=0.0)
    bench.source.rows["2"] = ["live"]
    async with bench.open(safety=safety) as gc:
        await gc.plan()
        del bench.source.rows["2"]
        assert (await gc.plan()).held_by
        bench.source.rows["2"] = ["live"]
        assert len(await gc.plan()) == 3, "the second good observation"
    async with bench.open(safety=safety, vault_path=bench.folder / "other") as gc:
        await gc.plan()
        del bench.source.rows["2"]
        assert (await gc.plan()).held_by
        assert (await gc.plan()).kept["too_few_observations"] == 3


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("named", ["free/1", "free/2"])
async def test_a_reference_to_an_early_batch_during_a_late_one_heals(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, few: bool, named: str
) -> None:
    if few:  # as with very many keys: they lie in a file, and are confirmed in groups
        monkeypatch.setattr("s3gc.keylist.IN_MEMORY", 0)
        monkeypatch.setattr("s3gc.confirm.CONFIRM_KEYS", 1)

    def late(key: str) -> None:
        if key == "free/3":
            bench.source.rows["late"] = [named]

    bench.store.before_delete = late
    async with bench.open(safety=Safety.none().but(batch_objects=1)) as gc:
        report = await gc.collect()
        assert list(report.deleted) == [key for key in FREE if key != named]
        assert report.resurrected == (named,)
        assert (await gc.metrics())["total_deleted"] == 2
    assert bench.store.contents()[named] == named.encode()


async def test_a_re_upload_between_the_delete_and_the_heal_stays(bench: Bench) -> None:
    def again(key: str) -> None:
        if key == "free/1":
            bench.store.upload("free/1", b"newer")
            bench.source.rows["late"] = ["free/1"]

    bench.store.after_delete = again
    async with bench.open() as gc:
        await gc.collect()
    assert bench.store.contents()["free/1"] == b"newer"


async def test_same_bytes_uploaded_again_keep_the_etag_and_are_kept(bench: Bench) -> None:
    async with bench.open() as gc:
        plan = await gc.plan()
        bench.store.upload("free/1", b"free/1")
        report = await gc.collect(plan)
    assert list(report.deleted) == ["free/2", "free/3"]
    assert report.kept["changed"] == 1


async def test_same_bytes_uploaded_again_while_the_batch_is_backed_up(bench: Bench) -> None:
    async with bench.open() as gc:
        plan = await gc.plan()
        get = bench.store.get

        def racing(key: str, *, if_match: str | None = None) -> Any:
            opened = get(key, if_match=if_match)
            if key == "free/3":
                bench.clock.advance(timedelta(seconds=5))
                bench.store.upload("free/1", b"free/1", ObjectAttributes(content_type="image/png"))
            return opened

        bench.store.get = racing  # type: ignore[method-assign]
        report = await gc.collect(plan)
    assert "free/1" not in report.deleted
    assert bench.store._objects["free/1"].attributes.content_type == "image/png"


async def test_a_plan_shrinks_by_its_gates_again(bench: Bench) -> None:
    """What the registry learns after the plan counts: here a cycle in between saw a reference."""
    safety = Safety.none().but(grace=timedelta(days=1))
    async with bench.open(safety=safety) as gc:
        await gc.plan()
        bench.clock.advance(timedelta(days=2))
        plan = await gc.plan()
        assert len(plan) == 3
        bench.source.rows["2"] = ["free/1"]
        await gc.plan()
        report = await gc.collect(plan)
        assert list(report.deleted) == ["free/2", "free/3"]
        assert report.kept["referenced_now"] == 1


async def test_a_key_that_was_referenced_in_between_begins_its_grace_anew(bench: Bench) -> None:
    safety = Safety.none().but(grace=timedelta(days=1))
    async with bench.open(safety=safety) as gc:
        await gc.plan()
        bench.clock.advance(timedelta(days=2))
        plan = await gc.plan()
        bench.source.rows["2"] = ["free/1"]
        await gc.plan()
        del bench.source.rows["2"]
        await gc.plan()
        report = await gc.collect(plan)
        assert list(report.deleted) == ["free/2", "free/3"]
        assert report.kept["in_grace"] == 1


# --------------------------------------------------------------------------- restore


async def test_restore_by_key_prefix_and_operation(bench: Bench) -> None:
    async with bench.open() as gc:
        report = await gc.collect()
        assert (await gc.restore(key="free/1")).dry_run
        assert "free/1" not in bench.store.contents()
        one = await gc.restore(key="free/1", dry_run=False)
        assert one.restored == ["free/1"]
        again = await gc.restore(operation_id=report.operation_id, dry_run=False)
        assert again.restored == ["free/2", "free/3"]
        assert set(again.skipped) == {"free/1"}
        none = await gc.restore(prefix="other/", dry_run=False)
        assert (none.restored, none.errors) == ([], {})
        unknown = await gc.restore(key="never", dry_run=False)
        assert set(unknown.errors) == {"never"}
        stored = bench.store._objects["free/2"]
        assert stored.attributes == ObjectAttributes(content_type="text/plain", tags={"t": "free/2"})
        with pytest.raises(ValueError, match="say what"):
            await gc.restore()
        with pytest.raises(ValueError, match="time zone"):
            await gc.restore(at=bench.clock.now().replace(tzinfo=None))


async def test_restore_to_a_point_in_time(bench: Bench) -> None:
    async with bench.open() as gc:
        start = bench.clock.now()
        bench.clock.advance(timedelta(hours=1))
        await gc.collect()
        first_gone = bench.clock.now()
        bench.clock.advance(timedelta(hours=1))
        bench.store.upload("free/1", b"second life")
        between = bench.clock.now()
        bench.clock.advance(timedelta(hours=1))
        await gc.collect()

        after_first = await gc.restore(at=first_gone + timedelta(minutes=1))
        assert after_first.restored == []  # at that time nothing of it was there
        second = await gc.restore(at=between)
        assert second.restored == ["free/1"]
        await gc.restore(at=start, dry_run=False)
        assert bench.store.contents() == {key: key.encode() for key in [*FREE, "live"]}


async def test_a_live_object_is_never_overwritten_unasked_and_then_kept(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.collect()
        bench.store.upload("free/1", b"newer")
        kept = await gc.restore(key="free/1", dry_run=False)
        assert list(kept.skipped) == ["free/1"]
        assert bench.store.contents()["free/1"] == b"newer"
        bench.clock.advance(timedelta(seconds=1))
        told = await gc.restore(key="free/1", dry_run=False, overwrite=True)
        assert told.restored == ["free/1"]
        assert bench.store.contents()["free/1"] == b"free/1"
        bench.clock.advance(timedelta(seconds=1))
        await gc.restore(key="free/1", dry_run=False, overwrite=True)
        assert bench.store.contents()["free/1"] == b"newer", "the overwritten one was backed up"


async def test_an_upload_in_the_middle_of_a_restore_wins(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.collect()
        put = bench.store.put

        async def racing(key: str, body: Any, **options: Any) -> Any:
            if not key.startswith(RESERVED_PREFIX):
                bench.store.upload(key, b"raced")
            return await put(key, body, **options)

        bench.store.put = racing  # type: ignore[method-assign]
        report = await gc.restore(key="free/1", dry_run=False)
        assert list(report.skipped) == ["free/1"]
    assert bench.store.contents()["free/1"] == b"raced"


async def test_a_store_that_writes_other_bytes_is_found_out(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.collect()
        put = bench.store.put

        async def corrupting(key: str, body: Any, *, size: int, **options: Any) -> Any:
            if key.startswith(RESERVED_PREFIX):
                return await put(key, body, size=size, **options)
            return await put(key, b"x" * size, size=size, **options)

        bench.store.put = corrupting  # type: ignore[method-assign]
        report = await gc.restore(key="free/1", dry_run=False)
        assert "other bytes" in report.errors["free/1"]
        assert report.restored == []


# --------------------------------------------------------------------------- explain and metrics


async def test_explain_answers_for_any_key(bench: Bench) -> None:
    async with bench.open(exclude_prefixes=["kept"]) as gc:
        bench.store.upload("kept/1", b"")
        report = await gc.collect()
        live = await gc.explain("live")
        assert live.exists
        assert live.decision.startswith("kept: referenced (1 mention in the registry)")
        assert [reference.row_id for _, reference in live.references] == ["1"]
        excluded = await gc.explain("kept/1")
        assert "excluded_prefix" in excluded.decision
        gone = await gc.explain("free/1")
        assert gone.exists is False
        assert gone.decision.startswith("deleted by s3gc")
        assert report.operation_id in gone.decision
        assert [entry.event for entry in gone.history] == [
            "store_probed",
            "backed_up",
            "delete_intended",
            "deleted",
        ]
        never = await gc.explain("never")
        assert never.decision.startswith("there is no such object")
        bench.store.stat_fails = True
        unknown = await gc.explain("live")
        assert (unknown.exists, unknown.decision) == (None, "unknown: the store could not be asked")


async def test_explain_never_calls_unknown_free(bench: Bench) -> None:
    class Down(FakeSource):
        async def references(self) -> AsyncIterator[Reference]:
            raise SourceError("the database is down")
            yield

    async with bench.open(Down()) as gc:
        explained = await gc.explain("free/1")
        assert explained.decision.startswith("kept: referenced_now (unknown)")
        assert explained.problems == ["the direct read: the database is down"]


async def test_metrics_survive_a_restart_and_an_error_is_cleared_by_the_next_good_run(bench: Bench) -> None:
    async with bench.open(FakeSource()) as gc:
        with pytest.raises(CycleHeld):
            await gc.collect()
    async with bench.open() as gc:
        metrics = await gc.metrics()
        assert "no_references" in metrics["last_error"]
        assert metrics["total_runs"] == 1
        await gc.acknowledge("no_references", "that was an empty source of a test", subject="fake")
        await gc.collect()
    async with bench.open() as gc:
        metrics = await gc.metrics()
        assert metrics["last_error"] is None
        assert (metrics["total_runs"], metrics["total_deleted"], metrics["total_backed_up"]) == (2, 3, 3)
        assert metrics["last_run_at"] == bench.clock.now().isoformat()
        assert metrics["vault_size_bytes"] > 0


# --------------------------------------------------------------------------- recovery


async def test_what_could_not_be_settled_is_settled_by_the_next_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delete's answer is lost, and the store doesn't say any more whether the object is gone."""
    monkeypatch.setattr("s3gc.deletion.LOOKS", 1)
    monkeypatch.setattr("s3gc.recovery.request_life", lambda parts: timedelta(0))
    delete = bench.store.delete

    async def lost(key: str, *, if_match: str) -> DeleteOutcome:
        if key == "free/2":
            bench.store.stat_fails = True
            raise StoreError("timeout", outcome_unknown=True)
        return await delete(key, if_match=if_match)

    bench.store.delete = lost  # type: ignore[method-assign]
    async with bench.open() as gc:
        with pytest.raises(Unsettled):
            await gc.collect()
        with pytest.raises(CycleHeld, match="recovery_pending"):
            await gc.collect()  # the store is still down
    async with bench.open() as gc:
        with pytest.raises(CycleHeld, match="recovery_pending"):
            await gc.plan()
        bench.store.stat_fails = False
        bench.store.delete = delete  # type: ignore[method-assign]
        bench.source.rows["late"] = ["free/1"]
        assert "free/1" not in bench.store.contents()
        await gc.plan()  # settles first
        assert bench.store.contents()["free/1"] == b"free/1", "referenced meanwhile: back"
        recovered = [entry async for entry in gc.history(events={"operation_recovered"})]
        assert len(recovered) == 1
        assert recovered[0].data["resurrected"] == 1
        history = [entry.event async for entry in gc.history(key="free/2")]
        assert history[-1] == "delete_skipped"
        assert (await gc.verify())[0].ok


async def test_a_late_delete_that_takes_the_same_bytes_uploaded_again_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If-Match lets it: the new upload has the ETag of the old one. It is referenced, and must be back."""
    monkeypatch.setattr("s3gc.deletion.LOOKS", 1)
    delete = bench.store.delete

    async def lost(key: str, *, if_match: str) -> DeleteOutcome:
        if key == "free/2":
            bench.store.stat_fails = True
            raise StoreError("timeout", outcome_unknown=True)
        return await delete(key, if_match=if_match)

    bench.store.delete = lost  # type: ignore[method-assign]
    arrived: list[str] = []

    async def arrive(seconds: float = 0.0) -> None:
        if not arrived:
            arrived.append("now")
            found = await bench.store.stat("free/2")
            assert found is not None
            assert await delete("free/2", if_match=found.etag) is DeleteOutcome.DELETED

    async with bench.open() as gc:
        with pytest.raises(Unsettled):
            await gc.collect()
        bench.store.stat_fails = False
        bench.clock.advance(timedelta(seconds=5))  # less than a request lives
        bench.store.upload("free/2", b"free/2")
        bench.source.rows["late"] = ["free/2"]
        monkeypatch.setattr("s3gc.recovery.anyio.sleep", arrive)  # while recovery waits
        await gc.plan()  # settles first
        await arrive()  # or, if it didn't wait, afterwards
    assert bench.store.contents()["free/2"] == b"free/2"


async def test_an_operation_in_progress_elsewhere_is_not_recovered(bench: Bench) -> None:
    async with bench.open() as first:

        def another_opens(key: str) -> None:
            opened.append(key)

        opened: list[str] = []
        bench.store.after_delete = another_opens
        async with first._operation(writes=True), bench.open() as second:
            assert [entry async for entry in second.history(events={"operation_recovered"})] == []
        assert len((await first.collect()).deleted) == 3
        assert [key for key in opened if not key.startswith(RESERVED_PREFIX)] == FREE


async def test_the_host_starts_while_the_database_is_down(bench: Bench) -> None:
    class Down(FakeSource):
        async def check(self) -> Any:
            raise SourceError("the database is down")

    async with bench.open(Down()) as gc:
        with pytest.raises(CycleHeld, match="database is down"):
            await gc.collect()
        assert (await gc.metrics())["total_runs"] == 0


async def test_put_back_refuses_an_existing_object(bench: Bench) -> None:
    from s3gc.putback import put_back
    from s3gc.vault.records import record_from_json

    async with bench.open() as gc:
        await gc.collect()
        entries = [entry async for entry in gc.history(key="free/1", events={"deleted"})]
        record = record_from_json(entries[0].data["backup"])
        bench.store.upload("free/1", b"newer")
        with pytest.raises(PreconditionFailed):
            await put_back(gc._parts, record)
    assert bench.store.contents()["free/1"] == b"newer"


async def test_a_closed_collector_says_so(bench: Bench) -> None:
    async with bench.open() as gc:
        pass
    with pytest.raises(S3GCError):
        await gc.plan()


# --------------------------------------------------------------------------- layers behind layers


async def test_an_overwrite_after_the_last_look_survives_the_delete(bench: Bench) -> None:
    def overwrite(key: str) -> None:
        if key == "free/2":
            bench.store.upload("free/2", b"newer")

    bench.store.before_delete = overwrite
    async with bench.open() as gc:
        report = await gc.collect()
        assert list(report.deleted) == ["free/1", "free/3"]
        assert report.kept["changed"] == 1
        history = [entry async for entry in gc.history(key="free/2")]
        assert history[-1].event == "delete_skipped"
        assert history[-1].data["reason"] == "changed"
    assert bench.store.contents()["free/2"] == b"newer"


async def test_a_reference_found_by_the_direct_read_begins_grace_anew(bench: Bench) -> None:
    safety = Safety.none().but(grace=timedelta(hours=10))
    async with bench.open(safety=safety) as gc:
        await gc.plan()
        bench.clock.advance(timedelta(hours=11))
        plan = await gc.plan()
        bench.source.rows["2"] = ["free/1"]
        assert (await gc.collect(plan)).kept["referenced_now"] == 1
        del bench.source.rows["2"]
        report = await gc.collect()
        assert (list(report.deleted), report.kept["in_grace"]) == ([], 1)


async def test_backing_up_takes_only_the_object_that_was_listed(bench: Bench) -> None:
    async with bench.open() as gc:
        parts = gc._parts
        pages = [page async for page in bench.store.list("free/")]
        listed = list(pages[0])
        bench.store.upload("free/1", b"other bytes")
        bench.store.upload("free/2", b"free/2")  # the same bytes again: same ETag, later time
        bench.store.remove("free/3")
        async with parts.vault.session("01OP") as session:
            records, kept = await back_up(parts, session, listed, "01OP")
        assert records == {}
        assert {key: code for key, (code, _) in kept.items()} == dict.fromkeys(FREE, "changed")


async def test_an_edited_plan_deletes_not_even_its_first_batch(bench: Bench) -> None:
    async with bench.open(safety=Safety.none().but(batch_objects=1)) as gc:
        plan = await gc.plan()
        plan.path.write_text(plan.path.read_text().replace('"free/3"', '"live"'))
        with pytest.raises(PlanError):
            await gc.collect(plan)
    assert len(bench.store.contents()) == 4


async def test_a_plan_of_another_bucket_is_refused(bench: Bench) -> None:
    async with bench.open() as gc:
        plan = await gc.plan()
        with pytest.raises(PlanError, match="s3://other"):
            await gc.collect(evolve(plan, header=evolve(plan.header, store_url="s3://other")))


async def test_every_read_comes_after_a_fence_and_the_listing_before_all(bench: Bench) -> None:
    happened: list[str] = []

    class Watched(FakeSource):
        async def fence(self, timeout: timedelta) -> Position:
            happened.append("fence")
            return await super().fence(timeout)

        async def references(self) -> AsyncIterator[Reference]:
            happened.append("read")
            async for reference in super().references():
                yield reference

    listing = bench.store.list

    async def watched(prefix: str = "", start_after: str = "") -> AsyncIterator[Any]:
        if not prefix.startswith(RESERVED_PREFIX):
            happened.append("list")
        async for page in listing(prefix, start_after):
            yield page

    bench.store.list = watched  # type: ignore[method-assign, assignment]
    bench.store.after_delete = happened.append
    async with bench.open(Watched(rows={"1": ["live"]})) as gc:
        await gc.collect()
    assert happened == ["list", "fence", "read", "read", "fence", "read", *FREE, "fence", "read"]


async def test_after_a_crash_with_the_database_down_everything_unconfirmed_is_put_back(bench: Bench) -> None:
    """Nobody can say whether a row names it: unknown means keep (P6)."""

    class Flaky(FakeSource):
        down = False

        async def references(self) -> AsyncIterator[Reference]:
            if self.down:
                raise SourceError("the database is down")
            async for reference in super().references():
                yield reference

    source = Flaky(rows={"1": ["live"]})
    async with bench.open(source) as gc:
        append = gc._parts.vault.journal.append

        async def dies(drafts: Any) -> None:
            if any(draft.event == "batch_confirmed" for draft in drafts):
                raise S3GCError("killed here")
            await append(drafts)

        gc._parts.vault.journal.append = dies
        with pytest.raises(Unsettled):
            await gc.collect()
    assert set(bench.store.contents()) == {"live"}
    source.down = True
    async with bench.open(source) as gc:
        assert set(bench.store.contents()) == {"live", *FREE}
        with pytest.raises(CycleHeld, match="recovery_pending"):
            await gc.plan()
        source.down = False
        assert len((await gc.collect()).deleted) == 3
        assert (await gc.verify())[0].ok


async def test_the_same_bytes_under_another_etag_are_already_there(bench: Bench) -> None:
    """As on a folder, whose ETags are new at every write."""
    async with bench.open() as gc:
        await gc.collect()
        await gc.restore(key="free/1", dry_run=False)
        stored = bench.store._objects["free/1"]
        bench.store._objects["free/1"] = evolve(stored, info=evolve(stored.info, etag="another"))
        again = await gc.restore(key="free/1", dry_run=False, overwrite=True)
        assert again.skipped == {"free/1": "already there, the same object"}
        bench.store._objects["free/1"] = evolve(
            stored, info=evolve(stored.info, etag="another"), body=b"FREE/1"
        )
        other = await gc.restore(key="free/1", dry_run=False)
        assert "another object" in other.skipped["free/1"]


async def test_a_cancelled_collect_finishes_its_batch_and_its_record(bench: Bench) -> None:
    async with bench.open(safety=Safety.none().but(batch_objects=1)) as gc:
        with anyio.CancelScope() as scope:
            bench.store.after_delete = lambda _: scope.cancel()
            await gc.collect()
        assert scope.cancelled_caught
        assert sorted(bench.store.contents()) == ["free/2", "free/3", "live"]
        names = [entry.event async for entry in gc.history()]
        assert names[-3:] == ["deleted", "batch_confirmed", "operation_failed"]
        bench.store.after_delete = None
        assert len((await gc.collect()).deleted) == 2
        assert "operation_recovered" not in [entry.event async for entry in gc.history()]


async def test_a_source_shows_no_secret_of_the_configuration(bench: Bench) -> None:
    class Telling(FakeSource):
        async def references(self) -> AsyncIterator[Reference]:
            raise RuntimeError("login failed for app:hunter2-the-second")
            yield

    url = "acme://app:hunter2-the-second@host/db"
    plugins = create_plugin_manager(entry_points=False)
    config = create_config(bucket="fake-bucket", sources=[url], vault_path=bench.folder / "vault")

    class Opener:
        @hookimpl
        def s3gc_open_source(self, url: str) -> Any:
            return Telling() if url.startswith("acme://") else None

    plugins.register(Opener())
    async with Collector.open(config, store=bench.store, clock=bench.clock, plugins=plugins) as gc:
        with pytest.raises(CycleHeld) as caught:
            await gc.plan()
        journal = [entry async for entry in gc.history(events={"breaker_tripped"})]
    assert "hunter2" not in repr(caught.value) + repr(caught.value.breakers) + repr(journal)
    assert "login failed" in str(caught.value)


async def test_a_fault_of_any_kind_between_delete_and_confirmation_leaves_the_operation_open(
    bench: Bench,
) -> None:
    async with bench.open() as gc:

        async def broken(*_: Any, **__: Any) -> Any:
            raise RuntimeError("a bug")

        bench.store.after_delete = lambda key: setattr(gc._parts.registry.listing, "forget", broken)
        with pytest.raises(RuntimeError, match="a bug"):
            await gc.collect()
        bench.store.after_delete = None
        ends = [entry async for entry in gc.history(events={"operation_failed", "operation_completed"})]
        assert ends == []
    bench.source.rows["late"] = ["free/1"]
    async with bench.open() as gc:
        assert bench.store.contents()["free/1"] == b"free/1"
        assert [entry async for entry in gc.history(events={"operation_recovered"})] != []


@pytest.mark.parametrize("back_in_time", [True, False])
async def test_a_sweep_that_ends_early_confirms_what_it_deleted(bench: Bench, back_in_time: bool) -> None:
    """Batch 1 is deleted, then a row names its key, then batch 2 fails: the key must come back (P3)."""

    class Flaky(FakeSource):
        failures = 0

        async def references(self) -> AsyncIterator[Reference]:
            if self.failures:
                self.failures -= 1
                raise SourceError("the database is down")
            async for reference in super().references():
                yield reference

    source = Flaky(rows={"1": ["live"]})
    plugins = create_plugin_manager(entry_points=False)

    class Observer:
        @hookimpl
        def s3gc_event(self, event: str, data: Any) -> None:
            if event == "batch_completed" and data["deleted"]:
                source.rows["late"] = ["free/1"]
                source.failures = 1 if back_in_time else 99

    plugins.register(Observer())
    config = create_config(
        bucket="fake-bucket",
        mode="execute",
        retention_days=0,
        vault_path=bench.folder / "vault",
        safety=Safety.none().but(batch_objects=1),
    )
    async with Collector.open(
        config, store=bench.store, sources=[source], clock=bench.clock, plugins=plugins
    ) as gc:
        with pytest.raises(CycleHeld, match="database is down") as held:
            await gc.collect()
        report = held.value.report
        assert report is not None
        assert ("free/1" in bench.store.contents()) is back_in_time
        assert list(report.deleted) == ([] if back_in_time else ["free/1"])
        ended = [entry async for entry in gc.history(events={"operation_failed"})]
        assert bool(ended) is back_in_time
        source.failures = 0
        await gc.plan()
        assert bench.store.contents()["free/1"] == b"free/1"
        assert (await gc.verify())[0].ok
