"""``backup_copies``: nothing goes before its backup is in enough places; replicas follow each operation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from fixtures_replica import LOST, READ_FAILS, REFUSED, FakeRemote
from s3gc import Collector, ObjectAttributes, Safety, create_config, create_plugin_manager, hookimpl
from s3gc.config import create_config_from_env, load_config
from s3gc.errors import ConfigError, CycleHeld
from s3gc.model import DeleteOutcome
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore
from s3gc.vault.replica import fetch, open_remote, opening

pytestmark = pytest.mark.anyio

FREE = {f"free/{number}": os.urandom(400) for number in range(4)}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Watching(FakeStore):
    """A bucket that tells at each delete."""

    before_delete: Callable[[bytes], None] | None = None

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        if self.before_delete and not key.startswith(".s3gc/"):
            self.before_delete(self.contents()[key])
        return await super().delete(key, if_match=if_match)


class World:
    """A bucket with one referenced and four free objects, and remotes at ``fake://NAME``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.store = Watching(self.clock)
        self.store.upload("live", b"live")
        self.remotes: dict[str, FakeRemote] = {}
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        for key, body in FREE.items():
            self.store.upload(key, body, ObjectAttributes(content_type="text/x", metadata={"k": key}))
        self.clock.advance(timedelta(days=30))

    def remote(self, url: str) -> FakeRemote:
        name = url.removeprefix("fake://")
        return self.remotes.setdefault(name, FakeRemote(name))

    def open(self, **options: Any) -> Any:
        known: dict[str, Any] = {
            "bucket": "fake-bucket",
            "mode": "execute",
            "retention_days": 0,
            "vault_path": self.folder / "vault",
            "safety": Safety.none(),
            "compression": "store",  # so that a backup's bytes can be seen in a replica
            "replicas": ["fake://a"],
        }
        plugins = create_plugin_manager(entry_points=False)
        plugins.register(self)
        return Collector.open(
            create_config(**known | options),
            store=self.store,
            sources=[FakeSource(rows={"1": ["live"]})],
            clock=self.clock,
            plugins=plugins,
        )

    @hookimpl
    def s3gc_event(self, event: str, data: Mapping[str, Any]) -> None:
        self.events.append((event, data))

    def told(self, name: str) -> list[Mapping[str, Any]]:
        return [data for event, data in self.events if event == name]

    def gone(self) -> set[str]:
        return set(FREE) - set(self.store.contents())


def holds(remote: FakeRemote, body: bytes) -> bool:
    """Whether an object's bytes are in the packs of a replica."""
    parts = [data for name, data in sorted(remote.objects.items()) if name.startswith("packs/")]
    return body in b"".join(parts)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(
        opening, "open_remote", lambda url: made.remote(url) if url.startswith("fake") else open_remote(url)
    )
    return made


async def test_each_backup_is_in_the_replica_before_its_object_goes(world: World) -> None:
    seen: list[int] = []
    world.store.before_delete = lambda body: seen.append(
        sum(holds(remote, body) for remote in world.remotes.values())
    )
    safety = Safety.none().but(batch_objects=2)
    async with world.open(backup_copies=3, replicas=["fake://a", "fake://b"], safety=safety) as gc:
        report = await gc.collect()
        assert (set(report.deleted), report.errors) == (set(FREE), ())
        assert seen == [2] * len(FREE)
        confirmed = [entry async for entry in gc.history(events={"copies_confirmed"})]
        assert [dict(entry.data) for entry in confirmed] == [
            {"copies": 3, "backups": 2, "replicas": {"fake://a": 2, "fake://b": 2}}
        ] * 2
        order = [entry.event async for entry in gc.history(operation_id=report.operation_id)]
    assert order.index("backed_up") < order.index("copies_confirmed") < order.index("delete_intended")
    assert world.told("replica_behind") == []


async def test_with_one_copy_the_replicas_follow_at_the_end(world: World) -> None:
    seen: list[bool] = []
    world.store.before_delete = lambda body: seen.append(holds(world.remote("fake://a"), body))
    async with world.open() as gc:
        await gc.collect()
        assert [entry async for entry in gc.history(events={"copies_confirmed"})] == []
    assert seen == [False] * len(FREE)
    assert all(holds(world.remote("fake://a"), body) for body in FREE.values())
    assert world.told("replica_behind") == []


