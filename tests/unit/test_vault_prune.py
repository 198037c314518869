"""Backups are removed only when their time is over or a person says so, and never one that is kept."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc import Collector, create_config, create_plugin_manager, lease
from s3gc.archive import Archive
from s3gc.compressors import ZstdCompressor
from s3gc.config import create_config_from_env, load_config
from s3gc.errors import BackupGone, ConfigError, LeaseHeld, VaultCorrupt, VaultError
from s3gc.gates import ExcludedPrefix, prefix_start
from s3gc.model import BackupRecord, Candidate, JournalDraft, Moment, ObjectInfo, RemovalReport
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore
from s3gc.testing.simulator._vault import Disk, watched
from s3gc.testing.vault_contract import ATTRIBUTES, backed_up, entries, pieces, read
from s3gc.vault import LocalVault, _encode, _session, record_to_json
from s3gc.vault.browse import Wanted, latest
from s3gc.vault.journal import SqliteJournal
from s3gc.vault.packs import parse_location
from s3gc.vault.prune import forget, prune
from s3gc.vault.retention import Retention

pytestmark = pytest.mark.anyio

URL = "memory://fake"
START = "01K00000000000000000000000"
NOW = "01K0000000000000000000000Z"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class World:
    """A vault, a clock, and what was put into the vault."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.folder, self.clock = folder, clock
        self.vault = self.unopened()
        self.content: dict[str, bytes] = {}
        self.records: dict[str, BackupRecord] = {}

    def unopened(self) -> LocalVault:
        return LocalVault(self.folder, compressors=[ZstdCompressor()], clock=self.clock)

    async def reopen(self) -> LocalVault:
        await self.vault.aclose()
        self.vault = self.unopened()
        await self.vault.open(URL, create=False)
        return self.vault

    async def back_up(self, keys: Sequence[str], operation: str = START, size: int = 300) -> None:
        async with self.vault.session(operation) as session:
            for key in keys:
                self.content[key] = os.urandom(size) + key.encode()
                info = ObjectInfo(key, len(self.content[key]), "e", self.clock.now() - timedelta(days=9))
                await session.add(info, ATTRIBUTES, pieces(self.content[key]))
            made = await session.commit()
        drafts = backed_up(made)
        await self.vault.journal.append([JournalDraft(d.event, operation, d.key, d.data) for d in drafts])
        self.records |= {record.key: record for record in made}

    async def delete(self, keys: Sequence[str], operation: str = START, event: str = "deleted") -> None:
        await self.vault.journal.append(
            [
                JournalDraft(event, operation, key, {"backup": record_to_json(self.records[key])})
                for key in keys
            ]
        )

    async def cycle(self, keys: Sequence[str], operation: str = START) -> None:
        """All of an operation, with its beginning and its end."""
        await self.note("operation_started", operation)
        await self.back_up(keys, operation)
        await self.delete(keys, operation)
        await self.note("operation_completed", operation)

    async def note(self, event: str, operation: str) -> None:
        await self.vault.journal.append([JournalDraft(event, operation, None, {})])

    async def prune(self, days: float = 30, *, dry_run: bool = False) -> RemovalReport:
        before = self.clock.now() - timedelta(days=days)
        return await prune(self.vault, NOW, before=lambda _: before, reason="test", dry_run=dry_run)

    def packs(self) -> set[str]:
        return {path.stem for path in (self.folder / "packs").glob("*.pack")}

    async def gone(self) -> set[str]:
        """The keys whose backups are gone for good; all others are checked to the last byte."""
        found = set()
        for key, record in self.records.items():
            try:
                assert await read(self.vault, record) == self.content[key]
            except BackupGone:
                found.add(key)
        return found

    async def in_order(self) -> None:
        check = await self.vault.verify()
        assert check.ok, check.problems
        assert check.backups == len(self.content) - len(await self.gone())
        assert (await self.vault.journal.verify()).ok
        assert (await self.vault.stats()).backups == check.backups


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "vault", FakeClock())
    await made.vault.open(URL)
    yield made
    await made.vault.aclose()


