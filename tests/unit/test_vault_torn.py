"""What a crash leaves at the ends of packs: cut if nothing refers to it, else kept and reported."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attrs import evolve

from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import BackupRecord, JournalDraft
from s3gc.testing.vault_contract import ATTRIBUTES, OPERATION, STORE_URL, add, object_info, read, store
from s3gc.vault import LocalVault, PackDamage, read_frames
from s3gc.vault._layout import MAGIC
from s3gc.vault.packs import torn_at

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def opened(folder: Path) -> LocalVault:
    vault = LocalVault(folder, compressors=[ZstdCompressor()], clock=SystemClock())
    await vault.open(STORE_URL)
    return vault


def torn(path: Path) -> int | None:
    fd = os.open(path, os.O_RDONLY)
    try:
        return torn_at(fd)
    finally:
        os.close(fd)


def only_pack(folder: Path) -> Path:
    (path,) = (folder / "packs").glob("*.pack")
    return path


async def committed(folder: Path) -> tuple[dict[str, BackupRecord], bytes, bytes]:
    """A vault with two backups that count, and the bytes of a third frame that doesn't."""
    vault = await opened(folder)
    records = await store(vault, {"a": b"abc" * 100, "b": os.urandom(3000)})
    good = only_pack(folder).read_bytes()
    async with vault.session(OPERATION) as session:
        await add(session, "garbage", os.urandom(3000))
        await session.commit()
    more = only_pack(folder).read_bytes()[len(good) :]
    await vault.aclose()
    return records, good, more


async def test_every_cut_of_the_last_frame_is_found(tmp_path: Path) -> None:
    _, good, more = await committed(tmp_path)
    pack = only_pack(tmp_path)
    assert torn(pack) is None
    places = [*range(1, 120), *range(120, len(more), 97), *range(len(more) - 110, len(more))]
    for length in places:
        pack.write_bytes(good + more[:length])
        assert torn(pack) == len(good), length
    pack.write_bytes(good)
    assert torn(pack) is None
    pack.write_bytes(b"")
    assert torn(pack) is None


