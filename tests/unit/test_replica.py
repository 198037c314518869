"""Replicas: what goes out and in which order, what is refused, what counts as a copy, what comes back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard
from attrs import evolve

from fixtures_replica import (
    CRASHED_AFTER,
    Crash,
    FakeRemote,
    damaged_pack,
    fetched,
    journal_of,
    local_vault,
    replicator_of,
)
from s3gc.clock import SystemClock
from s3gc.errors import ConfigError, StoreError, VaultCorrupt, VaultError
from s3gc.model import BackupRecord, JournalDraft
from s3gc.testing.vault_contract import OPERATION, STORE_URL, add, backed_up, read, store
from s3gc.vault import LocalVault, _encode
from s3gc.vault._chain import link
from s3gc.vault.packs import location_of, parse_location
from s3gc.vault.prune import forget
from s3gc.vault.records import canonical, record_to_json, time_to_text
from s3gc.vault.replica import FolderRemote, fetch, open_remote, open_replicator
from s3gc.vault.replica import _remote as remotes
from s3gc.vault.replica import _segments as segments
from s3gc.vault.replica import replicator as replicator_module
from s3gc.vault.replica._names import cut, missing, parse_piece, parse_segment, reach
from s3gc.vault.replica._segments import line_of, pack_lines, places_in, rows_in, unpack_lines

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[LocalVault]:
    made = local_vault(tmp_path / "vault")
    await made.open(STORE_URL)
    yield made
    await made.aclose()


def noise(size: int) -> bytes:
    return os.urandom(size)


# ---------------------------------------------------------------------------------- names


def test_stretches() -> None:
    assert missing([], (0, 5)) == [(0, 5)]
    assert missing([(0, 2), (4, 5)], (0, 7)) == [(2, 4), (5, 7)]
    assert missing([(0, 9), (3, 4)], (1, 8)) == []
    assert missing([(6, 9)], (0, 5)) == [(0, 5)]
    assert reach([(2, 4), (0, 2), (5, 9)]) == 4
    assert reach([(1, 4)]) == 0
    assert list(cut([(0, 5), (7, 6), (9, 10)], 2)) == [(0, 2), (2, 4), (4, 5), (9, 10)]


@pytest.mark.parametrize(
    "name",
    [
        "packs/01K00000000000000000000000/000000000000-000000000000.part",
        "packs/01K00000000000000000000000/0000000000000-000000000001.part",
        "packs/01K00000000000000000000000/00-01.part",
        "packs/../000000000000-000000000001.part",
        "packs/01K00000000000000000000000/000000000000-000000000001.part\n",
        "journal/000000000000-000000000001.jsonl.zst",
        "journal/000000000002-000000000001.jsonl.zst",
        "journal/1-2.jsonl.zst",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert parse_piece(name) is None
    assert parse_segment(name) is None


def test_a_place_is_what_stands_in_a_record_not_what_an_object_carried() -> None:
    place = location_of("01K00000000000000000000000", 5, 7)
    record = {"location": place, "stored_size": 7}
    assert list(places_in({"backup": record})) == [("01K00000000000000000000000", 12)]
    assert list(places_in({"moved": [record, record]})) == [("01K00000000000000000000000", 12)] * 2
    assert not list(places_in({"backup": {"attributes": {"metadata": record}}}))
    assert not list(places_in({"location": "elsewhere", "stored_size": 7}))


# ---------------------------------------------------------------------------------- going out and coming back


async def test_a_vault_comes_back_from_its_replica_alone(vault: LocalVault, tmp_path: Path) -> None:
    records = await store(vault, {f"k/{n}": noise(300 * n) for n in range(9)})
    await vault.journal.append([JournalDraft("deleted", OPERATION, "k/ü\n\x00", {"n": 1.5, "x": [None]})])
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    (status,) = await replicator.sync()
    await replicator.aclose()
    assert (status.error, status.entries_behind, status.bytes_behind, status.lag) == (None, 0, 0, None)
    assert replicator.replicated_up_to() == status.seq == 10
    assert {replicator.copies(record) for record in records.values()} == {2}

    back = await fetched(remote, tmp_path / "back")
    assert back.problems == []
    assert back.entries == await journal_of(vault)
    assert (back.folder / "vault.json").read_bytes() == (vault.folder / "vault.json").read_bytes()
    (pack,) = (vault.folder / "packs").iterdir()
    assert (back.folder / "packs" / pack.name).read_bytes() == pack.read_bytes()
    assert {path.name for path in back.folder.iterdir()} >= {"vault.json", "journal.sqlite3", "packs"}
    assert not (back.folder / ".fetching").exists()
    assert os.stat(back.folder).st_mode & 0o777 == 0o700
    assert os.stat(back.folder / "packs" / pack.name).st_mode & 0o777 == 0o600


async def test_a_pack_that_grows_goes_out_in_pieces_and_nothing_twice(vault: LocalVault) -> None:
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote, piece_bytes=10_000)
    for n in range(3):
        await store(vault, {f"k{n}": noise(500)})
        await replicator.sync()
    await replicator.aclose()
    pieces = sorted(span for _, span in filter(None, map(parse_piece, remote.objects)))
    assert len(pieces) == 3
    assert [end for _, end in pieces[:-1]] == [begin for begin, _ in pieces[1:]]
    assert len(remote.sent()) == len(set(remote.sent())) == 6
    again = await replicator_of(vault, remote)
    before, asked = len(remote.sent()), len(remote.requests)
    await again.sync()
    await again.aclose()
    assert len(remote.sent()) == before
    reads = [name for kind, name in remote.requests[asked:] if kind == "read"]
    assert not any(name.startswith("packs/") for name in reads)  # the notes know that it was right


async def test_a_pack_goes_out_before_the_entries_that_name_it(vault: LocalVault) -> None:
    await store(vault, {f"k{n}": noise(500) for n in range(10)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    assert remote.requests[1] == ("create", "replica.json")
    first = next(n for n, name in enumerate(remote.sent()) if name.startswith("journal/"))
    assert all(name.startswith("packs/") for name in remote.sent()[:first])
    assert first > 0


async def test_a_backup_that_was_never_committed_stays_here(vault: LocalVault) -> None:
    records = await store(vault, {"k": b"committed"})
    async with vault.session(OPERATION) as session:
        await add(session, "left", noise(3000))
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    _, offset, length = parse_location(records["k"].location)
    ends = [span[1] for _, span in filter(None, map(parse_piece, remote.objects))]
    assert max(ends) == offset + length


# ---------------------------------------------------------------------------------- what counts as a copy


async def test_ensure_returns_when_the_copies_are_there(vault: LocalVault) -> None:
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    async with vault.session(OPERATION) as session:
        await add(session, "k", noise(2000))
        (record,) = await session.commit()  # not in the journal yet
    assert replicator.copies(record) == 1
    await replicator.ensure([record], 2)
    assert replicator.copies(record) == 2
    asked = len(remote.requests)
    await replicator.ensure([record], 2)
    assert len(remote.requests) == asked
    with pytest.raises(ConfigError, match="3 copies"):
        await replicator.ensure([record], 3)
    await replicator.aclose()


async def test_ensure_fails_when_a_replica_does_and_takes_another(vault: LocalVault) -> None:
    record = (await store(vault, {"k": noise(2000)}))["k"]
    good, bad = FakeRemote("good"), FakeRemote("bad")
    bad.down = True
    replicator = await replicator_of(vault, bad, good)
    await replicator.ensure([record], 2)
    with pytest.raises(VaultError, match=r"fewer than 3 places: fake://bad: it is down"):
        await replicator.ensure([record], 3)
    bad.down = False
    await replicator.ensure([record], 3)
    assert replicator.copies(record) == 3
    await replicator.aclose()


@pytest.mark.parametrize("limit", ["NEAR_BYTES", "NEAR_ENTRIES"])
async def test_ensure_does_not_wait_for_a_replica_that_is_far_behind(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(_encode, "PACK_ROLL_BYTES", 1000)
    monkeypatch.setattr(replicator_module, limit, 2)
    await store(vault, {f"k{n}": noise(900) for n in range(9)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    record = (await store(vault, {"now": noise(900)}))["now"]
    await replicator.ensure([record], 2)
    assert replicator.copies(record) == 2
    packs = {found[0] for found in map(parse_piece, remote.objects) if found}
    assert packs == {parse_location(record.location)[0]}
    assert replicator.replicated_up_to() == 0
    (status,) = await replicator.sync()
    assert (status.whole, replicator.replicated_up_to()) == (True, 10)
    assert len(remote.sent()) == len(set(remote.sent()))
    await replicator.aclose()
    (vault.folder / "replicas.sqlite3").unlink()
    record = (await store(vault, {"later": noise(900)}))["later"]
    replicator = await replicator_of(vault, remote)
    asked = len(remote.requests)
    await replicator.ensure([record], 2)
    reads = [name for kind, name in remote.requests[asked:] if kind == "read" and name.startswith("packs")]
    pack = parse_location(record.location)[0]
    assert reads
    assert all(name.startswith(f"packs/{pack}/") for name in reads)  # not all that nobody has read back yet
    assert (await replicator.sync())[0].whole
    await replicator.aclose()


async def test_what_a_remote_had_before_it_failed_does_not_count(vault: LocalVault) -> None:
    first = (await store(vault, {"a": noise(900)}))["a"]
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.ensure([first], 2)
    second = (await store(vault, {"b": noise(900)}))["b"]
    remote.down = True
    with pytest.raises(VaultError):
        await replicator.ensure([second], 2)
    assert (replicator.copies(first), replicator.replicated_up_to()) == (1, 0)
    remote.down = False
    await replicator.sync()
    assert (replicator.copies(first), replicator.copies(second)) == (2, 2)
    await replicator.aclose()


async def test_a_remote_that_fails_is_left_alone_while_others_do(vault: LocalVault) -> None:
    good, bad = FakeRemote("good"), FakeRemote("bad")
    replicator = await replicator_of(vault, bad, good)
    bad.down = True
    await replicator.ensure((await store(vault, {"a": noise(900)})).values(), 2)
    bad.down = False
    await replicator.ensure((await store(vault, {"b": noise(900)})).values(), 2)
    assert bad.requests == []
    await replicator.aclose()


async def test_what_was_written_and_not_read_back_does_not_count(vault: LocalVault) -> None:
    """A store that keeps other bytes than it was given."""
    record = (await store(vault, {"k": noise(2000)}))["k"]
    remote = FakeRemote()
    create = remote.create

    def wrong(name: str, data: bytes) -> None:
        create(name, data if not name.startswith("packs/") else data[:-1] + bytes([data[-1] ^ 1]))

    remote.create = wrong  # type: ignore[method-assign]
    replicator = await replicator_of(vault, remote)
    with pytest.raises(VaultError, match="with other bytes"):
        await replicator.ensure([record], 2)
    assert replicator.copies(record) == 1
    await replicator.aclose()


@pytest.mark.parametrize("notes", [True, False])
async def test_an_upload_that_nobody_read_back_is_read_before_it_counts(
    vault: LocalVault, notes: bool
) -> None:
    record = (await store(vault, {"k": noise(500)}))["k"]
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    remote.fail(CRASHED_AFTER, 2)  # the first piece, behind replica.json and the probe
    with pytest.raises(Crash):
        await replicator.sync()
    await replicator.aclose()
    (name,) = (name for name in remote.objects if name.startswith("packs/"))
    good = remote.objects[name]
    remote.objects[name] = good[:-1] + bytes([good[-1] ^ 1])
    if not notes:
        (vault.folder / "replicas.sqlite3").unlink()
    again = await replicator_of(vault, remote)
    (status,) = await again.sync()
    assert "with other bytes" in str(status.error)
    assert again.copies(record) == 1
    remote.objects[name] = good
    (status,) = await again.sync()
    assert status.error is None
    assert again.copies(record) == 2
    await again.aclose()


async def test_lost_notes_cost_a_reading_and_nothing_else(vault: LocalVault) -> None:
    await store(vault, {f"k{n}": noise(500) for n in range(5)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    sent = remote.sent()
    for damage in (b"", b"this is no database" * 100):
        path = vault.folder / "replicas.sqlite3"
        path.write_bytes(damage)
        again = await replicator_of(vault, remote)
        (looked,) = await again.status()
        assert (looked.seq, looked.unverified) == (0, len(remote.objects) - 1)
        (status,) = await again.sync()
        await again.aclose()
        assert (status.error, status.entries_behind, status.bytes_behind, status.unverified) == (
            None,
            0,
            0,
            0,
        )
        assert remote.sent() == sent


async def test_what_a_replica_lost_is_noticed_and_sent_again(vault: LocalVault, tmp_path: Path) -> None:
    await store(vault, {f"k{n}": noise(500) for n in range(8)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    whole = dict(remote.objects)
    for name in sorted(whole):
        remote.objects = dict(whole)
        del remote.objects[name]
        again = await replicator_of(vault, remote)
        (status,) = await again.sync()
        await again.aclose()
        assert status.error is None
        assert remote.objects.keys() == whole.keys()
        if name != "replica.json":
            assert any(name in problem for problem in status.problems)
        again = await replicator_of(vault, remote)
        (status,) = await again.status()
        await again.aclose()
        assert list(status.problems) == []  # told once


async def test_what_was_lost_and_is_there_again_is_read_again(vault: LocalVault) -> None:
    await store(vault, {"k": noise(500)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    name = next(name for name in remote.objects if name.startswith("packs/"))
    size = len(remote.objects.pop(name))
    await replicator.status()
    remote.objects[name] = bytes(size)
    (looked,) = await replicator.status()
    assert looked.unverified == 1
    await replicator.aclose()
    replicator = await replicator_of(vault, remote)
    (status,) = await replicator.sync()
    assert "with other bytes" in str(status.error)
    await replicator.aclose()


# ---------------------------------------------------------------------------------- what is refused


async def test_an_object_with_other_bytes_is_an_error_and_stays(vault: LocalVault) -> None:
    await store(vault, {f"k{n}": noise(500) for n in range(4)})
    whole = FakeRemote()
    replicator = await replicator_of(vault, whole)
    await replicator.sync()
    await replicator.aclose()
    for name in sorted(whole.objects):
        remote = FakeRemote(f"of {name}")
        # As long as ours: a shorter one isn't taken for the piece at all.
        remote.objects[name] = bytes(len(whole.objects[name]))
        replicator = await replicator_of(vault, remote)
        (status,) = await replicator.sync()
        await replicator.aclose()
        assert status.error is not None, name
        assert remote.objects[name] == bytes(len(whole.objects[name]))


async def test_a_piece_of_another_length_is_told_and_stays(vault: LocalVault) -> None:
    await store(vault, {"k": noise(500)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    name = next(name for name in remote.objects if name.startswith("packs/"))
    remote.objects[name] += b"x"
    (looked,) = await replicator.status()
    assert any(name in problem for problem in looked.problems)
    assert looked.bytes_behind > 0
    await replicator.aclose()


async def test_the_replica_of_another_vault_is_refused(vault: LocalVault, tmp_path: Path) -> None:
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    before = dict(remote.objects)
    other = local_vault(tmp_path / "other")
    await other.open(STORE_URL)
    record = (await store(other, {"k": b"x"}))["k"]
    replicator = await replicator_of(other, remote)
    (status,) = await replicator.sync()
    assert "another vault" in str(status.error)
    (status,) = await replicator.status()
    assert "another vault" in str(status.error)
    with pytest.raises(VaultError, match="another vault"):
        await replicator.ensure([record], 2)
    assert remote.objects == before
    await replicator.aclose()
    await other.aclose()


async def test_a_store_that_overwrites_is_refused(vault: LocalVault) -> None:
    remote = FakeRemote()
    remote.overwrites = True
    replicator = await replicator_of(vault, remote)
    (status,) = await replicator.sync()
    assert "If-None-Match" in str(status.error)
    assert set(remote.objects) == {"replica.json"}
    await replicator.aclose()


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("notes", [False, True])
async def test_a_vault_put_back_from_an_older_copy_is_not_replicated_over_the_newer_one(
    tmp_path: Path, goes_on: bool, notes: bool
) -> None:
    """With the notes of before, or those of now; shorter than the replica, or grown past it otherwise."""
    remote = FakeRemote()
    folder, copy = tmp_path / "vault", tmp_path / "copy"
    vault = local_vault(folder)
    await vault.open(STORE_URL)
    await store(vault, {"a": noise(500)})
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    await vault.aclose()
    shutil.copytree(folder, copy)
    await vault.open(STORE_URL)
    await store(vault, {"b": noise(500), "c": noise(500)})
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    await vault.aclose()
    if notes:
        shutil.copy(folder / "replicas.sqlite3", copy / "replicas.sqlite3")

    before = dict(remote.objects)
    old = local_vault(copy)
    await old.open(STORE_URL)
    if goes_on:
        for n in range(4):
            await store(old, {f"other{n}": noise(500)})
    replicator = await replicator_of(old, remote)
    (status,) = await replicator.sync()
    assert status.error is not None
    if not goes_on:
        assert "older copy" in status.error
    assert remote.objects == before
    await replicator.aclose()
    await old.aclose()


@pytest.mark.parametrize("at", [100, -200])
async def test_damage_in_the_vault_is_told_and_does_not_go_out(vault: LocalVault, at: int) -> None:
    """In a frame's header, and in what it holds."""
    records = await store(vault, {f"k{n}": noise(500) for n in range(3)})
    damaged_pack(vault, records["k1"], at=at)
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    (status,) = await replicator.sync()
    assert any("damaged" in problem for problem in status.problems)
    assert [replicator.copies(records[key]) for key in ("k0", "k1", "k2")] == [2, 1, 1]
    with pytest.raises(VaultError, match="damaged"):
        await replicator.ensure([records["k1"]], 2)
    _, offset, _ = parse_location(records["k1"].location)
    assert max(span[1] for _, span in filter(None, map(parse_piece, remote.objects))) == offset
    await replicator.aclose()