async def test_a_dry_run_asks_no_replica(world: World) -> None:
    async with world.open(mode="dry_run", backup_copies=2) as gc:
        await gc.collect()
    assert world.remote("fake://a").requests == []


async def test_nothing_goes_while_a_replica_is_down(world: World) -> None:
    world.remote("fake://a").down = True
    async with world.open(backup_copies=2) as gc:
        with pytest.raises(CycleHeld) as caught:
            await gc.collect()
        (breaker,) = caught.value.breakers
        assert breaker.code == "too_few_copies"
        assert "fake://a: it is down" in breaker.reason
        assert caught.value.report is not None
        assert list(caught.value.report.deleted) == []
        assert caught.value.report.kept["batch_failed"] == len(FREE)
        assert [entry async for entry in gc.history(events={"delete_intended", "deleted"})] == []
        assert world.gone() == set()

        world.remote("fake://a").down = False
        assert set((await gc.collect()).deleted) == set(FREE)


async def test_it_holds_until_it_is_acknowledged(world: World) -> None:
    world.remote("fake://a").down = True
    async with world.open(backup_copies=2, safety=Safety.none().but(self_clearing=())) as gc:
        for _ in range(2):
            with pytest.raises(CycleHeld, match="too_few_copies"):
                await gc.collect()
            world.remote("fake://a").down = False
        assert world.gone() == set()
        await gc.acknowledge("too_few_copies", "the replica's disk was full")
        assert set((await gc.collect()).deleted) == set(FREE)


async def test_another_replica_does_as_well(world: World) -> None:
    world.remote("fake://a").down = True
    async with world.open(backup_copies=2, replicas=["fake://a", "fake://b"]) as gc:
        report = await gc.collect()
    assert (set(report.deleted), report.errors) == (set(FREE), ())
    assert all(holds(world.remote("fake://b"), body) for body in FREE.values())
    (behind,) = world.told("replica_behind")
    assert (behind["replica"], behind["problem"]) == ("fake://a", "it is down")


async def test_with_one_copy_a_replica_that_is_down_is_told_and_no_failure(world: World) -> None:
    world.remote("fake://a").down = True
    async with world.open() as gc:
        report = await gc.collect()
    assert (set(report.deleted), report.errors, report.held_by) == (set(FREE), (), ())
    (behind,) = world.told("replica_behind")
    assert (behind["operation_id"], behind["replica"]) == (report.operation_id, "fake://a")
    assert behind["entries"] > len(FREE)
    assert behind["bytes"] > 400 * len(FREE)
    assert behind["lag"] >= 0
    assert behind["problem"] == "it is down"


async def test_a_replica_lost_after_the_deletes_is_an_error_where_copies_are_asked_for(world: World) -> None:
    remote = world.remote("fake://a")

    def lose(_: bytes) -> None:
        remote.down = True

    world.store.before_delete = lose
    async with world.open(backup_copies=2) as gc:
        report = await gc.collect()
        assert set(report.deleted) == set(FREE)
        (error,) = report.errors
        assert "only 1 of 2 places" in error
        ended = [entry async for entry in gc.history(events={"operation_completed"})]
        assert len(ended) == 1
    assert all(holds(remote, body) for body in FREE.values())