def many(name: str, count: int) -> list[str]:
    return [f"{name}/{n}" for n in range(count)]


async def old_and_new(world: World) -> tuple[list[str], list[str]]:
    """One pack, in which the first half is old."""
    old, new = many("old", 5), many("new", 5)
    await world.cycle(old)
    world.clock.advance(timedelta(days=40))
    await world.cycle(new, "01K00000000000000000000001")
    world.clock.advance(timedelta(days=1))
    await world.reopen()  # so that nobody writes to the pack
    assert len(world.packs()) == 1
    return old, new


async def test_the_old_ones_go_and_the_others_are_moved(world: World) -> None:
    old, new = await old_and_new(world)
    before = world.packs()
    planned = await world.prune(dry_run=True)
    assert (planned.removed, planned.moved, planned.packs, planned.left) == (5, 5, 1, 0)
    assert await world.gone() == set()
    assert world.packs() == before
    assert await entries(world.vault, events={"backup_removed", "repacked", "pack_retired"}) == []
    done = await world.prune()
    assert (done.removed, done.moved, done.packs, done.problems) == (5, 5, 1, ())
    assert done.freed == planned.freed > 0
    assert await world.gone() == set(old)
    assert not world.packs() & before
    await world.in_order()
    await world.reopen()
    assert await world.gone() == set(old)
    await world.in_order()
    listed = [stored.record async for stored in latest(world.vault, Wanted())]
    assert [record.key for record in listed] == new
    for record in listed:
        assert await read(world.vault, record) == world.content[record.key]
    # The audit records stay, and one tells why.
    assert len(await entries(world.vault, events={"backed_up", "deleted"})) == 20
    for entry in await entries(world.vault, events={"backup_removed"}):
        assert (entry.data["reason"], entry.operation_id) == ("test", NOW)
    # What was moved keeps its operation, so that a rebuild finds it under the right one.
    await world.vault.aclose()
    for path in world.folder.glob("*.*"):
        path.unlink()
    world.vault = world.unopened()
    await world.vault.rebuild(URL, NOW)
    await world.vault.open(URL)
    found = await entries(world.vault, events={"backup_found"})
    assert {entry.operation_id for entry in found} == {"01K00000000000000000000001"}


async def test_a_second_time_there_is_nothing_left_to_do(world: World) -> None:
    await old_and_new(world)
    await world.prune()
    again = await world.prune()
    assert (again.removed, again.packs) == (0, 0)
    world.clock.advance(timedelta(days=100))
    await world.reopen()
    last = await world.prune()
    assert (last.removed, last.moved) == (5, 0)  # moved once, and its time is over now
    assert world.packs() == set()
    await world.in_order()


async def test_what_was_never_deleted_stays(world: World) -> None:
    await world.back_up(many("kept", 4))
    world.clock.advance(timedelta(days=400))
    await world.reopen()
    assert (await world.prune()).removed == 0
    assert await world.gone() == set()


async def test_what_was_deleted_lately_stays_however_old_its_backup_is(world: World) -> None:
    await world.back_up(many("k", 4))
    world.clock.advance(timedelta(days=400))
    await world.delete(many("k", 4))
    world.clock.advance(timedelta(days=29))
    await world.reopen()
    assert (await world.prune()).removed == 0
    world.clock.advance(timedelta(days=2))
    assert (await world.prune()).removed == 4


async def test_what_a_restore_has_replaced_goes_like_what_was_deleted(world: World) -> None:
    await world.back_up(["k"])
    await world.delete(["k"], event="overwritten")
    world.clock.advance(timedelta(days=31))
    await world.reopen()
    assert (await world.prune()).removed == 1


async def test_an_operation_that_has_not_ended_keeps_its_backups(world: World) -> None:
    await world.note("operation_started", START)
    await world.back_up(["k"])
    await world.delete(["k"])
    world.clock.advance(timedelta(days=400))
    await world.reopen()
    assert (await world.prune()).removed == 0
    with pytest.raises(VaultError, match="hasn't ended"):
        await forget(world.vault, NOW, "k", reason="law", dry_run=False)
    await world.note("operation_recovered", START)
    assert (await world.prune()).removed == 1


