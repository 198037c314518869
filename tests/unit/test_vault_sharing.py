"""Equal content is stored once, and nobody who needs it loses it."""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from coder_doubles import SeedCoder, picture
from s3gc.abc import WholeObject
from s3gc.compressors import ZstdCompressor
from s3gc.errors import BackupGone, VaultCorrupt, VaultError
from s3gc.model import BackupRecord, JournalDraft, ObjectInfo, RemovalReport, SameAs
from s3gc.testing.fakes import FakeClock
from s3gc.testing.simulator._vault import Disk, watched
from s3gc.testing.vault_contract import ATTRIBUTES, add, entries, object_info, pieces, read
from s3gc.vault import LocalVault, _sharing, record_from_json, record_to_json
from s3gc.vault._contents import CONTENTS_NAME, Contents
from s3gc.vault._encode import Arrived, Placed, SmallPacks
from s3gc.vault._layout import FrameBuilder, header_text
from s3gc.vault._sharing import Sharing
from s3gc.vault.browse import Wanted, latest
from s3gc.vault.extract import extract
from s3gc.vault.packs import parse_location, read_frames, read_payload
from s3gc.vault.prune import forget, prune
from unit.test_vault_prune import Dead, dying

pytestmark = pytest.mark.anyio

URL = "memory://fake"
ONE, TWO = "01K00000000000000000000000", "01K00000000000000000000001"
NOW = "01K0000000000000000000000Z"
BIG = os.urandom(9_000)
OTHER = os.urandom(9_000)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Shop:
    """A vault and what was put into it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.coder = folder, FakeClock(), SeedCoder()
        self.vault = self.unopened()
        self.content: dict[str, bytes] = {}
        self.records: dict[str, BackupRecord] = {}

    def unopened(self) -> LocalVault:
        return LocalVault(self.folder, compressors=[ZstdCompressor()], clock=self.clock, coder=self.coder)

    async def reopen(self) -> LocalVault:
        await self.vault.aclose()
        self.vault = self.unopened()
        await self.vault.open(URL)
        return self.vault

    async def put(self, objects: dict[str, bytes], operation: str = ONE, *, note: bool = True) -> None:
        async with self.vault.session(operation) as session:
            for key, data in objects.items():
                await add(session, key, data)
            made = await session.commit()
        self.content |= objects
        self.records |= {record.key: record for record in made}
        if note:
            await self.note(made, operation)

    async def note(self, made: Sequence[BackupRecord], operation: str = ONE) -> None:
        drafts = [
            JournalDraft(event, operation, r.key, {"backup": record_to_json(r)})
            for event in ("backed_up", "deleted")
            for r in made
        ]
        await self.vault.journal.append(drafts)

    def shares(self, key: str) -> str | None:
        same_as = self.records[key].same_as
        return same_as.key if same_as else None

    def stored(self, data: bytes) -> int:
        """How often it stands in the packs."""
        return sum(path.read_bytes().count(data) for path in self.packs())

    def packs(self) -> list[Path]:
        return sorted((self.folder / "packs").glob("*.pack"))

    async def whole(self, *gone: str) -> None:
        for key, data in self.content.items():
            if key in gone:
                with pytest.raises(BackupGone):
                    await read(self.vault, self.records[key])
            else:
                assert await read(self.vault, self.records[key]) == data
        check = await self.vault.verify()
        assert (check.problems, check.backups) == ((), len(self.content) - len(gone))

    async def forget(self, key: str, *, dry_run: bool = False) -> RemovalReport:
        await self.reopen()
        return await forget(self.vault, NOW, key, reason="law", dry_run=dry_run)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(tmp_path / "vault")
    await made.vault.open(URL)
    yield made
    await made.vault.aclose()


async def test_equal_content_is_stored_once(shop: Shop) -> None:
    await shop.put({"a": BIG, "b": BIG, "c": OTHER})  # in one batch
    await shop.put({"d": BIG})  # known by the journal
    await shop.reopen()
    await shop.put({"e": BIG}, TWO)
    assert [shop.shares(key) for key in "abcde"] == [None, "a", None, "a", "a"]
    assert (shop.stored(BIG), shop.stored(OTHER)) == (1, 1)
    assert shop.records["e"].codec == "same"
    assert shop.records["e"].stored_size < 1_000
    assert shop.records["e"].sha256 == shop.records["a"].sha256
    await shop.whole()
    stats = await shop.vault.stats()
    assert (stats.backups, stats.original_bytes) == (5, 45_000)


async def test_content_of_this_very_session_is_known(shop: Shop) -> None:
    async with shop.vault.session(ONE) as session:
        made = []
        for key in "ab":
            await add(session, key, BIG)
            made += await session.commit()  # nobody has told the journal
    assert [record.same_as and record.same_as.key for record in made] == [None, "a"]
    assert shop.stored(BIG) == 1


async def test_objects_taken_together_share_too(shop: Shop) -> None:
    await shop.put({"a": BIG})
    objects = {"b": BIG, "c": OTHER, "d": OTHER, "small": b"x"}
    whole = [
        WholeObject(object_info(k, len(d)), object_info(k, len(d)), ATTRIBUTES, d) for k, d in objects.items()
    ]
    async with shop.vault.session(ONE) as session:
        await session.add_all(whole)
        made = {record.key: record for record in await session.commit()}
    shop.records |= made
    assert [shop.shares(key) for key in "bcd"] == ["a", None, "c"]
    for key, data in objects.items():
        assert await read(shop.vault, made[key]) == data


async def test_each_keeps_its_own_attributes_and_version(shop: Shop) -> None:
    await shop.put({"a": BIG})
    info = ObjectInfo("b", len(BIG), "etag-b", shop.clock.now(), version_id="v2")
    async with shop.vault.session(TWO) as session:
        await session.add(info, evolve(ATTRIBUTES, content_type="x/y"), pieces(BIG))
        (record,) = await session.commit()
    assert (record.etag, record.version_id, record.attributes.content_type) == ("etag-b", "v2", "x/y")
    (frame,) = [f for path in shop.packs() for f in read_frames(path) if f.record.key == "b"]
    assert frame.record == record
    assert frame.operation_id == TWO
    with pytest.raises(VaultError, match="another frame"):
        list(read_payload(shop.packs()[-1], frame, {}))


async def test_small_content_is_not_worth_it(shop: Shop) -> None:
    await shop.put({"a": BIG[:8191], "b": BIG[:8191], "c": BIG[:8192], "d": BIG[:8192], "e": b"", "f": b""})
    assert [shop.shares(key) for key in "abcdef"] == [None, None, None, "c", None, None]


async def test_shared_content_is_not_encoded_again(shop: Shop) -> None:
    await shop.put({"a": picture("x", 9_000)})
    asked = shop.coder.asked.count("encode")
    await shop.put({"b": picture("x", 9_000)})
    assert (shop.shares("b"), shop.coder.asked.count("encode")) == ("a", asked)
    await shop.whole()


async def test_without_sharing_all_have_bytes_of_their_own(tmp_path: Path) -> None:
    vault = LocalVault(tmp_path, compressors=[ZstdCompressor()], clock=FakeClock(), share=False)
    await vault.open(URL)
    async with vault.session(ONE) as session:
        for key in "ab":
            await add(session, key, BIG)
        assert {record.same_as for record in await session.commit()} == {None}
    assert not (tmp_path / CONTENTS_NAME).exists()
    await vault.aclose()


# --------------------------------------------------------------------------- what is never believed


def flip(shop: Shop, key: str, back: int = 120) -> None:
    pack, offset, length = parse_location(shop.records[key].location)
    path = shop.folder / "packs" / f"{pack}.pack"
    data = bytearray(path.read_bytes())
    data[offset + length - back] ^= 1
    path.write_bytes(data)


async def test_damaged_bytes_are_not_shared(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    await shop.put({"a": BIG})
    flip(shop, "a")
    await shop.put({"b": BIG})
    assert shop.shares("b") is None
    assert await read(shop.vault, shop.records["b"]) == BIG
    assert "shared_content_unreadable" in caplog.text


async def test_a_pack_that_is_gone_is_not_shared(shop: Shop) -> None:
    await shop.put({"a": BIG})
    await shop.reopen()
    shop.packs()[0].unlink()
    await shop.put({"b": BIG})
    assert shop.shares("b") is None


async def test_bytes_are_compared_not_only_hashes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if SHA-256 had a collision: the index, the records and the hash of the batch all agree."""

    class Weak:
        def __init__(self, data: bytes) -> None:
            self.size = len(data)

        def digest(self) -> bytes:
            return bytes.fromhex(shop.records["a"].sha256)

    await shop.put({"a": BIG})
    arrived = [
        _sharing.Arrived(object_info(k, 9_000), ATTRIBUTES, None, d) for k, d in (("b", OTHER), ("c", BIG))
    ]  # type: ignore[arg-type]
    monkeypatch.setattr(_sharing, "hashlib", type("h", (), {"sha256": Weak}))
    sharing = _sharing.Sharing(
        lambda: Contents(shop.folder, shop.vault.journal.path, shop.vault.id),
        shop.vault.journal.records_at,
        shop.vault.locate,
        lambda record: pieces(BIG),
    )
    await sharing.share(arrived)
    sharing.close()
    assert [one.same_as and one.same_as.key for one in arrived] == [None, "a"]


