"""A vault with frames of version 3, solid blocks, is read for ever: ``tests/data/vault-v3``."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from s3gc.compressors import ZstdCompressor
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.testing.vault_contract import backed_up, entries, pieces, read
from s3gc.vault import LocalVault, read_frames, record_from_json
from s3gc.vault._frames import FrameReader, reader_in
from s3gc.vault._layout import SOLID_VERSION
from s3gc.vault._locations import index_of, parse_location
from s3gc.vault._solid import Block, block_of
from unit.test_vault_golden import DOCS, OPERATION, STORE_URL, WHEN, FixedClock, blocks, dumped, section

GOLDEN = Path(__file__).parents[1] / "data" / "vault-v3"

JSON, TEXT = ObjectAttributes(content_type="application/json"), ObjectAttributes(content_type="text/plain")

OBJECTS: list[tuple[str, bytes, str | None, ObjectAttributes]] = [
    ("users/1.json", b'{"name":"Ada","roles":["a"]}', None, JSON),
    ("users/2.json", b'{"name":"Bob","roles":["b"]}', "v2", JSON),
    *((f"notes/{n:02d}.txt", b"note number %d, " % n * (n + 1), None, TEXT) for n in range(70)),
    ("notes/é🎉.TXT", b"upper case endings are of the same kind", None, TEXT),
    ("most.txt", b"the largest that fits " * 372 + b"!" * 7, None, TEXT),
    ("more.txt", b"one byte more has a frame of its own" * 227 + b"!" * 20, None, TEXT),
    ("alone.bin", b"the only one of its kind", None, ObjectAttributes()),
    ("empty.json", b"", None, JSON),
]

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vault_in(folder: Path, *, solid: bool) -> LocalVault:
    made = ZstdCompressor(19) if solid else None
    return LocalVault(folder, compressors=[ZstdCompressor()], clock=FixedClock(), solid=made)


async def make(folder: Path) -> None:
    """How the golden vault was made; the index beside the journal was removed."""
    vault = vault_in(folder, solid=True)
    await vault.open(STORE_URL)
    async with vault.session(OPERATION) as session:
        for n, (key, data, version, attributes) in enumerate(OBJECTS):
            info = ObjectInfo(key, len(data), f"etag-{n}", WHEN, version_id=version)
            await session.add(info, attributes, pieces(data))
        records = await session.commit()
    await vault.journal.append(backed_up(records))
    await vault.aclose()


async def test_the_golden_vault_is_read(tmp_path: Path) -> None:
    """By a vault that makes no blocks itself, too."""
    folder = tmp_path / "vault"
    shutil.copytree(GOLDEN, folder)
    vault = vault_in(folder, solid=False)
    await vault.open(STORE_URL, create=False)
    audit = await vault.journal.verify()
    assert (audit.ok, audit.entries) == (True, len(OBJECTS))
    found = {str(e.key): record_from_json(e.data["backup"]) for e in await entries(vault)}
    for n, (key, data, version, attributes) in enumerate(OBJECTS):
        record = found[key]
        assert await read(vault, record) == data
        assert (record.etag, record.version_id, record.attributes) == (f"etag-{n}", version, attributes)
        assert record.last_modified == WHEN
    alone = {"more.txt", "alone.bin", "empty.json"}
    assert {key for key, record in found.items() if index_of(record.location) is None} == alone
    small = await vault.read_small(list(found.values()))
    assert small == {key: data for key, data, _, _ in OBJECTS}
    check = await vault.verify()
    assert (check.problems, check.backups) == ((), len(OBJECTS))
    await vault.aclose()


async def test_a_rebuild_finds_all_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    shutil.copytree(GOLDEN, folder)
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    again = vault_in(folder, solid=False)
    report = await again.rebuild(STORE_URL, OPERATION)
    assert (report.backups, report.damaged) == (len(OBJECTS), ())


async def test_today_the_same_is_written(tmp_path: Path) -> None:
    """If not, the format has changed: it wants another version, and a golden vault of that."""
    await make(tmp_path / "again")
    assert written(tmp_path / "again") == written(GOLDEN)


def written(folder: Path) -> list[Any]:
    """What frames say, without the bytes that zstd makes: another zstd makes others."""
    frames = [f for path in sorted((folder / "packs").iterdir()) for f in read_frames(path)]
    return [
        (f.record.key, f.record.sha256, f.record.codec, index_of(f.record.location), f.operation_id)
        for f in frames
    ]


# --------------------------------------------------------------------------- the page about the format


def pack() -> Path:
    (found,) = (GOLDEN / "packs").iterdir()
    return found


def test_the_program_of_the_page_reads_it() -> None:
    (code,) = blocks("python")
    scope: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), scope)
    found = {header["key"]: (header, data) for header, data in scope["objects"](pack())}
    assert {key: data for key, (_, data) in found.items()} == {key: data for key, data, _, _ in OBJECTS}
    assert found["users/2.json"][0]["version_id"] == "v2"


def example() -> tuple[bytes, bytes, Block]:
    """The block that the page takes apart: the frame, and what its body decodes to."""
    record = next(f.record for f in read_frames(pack()) if f.record.key == "users/1.json")
    _, offset, length = parse_location(record.location)
    frame = pack().read_bytes()[offset : offset + length]
    reader = FrameReader(reader_in(frame, offset), offset)
    assert reader.version == SOLID_VERSION
    stream = ZstdCompressor().decompressor()
    body = b"".join(stream.decompress(chunk) for chunk in reader.chunks())
    again = FrameReader(reader_in(frame, offset), offset)
    return frame, body, block_of(again, pack().stem, {"zstd": ZstdCompressor()})


def test_the_worked_example_of_the_page() -> None:
    frame, body, _ = example()
    dumps = re.findall(r"^```hexdump\n(.*?)^```$", section("A block, taken apart"), re.MULTILINE | re.DOTALL)
    assert dumps == [dumped(frame), dumped(body)]


def test_the_numbers_of_the_worked_example() -> None:
    """The two tables: each part with its place, and nothing between them."""
    frame, body, block = example()
    text = section("A block, taken apart")
    tables = text.split("| at |")[1:]
    assert len(tables) == 2
    for table, data in zip(tables, (frame, body), strict=True):
        at = 0
        for place, size in re.findall(r"^\| `([0-9a-f]{4})` \| (\d+) \|", table, re.MULTILINE):
            assert int(place, 16) == at
            at += int(size)
        assert at == len(data)
    assert [one.data for one in block.objects] == [data for _, data, _, _ in OBJECTS[:2]]
    length, size, sha256 = struct.unpack_from(">IQ32s", body, 4)
    assert json.loads(body[48 : 48 + length])["key"] == "users/1.json"
    assert (size, sha256) == (28, hashlib.sha256(OBJECTS[0][1]).digest())
    places = re.search(r"`:(\d+)` and `:(\d+)`", text)
    shares = re.search(r"count as (\d+) and (\d+) bytes", text)
    assert places is not None
    assert shares is not None
    assert [index_of(one.record.location) for one in block.objects] == [int(n) for n in places.groups()]
    assert list(block.shares) == [int(n) for n in shares.groups()]
