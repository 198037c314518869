"""Large objects on their way into the vault: written, read back and compared stretch by stretch."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import struct
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from s3gc.abc import Compressor, CompressStream, DecompressStream
from s3gc.clock import SystemClock
from s3gc.compressors import StoreCompressor, ZstdCompressor
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import BackupRecord, ObjectAttributes, ObjectInfo
from s3gc.vault import LocalVault, _fs, _large, _session
from s3gc.vault._straight import Straight
from s3gc.vault.packs import PackWriter

pytestmark = pytest.mark.anyio

MIB = 1 << 20
SIZE = 10 * MIB
NOISE = random.Random(16).randbytes(SIZE)
TEXT = NOISE[: SIZE // 2].hex().encode()
"""Kept as it is, and compressed to about half."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[LocalVault]:
    made = LocalVault(tmp_path / "vault", compressors=[ZstdCompressor()], clock=SystemClock())
    await made.open("s3://b")
    yield made
    await made.aclose()


async def pieces(data: bytes, size: int = MIB) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def backed_up(vault: LocalVault, data: bytes, size: int = MIB) -> BackupRecord:
    async with vault.session("01K00000000000000000000000") as session:
        info = ObjectInfo("k", len(data), "e", datetime.now(UTC))
        await session.add(info, ObjectAttributes(), pieces(data, size))
        (record,) = await session.commit()
    return record


async def back(vault: LocalVault, record: BackupRecord) -> bytes:
    return b"".join([piece async for piece in vault.read(record)])


def left(vault: LocalVault) -> list[Path]:
    return list((vault.folder / "packs").iterdir())


@pytest.fixture(params=[4 * MIB, MIB])
def stretch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(_session, "STRETCH_BYTES", request.param)
    return int(request.param)


@pytest.mark.parametrize("size", [MIB, 65_537, 3 * MIB + 1])
@pytest.mark.parametrize("data", [NOISE[: 9 * MIB + 1], TEXT, b"a" * SIZE], ids=["noise", "text", "a"])
async def test_it_comes_back_however_it_came(vault: LocalVault, stretch: int, data: bytes, size: int) -> None:
    record = await backed_up(vault, data, size)
    assert record.codec == ("store" if data[:9] == NOISE[:9] else "zstd")
    assert await back(vault, record) == data
    assert (await vault.verify()).ok