async def test_a_pack_of_which_little_would_go_stays(world: World) -> None:
    await world.cycle(["old"])
    world.clock.advance(timedelta(days=40))
    await world.cycle(many("new", 9), "01K00000000000000000000001")
    await world.reopen()
    report = await world.prune()
    assert (report.removed, report.left) == (0, 1)
    assert await world.gone() == set()


async def test_a_pack_of_which_something_cannot_be_read_stays(world: World) -> None:
    old, new = await old_and_new(world)
    pack, offset, length = parse_location(world.records[new[2]].location)
    fd = os.open(world.folder / "packs" / f"{pack}.pack", os.O_RDWR)
    byte = os.pread(fd, 1, offset + length - 1)
    os.pwrite(fd, bytes([byte[0] ^ 1]), offset + length - 1)
    os.close(fd)
    report = await world.prune()
    assert report.removed == 0
    assert "can't be read" in report.problems[0]
    assert pack in world.packs()
    for key in old + [key for key in new if key != new[2]]:
        assert await read(world.vault, world.records[key]) == world.content[key]


async def test_a_pack_that_is_written_to_stays(world: World) -> None:
    await world.cycle(many("old", 5))
    world.clock.advance(timedelta(days=40))
    report = await world.prune()  # the vault goes on with its last pack
    assert "written to" in report.problems[0]
    assert await world.gone() == set()
    await world.reopen()
    assert (await world.prune()).removed == 5


async def test_several_packs_and_large_objects(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encode, "PACK_ROLL_BYTES", 3_000)
    monkeypatch.setattr(_session, "SMALL_OBJECT_BYTES", 10_000)
    await world.cycle(many("old", 20))
    await world.back_up(["old/large"], START, size=30_000)
    await world.delete(["old/large"])
    await world.back_up(["kept/large"], START, size=30_000)
    world.clock.advance(timedelta(days=40))
    await world.cycle(many("new", 20), "01K00000000000000000000001")
    await world.reopen()
    assert len(world.packs()) > 5
    report = await world.prune()
    assert (report.problems, report.left) == ((), 0)
    assert await world.gone() == {*many("old", 20), "old/large"}
    assert report.removed == 21
    await world.in_order()


# --------------------------------------------------------------------------- forgetting


async def test_a_key_is_forgotten_wholly(world: World) -> None:
    await world.cycle(["other/1", "secret", "other/2"])
    await world.reopen()
    secret = world.content["secret"][:64]
    stored = world.folder / "packs"
    assert any(secret in path.read_bytes() for path in stored.iterdir())
    for key, reason, said in (("secret", " ", "say why"), ("nothing", "law", "no backup")):
        with pytest.raises(VaultError, match=said):
            await forget(world.vault, NOW, key, reason=reason, dry_run=False)
    assert (await forget(world.vault, NOW, "secret", reason="law", dry_run=True)).removed == 1
    assert await world.gone() == set()
    report = await forget(world.vault, NOW, "secret", reason="request 4711", dry_run=False)
    assert (report.removed, report.moved) == (1, 2)
    assert not any(secret in path.read_bytes() for path in stored.iterdir())
    assert await world.gone() == {"secret"}
    with pytest.raises(BackupGone, match="request 4711"):
        await read(world.vault, world.records["secret"])
    (told,) = await entries(world.vault, key="secret", events={"backup_removed"})
    assert told.data["backup"]["sha256"] == world.records["secret"].sha256
    await world.in_order()


# --------------------------------------------------------------------------- crashes


class Dead(BaseException):
    """The process is gone."""


