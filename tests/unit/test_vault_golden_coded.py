"""A vault with frames of version 2 is read for ever: ``tests/data/vault-v2``."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from s3gc.abc import ObjectCoder
from s3gc.compressors import ZstdCompressor
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.testing.vault_contract import backed_up, entries, pieces, read
from s3gc.vault import LocalVault, read_frames, record_from_json
from s3gc_codecs import s3gc_open_coder
from unit.test_vault_golden import OPERATION, STORE_URL, WHEN, FixedClock

GOLDEN = Path(__file__).parents[1] / "data" / "vault-v2"

CODECS = {"photo.jpg": "jpeg-lepton-1", "table.csv": "xz-1", "notes.txt": "zstd"}
SHA256 = {
    "photo.jpg": "924535c035b023f388cb7e9ba28f1a72f5fcd21ed27e79dc96e3717a6a014bca",
    "table.csv": "f9b0adcce6f57e559a4def0d70fdf2f7f4f5cde3b933ad362a19889fb1c858eb",
    "notes.txt": "0796152d6c99eb14fb5ab73093b1279bd6bc2ae0a740e3e4c8d40cbf3353468d",
}

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vault_in(folder: Path, policy: str) -> LocalVault:
    coder: ObjectCoder | None = s3gc_open_coder(policy=policy)
    return LocalVault(folder, compressors=[ZstdCompressor()], clock=FixedClock(), coder=coder)


async def make(folder: Path, objects: dict[str, bytes]) -> None:
    """How the golden vault was made, of three files of tests/codec_files.py."""
    vault = vault_in(folder, "full")
    await vault.open(STORE_URL)
    async with vault.session(OPERATION) as session:
        for n, (key, data) in enumerate(objects.items()):
            info = ObjectInfo(key, len(data), f"etag-{n}", WHEN)
            await session.add(info, ObjectAttributes(content_type="x/y"), pieces(data))
        records = await session.commit()
    await vault.journal.append(backed_up(records))
    await vault.aclose()


async def test_the_golden_vault_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    shutil.copytree(GOLDEN, folder)
    vault = vault_in(folder, "plain")
    await vault.open(STORE_URL, create=False)
    assert (await vault.journal.verify()).ok
    found = {str(e.key): record_from_json(e.data["backup"]) for e in await entries(vault)}
    assert {key: record.codec for key, record in found.items()} == CODECS
    contents = {key: await read(vault, record) for key, record in found.items()}
    assert {key: hashlib.sha256(data).hexdigest() for key, data in contents.items()} == SHA256
    assert (await vault.verify()).ok
    await vault.aclose()
    await make(tmp_path / "again", contents)  # today the same is written, but for what a library makes
    assert written(tmp_path / "again") == written(GOLDEN)


def written(folder: Path) -> list[tuple[str, str, str, str]]:
    frames = [f for path in sorted((folder / "packs").iterdir()) for f in read_frames(path)]
    return sorted((f.record.key, f.record.sha256, f.record.codec, f.operation_id) for f in frames)


def test_what_their_frames_require() -> None:
    (pack,) = (GOLDEN / "packs").iterdir()
    data = pack.read_bytes()
    requires = {}
    for frame in read_frames(pack):
        start = data[frame.offset :]
        version, length = int.from_bytes(start[8:10]), int.from_bytes(start[12:16])
        header = start[56 : 56 + length]
        requires[frame.record.key] = (version, header.partition(b'"requires":')[2].partition(b"}")[0])
    assert requires["table.csv"] == (2, b"{")
    assert requires["photo.jpg"][1].startswith(b'{"lepton_jpeg_python":"')
    assert requires["notes.txt"] == (1, b"")
