"""Restores of many objects: in groups, bounded, begun anew where they were stopped; here and elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from s3gc import Collector, ObjectAttributes, Safety, bringing, choosing, create_config, create_plugin_manager
from s3gc.abc import ObjectStore
from s3gc.archive import Archive
from s3gc.errors import ConfigError, LeaseHeld, NoSuchBucket, PreconditionFailed, StoreError, VaultError
from s3gc.hooks import hookimpl
from s3gc.lease import hold
from s3gc.model import JournalEntry, ObjectHead, ObjectInfo
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore

pytestmark = pytest.mark.anyio

MANY = {f"free/{number:04d}": b"%d " % number * (number % 50) for number in range(700)}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Crash(BaseException):
    """The process ends here."""


class Watched(FakeStore):
    """A bucket that counts, and whose writes a test can spoil."""

    def __init__(self, clock: FakeClock, bucket: str = "fake") -> None:
        super().__init__(clock, bucket)
        self.puts: Counter[str] = Counter()
        self.gets: Counter[str] = Counter()
        self.heads: Counter[str] = Counter()
        self.flying = self.most = 0
        self.spoil: Callable[[str, bool], None] | None = None  # True: before a put
        self.odd_etags = False

    async def head(self, key: str) -> ObjectHead | None:
        self.heads[key] += 1
        return await super().head(key)

    def get(self, key: str, *, if_match: str | None = None) -> Any:
        self.gets[key] += 1
        return super().get(key, if_match=if_match)

    async def put(self, key: str, body: Any, **more: Any) -> ObjectInfo:
        if key.startswith(".s3gc/"):
            return await super().put(key, body, **more)
        self.puts[key] += 1
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            if self.spoil:
                self.spoil(key, True)
            await anyio.lowlevel.checkpoint()
            written = await super().put(key, body, **more)
            if self.spoil:
                self.spoil(key, False)
            return written
        finally:
            self.flying -= 1

    def upload(self, key: str, body: bytes, attributes: ObjectAttributes | None = None) -> ObjectInfo:
        info = super().upload(key, body, attributes)
        if self.odd_etags:
            stored = self._objects[key]
            info = ObjectInfo(key, info.size, f"odd-{len(self.puts)}-{info.etag}", info.last_modified)
            self._objects[key] = type(stored)(info, stored.attributes, stored.body)
        return info


class World:
    """A bucket from which much was collected, and a store at ``other://NAME``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.store = Watched(self.clock)
        self.others: dict[str, Watched] = {}
        self.events: list[tuple[str, Mapping[str, Any]]] = []

    @hookimpl
    def s3gc_open_store(self, url: str) -> ObjectStore | None:
        if not url.startswith("other://"):
            return None
        made = self.others.setdefault(url, Watched(self.clock, url.removeprefix("other://")))
        made.url = url
        return made

    @hookimpl
    def s3gc_event(self, event: str, data: Mapping[str, Any]) -> None:
        self.events.append((event, data))

    @property
    def other(self) -> Watched:
        return self.others.get("other://b")  # type: ignore[return-value] # pluggy looks at it early

    def config(self, **options: Any) -> Any:
        known: dict[str, Any] = {
            "bucket": "fake://fake",
            "mode": "execute",
            "retention_days": 0,
            "vault_path": self.folder / "vault",
            "safety": Safety.none(),
        }
        return create_config(**known | options)

    def plugins(self) -> Any:
        made = create_plugin_manager(entry_points=False)
        made.register(self)
        return made

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Collector]:
        async with Collector.open(
            self.config(),
            store=self.store,
            sources=[FakeSource(rows={"1": ["live"]})],
            clock=self.clock,
            plugins=self.plugins(),
        ) as gc:
            yield gc

    @asynccontextmanager
    async def archive(self) -> AsyncIterator[Archive]:
        plugins = self.plugins()
        plugins.register(OpensFake(self.store))
        async with Archive.open(self.config(), clock=self.clock, plugins=plugins) as archive:
            yield archive

    async def collect(self, content: Mapping[str, bytes] = MANY) -> None:
        self.store.upload("live", b"live")
        for key, body in content.items():
            self.store.upload(key, body, ObjectAttributes(content_type="text/x", metadata={"k": key}))
        self.clock.advance(timedelta(days=30))
        async with self.open() as gc:
            assert len((await gc.collect()).deleted) == len(content)
        self.store.heads.clear()
        self.store.gets.clear()

    async def entries(self, event: str) -> list[JournalEntry]:
        async with self.archive() as archive:
            return [entry async for entry in archive.vault.journal.read(events={event})]


