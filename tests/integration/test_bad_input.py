"""Bad input is a clear error or a held cycle, and nothing is ever deleted by it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from fixtures_s3 import ACCESS_KEY, SECRET_KEY, S3Server, s3_server  # noqa: F401
from s3gc import (
    Candidate,
    Collector,
    Plan,
    Reference,
    Safety,
    create_config,
    create_plugin_manager,
    hookimpl,
    plugin_manager,
)
from s3gc.errors import (
    CycleHeld,
    LeaseHeld,
    PlanError,
    S3GCError,
    SourceError,
    StoreError,
    VaultError,
    VaultMismatch,
)
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> FakeStore:
    store = FakeStore(clock)
    for key in ("live.txt", "free.txt", "free2.txt"):
        store.upload(key, key.encode())
    clock.advance(timedelta(days=30))
    return store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, key TEXT, other TEXT)")
    connection.execute("INSERT INTO files (key) VALUES ('live.txt')")
    connection.execute("CREATE TABLE vacant (id INTEGER PRIMARY KEY, key TEXT)")
    connection.commit()
    connection.close()
    return path


class Setting:
    """A collector's surroundings, each of which a test can spoil."""

    def __init__(self, store: FakeStore, clock: FakeClock, tmp_path: Path) -> None:
        self.store = store
        self.clock = clock
        self.vault = tmp_path / "vault"
        self.plugins = create_plugin_manager(entry_points=False)

    def open(self, *sources: Any, store: Any = None, **options: Any) -> Any:
        known: dict[str, Any] = {
            "bucket": "fake-bucket",
            "mode": "execute",
            "retention_days": 0,
            "vault_path": self.vault,
            "safety": Safety.none(),
        }
        return Collector.open(
            create_config(**known | options),
            store=store or self.store,
            sources=sources,
            clock=self.clock,
            plugins=self.plugins,
        )

    async def held(self, *sources: Any, **options: Any) -> set[str]:
        """Collect; it must be held, and the bucket as it was. Returns the breakers' codes."""
        before = self.store.contents()
        with pytest.raises(CycleHeld) as caught:
            async with self.open(*sources, **options) as gc:
                await gc.collect()
        assert self.store.contents() == before
        async with self.open(*sources, **options) as gc:
            journalled = {entry.data["code"] async for entry in gc.history(events={"breaker_tripped"})}
        codes = {breaker.code for breaker in caught.value.breakers}
        assert codes <= journalled
        return codes


@pytest.fixture
def setting(store: FakeStore, clock: FakeClock, tmp_path: Path) -> Setting:
    return Setting(store, clock, tmp_path)


def live() -> FakeSource:
    return FakeSource(rows={"1": ["live.txt"]})


def sql(database: Path, **tables: list[str]) -> dict[str, Any]:
    return {"database_url": f"sqlite:///{database}", "tables": tables}


# --------------------------------------------------------------------------- references


async def test_no_source_at_all(setting: Setting) -> None:
    assert await setting.held() == {"no_sources"}


async def test_an_empty_source(setting: Setting) -> None:
    assert "no_references" in await setting.held(FakeSource())


async def test_an_empty_table(setting: Setting, database: Path) -> None:
    assert await setting.held(live(), **sql(database, vacant=["key"])) >= {"empty_column"}


async def test_a_column_without_values(setting: Setting, database: Path) -> None:
    assert await setting.held(**sql(database, files=["key", "other"])) == {"empty_column"}


async def test_an_acknowledged_empty_column_holds_no_more(setting: Setting, database: Path) -> None:
    options = sql(database, files=["key", "other"])
    async with setting.open(**options) as gc:
        plan = await gc.plan()
        (breaker,) = plan.held_by
        await gc.acknowledge(breaker.code, "it is new and still empty", subject=breaker.subject)
        assert set((await gc.collect()).deleted) == {"free.txt", "free2.txt"}
        assert (await gc.plan()).held_by == []  # as long as the cause lasts
        reasons = [entry.data["reason"] async for entry in gc.history(events={"breaker_acknowledged"})]
        assert reasons == ["it is new and still empty"]


async def test_an_acknowledgement_ends_with_its_cause(setting: Setting, database: Path) -> None:
    options = sql(database, files=["key", "other"])

    def write(value: str | None) -> None:
        connection = sqlite3.connect(database)
        connection.execute("UPDATE files SET other = ?", (value,))
        connection.commit()
        connection.close()

    async with setting.open(**options) as gc:
        (breaker,) = (await gc.plan()).held_by
        await gc.acknowledge(breaker.code, "new", subject=breaker.subject)
        write("live.txt")
        assert (await gc.plan()).held_by == []
        write(None)
        assert [one.code for one in (await gc.plan()).held_by] == ["empty_column"]


