"""Why is it still there, why did it go: each gate, the rows, and the journal at any time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve

from fixtures_kernel import (  # noqa: F401
    DAY,
    FREE,
    HOUR,
    LIVE,
    Bench,
    Scanned,
    anyio_backend,
    bench,
    entries,
)
from s3gc import Reference, Safety, hookimpl
from s3gc.errors import SourceError
from s3gc.model import Explanation
from s3gc.testing.fakes import FakeSource

pytestmark = pytest.mark.anyio


def keeping(found: Explanation) -> dict[str, str]:
    """Code → detail of the gates that keep the key."""
    return {one.gate: one.detail for one in found.verdicts if one.keep}


async def explain(bench: Bench, key: str, **options: Any) -> Explanation:
    """After one cycle."""
    async with bench.open(mode="dry_run", **options) as gc:
        await gc.plan()
        return await gc.explain(key)  # type: ignore[no-any-return]


# --------------------------------------------------------------------------- each gate


async def test_what_may_go_has_passed_every_gate(bench: Bench) -> None:
    found = await explain(bench, "free/1")
    assert found.decision == "unreferenced: a cycle in execute mode may delete it"
    assert {one.detail for one in found.verdicts} == {"passed"}
    assert {one.gate for one in found.verdicts} >= {
        "referenced",
        "derived",
        "referenced_now",
        "claimed",
        "ambiguous_key",
        "excluded_prefix",
        "not_owned",
        "unclear_parent",
        "archived",
        "too_young",
        "in_grace",
        "too_few_observations",
    }
    assert (found.exists, found.references, found.problems) == (True, [], [])


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        ({"exclude_prefixes": ["free"]}, "excluded_prefix", "free"),
        ({"owned_prefixes": ["app"]}, "not_owned", "app"),
        ({"retention_days": 31}, "too_young", "30 days"),
        ({"safety": Safety.none().but(grace=DAY)}, "in_grace", "1 day"),
        ({"safety": Safety.none().but(min_observations=2)}, "too_few_observations", "in 1 cycles"),
    ],
)
async def test_each_gate_says_why(bench: Bench, options: dict[str, Any], code: str, told: str) -> None:
    found = await explain(bench, "free/1", **options)
    assert set(keeping(found)) == {code}
    assert told in keeping(found)[code]
    assert found.decision.startswith(f"kept: {code} (")


async def test_an_archived_object_says_so(bench: Bench) -> None:
    stored = bench.store._objects["free/1"]
    bench.store._objects["free/1"] = evolve(stored, info=evolve(stored.info, storage_class="GLACIER"))
    assert set(keeping(await explain(bench, "free/1"))) == {"archived"}


async def test_a_veto_says_so(bench: Bench) -> None:
    class Vetoing:
        @hookimpl
        def s3gc_veto(self, candidate: Any) -> str | None:
            return "on legal hold" if candidate.object.key == "free/1" else None

    bench.plugins.append(Vetoing())
    assert keeping(await explain(bench, "free/1")) == {"vetoed": "on legal hold"}
    assert keeping(await explain(bench, "free/2")) == {}


# --------------------------------------------------------------------------- rows


async def test_a_row_is_named(bench: Bench) -> None:
    found = await explain(bench, LIVE)
    assert keeping(found).keys() >= {"referenced", "referenced_now"}
    assert found.references == [("following", Reference(LIVE, "rows", "1", "key"))]
    assert found.decision == "kept: referenced (1 mention in the registry), referenced_now (named by 1 row)"


async def test_a_folder_is_named(bench: Bench) -> None:
    bench.source.write("2", folders=["free/"])
    found = await explain(bench, "free/1")
    assert keeping(found)["referenced"] == "its folder 'free/' is named"
    assert [one.key for _, one in found.references] == ["free/"]


@pytest.mark.parametrize("row", [{"keys": ["big/1"]}, {"folders": ["big/"]}])
async def test_a_parent_is_named(bench: Bench, row: dict[str, list[str]]) -> None:
    bench.source.write("2", *row.get("keys", []), folders=row.get("folders", []))
    found = await explain(bench, "free/1", derived={"free/{n}": "big/{n}"})
    assert keeping(found)["derived"] == "derived from 'big/1', which a row names"
    assert "referenced" not in keeping(found)
    assert len(found.references) == 1


async def test_a_row_that_no_cycle_has_seen_is_named(bench: Bench) -> None:
    async with bench.open(mode="dry_run") as gc:
        await gc.plan()
        bench.source.write("2", "free/1")
        found = await gc.explain("free/1")
    assert set(keeping(found)) == {"referenced_now"}


async def test_a_row_of_every_source_is_named(bench: Bench) -> None:
    second = Scanned(bench.clock, "second")
    second.write("9", LIVE)
    async with bench.open(bench.source, second, mode="dry_run") as gc:
        await gc.plan()
        found = await gc.explain(LIVE)
    assert [name for name, _ in found.references] == ["following", "second"]
    assert keeping(found)["referenced"] == "2 mentions in the registry"


async def test_a_claim_is_named_with_its_end(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.plan()
        assert await gc.claim("free/1", HOUR)
        end = bench.clock.now() + HOUR
        assert keeping(await gc.explain("free/1"))["claimed"] == f"claimed until {end.isoformat()}"
        bench.clock.advance(HOUR)
        assert "claimed" not in keeping(await gc.explain("free/1"))


async def test_a_change_that_spoke_of_the_key_shows_in_its_grace(bench: Bench) -> None:
    async with bench.open(mode="dry_run", safety=Safety.none().but(grace=DAY)) as gc:
        await gc.plan()
        bench.clock.advance(2 * DAY)
        await gc.plan()
        assert keeping(await gc.explain("free/1")) == {}
        bench.source.write("2", "free/1")
        bench.source.remove("2")
        await gc.plan()
        assert set(keeping(await gc.explain("free/1"))) == {"in_grace"}


@pytest.mark.parametrize("error", [SourceError, RuntimeError])
async def test_a_source_that_cannot_be_read_is_a_problem_and_keeps(
    bench: Bench, error: type[Exception]
) -> None:
    class Broken(FakeSource):
        broken = False

        async def references(self) -> AsyncIterator[Reference]:
            if self.broken:
                raise error("connection refused")
            async for reference in super().references():
                yield reference

    source = Broken(rows={"1": [LIVE]})
    async with bench.open(source, mode="dry_run") as gc:
        await gc.plan()
        source.broken = True
        found = await gc.explain("free/1")
    assert "connection refused" in found.problems[0]
    assert keeping(found) == {"referenced_now": "unknown"}
    assert found.decision.startswith("kept")


# --------------------------------------------------------------------------- the past


async def test_the_past_is_what_the_journal_knew_then(bench: Bench) -> None:
    times = {}

    def tick(name: str) -> None:
        times[name] = bench.clock.now()
        bench.clock.advance(HOUR)

    async with bench.open(safety=Safety.none().but(grace=DAY)) as gc:
        tick("before all")
        await gc.plan()
        tick("in grace")
        bench.clock.advance(DAY)
        report = await gc.collect()
        assert sorted(report.deleted) == FREE
        tick("deleted")
        await gc.restore(key="free/1", dry_run=False)
        tick("restored")
        then = {name: await gc.explain("free/1", at=at) for name, at in times.items()}
        now = await gc.explain("free/1")
        with pytest.raises(ValueError, match="time zone"):
            await gc.explain("free/1", at=times["deleted"].replace(tzinfo=None))
    assert {name: found.exists for name, found in then.items()} == {
        "before all": None,
        "in grace": None,
        "deleted": False,
        "restored": None,
    }
    assert then["before all"].decision.startswith("no cycle had looked at the bucket by")
    assert then["in grace"].decision.startswith("not deleted by s3gc: no cycle until then had condemned it")
    assert then["deleted"].decision.startswith(f"deleted by s3gc at {times['deleted'].isoformat()}")
    assert report.operation_id in then["deleted"].decision
    assert "no row of any source names it; seen so in 2 cycles" in then["deleted"].decision
    assert then["restored"].decision.startswith("there, put back by s3gc")
    assert [one.gate for one in then["deleted"].verdicts] == ["delete_intended"]
    assert all(found.problems for found in then.values()), "of the rows of then nobody knows"
    assert all(entry.at <= times["deleted"] for entry in then["deleted"].history)
    assert now.exists
    assert [entry.event for entry in now.history] == [
        "store_probed",
        "backed_up",
        "delete_intended",
        "deleted",
        "restored",
    ]


async def test_a_deletion_is_told_from_the_journal_alone(bench: Bench) -> None:
    async with bench.open() as gc:
        report = await gc.collect()
    bench.lose_registry()
    async with bench.open() as gc:
        found = await gc.explain("free/1")
        assert found.exists is False
        assert found.decision.startswith("deleted by s3gc at")
        assert report.operation_id in found.decision
        assert (await gc.explain("never")).decision == "there is no such object, and s3gc never deleted one"


async def test_a_resurrection_and_its_row_are_told(bench: Bench) -> None:
    async def late(key: str) -> None:
        bench.source.write("late", "free/1")

    bench.store.after_delete = late
    async with bench.open() as gc:
        await gc.collect()
        bench.clock.advance(HOUR)
        found = await gc.explain("free/1", at=bench.clock.now())
    assert found.decision.startswith("there, put back by s3gc")
    assert found.exists is None
    (intended, back) = found.verdicts
    assert (intended.gate, back.gate, back.keep) == ("delete_intended", "resurrected", True)
    assert "row late" in back.detail


async def test_a_delete_that_was_skipped_and_an_audit_are_told(bench: Bench) -> None:
    async with bench.open(mode="audit_only") as gc:
        await gc.collect()
        (verdict,) = (await gc.explain("free/1", at=bench.clock.now())).verdicts
        assert (verdict.gate, verdict.keep) == ("would_delete", False)

    async def overwrite(key: str) -> None:
        if key == "free/1":
            bench.store.upload("free/1", b"newer")

    bench.store.before_delete = overwrite
    bench.clock.advance(HOUR)
    async with bench.open() as gc:
        await gc.collect()
        found = await gc.explain("free/1", at=bench.clock.now() + timedelta(seconds=1))
    assert [one.gate for one in found.verdicts] == ["would_delete", "delete_intended", "changed"]
    assert found.verdicts[-1].keep
    assert found.decision.startswith("not deleted by s3gc")


async def test_a_cycle_that_was_held_is_told(bench: Bench) -> None:
    bench.source.truncate()
    async with bench.open() as gc:
        await gc.plan()
        found = await gc.explain("free/1", at=bench.clock.now())
    assert found.decision.startswith("kept: that cycle was held by no_references")
