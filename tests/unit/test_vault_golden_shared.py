"""A vault with backups that share bytes is read for ever: ``tests/data/vault-v2-shared``."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from s3gc.compressors import ZstdCompressor
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.testing.vault_contract import backed_up, entries, pieces, read
from s3gc.vault import LocalVault, read_frames, record_from_json
from unit.test_vault_golden import DOCS, OPERATION, STORE_URL, WHEN, FixedClock, blocks

GOLDEN = Path(__file__).parents[1] / "data" / "vault-v2-shared"
DATA = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) + b"".join(
    hashlib.sha256(bytes([n, n])).digest() for n in range(20)
)
OBJECTS = {"first": DATA, "second": DATA, "other": b"text " * 99}

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vault_in(folder: Path) -> LocalVault:
    return LocalVault(folder, compressors=[ZstdCompressor()], clock=FixedClock())


async def make(folder: Path) -> None:
    """How the golden vault was made; the index beside the journal was removed."""
    vault = vault_in(folder)
    await vault.open(STORE_URL)
    async with vault.session(OPERATION) as session:
        for n, (key, data) in enumerate(OBJECTS.items()):
            info = ObjectInfo(key, len(data), f"etag-{n}", WHEN)
            await session.add(info, ObjectAttributes(), pieces(data))
        records = await session.commit()
    await vault.journal.append(backed_up(records))
    await vault.aclose()


async def test_the_golden_vault_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    shutil.copytree(GOLDEN, folder)
    vault = vault_in(folder)
    await vault.open(STORE_URL, create=False)
    found = {str(e.key): record_from_json(e.data["backup"]) for e in await entries(vault)}
    assert {key: record.codec for key, record in found.items()} == {
        "first": "store",
        "second": "same",
        "other": "zstd",
    }
    for key, data in OBJECTS.items():
        assert await read(vault, found[key]) == data
    assert (await vault.verify()).ok
    await vault.aclose()
    await make(tmp_path / "again")
    assert written(tmp_path / "again") == written(GOLDEN)


def written(folder: Path) -> list[tuple[str, str, str, int]]:
    frames = [f for path in sorted((folder / "packs").iterdir()) for f in read_frames(path)]
    return [(f.record.key, f.record.sha256, f.record.codec, f.offset) for f in frames]


def test_the_program_of_the_page_reads_it() -> None:
    (code,) = blocks("python")
    scope: dict[str, object] = {}
    exec(compile(code, str(DOCS), "exec"), scope)
    (pack,) = (GOLDEN / "packs").iterdir()
    found = {header["key"]: data for header, data in scope["objects"](pack)}  # type: ignore[operator]
    assert found == OBJECTS | {"second": b""}