@pytest.mark.parametrize("harm", ["rubbish", "gone", "other vault", "lies", "ahead", "locked"])
async def test_the_index_is_only_an_index(shop: Shop, harm: str) -> None:
    await shop.put({"x": b"first"})
    await shop.put({"a": BIG, "c": OTHER})
    await shop.reopen()
    await shop.put({"warm": OTHER})
    path = shop.folder / CONTENTS_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    if harm == "rubbish":
        path.write_bytes(os.urandom(20_000))
    elif harm == "gone":
        path.unlink()
    else:
        with sqlite3.connect(path) as database:
            if harm == "other vault":
                database.execute("UPDATE state SET vault_id = 'another'")
                database.execute("DELETE FROM contents")
            elif harm == "lies":
                database.execute(
                    "UPDATE contents SET seq = CASE seq % 3 WHEN 0 THEN 1 WHEN 1 THEN 99 ELSE 3 END"
                )
            elif harm == "ahead":
                database.execute("UPDATE state SET seq = 999, entry = 'of another journal'")
                database.execute("DELETE FROM contents")
        database.close()
    if harm == "locked":
        locker = sqlite3.connect(path, isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
    await shop.put({"b": BIG})
    if harm == "locked":
        locker.close()
    if harm not in ("lies", "locked"):
        assert shop.shares("b") == "a"
    await shop.whole()


async def test_an_index_that_cannot_be_made_stops_no_backup(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    (shop.folder / CONTENTS_NAME).mkdir()
    await shop.put({"a": BIG})
    await shop.put({"b": BIG})
    assert shop.shares("b") is None
    assert "contents_unusable" in caplog.text
    await shop.whole()


async def test_damage_to_shared_bytes_is_found_for_each(shop: Shop) -> None:
    await shop.put({"a": BIG, "b": BIG, "c": BIG, "d": OTHER})
    flip(shop, "a")
    for key in "abc":
        with pytest.raises(VaultCorrupt):
            await read(shop.vault, shop.records[key])
    assert len((await shop.vault.verify()).problems) == 3
    assert await read(shop.vault, shop.records["d"]) == OTHER


async def test_damage_to_the_frame_that_shares_is_found(shop: Shop) -> None:
    await shop.put({"a": BIG, "b": BIG})
    path = shop.packs()[0]
    whole = path.read_bytes()
    _, offset, length = parse_location(shop.records["b"].location)
    for at in range(length):
        data = bytearray(whole)
        data[offset + at] ^= 1 << at % 8
        path.write_bytes(data)
        with pytest.raises(VaultError):
            await read(shop.vault, shop.records["b"])
    assert len((await shop.vault.verify()).problems) == 1
    path.write_bytes(whole)
    await shop.whole()


@pytest.mark.parametrize("wrong", ["key", "place", "size", "chain", "bucket"])
async def test_bytes_of_another_object_are_refused(shop: Shop, wrong: str) -> None:
    await shop.put({"a": BIG, "c": OTHER, "d": BIG})
    whose = SameAs("a", shop.records["a"].location)
    size = len(BIG)
    if wrong == "key":
        whose = evolve(whose, key="c")
    elif wrong == "place":
        whose = evolve(whose, location=shop.records["c"].location)
    elif wrong == "size":
        size -= 1
    elif wrong == "chain":
        whose = SameAs("d", shop.records["d"].location)
    bucket = "s3://other" if wrong == "bucket" else URL
    header = header_text(object_info("b", size), ATTRIBUTES, bucket, ONE).with_codec("same", same_as=whose)
    frame = FrameBuilder(0, header, 2)
    sha256 = bytes.fromhex(shop.records["a"].sha256)
    name = "01K0000000000000000000000A"
    (shop.folder / "packs" / f"{name}.pack").write_bytes(frame.start + frame.end(size, sha256))
    record = evolve(
        shop.records["a"],
        key="b",
        size=size,
        codec="same",
        same_as=whose,
        stored_size=frame.length,
        location=f"{name}:0:{frame.length}",
        last_modified=object_info("b", size).last_modified,
        etag=object_info("b", size).etag,
    )
    with pytest.raises(VaultCorrupt):
        await read(shop.vault, record)


@pytest.mark.parametrize(("codec", "shares"), [("same", False), ("store", True)])
async def test_a_header_that_contradicts_itself_is_refused(shop: Shop, codec: str, shares: bool) -> None:
    same_as = SameAs("a", f"{ONE}:0:9") if shares else None
    requires = None if shares else {}
    header = header_text(object_info("b", 3), ATTRIBUTES, URL, ONE).with_codec(codec, requires, same_as)
    frame = FrameBuilder(0, header, 2)
    path = shop.folder / "packs" / f"{ONE}.pack"
    path.write_bytes(frame.start + frame.end(3, bytes(32)))
    with pytest.raises(VaultCorrupt, match="contradicts itself"):
        list(read_frames(path))


async def test_a_frame_that_shares_and_has_bytes_is_refused(shop: Shop) -> None:
    await shop.put({"a": BIG})
    whose = SameAs("a", shop.records["a"].location)
    header = header_text(object_info("b", 9_000), ATTRIBUTES, URL, ONE).with_codec("same", same_as=whose)
    frame = FrameBuilder(0, header, 2)
    chunks = b"".join(frame.chunks(b"something"))
    path = shop.folder / "packs" / f"{ONE}.pack"
    path.write_bytes(frame.start + chunks + frame.end(9_000, bytes.fromhex(shop.records["a"].sha256)))
    (found,) = read_frames(path)
    with pytest.raises(VaultCorrupt, match="some of its own"):
        await read(shop.vault, found.record)


# --------------------------------------------------------------------------- what goes, and what stays


async def test_forgetting_one_erases_it_and_leaves_the_bytes_to_the_others(shop: Shop) -> None:
    await shop.put({"a": BIG, "b": BIG, "c": OTHER})
    await shop.put({"d": BIG}, TWO)
    planned = await shop.forget("a", dry_run=True)
    assert (planned.removed, planned.shared) == (1, 1)
    report = await shop.forget("a")
    assert (report.removed, report.shared, report.problems) == (1, 1, ())
    assert (shop.stored(BIG), shop.stored(b'"key":"a"')) == (1, 0)
    await shop.whole("a")
    await shop.reopen()
    await shop.whole("a")
    assert (await shop.forget("b")).shared == 1
    assert shop.stored(BIG) == 1
    await shop.whole("a", "b")
    assert (await shop.forget("d")).shared == 0
    assert shop.stored(BIG) == 0
    await shop.whole("a", "b", "d")


async def test_forgetting_one_that_shares_leaves_the_bytes(shop: Shop) -> None:
    await shop.put({"a": BIG, "b": BIG})
    report = await shop.forget("b")
    assert (report.removed, report.shared) == (1, 0)
    assert (shop.stored(BIG), shop.stored(b'"key":"b"')) == (1, 0)
    await shop.whole("b")


async def test_a_frame_left_behind_by_one_that_got_bytes_is_forgotten_too(shop: Shop) -> None:
    """``b`` inherits the bytes of ``a``; its first frame is in another pack, and must not outlive it."""
    await shop.put({"a": BIG})
    await shop.reopen()
    await shop.put({"b": BIG, "other": OTHER}, TWO)
    await shop.forget("a")
    assert shop.stored(b'"key":"b"') == 2
    await shop.whole("a")
    report = await shop.forget("b")
    assert report.problems == ()
    assert (shop.stored(b'"key":"b"'), shop.stored(BIG)) == (0, 0)
    await shop.whole("a", "b")


async def test_versions_of_one_key_that_share_are_forgotten_together(shop: Shop) -> None:
    await shop.put({"k": BIG, "x": OTHER})
    first = shop.records["k"]
    await shop.reopen()
    await shop.put({"k": BIG, "y": OTHER}, TWO)
    await shop.reopen()
    await shop.put({"k": BIG}, TWO)
    assert shop.shares("k") == "k"
    report = await shop.forget("k")
    assert report.problems == ()
    assert (shop.stored(BIG), shop.stored(b'"key":"k"')) == (0, 0)
    with pytest.raises(BackupGone):
        await read(shop.vault, first)
    await shop.whole("k")


async def test_pruning_leaves_bytes_that_a_younger_backup_needs(shop: Shop) -> None:
    await shop.put({"old": BIG, "older": OTHER})
    shop.clock.advance(timedelta(days=40))
    await shop.reopen()
    await shop.put({"young": BIG}, TWO)
    await shop.reopen()
    before = shop.clock.now() - timedelta(days=30)
    planned = await prune(shop.vault, NOW, before=lambda _: before, reason="x", dry_run=True)
    report = await prune(shop.vault, NOW, before=lambda _: before, reason="x", dry_run=False)
    assert (report.removed, report.shared, report.freed) == (2, 1, planned.freed)
    assert 9_000 < report.freed < 10_000  # of OTHER only
    assert (shop.stored(BIG), shop.stored(OTHER)) == (1, 0)
    await shop.whole("old", "older")
    found = [stored.record async for stored in latest(shop.vault, Wanted())]
    assert [(r.key, r.same_as, r.codec) for r in found] == [("young", None, "store")]
    await shop.put({"again": BIG}, TWO)
    assert shop.shares("again") == "young"
    await shop.whole("old", "older")


async def test_bytes_whose_own_backup_was_never_confirmed_stay(shop: Shop) -> None:
    """A back-up that was cut off left bytes; a later one shares them; the pack is written anew."""
    async with shop.vault.session(ONE) as session:
        await add(session, "lost", BIG)
        await session.commit()
        await add(session, "b", BIG)
        await add(session, "c", BIG)
        (b, c) = await session.commit()
    await shop.note([b, c])
    shop.content |= {"b": BIG, "c": BIG}
    shop.records |= {"b": b, "c": c}
    await shop.put({"secret": OTHER})
    assert shop.shares("b") == "lost"
    await shop.forget("secret")
    assert (shop.stored(BIG), shop.stored(OTHER), shop.stored(b'"key":"lost"')) == (1, 0, 0)
    await shop.whole("secret")


async def test_what_shares_can_be_restored_from_packs_alone(shop: Shop, tmp_path: Path) -> None:
    await shop.put({"a": BIG, "c": OTHER})
    await shop.reopen()
    await shop.put({"b": BIG, "d": OTHER}, TWO)
    await shop.forget("a")  # so the frames of b name a place that is no more
    await shop.vault.aclose()
    for path in shop.folder.iterdir():
        if path.is_file():
            path.unlink()
    shop.vault = shop.unopened()
    report = await shop.vault.rebuild(URL, NOW)
    assert report.damaged == ()
    await shop.vault.open(URL)
    found = await entries(shop.vault, events={"backup_found"})
    records = [record_from_json(entry.data["backup"]) for entry in found]
    assert {record.key for record in records} == {"b", "c", "d"}
    assert {e.operation_id for e in found if e.key in ("b", "d")} == {TWO}
    for record in records:
        assert await read(shop.vault, record) == shop.content[record.key]
    assert (await shop.vault.verify()).ok
    done = await extract(shop.vault, latest(shop.vault, Wanted()), tmp_path / "out")
    assert (done.objects, done.errors) == (3, {})


async def test_a_rebuild_names_what_shares_bytes_that_are_lost(shop: Shop) -> None:
    await shop.put({"a": BIG})
    await shop.reopen()
    await shop.put({"b": BIG, "d": OTHER}, TWO)
    await shop.vault.aclose()
    for path in shop.folder.iterdir():
        if path.is_file():
            path.unlink()
    shop.packs()[0].unlink()
    shop.vault = shop.unopened()
    report = await shop.vault.rebuild(URL, NOW)
    assert (report.backups, len(report.damaged)) == (1, 1)
    assert "'b'" in report.damaged[0]
    await shop.vault.open(URL)
    (told,) = await entries(shop.vault, events={"damage_found"})
    assert (told.data["offset"], told.data["torn"]) == (0, False)
    assert (await shop.vault.verify()).ok


async def test_another_process_finds_bytes_that_were_moved(shop: Shop) -> None:
    await shop.put({"a": BIG, "b": BIG, "c": BIG})
    reader = shop.unopened()
    await reader.open(URL)
    await shop.forget("a")
    assert await read(reader, shop.records["b"]) == BIG
    await shop.forget("b")
    assert await read(reader, shop.records["c"]) == BIG
    with pytest.raises(BackupGone):
        await read(reader, shop.records["b"])
    await reader.aclose()


async def test_a_retired_pack_that_nobody_tells_of_is_corruption_not_a_loop(shop: Shop) -> None:
    await shop.put({"a": BIG, "b": BIG})
    pack = parse_location(shop.records["a"].location)[0]
    await shop.vault.journal.append([JournalDraft("pack_retired", NOW, None, {"pack": pack})])
    await shop.reopen()  # unlinks it
    for key in "ab":
        with pytest.raises(VaultCorrupt):
            await read(shop.vault, shop.records[key])
    assert not (await shop.vault.verify()).ok


# --------------------------------------------------------------------------- crashes


def power_cut_at(folder: Path, step: int, backend: str) -> bool:
    """Forget on a disk that loses what wasn't synced, cut off at a step. Whether there was such a step."""

    async def everything() -> bool:
        shop, disk = Shop(folder), Disk()
        with watched(disk):
            await shop.vault.open(URL)
            await shop.put({"a": BIG, "b": BIG})
            await shop.reopen()
            await shop.put({"c": BIG, "d": OTHER}, TWO)
            await shop.reopen()
        died = False
        with dying(step, disk):
            try:
                await forget(shop.vault, NOW, "a", reason="law", dry_run=False)
            except Dead:
                died = True
        disk.lose_power(folder)
        shop.vault.journal._close()
        if shop.vault._current is not None:
            shop.vault._current.close()
        shop.vault = shop.unopened()
        await shop.vault.open(URL, create=False)
        gone = await entries(shop.vault, key="a", events={"backup_removed"})
        await shop.whole(*["a" for _ in gone])
        if not gone:
            assert (await shop.forget("a")).problems == ()
        await shop.whole("a")
        await shop.vault.aclose()
        return died

    return anyio.run(everything, backend=backend)


def test_a_power_cut_at_any_step_loses_nothing_that_is_shared(tmp_path: Path) -> None:
    steps = 0
    while power_cut_at(tmp_path / str(steps), steps, "asyncio" if steps % 2 else "trio"):
        steps += 1
    assert steps > 5


async def test_one_pack_says_so_when_shared_bytes_cannot_be_read(shop: Shop) -> None:
    await shop.put({"a": BIG})
    await shop.reopen()
    await shop.put({"b": BIG}, TWO)
    flip(shop, "a")
    report = await shop.forget("a")
    assert "can't be read" in report.problems[0]
    assert (report.removed, len(shop.packs())) == (0, 2)


async def test_many_batches_at_once_ask_the_index(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    bodies = [os.urandom(8_192) for _ in range(40)]
    await shop.put({f"k{n}": data for n, data in enumerate(bodies)})
    await shop.reopen()
    async with shop.vault.session(TWO) as session:

        async def batch(number: int) -> None:
            some = [(f"{number}-{n}", data) for n, data in enumerate(bodies)]
            await session.add_all(
                [
                    WholeObject(object_info(k, 8_192), object_info(k, 8_192), ATTRIBUTES, data)
                    for k, data in some
                ]
            )

        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(batch, number)
        made = await session.commit()
    assert len(made) == 480
    assert all(record.same_as is not None for record in made)
    assert "contents_unusable" not in caplog.text


async def test_batches_on_their_way_together_share(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first isn't written before the second has asked whether its content is there."""
    asked, both = itertools.count(1), threading.Event()
    look, write = Sharing._look, SmallPacks.write

    def looks(self: Sharing, batch: Sequence[Arrived]) -> dict[bytes, list[int]]:
        found = look(self, batch)
        if next(asked) == 2:
            both.set()
        return found

    def writes(self: SmallPacks, batch: Sequence[Arrived]) -> list[Placed]:
        assert both.wait(30)
        return write(self, batch)

    monkeypatch.setattr(Sharing, "_look", looks)
    monkeypatch.setattr(SmallPacks, "write", writes)
    async with shop.vault.session(ONE) as session:
        async with anyio.create_task_group() as tasks:
            for key in "ab":
                info = object_info(key, len(BIG))
                tasks.start_soon(session.add_all, [WholeObject(info, info, ATTRIBUTES, BIG)])
        made = await session.commit()
    assert sorted(record.same_as is None for record in made) == [False, True]
    assert shop.stored(BIG) == 1
    shop.records |= {record.key: record for record in made}
    for key in "ab":
        assert await read(shop.vault, shop.records[key]) == BIG


async def test_many_batches_with_the_same_content_wait_in_no_circle(shop: Shop) -> None:
    bodies = [os.urandom(8_192) for _ in range(30)]
    async with shop.vault.session(ONE) as session:

        async def batch(number: int) -> None:
            some = [(f"{number}-{n}", data) for n, data in enumerate(bodies)]
            random.Random(number).shuffle(some)
            infos = {key: object_info(key, 8_192) for key, _ in some}
            await session.add_all([WholeObject(infos[k], infos[k], ATTRIBUTES, data) for k, data in some])

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(12):
                    tasks.start_soon(batch, number)
            made = await session.commit()
    assert len(made) == 360
    assert [shop.stored(data) for data in bodies] == [1] * 30


async def test_who_waits_for_a_batch_that_fails_writes_it(shop: Shop) -> None:
    async def nothing(_: object) -> list[BackupRecord]:
        return []

    def contents() -> Contents:
        return Contents(shop.folder, shop.vault.journal.path, shop.vault.id)

    sharing = Sharing(contents, nothing, shop.vault.locate, shop.vault.read)
    info = object_info("k", len(BIG))
    header = header_text(info, ATTRIBUTES, URL, ONE)
    one, two = Arrived(info, ATTRIBUTES, header, BIG), Arrived(info, ATTRIBUTES, header, BIG)
    told: list[str] = []

    async def first(tasks: anyio.abc.TaskGroup) -> None:
        async with sharing.placing([one]):
            tasks.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            told.append("first")
            raise VaultError("full")

    async def second() -> None:
        async with sharing.placing([two]):
            told.append("second")

    async with anyio.create_task_group() as tasks:
        with pytest.raises(VaultError, match="full"):
            await first(tasks)
    assert told == ["first", "second"]
    assert two.same_as is None
    sharing.close()


async def test_large_objects_that_end_together_share(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have asked the index, whose only backup is damaged, before one of them is remembered."""
    large = os.urandom(1 << 20) * 9
    await shop.put({"a": large})
    flip(shop, "a")
    together, ask = threading.Barrier(2), Sharing._ask

    def asks(self: Sharing, wanted: Collection[bytes]) -> dict[bytes, list[int]]:
        together.wait(60)
        return ask(self, wanted)

    async with shop.vault.session(TWO) as session:
        monkeypatch.setattr(Sharing, "_ask", asks)
        async with anyio.create_task_group() as tasks:
            for key in "bc":
                tasks.start_soon(add, session, key, large)
        monkeypatch.undo()
        made = await session.commit()
    assert sorted(record.same_as is None for record in made) == [False, True]
    for record in made:
        assert await read(shop.vault, record) == large


async def test_large_content_is_stored_once_too(shop: Shop) -> None:
    large = os.urandom(1 << 20) * 9
    await shop.put({"a": large})
    assert len(shop.packs()) == 1
    async with shop.vault.session(TWO) as session:
        await add(session, "b", large)
        (b,) = await session.commit()
    await shop.note([b], TWO)
    await shop.reopen()
    await shop.put({"c": large, "d": large[:-1] + b"."}, TWO)
    shop.content["b"], shop.records["b"] = large, b
    assert [shop.shares(key) for key in "abcd"] == [None, "a", "a", None]
    await shop.whole()
    flip(shop, "a")
    await shop.put({"e": large}, TWO)
    assert shop.shares("e") is None
    assert await read(shop.vault, shop.records["e"]) == large
