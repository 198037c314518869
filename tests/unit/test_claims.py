"""Claims: the registry's side, and what an application is told when things go wrong.

How claims and the real sweep meet is in test_protection.py; their interleavings are in
property/test_claims_interleaved.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from s3gc import Collector, ObjectAttributes, Position, Safety, create_config, create_plugin_manager
from s3gc.claims import MOST_WAIT
from s3gc.errors import AmbiguousKey, S3GCError, StoreError
from s3gc.model import ObjectInfo
from s3gc.registry import Claims, Registry, _claims
from s3gc.registry._claims import Claim
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)


# --------------------------------------------------------------------------- the registry's side


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = Registry(str(tmp_path / "registry.sqlite3"))
    await opened.open("fake://b")
    yield opened
    await opened.aclose()


@pytest.fixture
async def other(tmp_path: Path, registry: Registry) -> AsyncIterator[Registry]:
    """As another process has it."""
    opened = Registry(str(tmp_path / "registry.sqlite3"))
    await opened.open("fake://b")
    yield opened
    await opened.aclose()


async def test_a_sweep_takes_all_but_the_claimed(registry: Registry, other: Registry) -> None:
    assert await other.claims.add("a", NOW + HOUR, "1") is False
    assert await registry.claims.doom("op", ["a", "b"], NOW) == {"a"}
    assert await other.claims.is_doomed("b")
    assert not await other.claims.is_doomed("a")
    assert await other.claims.add("b", NOW + HOUR, "2") is True
    assert await registry.claims.active(["a", "b", "c"], NOW) == {"a": NOW + HOUR, "b": NOW + HOUR}
    await registry.claims.spare("another")
    assert await other.claims.is_doomed("b")
    await registry.claims.spare("op")
    assert not await other.claims.is_doomed("b")
    assert await registry.claims.doom("op", ["b"], NOW) == {"b"}


async def test_a_claim_holds_to_its_end(registry: Registry) -> None:
    claims = registry.claims
    await claims.add("a", NOW, "1")
    assert await claims.active(["a"], NOW - TICK) == {"a": NOW}
    assert await claims.active(["a"], NOW) == {}
    # For a sweep it counts if it ran when the last reading began, that moment included.
    assert await claims.doom("op", ["a"], NOW) == {"a"}
    assert await claims.doom("op", ["a"], NOW + TICK) == frozenset()
    assert await claims.is_doomed("a")


async def test_the_longest_of_several_claims_counts(registry: Registry) -> None:
    claims = registry.claims
    for number, hours in enumerate((2, 3, 1)):
        await claims.add("a", NOW + hours * HOUR, str(number))
    assert await claims.active(["a"], NOW) == {"a": NOW + 3 * HOUR}
    await claims.remove("a", "1")
    await claims.remove("a", "1")
    assert await claims.active(["a"], NOW) == {"a": NOW + 2 * HOUR}
    await claims.add("a", NOW + 5 * HOUR, "2")
    assert await claims.all(NOW) == [Claim("a", NOW + 2 * HOUR, "0"), Claim("a", NOW + 5 * HOUR, "2")]
    await claims.prune(NOW + 2 * HOUR)
    assert await claims.all(NOW) == [Claim("a", NOW + 5 * HOUR, "2")]


async def test_many_keys_and_odd_ones(registry: Registry) -> None:
    keys = ["nul\0", "nul", "é", "e\u0301", "'", *(f"k{number}" for number in range(1_500))]
    for key in ("nul\0", "e\u0301", "k1400"):
        await registry.claims.add(key, NOW + HOUR, "1")
    assert set(await registry.claims.active(keys, NOW)) == {"nul\0", "e\u0301", "k1400"}
    assert await registry.claims.doom("op", keys, NOW) == {"nul\0", "e\u0301", "k1400"}
    assert await registry.claims.is_doomed("nul")
    assert not await registry.claims.is_doomed("nul\0")
    assert await registry.claims.active([], NOW) == {}
    assert await registry.claims.doom("op", [], NOW) == frozenset()


async def test_the_newest_doom_settles_a_key(registry: Registry) -> None:
    """What an operation left doomed that was never settled doesn't set free what a later one has taken."""
    claims = registry.claims
    await claims.doom("old", ["a", "b"], NOW)
    await claims.doom("new", ["a"], NOW)
    await claims.spare("old")
    assert (await claims.is_doomed("a"), await claims.is_doomed("b")) == (True, False)
    await claims.doom("old", ["b"], NOW)
    await claims.spare_all()
    assert (await claims.is_doomed("a"), await claims.is_doomed("b")) == (False, False)