@pytest.mark.parametrize("left", ["one byte", "half", "all but one", "zeros", "half and zeros"])
async def test_a_torn_end_is_cut(tmp_path: Path, left: str) -> None:
    records, good, more = await committed(tmp_path)
    half = more[: len(more) // 2]
    tail = {
        "one byte": more[:1],
        "half": half,
        "all but one": more[:-1],
        "zeros": bytes(5000),  # a file system that kept the size and lost the bytes
        "half and zeros": half + bytes(5000),
    }[left]
    only_pack(tmp_path).write_bytes(good + tail)
    vault = await opened(tmp_path)
    assert only_pack(tmp_path).read_bytes() == good
    assert vault.problems == ()
    assert await read(vault, records["a"]) == b"abc" * 100
    assert (await vault.verify()).ok
    await vault.aclose()


async def test_a_pack_that_is_nothing_but_torn_goes(tmp_path: Path) -> None:
    _, _, more = await committed(tmp_path)
    other = tmp_path / "packs" / "01K0000000000000000000000Z.pack"
    other.write_bytes(more[:100])
    vault = await opened(tmp_path)
    assert not other.exists()
    await vault.aclose()


async def test_a_tail_that_the_journal_knows_is_never_cut(tmp_path: Path) -> None:
    """The disk lost what it had confirmed: that is corruption, and evidence."""
    records, good, _ = await committed(tmp_path)
    damaged = good[:-10]
    only_pack(tmp_path).write_bytes(damaged)
    vault = await opened(tmp_path)
    assert only_pack(tmp_path).read_bytes() == damaged
    assert len(vault.problems) == 1
    assert "is damaged from byte" in vault.problems[0]
    assert await read(vault, records["a"]) == b"abc" * 100
    with pytest.raises(VaultCorrupt, match="the pack ends inside of the frame"):
        await read(vault, records["b"])
    assert len((await vault.verify()).problems) == 1
    await vault.aclose()


@pytest.mark.parametrize("event", ["backed_up", "deleted", "of a plugin"])
async def test_any_entry_that_names_the_tail_keeps_it(tmp_path: Path, event: str) -> None:
    _, good, more = await committed(tmp_path)
    vault = await opened(tmp_path)
    pack = only_pack(tmp_path).name.removesuffix(".pack")
    await vault.journal.append([JournalDraft(event, "op", "k", {"x": [f"{pack}:{len(good)}:{len(more)}"]})])
    await vault.aclose()
    only_pack(tmp_path).write_bytes(good + more[:-1])
    vault = await opened(tmp_path)
    assert only_pack(tmp_path).read_bytes() == good + more[:-1]
    assert len(vault.problems) == 1
    await vault.aclose()


async def test_an_entry_that_cannot_be_understood_keeps_it(tmp_path: Path) -> None:
    _, good, more = await committed(tmp_path)
    vault = await opened(tmp_path)
    pack = only_pack(tmp_path).name.removesuffix(".pack")
    await vault.journal.append([JournalDraft("e", "op", None, {"pack": pack})])
    await vault.aclose()
    only_pack(tmp_path).write_bytes(good + more[:-1])
    vault = await opened(tmp_path)
    assert only_pack(tmp_path).read_bytes() == good + more[:-1]
    await vault.aclose()


async def test_damage_in_front_of_whole_frames_is_not_a_tail(tmp_path: Path) -> None:
    """Only the torn third frame is cut, though no entry knows the damaged second one either."""
    vault = await opened(tmp_path)
    async with vault.session(OPERATION) as session:
        for key in "abc":
            await add(session, key, os.urandom(500))
        await session.commit()
    await vault.aclose()
    pack = only_pack(tmp_path)
    data = bytearray(pack.read_bytes())
    frames = list(read_frames(pack))
    data[frames[1].offset + 30] ^= 1  # the header's digest of the second
    del data[-5:]  # and the third is torn
    pack.write_bytes(data)
    assert torn(pack) == frames[2].offset
    vault = await opened(tmp_path)
    assert pack.read_bytes() == bytes(data[: frames[2].offset])
    await vault.aclose()


async def test_a_damaged_length_in_the_middle_is_not_a_tail(tmp_path: Path) -> None:
    vault = await opened(tmp_path)
    async with vault.session(OPERATION) as session:
        for key in "abc":
            await add(session, key, os.urandom(500))
        await session.commit()
    await vault.aclose()
    pack = only_pack(tmp_path)
    frames = list(read_frames(pack))
    data = bytearray(pack.read_bytes())
    header_length = int.from_bytes(data[frames[0].offset + 12 : frames[0].offset + 16])
    at = frames[0].offset + 56 + header_length
    data[at + 1] |= 0x0F  # the first chunk now reaches far behind the end of the file
    data[-1:] = b""
    pack.write_bytes(data)
    assert torn(pack) == frames[2].offset
    seen: list[PackDamage] = []
    assert [f.record.key for f in read_frames(pack, on_damage=seen.append)] == ["b"]
    assert [(d.offset, d.torn) for d in seen] == [(frames[0].offset, False), (frames[2].offset, True)]


async def test_a_frame_of_a_newer_version_is_not_a_tail(tmp_path: Path) -> None:
    _, good, more = await committed(tmp_path)
    data = bytearray(more)
    data[9] = 9
    header_length = int.from_bytes(data[12:16])
    data[24:56] = hashlib.sha256(bytes(data[:24]) + bytes(data[56 : 56 + header_length])).digest()
    pack = only_pack(tmp_path)
    pack.write_bytes(good + bytes(data[:-1]))
    vault = await opened(tmp_path)
    assert pack.read_bytes() == good + bytes(data[:-1])
    await vault.aclose()
    with pytest.raises(VaultError, match="is of version 9, known are up to 3: update s3gc"):
        list(read_frames(pack))


HOLD = """
import fcntl, sys
held = open(sys.argv[1])
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def lock_holder(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


async def test_a_pack_that_somebody_writes_is_left_alone(tmp_path: Path) -> None:
    """Its end looks torn to us because the other process is in the middle of a frame."""
    _, good, more = await committed(tmp_path)
    pack = only_pack(tmp_path)
    pack.write_bytes(good + more[:-1])
    holder = lock_holder(pack)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        vault = await opened(tmp_path)
        assert pack.read_bytes() == good + more[:-1]
        await vault.aclose()
    finally:
        holder.communicate(b"")
    vault = await opened(tmp_path)
    assert pack.read_bytes() == good
    await vault.aclose()


async def test_a_writer_holds_its_packs(tmp_path: Path) -> None:
    """While a session is in the middle of a large object, another opening doesn't cut it."""
    vault = await opened(tmp_path)
    size = 9 << 20

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * (5 << 20)
        other = await opened(tmp_path)
        await other.aclose()
        yield b"x" * (4 << 20)

    async with vault.session(OPERATION) as session:
        await session.add(object_info("large", size), ATTRIBUTES, chunks())
        (record,) = await session.commit()
    assert await read(vault, record) == b"x" * size
    await vault.aclose()


async def test_a_pack_backed_up_into_a_pack_yields_no_frames(tmp_path: Path) -> None:
    """A vault whose own pack is an object of the bucket: frames inside of a damaged frame aren't ours."""
    vault = await opened(tmp_path / "inner")
    await store(vault, {"inner 1": os.urandom(400), "inner 2": os.urandom(400)})
    await vault.aclose()
    nested = only_pack(tmp_path / "inner").read_bytes()
    assert nested.count(MAGIC) == 2
    vault = LocalVault(tmp_path / "outer", compressors=[], clock=SystemClock(), codec="store")
    await vault.open(STORE_URL)
    await store(vault, {"first": b"1", "packed": nested, "last": b"2"})
    await vault.aclose()
    pack = only_pack(tmp_path / "outer")
    frames = {f.record.key: f for f in read_frames(pack)}
    data = bytearray(pack.read_bytes())
    data[frames["packed"].offset + 30] ^= 1
    pack.write_bytes(data)
    damaged: list[PackDamage] = []
    assert [f.record.key for f in read_frames(pack, on_damage=damaged.append)] == ["first", "last"]
    assert [(d.offset, d.length) for d in damaged] == [(frames["packed"].offset, frames["packed"].length)]


async def test_frames_moved_to_another_place_are_refused(tmp_path: Path) -> None:
    records, good, _ = await committed(tmp_path)
    pack = only_pack(tmp_path)
    frames = list(read_frames(pack))
    second = good[frames[1].offset : frames[1].offset + frames[1].length]
    pack.write_bytes(second + good)
    with pytest.raises(VaultCorrupt, match="was written at"):
        list(read_frames(pack))
    vault = await opened(tmp_path)
    with pytest.raises(VaultCorrupt):
        await read(vault, records["a"])
    moved = evolve(records["b"], location=records["b"].location.replace(f":{frames[1].offset}:", ":0:"))
    with pytest.raises(VaultCorrupt, match="was written at"):
        await read(vault, moved)
    await vault.aclose()