async def test_a_changed_journal_does_not_go_out(vault: LocalVault) -> None:
    await store(vault, {f"k{n}": b"x" for n in range(3)})
    with sqlite3.connect(vault.folder / "journal.sqlite3") as database:
        database.execute("DROP TRIGGER entries_no_update")
        database.execute("UPDATE entries SET key = 'other' WHERE seq = 2")
    database.close()
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    with pytest.raises(VaultCorrupt, match="entry 2"):
        await replicator.sync()
    assert remote.objects == {}
    await replicator.aclose()


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("scanned", [False, True])
async def test_a_broken_chain_does_not_go_out(vault: LocalVault, scanned: bool, dropped: bool) -> None:
    """An entry that was dropped, or hashes right and follows another one; found when read first, or again."""
    await store(vault, {f"k{n}": b"x" for n in range(6)})
    first = FakeRemote("first")
    replicator = await replicator_of(vault, first)
    if scanned:
        await replicator.sync()
    await replicator.aclose()
    bucket = canonical(STORE_URL)
    entry = (await journal_of(vault))[4]
    data, other = canonical(dict(entry.data)), "0" * 64
    at = time_to_text(entry.at)
    forged = link(bucket, 5, at, entry.operation_id, entry.event, entry.key, data, other)
    with sqlite3.connect(vault.folder / "journal.sqlite3") as database:
        database.execute("DROP TRIGGER entries_no_update")
        database.execute("DROP TRIGGER entries_no_delete")
        if dropped:
            database.execute("DELETE FROM entries WHERE seq = 5")
        else:
            database.execute("UPDATE entries SET previous = ?, hash = ? WHERE seq = 5", (other, forged))
    database.close()
    second = FakeRemote("second")
    replicator = await replicator_of(vault, second, segment_entries=4)
    if scanned:
        (status,) = await replicator.sync()
        assert "entry 5" in str(status.error)
    else:
        with pytest.raises(VaultCorrupt, match="entry 5"):
            await replicator.sync()
    assert not any("journal/000000000005" in name for name in second.objects)
    await replicator.aclose()