async def test_what_cannot_be_acknowledged(setting: Setting) -> None:
    async with setting.open(live()) as gc:
        with pytest.raises(ValueError, match="only cured"):
            await gc.acknowledge("source_failed", "never mind")
        with pytest.raises(ValueError, match="reason"):
            await gc.acknowledge("empty_column", "  ")


async def test_an_unknown_table_and_column(setting: Setting, database: Path) -> None:
    assert await setting.held(**sql(database, filez=["key"])) == {"source_failed"}
    with pytest.raises(CycleHeld, match="files"):
        async with setting.open(**sql(database, filez=["key"])) as gc:
            await gc.plan()
    assert await setting.held(**sql(database, files=["kee"])) == {"source_failed"}


async def test_an_unreachable_database(setting: Setting, tmp_path: Path) -> None:
    secret = "pa55word-of-the-database"
    options = {
        "database_url": f"postgresql://u:{secret}@127.0.0.1:1/db",
        "tables": {"files": ["key"]},
    }
    with pytest.raises(CycleHeld) as caught:
        async with setting.open(**options) as gc:
            await gc.plan()
    assert [breaker.code for breaker in caught.value.breakers] == ["source_failed"]
    assert secret not in repr(caught.value) + str(caught.value.breakers)
    assert not (tmp_path / "nowhere.sqlite3").exists()
    assert await setting.held(**sql(tmp_path / "nowhere.sqlite3", files=["key"])) == {"source_failed"}
    assert not (tmp_path / "nowhere.sqlite3").exists(), "a missing database must not be made"


async def test_a_database_of_another_bucket(setting: Setting) -> None:
    assert await setting.held(FakeSource(rows={"1": ["other.txt"], "2": ["another.txt"]})) == {"resolve_rate"}


class Failing(FakeSource):
    """Fails at its nth reading, after a first good row."""

    def __init__(self, at: int) -> None:
        super().__init__(rows={"1": ["live.txt"]})
        self.at = at
        self.reads = 0

    async def references(self) -> AsyncIterator[Reference]:
        self.reads += 1
        async for reference in super().references():
            yield reference
        if self.reads == self.at:
            raise OSError("connection reset")


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_source_that_breaks_before_the_deletes(setting: Setting, at: int) -> None:
    """The scan, the direct read, and the read after the fence."""
    assert await setting.held(Failing(at)) == {"source_failed"}


async def test_what_cannot_be_confirmed_is_put_back(setting: Setting) -> None:
    before = setting.store.contents()
    async with setting.open(Failing(4)) as gc:
        with pytest.raises(CycleHeld, match="source_failed") as held:
            await gc.collect()
        report = held.value.report
        assert report is not None
        assert list(report.deleted) == []
        assert set(report.resurrected) == {"free.txt", "free2.txt"}
        why = [entry.data["why"] async for entry in gc.history(events={"resurrected"})]
        assert all("could not be confirmed" in reason for reason in why)
        assert len(why) == 2
    assert setting.store.contents() == before


async def test_references_that_vanish_hold(setting: Setting) -> None:
    for number in range(10):
        setting.store.upload(f"live/{number}", b"")
    rows = {str(number): [f"live/{number}"] for number in range(10)}
    safety = Safety.none().but(max_reference_drop=0.2)
    async with setting.open(FakeSource(rows=rows), safety=safety) as gc:
        assert (await gc.plan()).held_by == []
    for number in range(3):
        del rows[str(number)]
    assert await setting.held(FakeSource(rows=rows), safety=safety) == {"reference_drop"}
    async with setting.open(FakeSource(rows=rows), safety=safety) as gc:
        assert [one.code for one in (await gc.plan()).held_by] == ["reference_drop"], (
            "not forgotten by itself"
        )
        await gc.acknowledge("reference_drop", "we closed a tenant", subject="fake")
        assert (await gc.plan()).held_by == []


async def test_two_sources_of_one_name(setting: Setting) -> None:
    with pytest.raises(S3GCError, match="name of its own"):
        async with setting.open(live(), live()):
            pass


async def test_one_unhealthy_source_holds_all(setting: Setting) -> None:
    broken = Failing(1)
    broken.name = "second"
    assert await setting.held(live(), broken) == {"source_failed"}


# --------------------------------------------------------------------------- limits