@contextmanager
def dying(step: int, disk: Disk) -> Iterator[Callable[[], int]]:
    """Every write, sync, commit and unlink is a step; from this one on nothing happens any more."""
    count = 0

    def stepped(real):  # type: ignore[no-untyped-def]
        def call(*arguments, **named):  # type: ignore[no-untyped-def]
            nonlocal count
            count += 1
            if count > step:
                raise Dead
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patched, watched(disk):
        for owner, name in (
            (os, "pwrite"),
            (os, "fsync"),
            (os, "fdatasync"),
            (os, "ftruncate"),
            (Path, "unlink"),
            (SqliteJournal, "_append"),
        ):
            patched.setattr(owner, name, stepped(getattr(owner, name)))
        yield lambda: count


def power_cut_at(folder: Path, step: int, backend: str) -> bool:
    """Prune on a disk that loses what wasn't synced, cut off at a step. Whether there was such a step."""

    async def everything() -> bool:
        world = World(folder, FakeClock())
        disk = Disk()
        with watched(disk):
            await world.vault.open(URL)
            old, new = await old_and_new(world)
        died = False
        with dying(step, disk):
            try:
                await world.prune()
            except Dead:
                died = True
        disk.lose_power(folder)
        world.vault.journal._close()
        if world.vault._current is not None:
            world.vault._current.close()
        world.vault = world.unopened()
        await world.vault.open(URL, create=False)
        assert world.vault.problems == ()
        gone = await world.gone()  # compares every other one, byte by byte
        assert gone <= set(old)
        await world.in_order()
        if gone:
            assert gone == set(old)
            retired = {entry.data["pack"] for entry in await entries(world.vault, events={"pack_retired"})}
            assert not retired & world.packs()
        else:
            done = await world.prune()
            assert (done.removed, done.problems) == (5, ())
        assert await world.gone() == set(old)
        assert set(new) <= {stored.record.key async for stored in latest(world.vault, Wanted())}
        await world.in_order()
        await world.vault.aclose()
        return died

    return anyio.run(everything, backend=backend)


def test_a_power_cut_at_any_step_loses_nothing_that_is_kept(tmp_path: Path) -> None:
    steps = 0
    while power_cut_at(tmp_path / str(steps), steps, "asyncio" if steps % 2 else "trio"):
        steps += 1
    assert steps > 5


async def test_a_pack_that_comes_back_after_it_was_unlinked_goes_again(world: World) -> None:
    """A loss of power may bring a name back that was removed."""
    await old_and_new(world)
    (name,) = world.packs()
    path = world.folder / "packs" / f"{name}.pack"
    data = path.read_bytes()
    await world.prune()
    path.write_bytes(data)
    with pytest.raises(BackupGone):
        await read(world.vault, world.records["old/1"])
    await world.reopen()
    assert not path.exists()
    await world.in_order()


async def test_only_what_the_journal_retired_is_unlinked(world: World) -> None:
    await world.cycle(["k"])
    (name,) = world.packs()
    with pytest.raises(VaultError, match="doesn't say"):
        await world.vault.retire(name)
    assert world.packs() == {name}


async def test_a_damaged_entry_about_packs_does_not_lock_the_vault(world: World) -> None:
    await old_and_new(world)
    await world.prune()
    await world.vault.aclose()
    with sqlite3.connect(world.folder / "journal.sqlite3") as database:
        database.execute("DROP TRIGGER entries_no_update")
        database.execute("UPDATE entries SET data = '{}' WHERE event = 'pack_retired'")
    world.vault = world.unopened()
    await world.vault.open(URL, create=False)
    assert not (await world.vault.journal.verify()).ok


async def test_another_process_that_has_the_vault_open_finds_what_was_moved(world: World) -> None:
    old, new = await old_and_new(world)
    reader = world.unopened()
    await reader.open(URL, create=False)
    await world.prune()
    assert await read(reader, world.records[new[0]]) == world.content[new[0]]
    with pytest.raises(BackupGone):
        await read(reader, world.records[old[0]])
    await reader.aclose()


async def test_a_pack_that_is_merely_missing_is_corruption(world: World) -> None:
    await world.cycle(["k"])
    await world.reopen()
    for path in (world.folder / "packs").glob("*.pack"):
        path.unlink()
    with pytest.raises(VaultCorrupt, match="missing"):
        await read(world.vault, world.records["k"])
    assert not (await world.vault.verify()).ok