class OpensFake:
    def __init__(self, store: FakeStore) -> None:
        self.store = store

    @hookimpl
    def s3gc_open_store(self, url: str) -> ObjectStore | None:
        return self.store if url == "fake://fake" else None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def free(store: FakeStore, prefix: str = "") -> dict[str, bytes]:
    return {
        key.removeprefix(prefix): body
        for key, body in store.contents().items()
        if key.removeprefix(prefix) != "live"
    }


# ---------------------------------------------------------------------------------- into the bucket


async def test_many_come_back_in_few_requests_and_few_notes(world: World) -> None:
    await world.collect()
    async with world.open() as gc:
        appends: list[int] = []
        journal = gc._parts.vault.journal
        append = journal.append

        async def counted(drafts: Sequence[Any]) -> None:
            appends.append(len(drafts))
            await append(drafts)

        journal.append = counted  # type: ignore[method-assign]
        would = await gc.restore(prefix="free/")
        assert (len(would.restored), world.store.puts) == (len(MANY), Counter())
        report = await gc.restore(prefix="free/", dry_run=False)
    assert (report.restored, dict(report.skipped), dict(report.errors)) == (sorted(MANY), {}, {})
    assert free(world.store) == MANY
    assert set(world.store.puts.values()) == {1}
    assert not world.store.heads.keys() & MANY.keys()  # listings told that nothing is there
    assert not world.store.gets.keys() & MANY.keys()  # the ETags are the proof
    assert 1 < world.store.most <= 64
    assert len(appends) < 8
    back = await world.entries("restored")
    assert sorted(entry.key or "" for entry in back) == sorted(MANY)
    assert len([event for event, _ in world.events if event == "object_restored"]) == len(MANY)
    live = await world.store.head("free/0007")
    assert live is not None
    assert live.attributes.metadata == {"k": "free/0007"}


@pytest.mark.parametrize("before", [True, False], ids=["before the write", "after the write"])
@pytest.mark.parametrize("at", [0, 333, 690])
async def test_a_restore_that_was_cut_off_goes_on(
    world: World, before: bool, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "NOTED_AT_ONCE", 100)
    await world.collect()

    def die(_: str, early: bool) -> None:
        if early is before and sum(world.store.puts.values()) > at:
            raise Crash

    world.store.spoil = die
    async with world.open() as gc:
        # A killed process writes nothing more: neither what is due nor its end.
        append = gc._parts.vault.journal.append

        async def until_death(drafts: Sequence[Any]) -> None:
            if sum(world.store.puts.values()) <= at:
                await append(drafts)

        gc._parts.vault.journal.append = until_death  # type: ignore[method-assign]
        with pytest.raises(Crash):
            await gc.restore(prefix="free/", dry_run=False)
    there = free(world.store)
    world.store.spoil = None
    written = Counter(world.store.puts)
    async with world.open() as gc:
        report = await gc.restore(prefix="free/", dry_run=False)
        audit, check = await gc.verify()
    assert (audit.ok, check.ok, dict(report.errors)) == (True, True, {})
    assert set(report.restored) | set(report.skipped) == set(MANY)
    assert free(world.store) == MANY
    assert {key for key in there if world.store.puts[key] > written[key]} == set()  # none twice
    noted = await world.entries("restored")
    assert sorted(entry.key or "" for entry in noted) == sorted(MANY)  # each once, found or written
    assert {entry.key for entry in noted if entry.data.get("found")} <= there.keys()


async def test_what_is_back_and_noted_is_not_noted_again(world: World) -> None:
    await world.collect()
    async with world.open() as gc:
        await gc.restore(prefix="", dry_run=False)
        report = await gc.restore(prefix="", dry_run=False)
        one = await gc.restore(key="free/0001", dry_run=False)
    assert set(report.skipped.values()) == {bringing.ALREADY_THERE}
    assert one.skipped == {"free/0001": bringing.ALREADY_THERE}
    assert len(await world.entries("restored")) == len(MANY)