async def test_a_journal_without_its_beginning_does_not_go_out(vault: LocalVault) -> None:
    await store(vault, {f"k{n}": b"x" for n in range(3)})
    with sqlite3.connect(vault.folder / "journal.sqlite3") as database:
        database.execute("DROP TRIGGER entries_no_delete")
        database.execute("DELETE FROM entries WHERE seq = 1")
    database.close()
    replicator = await replicator_of(vault, FakeRemote())
    with pytest.raises(VaultCorrupt, match="entry 1"):
        await replicator.sync()
    await replicator.aclose()


async def test_only_lines_that_hash_as_the_journal_says_are_written(vault: LocalVault) -> None:
    await store(vault, {"k": b"x"})
    (entry,) = await journal_of(vault)
    bucket = canonical(STORE_URL)
    assert rows_in(line_of(entry, bucket).encode(), (0, 1), bucket)[0][7] == entry.hash
    for changed in (evolve(entry, key="l"), evolve(entry, data={}), evolve(entry, hash="0" * 64)):
        with pytest.raises(VaultCorrupt, match="entry 1"):
            line_of(changed, bucket)


def test_a_segment_that_is_no_segment() -> None:
    good = pack_lines(b"line\n" * 1000)
    assert unpack_lines(good) == b"line\n" * 1000
    for wrong in (
        b"",
        b"nonsense",
        good[:-1],
        good + b"x",
        good + good,
        zstandard.compress(b"no checksum"),
        zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(b"no size"),
    ):
        with pytest.raises(VaultCorrupt):
            unpack_lines(wrong)