async def test_nobody_claims_between_a_sweeps_look_and_its_doom(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = _claims._active
    tried: list[str] = []

    def meanwhile(*arguments: Any) -> Any:
        found = look(*arguments)
        process = sqlite3.connect(tmp_path / "registry.sqlite3", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            process.execute("INSERT INTO claims VALUES ('a', 9999999999999999, 'x')")
        process.close()
        tried.append("tried")
        return found

    monkeypatch.setattr(_claims, "_active", meanwhile)
    assert await registry.claims.doom("op", ["a"], NOW) == frozenset()
    assert tried == ["tried"]


async def test_a_doom_comes_before_a_claim_or_after_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = _claims._is_doomed

    def meanwhile(*arguments: Any) -> bool:
        process = sqlite3.connect(tmp_path / "registry.sqlite3", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            process.execute("INSERT INTO doomed VALUES ('a', 'op')")
        process.close()
        return look(*arguments)

    monkeypatch.setattr(_claims, "_is_doomed", meanwhile)
    assert await registry.claims.add("a", NOW + HOUR, "1") is False


async def test_a_claim_is_on_disk_when_it_is_told(registry: Registry) -> None:
    """A claim is a promise that nothing can make again: it must outlive the machine's next crash."""
    await registry.claims.add("a", NOW + HOUR, "1")
    found = await registry._database.run(lambda c: c.execute("PRAGMA synchronous").fetchone()[0])
    assert found == 2, "FULL"


async def test_a_claim_lets_grace_begin_anew(registry: Registry) -> None:
    found = ObjectInfo("a", 1, "e", NOW)
    listing = registry.listing
    await listing.begin()
    await listing.add([found])
    await listing.finish()
    await registry.references.begin()
    await registry.references.apply("db", Position("db", "1"), NOW)
    await listing.compare()
    await listing.observe("1", NOW)

    async def observations() -> int:
        rows = await registry._database.run(
            lambda c: c.execute("SELECT observations FROM unreferenced WHERE key = 'a'").fetchall()
        )
        return len(rows)

    assert await observations() == 1
    await registry.claims.add("b", NOW + HOUR, "1")
    assert await observations() == 1
    await registry.claims.add("a", NOW + HOUR, "1")
    assert await observations() == 0


async def test_release_ends_one_of_our_own(registry: Registry, other: Registry) -> None:
    ours, theirs = registry.claims, other.claims
    assert await ours.release("a", NOW) is False
    names = [ours.name("X1"), ours.name("X2"), ours.name("X3")]
    assert names == ["X1.X1", "X1.X2", "X1.X3"]
    await ours.add("a", NOW + 3 * HOUR, names[0])
    await ours.add("a", NOW + 2 * HOUR, names[1])
    await ours.add("b", NOW + HOUR, names[2])
    await theirs.add("a", NOW + 1 * HOUR, theirs.name("X11"))
    assert await ours.release("a", NOW) is True
    assert [(claim.key, claim.id) for claim in await ours.all(NOW)] == [
        ("a", "X11.X11"),
        ("a", "X1.X1"),
        ("b", "X1.X3"),
    ]
    assert await ours.release("a", NOW) is True
    assert await ours.release("a", NOW) is False
    assert await ours.active(["a"], NOW) == {"a": NOW + HOUR}
    # One that was released is remembered, for a sweep that had begun to read before its row came.
    await theirs.release("a", NOW)
    assert await ours.doom("op", ["a"], NOW - TICK) == {"a"}


async def test_a_registry_that_cannot_be_used(registry: Registry, tmp_path: Path) -> None:
    await registry._database.run(lambda c: c.execute("PRAGMA busy_timeout=0").fetchall())
    process = sqlite3.connect(tmp_path / "registry.sqlite3", isolation_level=None)
    process.execute("BEGIN IMMEDIATE")
    with pytest.raises(S3GCError, match="locked"):
        await registry.claims.add("a", NOW + HOUR, "1")
    with pytest.raises(S3GCError, match="locked"):
        await registry.claims.doom("op", ["a"], NOW)
    process.close()
    assert await registry.claims.add("a", NOW + HOUR, "1") is False
    assert await registry.claims.active(["a"], NOW) == {"a": NOW + HOUR}


# --------------------------------------------------------------------------- the application's side


class World(FakeStore):
    """A bucket that can be spoilt."""

    fails: str = ""  # the operation that fails
    on_put: Any = None

    async def head(self, key: str) -> Any:
        if self.fails == "head":
            raise StoreError("503")
        return await super().head(key)

    async def put(self, key: str, body: Any, **options: Any) -> ObjectInfo:
        if self.fails == "put" and not key.startswith(".s3gc/"):
            raise StoreError("503", outcome_unknown=True)
        written = await super().put(key, body, **options)
        if self.on_put and not key.startswith(".s3gc/"):
            self.on_put(key)
        return written


class Bench:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.store = World(self.clock)
        self.folder = folder
        for key in ("free", "live"):
            self.store.upload(key, key.encode(), ObjectAttributes(content_type="text/plain", tags={"t": key}))
        self.clock.advance(timedelta(days=30))

    def open(self, **changes: Any) -> Any:
        return Collector.open(
            create_config(
                bucket="fake-bucket",
                mode="execute",
                retention_days=0,
                vault_path=self.folder / "vault",
                safety=Safety.none().but(**changes),
            ),
            store=self.store,
            sources=[FakeSource(rows={"1": ["live"]})],
            clock=self.clock,
            plugins=create_plugin_manager(entry_points=False),
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def claims_of(gc: Collector) -> Claims:
    return gc._parts.registry.claims


async def journal_of(gc: Collector, *events: str) -> list[Any]:
    return [entry async for entry in gc.history(events=set(events))]


async def test_what_is_there_is_claimed_and_on_record(bench: Bench) -> None:
    async with bench.open() as gc:
        assert await gc.claim("free", HOUR) is True
        (entry,) = await journal_of(gc, "claimed")
        (claim,) = await claims_of(gc).all(bench.clock.now())
        assert entry.key == "free"
        assert entry.data == {"until": (bench.clock.now() + HOUR).isoformat(), "id": claim.id}
        assert claim.until == bench.clock.now() + HOUR
        assert await gc.release("free") is True
        assert await gc.release("free") is False
        assert list((await gc.collect()).deleted) == []  # it ran when the sweep's last reading began
        bench.clock.advance(HOUR)
        assert list((await gc.collect()).deleted) == ["free"]


async def test_what_is_not_there_is_not_claimed(bench: Bench) -> None:
    async with bench.open() as gc:
        assert await gc.claim("never", HOUR) is False
        assert await claims_of(gc).all(bench.clock.now()) == []
        assert await journal_of(gc, "claimed", "resurrected") == []


@pytest.mark.parametrize("ttl", [timedelta(0), -TICK, timedelta(days=7) + TICK])
async def test_a_claim_has_a_reasonable_length(bench: Bench, ttl: timedelta) -> None:
    async with bench.open() as gc:
        with pytest.raises(ValueError, match="max_claim, 7 days"):
            await gc.claim("free", ttl)
        assert await claims_of(gc).all(bench.clock.now()) == []
        assert await gc.claim("free", timedelta(days=7)) is True


@pytest.mark.parametrize("key", ["", "x" * 1_025, "\ud800"])
async def test_a_key_that_cannot_be_addressed(bench: Bench, key: str) -> None:
    async with bench.open() as gc:
        with pytest.raises(AmbiguousKey, match="nothing was claimed"):
            await gc.claim(key, HOUR)
        assert await claims_of(gc).all(bench.clock.now()) == []


async def test_what_a_sweep_deleted_comes_back_as_it_was(bench: Bench) -> None:
    async with bench.open() as gc:
        assert list((await gc.collect()).deleted) == ["free"]
        assert await gc.claim("free", HOUR) is True
        head = await bench.store.head("free")
        assert head is not None
        assert head.attributes == ObjectAttributes(content_type="text/plain", tags={"t": "free"})
        assert bench.store.contents()["free"] == b"free"
        names = [entry.event for entry in await journal_of(gc, "deleted", "resurrected", "claimed")]
        assert names == ["deleted", "resurrected", "claimed"]
        assert list((await gc.collect()).deleted) == []


async def test_what_was_uploaded_again_is_not_replaced(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.collect()
        stat = bench.store.stat

        async def uploaded_meanwhile(key: str) -> Any:
            found = await stat(key)
            bench.store.upload("free", b"another")
            return found

        bench.store.stat = uploaded_meanwhile
        assert await gc.claim("free", HOUR) is True
        assert bench.store.contents()["free"] == b"another"
        assert await journal_of(gc, "resurrected") == []


@pytest.mark.parametrize("how", ["claim", "restore"])
async def test_what_the_application_deleted_stays_deleted(bench: Bench, how: str) -> None:
    async with bench.open() as gc:
        await gc.collect()
        if how == "claim":
            assert await gc.claim("free", HOUR) is True
        else:
            await gc.restore(key="free", dry_run=False)
        bench.store.remove("free")
        bench.clock.advance(2 * HOUR)
        assert await gc.claim("free", HOUR) is False
        assert "free" not in bench.store.contents()


async def test_a_sweep_that_stopped_half_way_is_not_waited_for_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)
        bench.clock.advance(timedelta(seconds=seconds))

    async with bench.open() as gc:
        await claims_of(gc).doom("op", ["free"], bench.clock.now())
        monkeypatch.setattr("s3gc.claims.anyio.sleep", sleep)
        assert await gc.claim("free", HOUR) is False
        wait = MOST_WAIT + gc.config.safety.lease_margin
        assert timedelta(seconds=sum(paused)) >= wait
        assert sum(paused) < wait.total_seconds() + 1
        assert max(paused) == 0.2
        assert await claims_of(gc).all(bench.clock.now()) == []
        assert await journal_of(gc, "claimed") == []


async def test_a_claim_lasts_from_when_it_is_granted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.open() as gc:
        await claims_of(gc).doom("op", ["free"], bench.clock.now())

        async def sleep(seconds: float) -> None:
            bench.clock.advance(timedelta(seconds=5))
            await claims_of(gc).spare("op")

        monkeypatch.setattr("s3gc.claims.anyio.sleep", sleep)
        assert await gc.claim("free", HOUR) is True
        (claim,) = await claims_of(gc).all(bench.clock.now())
        assert claim.until == bench.clock.now() + HOUR


async def test_a_claim_that_ended_while_it_waited(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says holds from now on, and no sweep has slipped in."""
    dooms = ["first", "second"]
    async with bench.open() as gc:
        claims = claims_of(gc)
        await claims.doom("first", ["free"], bench.clock.now())

        async def sleep(seconds: float) -> None:
            bench.clock.advance(timedelta(seconds=5))
            await claims.spare(dooms[0])
            if dooms.pop(0) == "first":
                assert await claims.doom("second", ["free"], bench.clock.now()) == frozenset()

        monkeypatch.setattr("s3gc.claims.anyio.sleep", sleep)
        assert await gc.claim("free", timedelta(seconds=2)) is True
        assert dooms == []
        assert await claims.active(["free"], bench.clock.now()) == {
            "free": bench.clock.now() + timedelta(seconds=2)
        }


async def test_a_claim_that_ends_while_its_object_is_put_back(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.collect()
        bench.store.on_put = lambda key: bench.clock.advance(timedelta(seconds=5))
        assert await gc.claim("free", timedelta(seconds=2)) is True
        (claim,) = await claims_of(gc).all(bench.clock.now())
        assert claim.until == bench.clock.now() + timedelta(seconds=2)


async def test_a_claim_that_can_never_be_granted_in_time(bench: Bench) -> None:
    stat = bench.store.stat

    async def slow(key: str) -> Any:
        bench.clock.advance(timedelta(seconds=5))
        return await stat(key)

    async with bench.open() as gc:
        bench.store.stat = slow
        assert await gc.claim("free", timedelta(seconds=2)) is False
        assert await journal_of(gc, "claimed") == []


@pytest.mark.parametrize("fails", ["head", "put"])
async def test_a_store_that_is_down_claims_nothing(bench: Bench, fails: str) -> None:
    async with bench.open() as gc:
        await gc.collect()
        bench.store.fails = fails
        with pytest.raises(StoreError, match="503"):
            await gc.claim("free", HOUR)
        assert await claims_of(gc).all(bench.clock.now()) == []
        bench.store.fails = ""
        assert await gc.claim("free", HOUR) is True


async def test_a_cancelled_claim_is_none(bench: Bench) -> None:
    async with bench.open() as gc:
        await claims_of(gc).doom("op", ["free"], bench.clock.now())
        with anyio.move_on_after(0.05):
            await gc.claim("free", HOUR)
            raise AssertionError
        assert await claims_of(gc).all(bench.clock.now()) == []


async def test_the_first_error_is_told_also_when_the_claim_cannot_be_removed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(key: str, id: str) -> None:
        raise S3GCError("locked")

    async with bench.open() as gc:
        bench.store.fails = "head"
        claims_of(gc).remove = broken  # type: ignore[method-assign]
        with pytest.raises(StoreError, match="503"):
            await gc.claim("free", HOUR)
        assert "claim_not_removed" in caplog.text
        assert len(await claims_of(gc).all(bench.clock.now())) == 1  # it protects until it ends