async def test_what_the_journal_knows_is_not_read_again(world: World) -> None:
    """Where ETags say nothing (encryption, parts), a second run doesn't read everything back."""
    content = {key: MANY[key] for key in list(MANY)[:50]}
    await world.collect(content)
    world.store.odd_etags = True
    async with world.open() as gc:
        assert len((await gc.restore(prefix="", dry_run=False)).restored) == 50
        assert {world.store.gets[key] for key in content} == {1}  # what was written is compared
        world.store.gets.clear()
        assert len((await gc.restore(prefix="", dry_run=False)).skipped) == 50
        assert not world.store.gets.keys() & content.keys()
        # Another upload of the same bytes is compared by reading; one of other bytes stays.
        world.store.upload(
            "free/0003",
            content["free/0003"],
            ObjectAttributes(content_type="text/x", metadata={"k": "free/0003"}),
        )
        world.store.upload("free/0004", b"x" * len(content["free/0004"]))
        report = await gc.restore(prefix="", dry_run=False)
    assert report.skipped["free/0003"] == bringing.ALREADY_THERE
    assert "another object" in report.skipped["free/0004"]
    assert world.store.gets["free/0003"] == 1


async def test_other_bytes_than_were_written_are_told(world: World) -> None:
    await world.collect({"free/a": b"a" * 100, "free/b": b"b" * 100})

    class Swapping(Watched):
        async def put(self, key: str, body: Any, **more: Any) -> ObjectInfo:
            written = await super().put(key, b"A" * 100 if key == "free/a" else body, **more)
            return written

    swapping = Swapping(world.clock)
    swapping._objects = world.store._objects
    world.store = swapping
    async with world.open() as gc:
        report = await gc.restore(prefix="", dry_run=False)
    assert report.restored == ["free/b"]
    assert "holds other bytes" in report.errors["free/a"]


async def test_an_upload_in_the_last_moment_is_not_replaced(world: World) -> None:
    """What is overwritten is looked at again right before: only what was backed up goes."""
    await world.collect({"free/a": b"a", "free/b": b"b"})
    for key in ("free/a", "free/b"):
        world.store.upload(key, b"newer")
    async with world.open() as gc:
        read_small = gc._parts.vault.read_small

        async def meanwhile(records: Sequence[Any]) -> Mapping[str, bytes]:
            world.clock.advance(timedelta(seconds=2))
            world.store.upload("free/a", b"newest")
            return await read_small(records)

        gc._parts.vault.read_small = meanwhile  # type: ignore[method-assign]
        report = await gc.restore(prefix="", dry_run=False, overwrite=True)
    assert report.restored == ["free/b"]
    assert "another object" in report.skipped["free/a"]
    assert free(world.store) == {"free/a": b"newest", "free/b": b"b"}


async def test_our_own_write_whose_answer_was_lost_counts_as_there(world: World) -> None:
    await world.collect({"free/a": b"a", "free/b": b"b", "free/c": b"c"})

    class Twice(Watched):
        """The first answer is lost, and the client's second try meets its own object."""

        async def put(self, key: str, body: Any, **more: Any) -> ObjectInfo:
            written = await super().put(key, body, **more)
            if key == "free/b":
                raise PreconditionFailed("it exists")
            return written

    twice = Twice(world.clock)
    twice._objects = world.store._objects
    world.store = twice
    async with world.open() as gc:
        report = await gc.restore(prefix="", dry_run=False)
    assert (report.restored, dict(report.errors)) == (["free/a", "free/c"], {})
    assert report.skipped == {"free/b": bringing.ALREADY_THERE}
    assert len(await world.entries("restored")) == 3


async def test_an_object_that_appears_meanwhile_stays(world: World) -> None:
    await world.collect({"free/a": b"a", "free/b": b"b"})

    def appear(key: str, early: bool) -> None:
        if early and key == "free/a":
            world.store.spoil = None
            world.store.upload(key, b"somebody's")

    world.store.spoil = appear
    async with world.open() as gc:
        report = await gc.restore(prefix="", dry_run=False)
    assert report.restored == ["free/b"]
    assert "another object" in report.skipped["free/a"]
    assert free(world.store)["free/a"] == b"somebody's"