def test_a_segment_that_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = pack_lines(bytes(100_000))
    monkeypatch.setattr(segments, "TEXT_MAX_BYTES", 99_999)
    with pytest.raises(VaultCorrupt, match="declares 100000 bytes"):
        unpack_lines(bomb)
    with pytest.raises(VaultError, match="aren't replicated"):
        pack_lines(bytes(100_000))


async def test_lines_out_of_their_place_are_found(vault: LocalVault) -> None:
    await store(vault, {f"k{n}": b"x" for n in range(3)})
    bucket = canonical(STORE_URL)
    one, two, three = [line_of(entry, bucket).encode() for entry in await journal_of(vault)]
    assert len(rows_in(one + two + three, (0, 3), bucket)) == 3
    other = evolve((await journal_of(vault))[1], previous="0" * 64)
    forged = link(
        bucket,
        2,
        time_to_text(other.at),
        other.operation_id,
        other.event,
        other.key,
        canonical(dict(other.data)),
        other.previous,
    )
    for lines in (
        one + two,
        two + one + three,
        one + two + three + three,
        one + line_of(evolve(other, hash=forged), bucket).encode() + three,
        one + two.replace(b'"key":"k1"', b'"key":"k2"') + three,
        one + b"{}\n" + three,
        one + two[:-2] + b"\n" + three,
    ):
        with pytest.raises(VaultCorrupt):
            rows_in(lines, (0, 3), bucket)


