"""What is known of the store: kept, relied on for a while, put on record, and forgotten."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from fixtures_kernel import FREE, Bench, Bucket
from s3gc import Safety
from s3gc._json import converter
from s3gc.breakers import unconditional_delete
from s3gc.errors import CycleHeld, StoreError
from s3gc.model import DeleteOutcome, StoreCapabilities, Versioning

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Adopting(Bucket):
    """A bucket that goes on with what an earlier probe found, and counts the probes."""

    probes = 0
    honours = True
    versioning = Versioning.NEVER
    fails = False
    adopts = True
    told: str | None = None  # the contradiction

    async def probe(self) -> StoreCapabilities:
        self.probes += 1
        if self.fails:
            raise StoreError("503 slow down")
        self.told = None
        found = await super().probe()
        return evolve(
            found, conditional_delete=self.honours, versioning=self.versioning, notes={"probe": "of a test"}
        )

    def adopt(self, capabilities: StoreCapabilities) -> bool:
        return self.adopts and capabilities.notes == {"probe": "of a test"}

    def contradiction(self) -> str | None:
        return self.told


class Desk(Bench):
    """The kernel's bench, with such a bucket."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        bucket = Adopting(self.clock)
        bucket.__dict__.update(self.store.__dict__)
        self.store = self.bucket = bucket

    @property
    def kept(self) -> Path:
        (found,) = (self.folder / "vault").glob("store-*.json")
        return found

    def is_kept(self) -> bool:
        return any((self.folder / "vault").glob("store-*.json"))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def sweep(desk: Desk, **options: Any) -> None:
    async with desk.open(**options) as gc:
        await gc.collect()


# --------------------------------------------------------------------------- kept for a while


async def test_a_probe_serves_the_sweeps_of_a_day(desk: Desk) -> None:
    await sweep(desk)
    await sweep(desk)
    desk.clock.advance(24 * HOUR - timedelta(seconds=1))
    await sweep(desk)
    assert desk.bucket.probes == 1
    desk.clock.advance(timedelta(seconds=1))
    await sweep(desk)
    assert desk.bucket.probes == 2
    await sweep(desk)
    assert desk.bucket.probes == 2


async def test_a_probe_of_the_future_is_not_relied_on(desk: Desk) -> None:
    await sweep(desk)
    desk.clock.advance(-HOUR)
    await sweep(desk)
    assert desk.bucket.probes == 2


async def test_without_an_age_each_sweep_probes(desk: Desk) -> None:
    for _ in range(3):
        await sweep(desk, safety=Safety.none().but(max_probe_age=timedelta(0)))
    assert desk.bucket.probes == 3


async def test_a_store_that_cannot_adopt_is_probed_each_time(desk: Desk) -> None:
    desk.bucket.adopts = False
    await sweep(desk)
    await sweep(desk)
    assert desk.bucket.probes == 2


async def test_only_a_proof_is_relied_on(desk: Desk) -> None:
    """Versioning is switched off with one click: it is looked at before each sweep."""
    desk.bucket.honours, desk.bucket.versioning = False, Versioning.ENABLED
    await sweep(desk)
    assert not desk.keys & set(FREE)
    desk.bucket.upload("free/4", b"x")
    desk.clock.advance(HOUR)
    desk.bucket.versioning = Versioning.SUSPENDED
    with pytest.raises(CycleHeld, match="unconditional_delete"):
        await sweep(desk)
    assert "free/4" in desk.keys


async def test_a_plan_and_a_dry_run_probe_nothing(desk: Desk) -> None:
    async with desk.open(mode="dry_run") as gc:
        await gc.collect()
        await gc.plan()
        assert await gc.capabilities() is None
    assert desk.bucket.probes == 0