async def test_where_the_listing_fails_each_object_is_looked_at(world: World) -> None:
    class NoList(Watched):
        fails = False

        async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Any]:
            if self.fails:
                raise StoreError("503")
            async for page in super().list(prefix, start_after):
                yield page

        async def head(self, key: str) -> ObjectHead | None:
            if self.fails and key == "free/0005":
                raise StoreError("500 for this one")
            return await super().head(key)

    store = NoList(world.clock)
    world.store = store
    await world.collect()
    async with world.open() as gc:
        store.fails = True
        report = await gc.restore(prefix="free/")
    assert report.errors == {"free/0005": "500 for this one"}
    assert len(report.restored) == len(MANY) - 1


async def test_a_damaged_backup_costs_only_its_block(world: World) -> None:
    await world.collect()
    (entry,) = [entry for entry in await world.entries("deleted") if entry.key == "free/0049"]
    pack, offset, length = entry.data["backup"]["location"].split(":")[:3]
    block = {
        entry.key
        for entry in await world.entries("deleted")
        if entry.data["backup"]["location"].split(":")[:3] == [pack, offset, length]
    }
    assert "free/0049" in block
    assert len(block) < len(MANY)
    path = world.folder / "vault" / "packs" / f"{pack}.pack"
    data = bytearray(path.read_bytes())
    data[int(offset) + 100] ^= 1
    path.write_bytes(data)
    async with world.open() as gc:
        report = await gc.restore(prefix="free/", dry_run=False)
    assert set(report.errors) == block
    assert free(world.store) == {key: body for key, body in MANY.items() if key not in block}


async def test_a_journal_that_fails_ends_the_restore(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringing, "NOTED_AT_ONCE", 10)
    await world.collect()
    async with world.open() as gc:
        journal = gc._parts.vault.journal
        append = journal.append

        async def full(drafts: Sequence[Any]) -> None:
            if any(draft.event == "restored" for draft in drafts):
                raise VaultError("the disk is full")
            await append(drafts)

        journal.append = full  # type: ignore[method-assign]
        with pytest.raises(VaultError, match="disk is full"):
            await gc.restore(prefix="free/", dry_run=False)
        assert sum(world.store.puts.values()) < len(MANY)
        journal.append = append  # type: ignore[method-assign]
        await gc.restore(prefix="free/", dry_run=False)
    assert free(world.store) == MANY
    assert len(await world.entries("restored")) == len(MANY)


async def test_a_cancelled_restore_notes_what_it_did(world: World) -> None:
    await world.collect()
    scope = anyio.CancelScope()

    def stop(_: str, early: bool) -> None:
        if not early and sum(world.store.puts.values()) > 300:
            scope.cancel()

    world.store.spoil = stop
    async with world.open() as gc:
        with scope:
            await gc.restore(prefix="free/", dry_run=False)
        assert scope.cancelled_caught
    noted = {entry.key for entry in await world.entries("restored")}
    there = free(world.store).keys()
    assert noted
    assert noted <= there
    assert len(there) - len(noted) <= 64  # writes that were under way


@pytest.mark.parametrize("most", [0, 10**9])
async def test_more_keys_than_fit_are_read_twice(
    world: World, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "KEPT_RECORDS", most)
    monkeypatch.setattr(bringing, "GROUP_OBJECTS", 10)
    monkeypatch.setattr(bringing, "GROUPS_OF_A_ROUND", 2)
    await world.collect()
    world.store.upload("free/0001", b"a second life")
    world.clock.advance(timedelta(days=30))
    async with world.open() as gc:
        last = await gc.collect()
        assert last.deleted == ["free/0001"]
        report = await gc.restore(prefix="", dry_run=False)
        assert len(report.restored) == len(MANY)
        assert free(world.store) == MANY | {"free/0001": b"a second life"}
        only = await gc.restore(operation_id=last.operation_id, dry_run=False)
        assert only.skipped == {"free/0001": bringing.ALREADY_THERE}
    assert len(await world.entries("restored")) == len(MANY)