async def test_every_byte_is_read_back_once(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    real = Straight.read_into

    def counted(self: Straight, memory: memoryview, size: int, offset: int) -> int:
        nonlocal read
        got = real(self, memory, size, offset)
        read += got
        return got

    monkeypatch.setattr(Straight, "read_into", counted)
    record = await backed_up(vault, NOISE)
    assert read == record.stored_size


def sync_then(spoil: Callable[[int, int], None], real: Callable[[int], None]) -> Callable[[int], None]:
    """A disk that spoils a pack, once, when more than half of it is there."""
    done = []

    def sync(fd: int) -> None:
        real(fd)
        length = os.fstat(fd).st_size
        if not done and length > 3 * MIB:
            done.append(True)
            spoil(fd, length)

    return sync


def flip(back: int) -> Callable[[int, int], None]:
    def spoil(fd: int, length: int) -> None:
        os.pwrite(fd, bytes([os.pread(fd, 1, length - back)[0] ^ 1]), length - back)

    return spoil


def cut(fd: int, length: int) -> None:
    os.ftruncate(fd, length - MIB)


SPOILED: dict[str, Callable[[int, int], None]] = {
    "a byte of the content": flip(1000),
    "the last byte so far": flip(1),
    "the first byte of the stretch": flip(MIB),
    "cut off": cut,
}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("data", [NOISE, TEXT], ids=["stored", "compressed"])
async def test_what_differs_on_the_disk_is_no_backup(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, data: bytes, how: str
) -> None:
    monkeypatch.setattr(_session, "STRETCH_BYTES", MIB)
    monkeypatch.setattr(_fs, "sync_data", sync_then(SPOILED[how], _fs.sync_data))
    with pytest.raises(VaultCorrupt, match="does not read back as written"):
        await backed_up(vault, data)
    assert left(vault) == []


@pytest.mark.parametrize("at", [0, 60, 200, -1, -41, -49, -81, -89])
@pytest.mark.parametrize("data", [NOISE, TEXT], ids=["stored", "compressed"])
async def test_a_frame_that_differs_anywhere_is_no_backup(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, data: bytes, at: int
) -> None:
    """Head, header, trailer, digest: one bit of each, on the disk."""
    real = Straight.read_into

    def spoiled(self: Straight, memory: memoryview, size: int, offset: int) -> int:
        got = real(self, memory, size, offset)
        if (at >= 0 and offset == 0) or (at < 0 and size % MIB):  # only the last stretch isn't whole
            memory[at if at >= 0 else size + at] ^= 1
        return got

    monkeypatch.setattr(_session, "STRETCH_BYTES", MIB)
    monkeypatch.setattr(Straight, "read_into", spoiled)
    with pytest.raises(VaultCorrupt, match="does not read back as written"):
        await backed_up(vault, data)
    assert left(vault) == []


async def test_a_file_that_ends_early_is_no_backup(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Straight.read_into
    monkeypatch.setattr(
        Straight, "read_into", lambda self, memory, size, offset: real(self, memory, size, offset) - 10
    )
    with pytest.raises(VaultCorrupt, match="the pack ends at"):
        await backed_up(vault, NOISE)


async def test_a_whole_frame_of_another_object_is_no_backup(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes under another name, its head's digest made anew: only what went in tells."""
    real = Straight.read_into

    def spoiled(self: Straight, memory: memoryview, size: int, offset: int) -> int:
        got = real(self, memory, size, offset)
        if offset == 0:
            (length,) = struct.unpack_from(">I", memory, 12)
            header = bytes(memory[56 : 56 + length]).replace(b'"key":"k"', b'"key":"q"')
            memory[56 : 56 + length] = header
            memory[24:56] = hashlib.sha256(bytes(memory[:24]) + header).digest()
        return got

    monkeypatch.setattr(Straight, "read_into", spoiled)
    with pytest.raises(VaultCorrupt, match="does not read back as written"):
        await backed_up(vault, NOISE)


async def test_what_was_never_read_back_is_no_backup(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_large.Proof, "step", lambda self, offset, length: None)
    with pytest.raises(VaultCorrupt, match="was not read back to its end"):
        await backed_up(vault, NOISE)
    assert left(vault) == []


class Slack(Compressor):
    """Half of what it stores means nothing: a changed bit there changes no content."""

    name = "slack"

    def compressor(self, size: int) -> CompressStream:
        return _Slack()

    def decompressor(self) -> DecompressStream:
        return _Slack()


class _Slack:
    def compress(self, data: bytes, /) -> bytes:
        assert data.count(b"a") == len(data)
        return len(data).to_bytes(4, "big") + bytes(len(data) // 2)

    def decompress(self, data: bytes, /) -> bytes:
        return b"a" * int.from_bytes(data[:4], "big") if data else b""

    def flush(self) -> bytes:
        return b""


async def test_a_bit_that_means_nothing_counts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right content comes out, and the frame would be called damaged ever after."""
    vault = LocalVault(
        tmp_path / "vault", compressors=[ZstdCompressor(), Slack()], clock=SystemClock(), codec="slack"
    )
    await vault.open("s3://b")
    record = await backed_up(vault, b"a" * SIZE)
    assert (record.codec, await back(vault, record)) == ("slack", b"a" * SIZE)
    monkeypatch.setattr(_session, "STRETCH_BYTES", MIB)
    monkeypatch.setattr(_fs, "sync_data", sync_then(flip(1000), _fs.sync_data))
    with pytest.raises(VaultCorrupt, match=r"does not read back as written.*digest"):
        await backed_up(vault, b"a" * SIZE)
    await vault.aclose()


class Liar(Compressor):
    """Calls itself ``store``, stores the very bytes, and gives others back."""

    name = "store"

    def compressor(self, size: int) -> CompressStream:
        return StoreCompressor().compressor(size)

    def decompressor(self) -> DecompressStream:
        return _Liar()


class _Liar:
    def decompress(self, data: bytes, /) -> bytes:
        return data[::-1]


async def test_a_codec_called_store_is_believed_no_more_than_others(tmp_path: Path) -> None:
    vault = LocalVault(
        tmp_path / "vault", compressors=[ZstdCompressor(), Liar()], clock=SystemClock(), codec="store"
    )
    await vault.open("s3://b")
    with pytest.raises(VaultCorrupt, match="other bytes come out than went in"):
        await backed_up(vault, NOISE)
    await vault.aclose()


# --------------------------------------------------------------------------- the page cache


async def test_what_cannot_go_straight_goes_through_the_page_cache(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    """A file system without O_DIRECT says so when a file is opened."""
    real = os.open

    def refuse(path: Any, flags: int, *more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no O_DIRECT here")
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    dropped = []
    drop = _fs.drop_cache
    monkeypatch.setattr(
        _fs, "drop_cache", lambda fd, offset, length: (dropped.append(length), drop(fd, offset, length))
    )
    record = await backed_up(vault, NOISE)
    assert sum(dropped) == record.stored_size
    assert await back(vault, record) == NOISE


@pytest.mark.parametrize("writes", [True, False])
async def test_or_when_it_is_used(vault: LocalVault, monkeypatch: pytest.MonkeyPatch, writes: bool) -> None:
    """… or only then, at any write or read."""
    calls = 0
    name = "pwrite" if writes else "preadv"
    real = getattr(os, name)

    def refuse(fd: int, *args: Any) -> int:
        nonlocal calls
        if fd in straight:
            calls += 1
            if calls > 1:
                raise OSError(errno.EINVAL, "not so")
        return int(real(fd, *args))

    straight = set[int]()
    opened = Straight.__init__

    def noted(self: Straight, path: Path, fd: int) -> None:
        opened(self, path, fd)
        straight.add(self._direct)

    monkeypatch.setattr(Straight, "__init__", noted)
    monkeypatch.setattr(os, name, refuse)
    assert await back(vault, await backed_up(vault, NOISE)) == NOISE
    assert calls == 2


async def test_reads_do_not_come_from_the_page_cache(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page in memory says doesn't count: the file is changed behind it."""
    if not hasattr(os, "O_DIRECT"):
        pytest.fail("this test needs O_DIRECT")
    opened: list[int] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *args: opened.append(args[1]) or real(*args))  # type: ignore[func-returns-value]
    await backed_up(vault, NOISE)
    assert [flags for flags in opened if flags & os.O_DIRECT]


# --------------------------------------------------------------------------- faults


@pytest.mark.parametrize("failing", ["sync_data", "write_at"])
async def test_a_disk_that_fails_under_way(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    real = getattr(_fs, failing)
    calls = 0

    def fail(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*args)

    monkeypatch.setattr(_fs, failing, fail)
    with pytest.raises(VaultError, match="the vault's file system is full: free space"):
        await backed_up(vault, NOISE)
    assert left(vault) == []
    threads = [thread.name for thread in threading.enumerate()]
    assert not [name for name in threads if name.startswith(("s3gc-hash", "s3gc-write", "s3gc-prove"))]


async def test_who_is_cancelled_leaves_nothing(vault: LocalVault) -> None:
    """Neither a pack nor a thread: both are gone before the session is."""

    async def endless() -> AsyncIterator[bytes]:
        yield NOISE[: 6 * MIB]
        group.cancel_scope.cancel()
        await anyio.sleep_forever()

    async with vault.session("01K00000000000000000000000") as session, anyio.create_task_group() as group:
        await session.add(ObjectInfo("k", SIZE, "e", datetime.now(UTC)), ObjectAttributes(), endless())
    assert left(vault) == []
    assert not [one.name for one in threading.enumerate() if one.name.startswith(("s3gc-hash", "s3gc-write"))]


async def test_nothing_counts_before_it_is_durable_and_read_back(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every stretch: written, synced, read, in this order; and the pack's name is synced as well."""
    done: list[tuple[str, int]] = []
    write, sync, read = PackWriter.write, PackWriter.sync, Straight.read_into
    folders = []

    def wrote(self: PackWriter, data: Any, straight: Any = None) -> None:
        write(self, data, straight)
        done.append(("written", self.size))

    def synced(self: PackWriter) -> None:
        sync(self)
        done.append(("synced", self._synced))

    def reads(self: Straight, memory: memoryview, size: int, offset: int) -> int:
        done.append(("read", offset + size))
        return read(self, memory, size, offset)

    real = _fs.sync_folder
    monkeypatch.setattr(_fs, "sync_folder", lambda path: (folders.append(path), real(path)))
    monkeypatch.setattr(PackWriter, "write", wrote)
    monkeypatch.setattr(PackWriter, "sync", synced)
    monkeypatch.setattr(Straight, "read_into", reads)
    record = await backed_up(vault, NOISE)
    ends = [*range(4 * MIB, record.stored_size, 4 * MIB), record.stored_size]
    assert [end for what, end in done if what == "read"] == ends
    for end in ends:
        order = [what for what, at in done if at == end]
        assert order[:3] == ["written", "synced", "read"]
    assert vault.folder / "packs" in folders


async def test_many_at_once_use_less_memory_each(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = _large.room
    monkeypatch.setattr(_large, "room", lambda size: (sizes.append(size), real(size))[1])
    monkeypatch.setattr(_session, "FAST_LARGE_OBJECTS", 0)
    record = await backed_up(vault, NOISE)
    assert set(sizes) == {_large.SMALL_STRETCH_BYTES}
    assert len(sizes) < 8
    assert await back(vault, record) == NOISE