async def test_limits_hold_and_zero_means_none(setting: Setting) -> None:
    none = Safety.none()
    assert await setting.held(live(), safety=none.but(max_deletes=0)) == {"too_many_deletes"}
    assert await setting.held(live(), safety=none.but(max_deletes=1)) == {"too_many_deletes"}
    assert await setting.held(live(), safety=none.but(max_delete_share=0.5)) == {"too_many_deletes"}


async def test_the_default_only_condemns_at_first(setting: Setting) -> None:
    safety = Safety.full().but(max_delete_share=1.0)
    async with setting.open(live(), safety=safety) as gc:
        report = await gc.collect()
        assert (list(report.deleted), report.kept["in_grace"]) == ([], 2)
        setting.clock.advance(safety.grace)
        assert set((await gc.collect()).deleted) == {"free.txt", "free2.txt"}


async def test_grace_needs_two_observations(setting: Setting) -> None:
    safety = Safety.none().but(min_observations=2)
    async with setting.open(live(), safety=safety) as gc:
        assert (await gc.collect()).kept["too_few_observations"] == 2
        assert len((await gc.collect()).deleted) == 2


async def test_grace_begins_anew_after_a_reference(setting: Setting) -> None:
    safety = Safety.none().but(grace=timedelta(hours=10))
    source = live()
    async with setting.open(source, safety=safety) as gc:
        await gc.plan()
        setting.clock.advance(timedelta(hours=9))
        source.rows["2"] = ["free.txt"]
        await gc.plan()
        del source.rows["2"]
        setting.clock.advance(timedelta(hours=2))
        assert list((await gc.collect()).deleted) == ["free2.txt"]


# --------------------------------------------------------------------------- bucket, vault, lease