async def test_a_probe_that_fails_is_not_kept_and_takes_the_old_one_along(desk: Desk) -> None:
    await sweep(desk)
    assert desk.is_kept()
    desk.bucket.fails = True
    async with desk.open() as gc:
        with pytest.raises(StoreError, match="slow down"):
            await gc.capabilities(probe=True)
        assert await gc.capabilities() is None
    assert not desk.is_kept()
    desk.bucket.upload("free/4", b"x")
    desk.clock.advance(HOUR)
    with pytest.raises(StoreError, match="slow down"):
        await sweep(desk)
    assert "free/4" in desk.keys


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace("s3gc-store-1", "s3gc-store-0"),
        lambda text: text.replace('"conditional_delete":true', '"conditional_delete":"false"'),
        lambda text: text.replace('"conditional_delete":true,', ""),
        lambda text: text.replace('"conditional_delete"', '"another":1,"conditional_delete"'),
        lambda text: text.replace('"never enabled"', '"sometimes"'),
        lambda text: text.replace("fake://", "fake://another-"),
        lambda text: text.replace("of a test", "of another test"),
    ],
)
async def test_a_file_that_is_torn_or_anothers_is_as_good_as_none(desk: Desk, spoil: Any) -> None:
    await sweep(desk)
    before = desk.kept.read_text()
    desk.kept.write_text(spoil(before))
    assert desk.kept.read_text() != before
    await sweep(desk)
    assert desk.bucket.probes == 2
    assert desk.kept.read_text() == before, "and is replaced"


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.builds(
        StoreCapabilities,
        conditional_delete=st.booleans(),
        conditional_put=st.booleans(),
        conditional_bulk_delete=st.booleans(),
        read_after_write=st.booleans(),
        list_order=st.booleans(),
        versioning=st.sampled_from(Versioning),
        object_lock=st.none() | st.booleans(),
        clock_difference=st.none() | st.timedeltas(-timedelta(days=9), timedelta(days=9)),
        details=st.dictionaries(texts, texts),
        notes=st.dictionaries(texts, texts),
    )
)
def test_what_is_kept_is_what_was_found(found: StoreCapabilities) -> None:
    document = json.loads(json.dumps(converter.unstructure(found)))
    assert converter.structure(document, StoreCapabilities) == found


# --------------------------------------------------------------------------- on record


async def test_each_sweep_has_it_on_record_before_its_deletes(desk: Desk) -> None:
    async with desk.open() as gc:
        began = desk.clock.now()
        first = await gc.collect()
        desk.bucket.upload("free/4", b"x")
        desk.clock.advance(HOUR)
        second = await gc.collect()
        assert list(second.deleted) == ["free/4"]
        for report in (first, second):
            entries = [entry async for entry in gc.history(operation_id=report.operation_id)]
            (known,) = (entry for entry in entries if entry.event == "store_probed")
            assert known.seq < min(entry.seq for entry in entries if entry.event == "delete_intended")
            assert known.data["probed_at"] == began.isoformat()  # the second relies on the first's
            able = known.data["capabilities"]
            assert able["conditional_delete"] is True
            assert able["versioning"] == "never enabled"
            assert "notes" not in able
        told = await gc.explain("free/4")
        assert told.history[0].event == "store_probed"
        assert {entry.operation_id for entry in told.history} == {second.operation_id}


async def test_what_holds_a_sweep_is_on_record_too(desk: Desk) -> None:
    desk.bucket.honours = False
    async with desk.open() as gc:
        with pytest.raises(CycleHeld):
            await gc.collect()
        entries = [entry async for entry in gc.history(events={"store_probed", "breaker_tripped"})]
    assert [entry.event for entry in entries] == ["store_probed", "breaker_tripped"]
    assert entries[0].data["capabilities"]["conditional_delete"] is False
    assert desk.keys >= set(FREE)


# --------------------------------------------------------------------------- contradicted


def contradict(desk: Desk) -> None:
    """From the first delete on the store refuses, and doesn't honour If-Match any more."""

    async def before(key: str) -> None:
        desk.bucket.told = "If-Match on DELETE was honoured, and is not implemented now"
        desk.bucket.honours = False
        raise StoreError("501 NotImplemented")

    desk.bucket.before_delete = before