# --------------------------------------------------------------------------- by the configuration


def config_of(world: World, **options: object):  # type: ignore[no-untyped-def]
    return create_config(bucket=URL, vault_path=world.folder, mode="execute", **options)  # type: ignore[arg-type]


async def test_the_archive_removes_by_the_configuration(world: World) -> None:
    old, _ = await old_and_new(world)
    await world.vault.aclose()
    config = config_of(world, vault_retention_days=30, recovery_window_days=7)
    async with Archive.open(config, clock=world.clock) as archive:
        assert (await archive.prune()).dry_run
        assert (await archive.prune(dry_run=False)).removed == len(old)
    with pytest.raises(ConfigError, match="less than recovery_window_days"):
        config_of(world, vault_retention_days=6, recovery_window_days=7)
    for only in ({"vault_retention_days": 30}, {"recovery_window_days": 7}, {}):
        async with Archive.open(config_of(world, **only), clock=world.clock) as archive:
            with pytest.raises(ConfigError, match="how far back"):
                await archive.prune()


async def test_retention_by_prefix(world: World) -> None:
    keys = ["legal/a", "invoices/a", "invoices/2020/a", "tmp/a", "tmpfile", "other"]
    await world.cycle(keys)
    await world.vault.aclose()
    by_prefix = {"legal": "forever", "invoices/": 400, "invoices/2020": 50, "tmp*": 10}
    config = config_of(
        world, vault_retention_days=100, vault_retention_by_prefix=by_prefix, recovery_window_days=7
    )
    gone_after = {9: [], 2: ["tmp/a", "tmpfile"], 40: ["invoices/2020/a"], 50: ["other"], 300: ["invoices/a"]}
    gone: set[str] = set()
    for days, more in gone_after.items():
        world.clock.advance(timedelta(days=days))
        async with Archive.open(config, clock=world.clock) as archive:
            assert (await archive.prune()).removed == len(more)
            assert (await archive.prune(dry_run=False)).problems == ()
            gone |= set(more)
            left = {stored.record.key async for stored in latest(archive.vault, Wanted())}
            assert left == set(keys) - gone
            told = [entry async for entry in archive.vault.journal.read(events={"backup_removed"})]
            assert {entry.key for entry in told} == gone
    assert told[0].data["reason"] == (
        "vault_retention_days = 100, 'invoices/': 400, 'invoices/2020': 50, 'legal': forever, 'tmp*': 10"
    )


async def test_a_retention_for_some_prefixes_alone_keeps_the_rest_for_ever(world: World) -> None:
    await world.cycle(["tmp/a", "other"])
    await world.vault.aclose()
    world.clock.advance(timedelta(days=4_000))
    config = config_of(world, vault_retention_by_prefix={"tmp/": 10}, recovery_window_days=7)
    async with Archive.open(config, clock=world.clock) as archive:
        assert (await archive.prune(dry_run=False)).removed == 1
        assert {stored.record.key async for stored in latest(archive.vault, Wanted())} == {"other"}
    forever = config_of(world, vault_retention_by_prefix={"tmp/": "forever"}, recovery_window_days=7)
    async with Archive.open(forever, clock=world.clock) as archive:
        with pytest.raises(ConfigError, match="how far back"):
            await archive.prune()