async def test_a_bucket_that_is_not_there(
    setting: Setting,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    config = create_config(
        bucket="no-such-bucket-here",
        endpoint_url=s3_server.endpoint_url,
        mode="execute",
        vault_path=setting.vault,
        safety=Safety.none(),
    )
    with pytest.raises(CycleHeld, match="no-such-bucket-here"):
        async with Collector.open(config, sources=[live()], plugins=setting.plugins) as gc:
            await gc.collect()


async def test_a_vault_of_another_bucket(setting: Setting) -> None:
    async with setting.open(live()) as gc:
        await gc.plan()
    other = FakeStore(setting.clock, "other")
    with pytest.raises(VaultMismatch, match="other"):
        async with setting.open(live(), store=other):
            pass


async def test_a_registry_of_another_bucket(setting: Setting, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.sqlite3'}"
    async with setting.open(live(), registry_url=url) as gc:
        await gc.plan()
    setting.vault = tmp_path / "second-vault"
    with pytest.raises(S3GCError, match="belongs to"):
        async with setting.open(live(), store=FakeStore(setting.clock, "other"), registry_url=url):
            pass


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's rights, which no file mode stops."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


async def test_a_read_only_vault(setting: Setting, tmp_path: Path) -> None:
    async with setting.open(live()) as gc:  # imports everything, makes the vault
        await gc.plan()
    for path in [setting.vault, *setting.vault.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    before = setting.store.contents()
    with nobody(), pytest.raises(S3GCError) as caught:
        async with setting.open(live()) as gc:
            await gc.collect()
    assert "read-only" in str(caught.value) or "permission" in str(caught.value).lower()
    assert setting.store.contents() == before


async def test_a_full_vault(setting: Setting) -> None:
    assert await setting.held(live(), safety=Safety.none().but(max_vault_fill=0.0)) == {"vault_unusable"}


async def test_two_collectors_at_once(setting: Setting) -> None:
    inside = anyio.Event()
    go_on = anyio.Event()

    class Slow(FakeSource):
        async def references(self) -> AsyncIterator[Reference]:
            inside.set()
            await go_on.wait()
            yield Reference("live.txt")

    async with setting.open(Slow("slow")) as first, setting.open(live()) as second:
        async with anyio.create_task_group() as group:
            group.start_soon(first.plan)
            await inside.wait()
            before = setting.store.contents()
            with pytest.raises(LeaseHeld, match="another collector"):
                await second.collect()
            assert setting.store.contents() == before
            go_on.set()
        await second.plan()  # free again


async def test_a_clock_that_is_off(setting: Setting) -> None:
    class Skewed(FakeStore):
        async def now(self) -> Any:
            return setting.clock.now() + timedelta(minutes=6)

    setting.store.__class__ = Skewed
    assert await setting.held(live()) == {"clock_skew"}


async def test_one_slow_answer_is_no_skew(setting: Setting) -> None:
    class Slow(FakeStore):
        looks = 0

        async def now(self) -> Any:
            Slow.looks += 1
            return setting.clock.now() - timedelta(minutes=6 if Slow.looks == 1 else 0)

    setting.store.__class__ = Slow
    async with setting.open(live()) as gc:
        assert (await gc.plan()).held_by == []


async def test_a_listing_that_goes_back(setting: Setting) -> None:
    class Repeating(FakeStore):
        async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Any]:
            for _ in range(2):
                async for page in super().list(prefix, start_after):
                    yield page

    setting.store.__class__ = Repeating
    assert await setting.held(live()) == {"store_failed"}


async def test_a_store_without_conditional_delete(setting: Setting, tmp_path: Path) -> None:
    folder = tmp_path / "bucket"
    folder.mkdir()
    (folder / "live.txt").write_bytes(b"1")
    (folder / "free.txt").write_bytes(b"2")

    def config(safety: Safety) -> Any:
        return create_config(
            bucket=folder.as_uri(), mode="execute", retention_days=0, vault_path=setting.vault, safety=safety
        )

    with pytest.raises(CycleHeld) as caught:
        async with Collector.open(config(Safety.none()), sources=[live()], plugins=setting.plugins) as gc:
            await gc.collect()
    assert [breaker.code for breaker in caught.value.breakers] == ["unconditional_delete"]
    assert (folder / "free.txt").exists()
    async with Collector.open(config(Safety.demo()), sources=[live()], plugins=setting.plugins) as gc:
        assert list((await gc.collect()).deleted) == ["free.txt"]
    assert (folder / "live.txt").exists()
    assert not (folder / "free.txt").exists()


# --------------------------------------------------------------------------- plans


async def test_a_plan_that_was_edited(setting: Setting) -> None:
    async with setting.open(live()) as gc:
        plan = await gc.plan()
        text = plan.path.read_text()
        plan.path.write_text(text.replace('"free.txt"', '"live.txt"'))
        with pytest.raises(PlanError, match="changed"):
            await gc.collect(plan)
        with pytest.raises(PlanError, match="changed"):
            Plan.load(plan.path)
        plan.path.write_text("nonsense")
        with pytest.raises(PlanError, match="not a"):
            Plan.load(plan.path)
    assert "live.txt" in setting.store.contents()


async def test_a_forged_plan_passes_no_gate(setting: Setting) -> None:
    """Somebody adds a referenced key and signs the file anew: the sweep looks for itself."""
    import hashlib
    import json

    async with setting.open(live()) as gc:
        plan = await gc.plan()
        info = (await setting.store.head("live.txt")).info  # type: ignore[union-attr]
        header, *entries, footer = plan.path.read_text().splitlines(keepends=True)
        forged = json.loads(entries[0])
        forged["object"] |= {"key": "live.txt", "etag": info.etag, "size": info.size}
        lines = [header, json.dumps(forged) + "\n", *entries]
        end = json.loads(footer)
        del end["sha256"]
        body = json.dumps(end, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256("".join(lines).encode() + body.encode()).hexdigest()
        plan.path.write_text("".join(lines) + json.dumps({**end, "sha256": digest}) + "\n")
        report = await gc.collect(Plan.load(plan.path))
        assert "live.txt" not in report.deleted
        assert report.kept["referenced_now"] == 1
    assert "live.txt" in setting.store.contents()


async def test_a_plan_that_is_too_old_or_of_another_configuration(setting: Setting) -> None:
    async with setting.open(live()) as gc:
        plan = await gc.plan()
    async with setting.open(live(), exclude_prefixes=["x"]) as gc:
        with pytest.raises(PlanError, match="another configuration"):
            await gc.collect(plan)
    async with setting.open(live()) as gc:
        setting.clock.advance(timedelta(days=2))
        with pytest.raises(PlanError, match="old"):
            await gc.collect(plan)
    assert len(setting.store.contents()) == 3


# --------------------------------------------------------------------------- modes


async def test_dry_run_and_audit_only_touch_nothing(setting: Setting) -> None:
    before = setting.store.contents()
    async with setting.open(live(), mode="dry_run") as gc:
        plan = await gc.plan()
        assert list(plan.keys()) == ["free.txt", "free2.txt"]
        report = await gc.collect(plan)
        assert (list(report.deleted), report.planned, report.backed_up) == ([], 2, 0)
    async with setting.open(live(), mode="audit_only") as gc:
        report = await gc.collect()
        assert (list(report.deleted), report.planned, report.backed_up) == ([], 2, 0)
        named = [entry.key async for entry in gc.history(events={"would_delete"})]
        assert named == ["free.txt", "free2.txt"]
        assert not [entry async for entry in gc.history(events={"deleted", "backed_up"})]
    assert setting.store.contents() == before


# --------------------------------------------------------------------------- plugins and the store's faults


class Veto:
    @hookimpl
    def s3gc_veto(self, candidate: Candidate) -> str | None:
        return "legal hold" if candidate.object.key == "free.txt" else None


class BrokenVeto:
    @hookimpl
    def s3gc_veto(self, candidate: Candidate) -> str | None:
        raise RuntimeError("the service that knows is down")


class BrokenObserver:
    @hookimpl
    def s3gc_event(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "batch_fenced":
            raise RuntimeError("metrics are down")


async def test_a_veto_keeps(setting: Setting) -> None:
    setting.plugins.register(Veto())
    async with setting.open(live()) as gc:
        report = await gc.collect()
        assert list(report.deleted) == ["free2.txt"]
        assert report.kept["vetoed"] == 1


@pytest.mark.parametrize("plugin", [BrokenVeto(), BrokenObserver()])
async def test_a_plugin_that_fails_before_the_deletes_keeps_the_batch(setting: Setting, plugin: Any) -> None:
    setting.plugins.register(plugin)
    before = setting.store.contents()
    async with setting.open(live()) as gc:
        with pytest.raises(RuntimeError, match="down"):
            await gc.collect()
        assert (await gc.metrics())["last_error"] is not None
    assert setting.store.contents() == before


async def test_one_unreadable_batch_does_not_stop_the_others(setting: Setting) -> None:
    class Odd(FakeStore):
        def get(self, key: str, *, if_match: str | None = None) -> Any:
            if key == "free.txt":
                raise StoreError("500 again and again")
            return super().get(key, if_match=if_match)

    setting.store.__class__ = Odd
    async with setting.open(live(), safety=Safety.none().but(batch_objects=1)) as gc:
        report = await gc.collect()
        assert list(report.deleted) == ["free2.txt"]
        assert report.kept["batch_failed"] == 1
        assert any("500 again" in error for error in report.errors)


async def test_a_lost_answer_of_a_delete_is_looked_up(setting: Setting) -> None:
    class Lossy(FakeStore):
        async def delete(self, key: str, *, if_match: str) -> Any:
            if key == "free.txt":
                await super().delete(key, if_match=if_match)
            raise StoreError("connection reset", outcome_unknown=True)

    setting.store.__class__ = Lossy
    async with setting.open(live()) as gc:
        report = await gc.collect()
        assert list(report.deleted) == ["free.txt"]
        assert report.kept["delete_failed"] == 1
        deleted = [entry.key async for entry in gc.history(events={"deleted"})]
        assert deleted == ["free.txt"]


async def test_a_row_that_commits_after_the_last_look_brings_the_object_back(setting: Setting) -> None:
    """P3: the reference comes between the delete and its confirmation."""
    source = live()

    class Racing(FakeStore):
        async def delete(self, key: str, *, if_match: str) -> Any:
            outcome = await super().delete(key, if_match=if_match)
            source.rows["late"] = ["free.txt"]
            return outcome

    setting.store.__class__ = Racing
    async with setting.open(source) as gc:
        report = await gc.collect()
        assert list(report.deleted) == ["free2.txt"]
        assert list(report.resurrected) == ["free.txt"]
    assert setting.store.contents()["free.txt"] == b"free.txt"


async def test_a_fence_that_is_not_reached_holds(setting: Setting) -> None:
    class Busy(FakeSource):
        async def fence(self, timeout: timedelta) -> Any:
            raise SourceError("1 transaction is open since 20 minutes")

    assert await setting.held(Busy(rows={"1": ["live.txt"]})) == {"source_failed"}


async def test_a_vault_that_breaks_stops_before_the_deletes(setting: Setting) -> None:
    before = setting.store.contents()
    async with setting.open(live()) as gc:
        plan = await gc.plan()

        def broken(operation_id: str) -> Any:
            raise VaultError("no space left on device")

        gc._parts.vault.session = broken
        with pytest.raises(S3GCError, match="no space"):
            await gc.collect(plan)
    assert setting.store.contents() == before


async def test_a_plugin_registered_by_hand_on_the_process_s_manager(setting: Setting) -> None:
    veto = Veto()
    plugin_manager().register(veto)
    try:
        config = create_config(
            bucket="fake-bucket",
            mode="execute",
            retention_days=0,
            vault_path=setting.vault,
            safety=Safety.none(),
        )
        async with Collector.open(config, store=setting.store, sources=[live()], clock=setting.clock) as gc:
            assert list((await gc.collect()).deleted) == ["free2.txt"]
    finally:
        plugin_manager().unregister(veto)