async def test_a_store_that_contradicts_its_probe_is_probed_before_the_next_batch(desk: Desk) -> None:
    contradict(desk)
    with pytest.raises(CycleHeld) as held:
        await sweep(desk, safety=Safety.none().but(batch_objects=1))
    assert [breaker.code for breaker in held.value.breakers] == ["unconditional_delete"]
    assert held.value.report is not None
    assert held.value.report.backed_up == 2, "the one that failed, and the one that was copied beside it"
    assert desk.keys >= set(FREE)
    assert desk.bucket.probes == 2
    assert json.loads(desk.kept.read_text())["capabilities"]["conditional_delete"] is False


async def test_a_contradiction_in_the_last_batch_is_not_forgotten(desk: Desk) -> None:
    contradict(desk)
    with pytest.raises(CycleHeld):
        await sweep(desk)
    assert desk.keys >= set(FREE)
    assert json.loads(desk.kept.read_text())["capabilities"]["conditional_delete"] is False


async def test_a_store_that_learnt_something_goes_on(desk: Desk) -> None:
    async def learns(key: str) -> None:
        if desk.bucket.probes == 1:
            desk.bucket.told = "If-None-Match on PUT was ignored, and is honoured now"

    desk.bucket.after_delete = learns
    await sweep(desk, safety=Safety.none().but(batch_objects=1))
    assert desk.bucket.probes == 2
    assert not desk.keys & set(FREE)


async def test_one_process_does_not_rely_on_what_it_saw_contradicted(desk: Desk) -> None:
    await sweep(desk)
    desk.bucket.told = "If-Match on DELETE was honoured, and is not implemented now"
    await sweep(desk)
    assert desk.bucket.probes == 2


# --------------------------------------------------------------------------- the question


async def test_what_is_known_is_told_with_its_age_and_what_it_holds(desk: Desk) -> None:
    async with desk.open() as gc:
        assert await gc.capabilities() is None
        probed = await gc.capabilities(probe=True)
        assert probed is not None
        assert probed.held_by == []
        assert probed.probed_at == desk.clock.now()
        desk.clock.advance(100 * 24 * HOUR)
        assert await gc.capabilities() == probed, "however old"
        desk.bucket.honours = False
        probed = await gc.capabilities(probe=True)
        assert probed is not None
        assert [breaker.code for breaker in probed.held_by] == ["unconditional_delete"]
    async with desk.open(safety=Safety.demo()) as gc:
        known = await gc.capabilities()
        assert known is not None
        assert known.held_by == []
    assert desk.bucket.probes == 2


# --------------------------------------------------------------------------- the breaker


@given(st.booleans(), st.sampled_from(Versioning), st.booleans())
def test_nothing_is_deleted_without_a_way_back(honours: bool, versioning: Versioning, allowed: bool) -> None:
    able = StoreCapabilities(honours, conditional_put=True, versioning=versioning)
    held = unconditional_delete(able, Safety.full().but(allow_unconditional_delete=allowed))
    assert bool(held) is not (honours or versioning is Versioning.ENABLED or allowed)
    for breaker in held:
        assert "turn on versioning" in breaker.reason
        assert "allow_unconditional_delete" in breaker.reason
        assert ("suspended" in breaker.reason) is (versioning is Versioning.SUSPENDED)
        assert ("s3:GetBucketVersioning" in breaker.reason) is (versioning is Versioning.UNKNOWN)
        assert breaker.evidence["versioning"] == versioning.value


async def test_a_store_of_which_nothing_is_known_deletes_nothing(desk: Desk) -> None:
    class Plain(Bucket):
        async def probe(self) -> StoreCapabilities:
            return StoreCapabilities(conditional_delete=False, conditional_put=False)

        async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
            assert key.startswith(".s3gc/"), key
            return await super().delete(key, if_match=if_match)

    desk.store.__class__ = Plain
    with pytest.raises(CycleHeld, match="unconditional_delete"):
        await sweep(desk)
