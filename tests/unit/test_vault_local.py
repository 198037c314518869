"""The local vault's own duties: what it refuses, what a full or broken disk does, what it leaves on disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from attrs import evolve

from s3gc.abc import Compressor, CompressStream, DecompressStream
from s3gc.clock import SystemClock
from s3gc.compressors import StoreCompressor, ZstdCompressor
from s3gc.errors import ConfigError, VaultCorrupt, VaultError, VaultMismatch
from s3gc.model import JournalDraft, ObjectAttributes
from s3gc.testing.vault_contract import (
    ATTRIBUTES,
    OPERATION,
    STORE_URL,
    add,
    entries,
    object_info,
    pieces,
    read,
    store,
)
from s3gc.vault import LocalVault, _encode, _fs, _session
from s3gc.vault._session import LocalBackupSession
from s3gc.vault.packs import parse_location, read_frames

pytestmark = pytest.mark.anyio

NOBODY = 65534


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def local_vault(folder: Path, *more: Compressor, codec: str = "zstd") -> LocalVault:
    return LocalVault(folder, compressors=[ZstdCompressor(), *more], clock=SystemClock(), codec=codec)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[LocalVault]:
    made = local_vault(tmp_path / "vault")
    await made.open(STORE_URL)
    yield made
    await made.aclose()


def packs(vault: LocalVault) -> list[Path]:
    return sorted((vault.folder / "packs").glob("*.pack"))


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder, and a user whom its permissions bind (root is bound by none)."""
    folder = Path(tempfile.mkdtemp(prefix="s3gc-vault-"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o700)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


# --------------------------------------------------------------------------- opening


async def test_mismatch_names_both(vault: LocalVault) -> None:
    with pytest.raises(VaultMismatch, match=r"belongs to s3://contract, not to s3://other"):
        await local_vault(vault.folder).open("s3://other")


async def test_a_newer_format_is_refused(vault: LocalVault) -> None:
    path = vault.folder / "vault.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(VaultError, match="is of format 2, known is 1: update s3gc"):
        await local_vault(vault.folder).open(STORE_URL)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', "\x00\xff", '{"format": "1"}'])
async def test_a_damaged_identity_is_refused(vault: LocalVault, text: str) -> None:
    (vault.folder / "vault.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(VaultCorrupt, match=r"vault\.json is damaged"):
        await local_vault(vault.folder).open(STORE_URL)


async def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text("")
    with pytest.raises(VaultError, match="is a file"):
        await local_vault(tmp_path / "vault").open(STORE_URL)
    with pytest.raises(VaultError, match="can't"):
        await local_vault(tmp_path / "vault" / "below").open(STORE_URL)


async def test_opening_twice_is_refused(vault: LocalVault) -> None:
    with pytest.raises(VaultError, match="open already"):
        await vault.open(STORE_URL)


async def test_a_lost_journal_is_never_begun_anew(vault: LocalVault) -> None:
    await store(vault, {"k": b"abc"})
    await vault.aclose()
    (vault.folder / "journal.sqlite3").unlink()
    with pytest.raises(VaultError, match="is missing: bring it back"):
        await local_vault(vault.folder).open(STORE_URL)


@pytest.mark.parametrize("lost", ["vault.json", "vault.json and journal"])
async def test_a_lost_identity_is_never_made_anew(vault: LocalVault, lost: str) -> None:
    await store(vault, {"k": b"abc"})
    await vault.aclose()
    (vault.folder / "vault.json").unlink()
    if "journal" in lost:
        (vault.folder / "journal.sqlite3").unlink()
    with pytest.raises(VaultError, match=r"vault\.json is missing: bring vault\.json back"):
        await local_vault(vault.folder).open(STORE_URL)


async def test_a_journal_with_entries_but_no_packs_is_never_begun_anew(vault: LocalVault) -> None:
    await vault.journal.append([JournalDraft("e", "op")])
    await vault.aclose()
    (vault.folder / "vault.json").unlink()
    with pytest.raises(VaultError, match=r"holds a journal and vault\.json is missing"):
        await local_vault(vault.folder).open(STORE_URL)


async def test_a_crash_while_making_it_is_made_good(vault: LocalVault) -> None:
    await vault.aclose()
    (vault.folder / "vault.json").unlink()  # it is written last
    again = local_vault(vault.folder)
    await again.open(STORE_URL)
    await store(again, {"k": b"abc"})
    assert (await again.journal.verify()).ok
    await again.aclose()


async def test_the_journal_of_another_vault_is_refused(vault: LocalVault, tmp_path: Path) -> None:
    other = local_vault(tmp_path / "other")
    await other.open(STORE_URL)
    await other.aclose()
    await vault.aclose()
    (tmp_path / "other" / "journal.sqlite3").replace(vault.folder / "journal.sqlite3")
    with pytest.raises(VaultCorrupt, match="don't belong together"):
        await local_vault(vault.folder).open(STORE_URL)


async def test_files_are_private(vault: LocalVault) -> None:
    await store(vault, {"k": b"abc"})
    paths = [vault.folder, *vault.folder.rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}
    assert len(paths) >= 6


def test_two_codecs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two codecs are called 'zstd'"):
        local_vault(tmp_path, ZstdCompressor(5))


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no codec 'lepton'; known are store, zstd"):
        local_vault(tmp_path, codec="lepton")


# --------------------------------------------------------------------------- read-only


def make_read_only(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o500 if path.is_dir() else 0o400)


async def test_making_it_in_a_read_only_folder(unprivileged: Path) -> None:
    make_read_only(unprivileged)
    with pytest.raises(VaultError, match="read-only for this user: check the mount and the owner"):
        await local_vault(unprivileged / "vault").open(STORE_URL)


async def test_a_read_only_vault_can_be_read(unprivileged: Path) -> None:
    folder = unprivileged / "vault"
    vault = local_vault(folder)
    await vault.open(STORE_URL)
    record = (await store(vault, {"k": b"abc" * 100}))["k"]
    await vault.aclose()
    make_read_only(folder)
    vault = local_vault(folder)
    await vault.open(STORE_URL)
    assert await read(vault, record) == b"abc" * 100
    assert (await vault.verify()).ok
    assert (await vault.journal.verify()).ok
    assert (await vault.stats()).backups == 1
    with pytest.raises(VaultError, match="read-only"):
        await vault.check(max_fill=1.0)
    with pytest.raises(VaultError, match="read-only"):
        async with vault.session(OPERATION):
            pass
    with pytest.raises(VaultError, match="opened for reading only"):
        await vault.journal.append([JournalDraft("e", "op")])
    await vault.aclose()


# --------------------------------------------------------------------------- check


@pytest.mark.parametrize(
    ("blocks", "free", "available", "max_fill", "good"),
    [
        (100, 50, 50, 0.5, True),
        (100, 49, 49, 0.5, False),
        (100, 15, 10, 0.9, True),  # 85 used, 10 left for us: 89.5%, as df says
        (100, 15, 5, 0.9, False),  # the rest is root's
        (100, 0, 0, 0.99, False),
        (0, 0, 0, 0.99, False),  # unknown is full
    ],
)
async def test_room(
    vault: LocalVault,
    monkeypatch: pytest.MonkeyPatch,
    blocks: int,
    free: int,
    available: int,
    max_fill: float,
    good: bool,
) -> None:
    found = SimpleNamespace(f_blocks=blocks, f_bfree=free, f_bavail=available, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    if good:
        await vault.check(max_fill=max_fill)
    else:
        with pytest.raises(VaultError, match=r"is filled to .* free space"):
            await vault.check(max_fill=max_fill)


async def test_no_inodes(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(f_blocks=100, f_bfree=99, f_bavail=99, f_files=10, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    with pytest.raises(VaultError, match="inodes"):
        await vault.check(max_fill=0.9)


@pytest.mark.parametrize("failing", ["write_at", "sync_data"])
@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "full: free space"), (errno.EROFS, "read-only"), (errno.EIO, "check")]
)
async def test_check_really_writes(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, failing: str, code: int, words: str
) -> None:
    monkeypatch.setattr(_fs, failing, failure(code))
    with pytest.raises(VaultError, match=words):
        await vault.check(max_fill=1.0)
    assert list((vault.folder / "packs").iterdir()) == []


async def test_check_sees_a_journal_that_was_cut(vault: LocalVault) -> None:
    (vault.folder / "journal.head").unlink()
    await vault.aclose()
    again = local_vault(vault.folder)
    await again.open(STORE_URL)
    with pytest.raises(VaultCorrupt, match=r"journal\.head is missing"):
        await again.check(max_fill=1.0)
    await again.aclose()


# --------------------------------------------------------------------------- a disk that fails


def failure(code: int) -> Any:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("size", [100, 9 * 1024 * 1024])
async def test_a_full_disk(vault: LocalVault, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Half a frame gets onto the disk; the pack ends where it ended before, and the session is over."""
    kept = await store(vault, {"before": b"abc"})
    (pack,) = packs(vault)
    before = pack.stat().st_size
    write_at = _fs.write_at

    def half(fd: int, data: bytes, offset: int) -> None:
        write_at(fd, memoryview(data)[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with vault.session(OPERATION) as session:
        monkeypatch.setattr(_fs, "write_at", half)
        with pytest.raises(VaultError, match="the vault's file system is full: free space"):
            await add_and_commit(session, size)
        monkeypatch.setattr(_fs, "write_at", write_at)
        if size == 100:
            with pytest.raises(VaultError, match=r"session failed, open a new one: .* is full"):
                await session.commit()
            with pytest.raises(VaultError, match="session failed"):
                await add(session, "later", b"abc")
    assert packs(vault) == [pack]
    assert pack.stat().st_size == before
    assert await read(vault, kept["before"]) == b"abc"
    after = await store(vault, {"after": b"def"})
    assert await read(vault, after["after"]) == b"def"
    assert (await vault.verify()).ok


async def add_and_commit(session: Any, size: int) -> None:
    await add(session, "k", b"xy" * (size // 2))
    await session.commit()


@pytest.mark.parametrize("failing", ["sync_data", "sync_folder", "drop_cache"])
async def test_a_disk_that_does_not_sync(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    async with vault.session(OPERATION) as session:
        await add(session, "k", b"abc")
        monkeypatch.setattr(_fs, failing, failure(errno.EIO))
        with pytest.raises(VaultError, match="check the vault's file system"):
            await session.commit()
        monkeypatch.undo()
        with pytest.raises(VaultError, match="session failed"):
            await session.commit()  # a second fsync would lie: the kernel forgot the pages


@pytest.mark.parametrize("size", [100, 9 * 1024 * 1024])
@pytest.mark.parametrize("where", ["body", "header", "end"])
async def test_bytes_that_change_on_the_disk(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, size: int, where: str
) -> None:
    """Whatever bit differs when it is read back: nothing of this commit counts."""
    sync_data = _fs.sync_data

    def sync_and_flip(fd: int) -> None:
        sync_data(fd)
        length = os.fstat(fd).st_size
        place = {"body": length - 150, "header": 200, "end": length - 1}[where]
        os.pwrite(fd, bytes([os.pread(fd, 1, place)[0] ^ 4]), place)

    async with vault.session(OPERATION) as session:
        await add(session, "other", b"abc" * 1000)
        if size == 100:  # a large one is synced and read back on its way
            await add(session, "k", b"y" * size)
        monkeypatch.setattr(_fs, "sync_data", sync_and_flip)
        with pytest.raises(VaultCorrupt, match="does not read back as written"):
            await add_and_commit(session, size)


async def test_read_back_compares_with_what_came_in(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that is whole in itself and another one than was written doesn't pass."""
    async with vault.session(OPERATION) as session:
        await add(session, "a", b"abc")
        await session.commit()
        (pack,) = packs(vault)
        good = pack.read_bytes()
        await add(session, "b", b"abc")
        monkeypatch.setattr(_fs, "drop_cache", lambda fd, offset, length: swap(fd, good))
        with pytest.raises(VaultCorrupt, match="it is another frame"):
            await session.commit()


def swap(fd: int, good: bytes) -> None:
    """Put a well-formed frame of the same object at another time over the second one."""
    data = bytearray(os.pread(fd, 1 << 20, 0))
    second = data[len(good) :].replace(b"contract", b"contrast")
    os.pwrite(fd, resealed(bytes(second), len(good)), len(good))


def resealed(frame: bytes, offset: int) -> bytes:
    """A frame with its digests made anew after a change that keeps all lengths."""
    (length,) = struct.unpack_from(">I", frame, 12)
    header = frame[56 : 56 + length]
    head = frame[:24] + hashlib.sha256(frame[:24] + header).digest() + header
    rest = frame[56 + length : -32]
    return head + rest + hashlib.sha256(head + rest).digest()


async def test_the_resealed_frame_of_this_test_is_whole(vault: LocalVault) -> None:
    await store(vault, {"a": b"abc"})
    (pack,) = packs(vault)
    pack.write_bytes(resealed(pack.read_bytes().replace(b"contract", b"contrast"), 0))
    (frame,) = read_frames(pack)
    assert frame.bucket == "s3://contrast"


# --------------------------------------------------------------------------- codecs


class _Plain:
    """Both directions of a codec that the tests can break."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def compress(self, data: bytes, /) -> bytes:
        return data[: len(data) // 2]

    def flush(self) -> bytes:
        return b""

    def decompress(self, data: bytes, /) -> bytes:
        return {"grows": data * 100, "changes": (data * 2)[::-1], "loses": data}[self.wrong]


class Wrong(Compressor):
    def __init__(self, wrong: str) -> None:
        self.name = "wrong"
        self._wrong = wrong

    def compressor(self, size: int) -> CompressStream:
        return _Plain(self._wrong)

    def decompressor(self) -> DecompressStream:
        return _Plain(self._wrong)


@pytest.mark.parametrize(
    ("wrong", "how"),
    [("loses", "of its .* bytes come out"), ("changes", "other bytes"), ("grows", "more than its .* bytes")],
)
@pytest.mark.parametrize("size", [1000, 9 * 1024 * 1024])
async def test_a_codec_that_is_not_exact_is_caught_at_once(
    tmp_path: Path, wrong: str, how: str, size: int
) -> None:
    vault = local_vault(tmp_path / "vault", Wrong(wrong), codec="wrong")
    await vault.open(STORE_URL)
    async with vault.session(OPERATION) as session:
        with pytest.raises(VaultCorrupt, match=f"does not read back as written: 'k': .*{how}"):
            await add_and_commit(session, size)
    await vault.aclose()


async def test_a_codec_that_is_not_here_is_named(tmp_path: Path) -> None:
    class Other(ZstdCompressor):
        name = "other"

    vault = local_vault(tmp_path / "vault", Other(), codec="other")
    await vault.open(STORE_URL)
    record = (await store(vault, {"k": b"abc" * 100}))["k"]
    await vault.aclose()
    assert record.codec == "other"
    vault = local_vault(tmp_path / "vault")
    await vault.open(STORE_URL)
    with pytest.raises(VaultError, match="needs the codec 'other', and only store, zstd are here"):
        await read(vault, record)
    assert not (await vault.verify()).ok
    await vault.aclose()


@pytest.mark.parametrize(
    ("data", "codec"),
    [
        (b"abc" * 1000, "zstd"),
        (os.urandom(4000), "store"),
        (b"", "store"),
        (b"a", "store"),
        (os.urandom(1 << 20) * 9, "store"),  # the first MiB tells
        (b"abc" * (3 << 20), "zstd"),
    ],
    ids=["text", "noise", "empty", "one", "large noise", "large text"],
)
async def test_what_does_not_shrink_is_kept_raw(vault: LocalVault, data: bytes, codec: str) -> None:
    record = (await store(vault, {"k": data}))["k"]
    assert record.codec == codec
    assert await read(vault, record) == data


# --------------------------------------------------------------------------- packs


async def test_small_objects_share_a_pack_and_large_ones_do_not(vault: LocalVault) -> None:
    records = await store(vault, {"a": b"1", "large": b"x" * (9 << 20), "b": b"2"})
    names = {key: parse_location(record.location)[0] for key, record in records.items()}
    assert names["a"] == names["b"] != names["large"]
    again = await store(vault, {"c": b"3"})
    assert parse_location(again["c"].location)[0] == names["a"]  # the next session goes on with it
    assert len(packs(vault)) == 2


async def test_packs_are_rolled(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encode, "PACK_ROLL_BYTES", 5_000)
    monkeypatch.setattr(_session, "BATCH_OBJECTS", 7)
    objects = {str(n): os.urandom(1000) for n in range(50)}
    records = await store(vault, objects)
    assert len(packs(vault)) == 13  # a frame begins below 5,000 bytes, so four frames each
    for key, data in objects.items():
        assert await read(vault, records[key]) == data
    found = [frame.record for pack in packs(vault) for frame in read_frames(pack)]
    assert sorted(found, key=lambda r: r.key) == sorted(records.values(), key=lambda r: r.key)


async def test_a_pack_says_all_that_the_journal_says(vault: LocalVault) -> None:
    records = await store(vault, {"a": b"abc", "b": b"d" * 5000})
    (pack,) = packs(vault)
    for frame in read_frames(pack):
        assert frame.record == records[frame.record.key]
        assert (frame.bucket, frame.operation_id) == (STORE_URL, OPERATION)


async def test_a_missing_pack_is_corruption(vault: LocalVault) -> None:
    record = (await store(vault, {"a": b"abc"}))["a"]
    packs(vault)[0].unlink()
    with pytest.raises(VaultCorrupt, match="is missing"):
        await read(vault, record)
    assert not (await vault.verify()).ok


async def test_a_record_that_contradicts_itself_is_refused(vault: LocalVault) -> None:
    record = (await store(vault, {"a": b"abc"}))["a"]
    pack, offset, length = parse_location(record.location)
    with pytest.raises(VaultCorrupt, match="contradicts itself about its length"):
        await read(vault, evolve(record, location=f"{pack}:{offset}:{length + 1}"))


async def test_a_frame_of_another_bucket_is_refused(vault: LocalVault) -> None:
    record = (await store(vault, {"a": b"abc"}))["a"]
    (pack,) = packs(vault)
    pack.write_bytes(resealed(pack.read_bytes().replace(b"contract", b"contrast"), 0))
    with pytest.raises(VaultCorrupt, match="of another bucket, s3://contrast"):
        await read(vault, record)


async def test_verify_speaks_of_entries_without_a_record(vault: LocalVault) -> None:
    await vault.journal.append(
        [JournalDraft("backed_up", "op", "k", {}), JournalDraft("backed_up", "op", "k", {"backup": {}})]
    )
    found = await vault.verify()
    assert (found.ok, found.backups, len(found.problems)) == (False, 2, 2)


# --------------------------------------------------------------------------- sessions


@pytest.mark.parametrize("size", [-1, 1])
async def test_sizes_and_texts_that_cannot_be(vault: LocalVault, size: int) -> None:
    async with vault.session(OPERATION) as session:
        with pytest.raises(VaultError, match="size" if size < 0 else "surrogate"):
            await session.add(object_info("k" if size < 0 else "\ud800", size), ATTRIBUTES, pieces(b"a"))
        assert list(await session.commit()) == []


async def test_attributes_without_end(vault: LocalVault) -> None:
    async with vault.session(OPERATION) as session:
        with pytest.raises(VaultError, match="attributes of 'k' are longer"):
            await session.add(
                object_info("k", 1), ObjectAttributes(metadata={"a": "x" * (1 << 20)}), pieces(b"a")
            )


async def test_a_session_ends(vault: LocalVault) -> None:
    async with vault.session(OPERATION) as session:
        pass
    with pytest.raises(VaultError, match="has ended"):
        await add(session, "k", b"abc")
    with pytest.raises(VaultError, match="has ended"):
        await session.commit()


async def test_memory_is_bounded_and_nobody_waits_for_ever(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 tasks with 1,000 bytes each and room for 2,500: they wait for each other, and all get through."""
    monkeypatch.setattr(_session, "MEMORY_BYTES", 2_500)
    alive = most = 0

    async def slow(data: bytes) -> AsyncIterator[bytes]:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        await anyio.sleep(0.001)
        yield data
        alive -= 1

    async with vault.session(OPERATION) as session:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for n in range(30):
                    group.start_soon(session.add, object_info(str(n), 1000), ATTRIBUTES, slow(b"x" * 1000))
        assert len(await session.commit()) == 30
    assert most <= 2


async def test_a_failed_body_gives_its_memory_back(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "MEMORY_BYTES", 1_000)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionError

    async with vault.session(OPERATION) as session:
        with anyio.fail_after(60):
            for _ in range(5):
                with pytest.raises(ConnectionError):
                    await session.add(object_info("k", 900), ATTRIBUTES, broken())
            await add(session, "k", b"x" * 900)
        assert len(await session.commit()) == 1


@pytest.mark.parametrize("size", [1000, 9 << 20])
async def test_a_cancelled_add_leaves_the_session_whole(vault: LocalVault, size: int) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 100
        await anyio.sleep_forever()

    async with vault.session(OPERATION) as session:
        await add(session, "before", b"1")
        with anyio.move_on_after(0.05):
            await session.add(object_info("k", size), ATTRIBUTES, endless())
        await add(session, "after", b"2")
        assert sorted(r.key for r in await session.commit()) == ["after", "before"]
    assert len(packs(vault)) == 1


async def test_cancelling_batches_in_flight(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object whose ``add`` has returned is never lost because another task was cancelled."""
    monkeypatch.setattr(_session, "BATCH_OBJECTS", 3)
    returned: list[str] = []
    async with vault.session(OPERATION) as session:

        async def adds(part: int) -> None:
            for n in range(40):
                await add(session, f"{part}/{n}", b"x" * 500)
                returned.append(f"{part}/{n}")

        for delay in (0.0, 0.002, 0.005, 0.01):
            with anyio.move_on_after(delay):
                async with anyio.create_task_group() as group:
                    for part in range(8):
                        group.start_soon(adds, part)
        records = await session.commit()
    assert returned
    kept = Counter(record.key for record in records)
    assert all(kept[key] >= times for key, times in Counter(returned).items())


async def batch_taken(session: LocalBackupSession) -> None:
    for _ in range(30_000):
        if session._writing:
            return
        await anyio.sleep(0.001)
    raise AssertionError("no task has taken the batch")


async def test_a_cancelled_task_still_writes_the_batch_that_it_took(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a thread, with the object of another task in its hands, when it is cancelled."""
    monkeypatch.setattr(_session, "BATCH_OBJECTS", 2)
    async with vault.session(OPERATION) as session:
        assert isinstance(session, LocalBackupSession)
        await add(session, "of another task", b"abc")
        takers = [object() for _ in range(int(session._threads.total_tokens))]
        for taker in takers:
            await session._threads.acquire_on_behalf_of(taker)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(add, session, "second", b"def")
                await batch_taken(session)
                group.cancel_scope.cancel()
                for taker in takers:
                    session._threads.release_on_behalf_of(taker)
        assert sorted(r.key for r in await session.commit()) == ["of another task", "second"]


async def test_a_commit_waits_for_batches_in_flight(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``add`` of the first object has returned; another task is writing it when commit is called."""
    monkeypatch.setattr(_session, "BATCH_OBJECTS", 2)
    gate = threading.Event()
    committed: list[str] = []
    async with vault.session(OPERATION) as session:
        assert isinstance(session, LocalBackupSession)
        write = session._packs.write

        def slow(batch: Any) -> Any:
            assert gate.wait(60)
            return write(batch)

        async def commit() -> None:
            committed.extend(record.key for record in await session.commit())

        monkeypatch.setattr(session._packs, "write", slow)
        await add(session, "first", b"abc")
        async with anyio.create_task_group() as group:
            group.start_soon(add, session, "second", b"def")
            await batch_taken(session)
            group.start_soon(commit)
            await anyio.sleep(0.05)
            assert committed == []
            gate.set()
    assert sorted(committed) == ["first", "second"]


async def test_sessions_side_by_side(vault: LocalVault) -> None:
    async with vault.session("one") as first, vault.session("two") as second:
        await add(first, "a", b"1")
        await add(second, "b", b"2")
        records = [*await first.commit(), *await second.commit()]
    assert sorted([await read(vault, record) for record in records]) == [b"1", b"2"]
    assert {f.operation_id for pack in packs(vault) for f in read_frames(pack)} == {"one", "two"}


async def test_two_vault_objects_side_by_side(vault: LocalVault) -> None:
    """As two processes would be, if the lease didn't keep them apart: both write, and no harm is done."""
    other = local_vault(vault.folder)
    await other.open(STORE_URL)
    async with vault.session("one") as session:
        await add(session, "a", b"1")
        first = await session.commit()
        theirs = await store(other, {"b": b"2"})
        await vault.journal.append([JournalDraft("e", "one")])
        await other.journal.append([JournalDraft("e", "two")])
    assert await read(other, first[0]) == b"1"
    assert await read(vault, theirs["b"]) == b"2"
    assert (await other.journal.verify()).ok
    assert len(await entries(vault)) == 3
    await other.aclose()


def test_store_is_always_there(tmp_path: Path) -> None:
    vault = LocalVault(tmp_path, compressors=[], clock=SystemClock(), codec=StoreCompressor.name)
    assert vault.url == tmp_path.as_uri()