@pytest.mark.parametrize(
    ("by_prefix", "said"),
    [
        ({"tmp/": 6}, "'tmp/' .6. is less than recovery_window_days"),
        ({"tmp/": 0}, "more than 0"),
        ({"tmp/": "ever"}, "a number of days"),
        ({"tmp/": True}, "a number of days"),
        ({"/": 10}, "the whole bucket"),
        ({"*": 10}, "the whole bucket"),
        ({"tmp": 10, "tmp/": 20}, "mean the same keys"),
        (["tmp/"], "must map prefixes"),
    ],
)
def test_retentions_that_are_refused(by_prefix: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        create_config(
            bucket="bucket",
            vault_retention_days=30,
            recovery_window_days=7,
            vault_retention_by_prefix=by_prefix,  # type: ignore[arg-type]
        )


def test_retention_by_prefix_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    wanted = {"invoices/": 3650, "legal": None}
    path = tmp_path / "s3gc.toml"
    path.write_text('bucket = "bucket"\n[vault_retention_by_prefix]\n"invoices/" = 3650\nlegal = "forever"\n')
    assert dict(load_config(path).vault_retention_by_prefix) == wanted
    environ = {"S3_BUCKET": "bucket", "S3GC_VAULT_RETENTION_BY_PREFIX": "invoices/=3650; legal=forever;"}
    found = create_config_from_env(environ=environ)
    assert dict(found.vault_retention_by_prefix) == wanted
    assert found.redacted()["vault_retention_by_prefix"] == {"invoices/": 3650, "legal": "forever"}
    assert hash(found.vault_retention_by_prefix) == hash(load_config(path).vault_retention_by_prefix)
    for wrong in ("invoices/", "=3", "a=1;a=2", "a=soon"):
        with pytest.raises(ConfigError, match="S3GC_VAULT_RETENTION_BY_PREFIX"):
            create_config_from_env(environ={**environ, "S3GC_VAULT_RETENTION_BY_PREFIX": wrong})


@given(
    st.dictionaries(
        st.text("ab/*", min_size=1).filter(lambda p: p.strip("/*")), st.none() | st.floats(1, 9), max_size=4
    ),
    st.text("ab/", max_size=6),
)
def test_the_longest_prefix_that_matches_counts(by_prefix: dict[str, float | None], key: str) -> None:
    matching = [
        p for p in by_prefix if ExcludedPrefix((p,)).keeps(candidate_of(key), Moment(datetime.now(UTC)))
    ]
    found = Retention(30, by_prefix).of(key)
    if not matching:
        assert found == 30
    else:
        longest = max(len(prefix_start(p)) for p in matching)
        assert found in [by_prefix[p] for p in matching if len(prefix_start(p)) == longest]


def candidate_of(key: str) -> Candidate:
    return SimpleNamespace(object=SimpleNamespace(key=key))  # type: ignore[return-value]


async def test_a_restore_a_claim_and_explain_say_that_it_is_gone(world: World) -> None:
    old, new = await old_and_new(world)
    store = FakeStore(world.clock)
    store.url = URL
    await world.vault.aclose()
    world.vault = world.unopened()
    async with Collector.open(
        config_of(world, vault_retention_days=30, recovery_window_days=7),
        store=store,
        vault=world.vault,
        sources=[FakeSource()],
        plugins=create_plugin_manager(entry_points=False),
        clock=world.clock,
    ) as gc:
        await prune(
            world.vault,
            NOW,
            before=Retention(30).ends(world.clock.now()),
            reason="vault_retention_days = 30",
            dry_run=False,
        )
        for dry_run in (True, False):
            report = await gc.restore(prefix="", dry_run=dry_run)
            assert set(report.restored) == set(new)
            assert set(report.errors) == set(old)
            assert "retention" in report.errors[old[0]]
        assert store.contents() == {key: world.content[key] for key in new}
        assert not await gc.claim(old[0], timedelta(minutes=5))
        assert "gone for good" in (await gc.explain(old[0])).decision
        drilled = await gc.drill(100)
        assert (drilled.objects, drilled.ok) == (len(new), True)


async def test_nothing_is_removed_while_a_collector_works(world: World, tmp_path: Path) -> None:

    await world.cycle(["k"])
    await world.vault.aclose()
    config = config_of(world, vault_retention_days=30, recovery_window_days=7)
    async with (
        Archive.open(config, clock=world.clock) as archive,
        lease.hold(world.folder / "collector.lock"),
    ):
        with pytest.raises(LeaseHeld):
            await archive.prune()
        with pytest.raises(LeaseHeld):
            await archive.forget("k", "law")