@pytest.mark.parametrize("kind", [REFUSED, LOST, READ_FAILS])
async def test_whatever_request_fails_what_is_gone_is_in_two_places(
    world: World, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The invariant at each delete, for a fault at each request in turn."""
    held: list[str] = []
    for after in range(12):
        folder = tmp_path / str(after)
        folder.mkdir()
        one = World(folder)
        monkeypatch.setattr(opening, "open_remote", one.remote)
        remote = one.remote("fake://a")
        remote.fail(kind, after)
        lacking: list[bytes] = []
        one.store.before_delete = (
            lambda body, remote=remote, lacking=lacking: holds(remote, body) or lacking.append(body)  # type: ignore[misc]
        )
        async with one.open(backup_copies=2, safety=Safety.none().but(batch_objects=1)) as gc:
            try:
                await gc.collect()
            except CycleHeld as error:
                held += [breaker.code for breaker in error.breakers]
        assert lacking == []
        assert (one.store.contents()["live"], len(one.gone()) in range(5)) == (b"live", True)
    assert len(held) > 3
    assert set(held) == {"too_few_copies"}


async def test_a_restore_over_a_live_object_needs_the_copies_too(world: World) -> None:
    async with world.open(backup_copies=2) as gc:
        await gc.collect()
        world.store.upload("free/1", b"somebody's newer file")
        world.remote("fake://a").down = True
        report = await gc.restore(key="free/1", dry_run=False, overwrite=True)
        assert "too_few_copies" in report.errors["free/1"]
        assert world.store.contents()["free/1"] == b"somebody's newer file"
        world.remote("fake://a").down = False
        assert (await gc.restore(key="free/1", dry_run=False, overwrite=True)).restored == ["free/1"]
    assert holds(world.remote("fake://a"), b"somebody's newer file")


async def test_from_end_to_end_with_a_folder(world: World, tmp_path: Path) -> None:
    """Collect, lose the vault and its machine, and bring everything back from the replica alone."""
    replica = (tmp_path / "other disk").as_uri()
    before = world.store.contents()
    async with world.open(backup_copies=2, replicas=[replica], compression="zstd") as gc:
        assert set((await gc.collect()).deleted) == set(FREE)
        audit, _ = await gc.verify()
    (tmp_path / "vault").rename(tmp_path / "lost")
    report = await fetch(open_remote(replica), tmp_path / "vault", clock=world.clock)
    assert (report.problems, report.entries) == ((), audit.entries)
    async with world.open(backup_copies=2, replicas=[replica], compression="zstd") as gc:
        back = await gc.restore(prefix="", dry_run=False)
        assert set(back.restored) == set(FREE)
    assert world.store.contents() == before
    assert world.told("replica_behind") == []


async def test_a_cancelled_wait_for_a_replica_deletes_nothing(world: World) -> None:
    """The wait is before the shield: whoever stops the cycle there has lost nothing."""
    remote = world.remote("fake://a")
    scope = anyio.CancelScope()
    remote.fail("called", 1, lambda: anyio.from_thread.run_sync(scope.cancel))
    async with world.open(backup_copies=2) as gc:
        with scope:
            await gc.collect()
        assert scope.cancelled_caught
        assert world.gone() == set()


# ---------------------------------------------------------------------------------- the configuration


def test_more_copies_than_places_are_refused() -> None:
    for copies, replicas in ((2, []), (4, ["file:///a", "file:///b"])):
        with pytest.raises(ConfigError, match="more places than vault and replicas are"):
            create_config(bucket="bucket", backup_copies=copies, replicas=replicas)
    assert create_config(bucket="bucket", backup_copies=3, replicas=["file:///a", "file:///b"]).backup_copies
    for wrong in (0, -1, True, 1.0, "2"):
        with pytest.raises(ConfigError, match="backup_copies must be"):
            create_config(bucket="bucket", backup_copies=wrong, replicas=["file:///a"])  # type: ignore[arg-type]


def test_it_comes_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "s3gc.toml"
    path.write_text('bucket = "bucket"\nreplicas = ["file:///a"]\nbackup_copies = 2\n')
    assert load_config(path).backup_copies == 2
    environ = {"S3_BUCKET": "bucket", "S3GC_REPLICAS": "file:///a", "S3GC_BACKUP_COPIES": "2"}
    assert create_config_from_env(environ=environ).backup_copies == 2
    with pytest.raises(ConfigError, match="whole number"):
        create_config_from_env(environ={**environ, "S3GC_BACKUP_COPIES": "two"})


def test_the_digest_of_a_plan_is_the_same() -> None:
    one = create_config(bucket="bucket", replicas=["file:///a"])
    assert one.digest == create_config(bucket="bucket", replicas=["file:///a"], backup_copies=2).digest


async def test_a_vault_of_another_kind_has_no_replicas(world: World) -> None:
    class Other:
        """No local vault."""

    config = create_config(bucket="bucket", replicas=["fake://a"])
    from s3gc.copies import open_replicas

    with pytest.raises(ConfigError, match="only a vault in a local folder"):
        async with open_replicas(config, Other(), world.clock):  # type: ignore[arg-type]
            pass