async def test_a_pack_that_is_gone_is_told(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encode, "PACK_ROLL_BYTES", 400)
    first = (await store(vault, {"a": noise(500)}))["a"]
    second = (await store(vault, {"b": noise(500)}))["b"]
    pack, _, _ = parse_location(first.location)
    (vault.folder / "packs" / f"{pack}.pack").unlink()
    replicator = await replicator_of(vault, FakeRemote())
    (status,) = await replicator.sync()
    assert any(pack in problem for problem in status.problems)
    assert (status.error, status.entries_behind, status.bytes_behind) == (None, 0, 0)
    assert (replicator.copies(first), replicator.copies(second)) == (1, 2)
    await replicator.aclose()


async def test_the_lag_is_shown(vault: LocalVault) -> None:
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await store(vault, {"a": noise(500)})
    (status,) = await replicator.status()
    assert remote.objects == {}  # looking changes nothing
    first = (await journal_of(vault))[0]
    assert (status.entries_behind, status.oldest) == (1, first.at)
    assert status.lag is not None
    assert status.lag.total_seconds() >= 0
    assert status.bytes_behind == parse_location(first.data["backup"]["location"])[2]
    await replicator.aclose()


async def test_places_that_are_no_good(vault: LocalVault, tmp_path: Path) -> None:
    def opened(*urls: str) -> object:
        return open_replicator(vault, urls, clock=SystemClock())

    for url, why in [
        (f"{STORE_URL}/replica", "collected"),
        (str(vault.folder / "replica"), "in the vault"),
        (vault.folder.as_uri(), "in the vault"),
        (tmp_path.as_uri(), "in the vault"),
        ("s3:///prefix", "not a replica's URL"),
        ("s3://bucket/a//b", "empty"),
        ("s3://bucket/a?reigon=x", "reigon"),
        ("s3://user:secret@bucket/a", "credentials"),
        ("nonsense://x/y", "no replica can be opened"),
        ("file://host/path", "not a folder"),
    ]:
        with pytest.raises(ConfigError, match=why) as caught:
            async with opened(url):  # type: ignore[attr-defined]
                pass
        assert "secret" not in str(caught.value)
    twice = (tmp_path / "elsewhere").as_uri()
    with pytest.raises(ConfigError, match="one place"):
        async with opened(twice, twice + "/"):  # type: ignore[attr-defined]
            pass