async def test_a_group_is_bounded_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringing, "GROUP_BYTES", 1_000)
    content = {f"k/{n}": bytes([n]) * size for n, size in enumerate([400, 400, 400, 5_000, 1, 999, 1_000])}
    await world.collect(content)
    read: list[int] = []
    async with world.open() as gc:
        read_small = gc._parts.vault.read_small

        async def measured(records: Sequence[Any]) -> Mapping[str, bytes]:
            read.append(sum(record.size for record in records))
            return await read_small(records)

        gc._parts.vault.read_small = measured  # type: ignore[method-assign]
        await gc.restore(prefix="", dry_run=False)
    assert free(world.store) == content
    assert read
    assert max(read) <= 1_000


# ---------------------------------------------------------------------------------- elsewhere


async def test_into_another_bucket_below_a_prefix(world: World) -> None:
    await world.collect()
    async with world.archive() as archive:
        would = await archive.restore("other://b/saved/it", prefix="free/")
        assert (would.dry_run, len(would.restored), world.other.puts) == (True, len(MANY), Counter())
        report = await archive.restore("other://b/saved/it", prefix="free/", dry_run=False)
        again = await archive.restore("other://b/saved/it/", prefix="free/", dry_run=False)
    assert (report.restored, dict(report.skipped), dict(report.errors)) == (sorted(MANY), {}, {})
    assert set(again.skipped.values()) == {bringing.ALREADY_THERE}
    assert free(world.other, "saved/it/") == MANY
    assert free(world.store) == {}
    live = await world.other.head("saved/it/free/0007")
    assert live is not None
    assert (live.attributes.content_type, live.attributes.metadata) == ("text/x", {"k": "free/0007"})
    noted = await world.entries("restored_elsewhere")
    assert len(noted) == len(MANY)
    assert noted[0].data["into"] == "other://b/saved/it/"
    assert noted[0].data["as"] == f"saved/it/{noted[0].key}"
    assert await world.entries("restored") == []
    started = [entry.data for entry in await world.entries("operation_started") if "into" in entry.data]
    assert [data["into"] for data in started] == ["other://b/saved/it/"] * 2
    assert len(await world.entries("operation_completed")) == 3
    async with world.open() as gc:  # nothing is open, and the bucket's own restore knows nothing of it
        assert (await gc.explain("free/0007")).exists is False
        assert len((await gc.restore(prefix="free/", dry_run=False)).restored) == len(MANY)


async def test_a_live_object_elsewhere_stays_unless_told(world: World) -> None:
    await world.collect({"a": b"a", "b": b"b"})
    world.s3gc_open_store("other://b")
    world.other.upload("a", b"somebody's")
    async with world.archive() as archive:
        report = await archive.restore("other://b", prefix="", dry_run=False)
        assert report.restored == ["b"]
        assert "nobody backs it up there" in report.skipped["a"]
        assert free(world.other) == {"a": b"somebody's", "b": b"b"}
        report = await archive.restore("other://b", prefix="", dry_run=False, overwrite=True)
        assert (report.restored, report.skipped) == (["a"], {"b": bringing.ALREADY_THERE})
    assert free(world.other) == {"a": b"a", "b": b"b"}
    assert await world.entries("overwritten") == []


async def test_a_restore_elsewhere_that_was_cut_off_goes_on(world: World) -> None:
    await world.collect()
    world.s3gc_open_store("other://b")

    def die(_: str, early: bool) -> None:
        if early and sum(world.other.puts.values()) > 400:
            raise Crash

    world.other.spoil = die
    async with world.archive() as archive:
        with pytest.raises(Crash):
            await archive.restore("other://b", prefix="", dry_run=False)
        assert len(await failed(archive)) == 1
        there = free(world.other)
        assert 300 < len(there) < len(MANY)
        world.other.spoil = None
        written = Counter(world.other.puts)
        report = await archive.restore("other://b", prefix="", dry_run=False)
    assert dict(report.errors) == {}
    assert free(world.other) == MANY
    assert {key for key in there if world.other.puts[key] > written[key]} == set()
    assert len(await world.entries("restored_elsewhere")) == len(MANY)


async def failed(archive: Archive) -> list[JournalEntry]:
    return [entry async for entry in archive.vault.journal.read(events={"operation_failed"})]


async def test_into_a_folder_while_bucket_and_database_are_gone(tmp_path: Path) -> None:
    bucket, folder = tmp_path / "bucket", tmp_path / "saved ü"
    bucket.mkdir()
    for key, body in (("live", b"live"), ("a/b c.txt", b"one"), ("ü", b"two" * 100_000)):
        (bucket / key).parent.mkdir(exist_ok=True)
        (bucket / key).write_bytes(body)
    config = create_config(
        bucket=bucket.as_uri(),
        vault_path=tmp_path / "vault",
        mode="execute",
        retention_days=0,
        safety=Safety.demo(),
    )
    plugins = create_plugin_manager(entry_points=False)
    async with Collector.open(config, sources=[FakeSource(rows={"1": ["live"]})], plugins=plugins) as gc:
        assert len((await gc.collect()).deleted) == 2
    bucket.rename(tmp_path / "gone")
    async with Archive.open(config, plugins=plugins) as archive:
        with pytest.raises(NoSuchBucket, match="create it first"):
            await archive.restore(folder.as_uri(), prefix="", dry_run=False)
        folder.mkdir()
        for taken in (
            config.bucket,
            f"{config.bucket}/inner",
            tmp_path.as_uri(),
            (tmp_path / "vault/x").as_uri(),
        ):
            with pytest.raises(ConfigError, match="restore into another place"):
                await archive.restore(taken, prefix="")
        assert sorted((await archive.restore(folder.as_uri(), prefix="")).restored) == ["a/b c.txt", "ü"]
        assert list(folder.iterdir()) == []
        report = await archive.restore(folder.as_uri(), prefix="", dry_run=False)
        assert dict(report.errors) == {}
        again = await archive.restore(folder.as_uri(), prefix="", dry_run=False)
    assert (folder / "a/b c.txt").read_bytes() == b"one"
    assert (folder / "ü").read_bytes() == b"two" * 100_000
    assert set(again.skipped.values()) == {bringing.ALREADY_THERE}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("elsewhere", "write s3://BUCKET/PREFIX"),
        ("s3://b/x#y", "write s3://BUCKET/PREFIX"),
        ("s3:///x", "names no bucket"),
        ("s3://b/x?colour=red", "unknown setting colour"),
        ("other://b/.s3gc/x", "keeps for itself"),
        ("nothing://b/x", "no plugin opens"),
        ("fake://fake", "restore into another place"),
        ("fake://fake/below", "restore into another place"),
    ],
)
async def test_places_that_are_none(world: World, url: str, said: str) -> None:
    await world.collect({"a": b"a"})
    async with world.archive() as archive:
        with pytest.raises(ConfigError, match=said):
            await archive.restore(url, prefix="")
        with pytest.raises(ValueError, match="say what to restore"):
            await archive.restore("other://b")


async def test_a_restore_elsewhere_waits_for_no_collector(world: World) -> None:
    await world.collect({"a": b"a"})
    async with world.archive() as archive, hold(world.folder / "vault" / "collector.lock"):
        assert (await archive.restore("other://b", prefix="")).restored == ["a"]
        with pytest.raises(LeaseHeld):
            await archive.restore("other://b", prefix="", dry_run=False)


def test_the_settings_of_another_bucket() -> None:
    from s3gc.elsewhere import _config_for, _split

    config = create_config(
        bucket="bucket",
        region="eu-west-1",
        endpoint_url="https://one.example",
        s3={"acl": "keep", "expected_bucket_owner": "1" * 12, "request_payer": "requester", "profile": "p"},
    )
    store_url, prefix, settings = _split("s3://other/a%20b/c?region=us-west-2&profile=q")
    assert (store_url, prefix) == ("s3://other", "a b/c/")
    made = _config_for(config, store_url, settings)
    assert (made.store_url, made.region, made.endpoint_url) == (
        "s3://other",
        "us-west-2",
        "https://one.example",
    )
    assert dict(made.s3) == {"acl": "keep", "profile": "q"}
    moved = _config_for(config, *_split("s3://other?endpoint=https://two.example")[::2])
    assert (moved.endpoint_url, moved.region) == ("https://two.example", "us-east-1")
    assert _config_for(config, "file:///x", {}).endpoint_url is None