# ---------------------------------------------------------------------------------- fetching


async def test_what_is_missing_is_named_and_the_rest_comes_back(vault: LocalVault, tmp_path: Path) -> None:
    await store(vault, {f"k{n}": noise(500) for n in range(8)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    whole = dict(remote.objects)
    wanted = await journal_of(vault)
    for number, name in enumerate(sorted(whole)):
        remote.objects = {key: data for key, data in whole.items() if key != name}
        folder = tmp_path / str(number)
        if name == "replica.json":
            with pytest.raises(VaultError, match="no replica"):
                await fetch(remote, folder, clock=SystemClock())
            continue
        back = await fetched(remote, folder)
        # A last segment that is missing is the test below.
        assert bool(back.report.problems) == (name != max(n for n in whole if n.startswith("journal")))
        if parsed := parse_piece(name):
            pack, (begin, end) = parsed
            assert f"{pack}.pack: bytes {begin} to {end} are missing" in back.report.problems
            assert back.entries == wanted
            touched = [
                e
                for e in wanted
                if parse_location(e.data["backup"]["location"])[1] < end
                and sum(parse_location(e.data["backup"]["location"])[1:]) > begin
            ]
            bad = [p for p in back.problems if " at " + pack in p]
            assert len(bad) == len(touched)
        else:
            span = parse_segment(name)
            assert span is not None
            assert back.entries == wanted[: span[0]]
            if span[1] < len(wanted):
                assert any(f"journal entries from {span[0] + 1}" in p for p in back.report.problems)


async def test_a_last_segment_that_is_missing_cannot_be_known(vault: LocalVault, tmp_path: Path) -> None:
    """The replica is then an older state of itself: whole, and shorter."""
    await store(vault, {"a": noise(500)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await store(vault, {"b": noise(500)})
    await replicator.sync()
    await replicator.aclose()
    del remote.objects["journal/000000000002-000000000002.jsonl.zst"]
    back = await fetched(remote, tmp_path / "back")
    assert back.problems == []
    assert len(back.entries) == 1
    assert back.report.unnamed_bytes > 500


async def test_a_segment_of_another_history_is_left_out(vault: LocalVault, tmp_path: Path) -> None:
    """Whole in itself, and it doesn't follow what stands before it."""
    await store(vault, {f"k{n}": b"x" for n in range(4)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    entry, bucket = (await journal_of(vault))[3], canonical(STORE_URL)
    other, at = "0" * 64, time_to_text(entry.at)
    data = canonical(dict(entry.data))
    forged = link(bucket, 4, at, entry.operation_id, entry.event, entry.key, data, other)
    line = line_of(evolve(entry, previous=other, hash=forged), bucket)
    name = "journal/000000000004-000000000004.jsonl.zst"
    assert name in remote.objects
    remote.objects[name] = pack_lines(line.encode())
    report = await fetch(remote, tmp_path / "back", clock=SystemClock())
    assert report.entries == 3
    assert f"{name}: entry 4 doesn't follow the one before it" in report.problems


async def test_a_piece_that_changes_while_it_is_fetched(vault: LocalVault, tmp_path: Path) -> None:
    await store(vault, {"k": noise(500)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    read_whole = remote.read
    remote.read = lambda name: read_whole(name)[: -1 if name.endswith(".part") else None]  # type: ignore
    report = await fetch(remote, tmp_path / "back", clock=SystemClock())
    assert any("it holds" in problem for problem in report.problems)


async def test_a_fetch_that_was_stopped_goes_on(vault: LocalVault, tmp_path: Path) -> None:
    await store(vault, {f"k{n}": noise(900) for n in range(5)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    folder = tmp_path / "back"
    for n in range(20):
        remote.fail("read fails", n)
        try:
            back = await fetched(remote, folder)
            break
        except StoreError:
            assert not (folder / "vault.json").exists()
    remote.fail(None)
    assert n > 3
    assert back.problems == []
    assert back.entries == await journal_of(vault)
    with pytest.raises(VaultError, match="isn't empty"):
        await fetch(remote, folder, clock=SystemClock())


async def test_the_folder_of_another_fetch_is_left_alone(vault: LocalVault, tmp_path: Path) -> None:
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    folder = tmp_path / "back"
    folder.mkdir()
    (folder / ".fetching").write_text("another")
    with pytest.raises(VaultError, match="another replica"):
        await fetch(remote, folder, clock=SystemClock())


async def test_overlapping_objects_of_two_replicators(vault: LocalVault, tmp_path: Path) -> None:
    """Two processes that replicate one vault at once: what they write overlaps, and agrees."""
    remote = FakeRemote()
    one, other = await replicator_of(vault, remote), await replicator_of(vault, remote, piece_bytes=450)
    await one.sync()
    await other.sync()
    await store(vault, {f"k{n}": noise(500) for n in range(2)})
    await one.sync()
    await store(vault, {f"l{n}": noise(500) for n in range(2)})
    (status,) = await other.sync()
    assert status.error is None
    (status,) = await one.sync()
    assert status.error is None
    await one.aclose()
    await other.aclose()
    spans = [span for span in map(parse_segment, remote.objects) if span]
    assert sum(b - a for a, b in spans) > 4
    back = await fetched(remote, tmp_path / "back")
    assert back.problems == []
    assert back.entries == await journal_of(vault)


async def test_the_vault_that_came_back_goes_on(vault: LocalVault, tmp_path: Path) -> None:
    await store(vault, {"a": noise(500)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    await replicator.aclose()
    back = await fetched(remote, tmp_path / "back")
    again = local_vault(back.folder)
    await again.open(STORE_URL)
    await store(again, {"b": noise(500)})
    replicator = await replicator_of(again, remote)
    (status,) = await replicator.sync()
    await replicator.aclose()
    await again.aclose()
    assert (status.error, status.seq) == (None, 2)


# ---------------------------------------------------------------------------------- folders


async def test_a_folder_as_a_remote(vault: LocalVault, tmp_path: Path) -> None:
    await store(vault, {f"k{n}": noise(900) for n in range(5)})
    url = (tmp_path / "re plica").as_uri()
    async with open_replicator(vault, [url], clock=SystemClock()) as replicator:
        (status,) = await replicator.sync()
    assert status.error is None
    back = await fetched(open_remote(url), tmp_path / "back")
    assert back.problems == []
    assert not [p for p in (tmp_path / "re plica").rglob("*") if p.name.startswith(".")]


def test_a_folder_never_writes_over_a_file_and_syncs_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = FolderRemote(tmp_path / "replica")
    steps: list[str] = []
    link, sync, folder = os.link, remotes._fs.sync_data, remotes._fs.sync_folder
    monkeypatch.setattr(remotes.os, "link", lambda a, b: (steps.append("link"), link(a, b)))
    monkeypatch.setattr(remotes._fs, "sync_data", lambda fd: (steps.append("data"), sync(fd)))
    monkeypatch.setattr(remotes._fs, "sync_folder", lambda path: (steps.append(path.name), folder(path)))
    remote.create("packs/x/y", b"1")
    assert steps == [tmp_path.name, "replica", "packs", "data", "link", "x"]
    with pytest.raises(FileExistsError):
        remote.create("packs/x/y", b"2")
    monkeypatch.setattr(Path, "exists", lambda self: self.name != "y")  # another process was faster
    with pytest.raises(FileExistsError):
        remote.create("packs/x/y", b"2")
    assert remote.read("packs/x/y") == b"1"
    assert list(remote.names()) == [("packs/x/y", 1)]


def test_an_object_that_is_too_large_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "OBJECT_MAX_BYTES", 10)
    for remote in (FolderRemote(tmp_path), open_remote("memory://large/x")):
        remote.create("packs/x", b"12345678901")
        with pytest.raises(StoreError, match="too large"):
            remote.read("packs/x")


async def test_memory_urls_share_what_they_hold(vault: LocalVault, tmp_path: Path) -> None:
    await store(vault, {"a": noise(900)})
    url = f"memory://{tmp_path.name}/some/prefix"
    async with open_replicator(vault, [url], clock=SystemClock()) as replicator:
        (status,) = await replicator.sync()
        assert (status.error, status.url) == (None, url + "/")
    assert (await fetched(open_remote(url), tmp_path / "back")).problems == []
    with pytest.raises(VaultError, match="no replica"):
        await fetch(open_remote(url + "2"), tmp_path / "other", clock=SystemClock())


async def test_a_record_with_another_kind_of_place_is_an_error(vault: LocalVault) -> None:
    record = (await store(vault, {"a": b"x"}))["a"]
    replicator = await replicator_of(vault, FakeRemote())
    with pytest.raises(VaultCorrupt):
        replicator.copies(evolve(record, location="elsewhere"))
    await replicator.aclose()


# ---------------------------------------------------------------------------------- packs that are no more


async def retire(vault: LocalVault, pack: str, moved: list[BackupRecord]) -> list[BackupRecord]:
    """What `vault prune` does: copies into a new pack, entries that say so, and the old pack goes."""
    async with vault.session(OPERATION) as session:
        for record in moved:
            await add(session, record.key, await read(vault, record))
        new = await session.commit()
    drafts = backed_up(new)
    drafts.append(JournalDraft("pack_retired", OPERATION, None, {"pack": pack}))
    await vault.journal.append(drafts)
    (vault.folder / "packs" / f"{pack}.pack").unlink()
    return list(new)


async def aged(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> tuple[list[BackupRecord], str]:
    """Three backups in a pack that is closed."""
    monkeypatch.setattr(_encode, "PACK_ROLL_BYTES", 1000)
    records = list((await store(vault, {f"k{n}": noise(900) for n in range(2)})).values())
    return records, parse_location(records[0].location)[0]


@pytest.mark.parametrize("replicated", [True, False])
async def test_a_retired_pack_is_missed_by_nobody(
    vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replicated: bool
) -> None:
    records, pack = await aged(vault, monkeypatch)
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    if replicated:
        await replicator.sync()
    new = await retire(vault, pack, records[1:])
    old = record_to_json(records[0])  # entries of later may speak of it
    await vault.journal.append([JournalDraft("restored", OPERATION, "k0", {"old": old})])
    for _ in range(2):
        (status,) = await replicator.sync()
        assert (status.whole, list(status.problems)) == (True, [])
        assert [replicator.copies(record) for record in new] == [2]
        with pytest.raises(VaultError, match="moved or removed"):
            await replicator.ensure([evolve(records[0], location=location_of(pack, 10**6, 1))], 2)
        await replicator.aclose()
        replicator = await replicator_of(vault, remote)  # the notes know it as well
    await replicator.aclose()
    report = await fetch(remote, tmp_path / "back", clock=SystemClock())
    assert report.problems == ()
    assert not (tmp_path / "back" / "packs" / f"{pack}.pack").exists()


async def test_what_vault_forget_does_reaches_the_replicas(
    vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_encode, "PACK_ROLL_BYTES", 1000)
    await store(vault, {f"k{n}": noise(700) for n in range(6)})
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    report = await forget(vault, OPERATION, "k2", reason="asked to", dry_run=False)
    assert report.removed == 1
    removed, (status,) = await replicator.drop_retired()
    await replicator.aclose()
    assert removed > 0
    assert status.whole
    back = await fetched(remote, tmp_path / "back")
    assert back.problems == []
    assert back.entries == await journal_of(vault)


async def test_what_was_forgotten_goes_from_a_replica_when_that_is_asked_for(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, pack = await aged(vault, monkeypatch)
    good, down = FakeRemote("good"), FakeRemote("down")
    replicator = await replicator_of(vault, good, down)
    await replicator.sync()
    await retire(vault, pack, records[1:])
    await replicator.sync()
    mine = {name for name in good.objects if name.startswith(f"packs/{pack}/")}
    others = good.objects.keys() - mine
    assert mine <= good.objects.keys()

    down.down = True
    await store(vault, {"more": noise(100)})
    removed, (first, second) = await replicator.drop_retired()
    assert removed == len(mine) > 1
    assert not mine & good.objects.keys()
    assert others < good.objects.keys()
    assert (first.whole, second.error) == (True, "it is down")
    assert mine < down.objects.keys()
    down.down = False
    removed, statuses = await replicator.drop_retired()
    assert removed == len(mine)
    assert all(status.whole for status in statuses)
    await replicator.aclose()
    again = await replicator_of(vault, good, down)
    assert all(status.whole for status in await again.sync())
    await again.aclose()


async def test_a_replica_that_is_behind_keeps_all(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    records, pack = await aged(vault, monkeypatch)
    remote = FakeRemote()
    replicator = await replicator_of(vault, remote)
    await replicator.sync()
    (moved,) = await retire(vault, pack, records[1:])
    damaged_pack(vault, moved, at=400)  # the copy can't go out
    removed, _ = await replicator.drop_retired()
    assert removed == 0
    assert any(name.startswith(f"packs/{pack}/") for name in remote.objects)
    await replicator.aclose()


@pytest.mark.parametrize("url", ["memory://removing/x", "folder"])
async def test_removing_what_is_not_there(tmp_path: Path, url: str) -> None:
    remote = FolderRemote(tmp_path) if url == "folder" else open_remote(url)
    remote.create("packs/x", b"1")
    remote.remove("packs/x")
    remote.remove("packs/x")
    remote.remove("elsewhere/x")
    assert list(remote.names()) == []
