"""A vault with the real codecs in real workers: pictures and documents come back to the bit."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import codec_files as files
from codec_doubles import doubles as offered
from integration.test_codec_pool import HARM, gone, order, search_path, until
from s3gc.abc import ObjectCoder
from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.errors import VaultCorrupt
from s3gc.model import BackupRecord
from s3gc.testing.vault_contract import STORE_URL, read, store
from s3gc.vault import LocalVault
from s3gc_codecs import PoolCoder, WorkerPool, s3gc_open_coder

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vault_in(folder: Path, coder: ObjectCoder | None) -> LocalVault:
    return LocalVault(folder, compressors=[ZstdCompressor()], clock=SystemClock(), coder=coder)


def corpus() -> dict[str, bytes]:
    whole = [*files.jpegs(), *files.pngs(), *files.documents(), *files.rasters(), files.table(1500)]
    return {f"{at:03d}": data for at, data in enumerate(whole)} | {"text": b"text " * 99, "": b""}


async def both_ways(folder: Path, policy: str, objects: dict[str, bytes]) -> dict[str, BackupRecord]:
    """Written under a policy, read by a process that writes plainly."""
    vault = vault_in(folder, s3gc_open_coder(policy=policy))
    await vault.open(STORE_URL)
    records = await store(vault, objects)
    await vault.aclose()
    again = vault_in(folder, s3gc_open_coder(policy="plain"))
    await again.open(STORE_URL)
    for key, data in objects.items():
        assert await read(again, records[key]) == data
    check = await again.verify()
    assert (check.problems, check.backups) == ((), len(objects))
    await again.aclose()
    return records


async def test_all_codecs_give_back_every_byte(tmp_path: Path) -> None:
    objects = corpus()
    full = await both_ways(tmp_path / "full", "full", objects)
    assert {record.codec for record in full.values()} >= {
        "jpeg-lepton-1",
        "png-webp-1",
        "raster-webp-1",
        "xz-1",
        "store",
    }
    fast = await both_ways(tmp_path / "fast", "fast", objects)
    assert {record.codec for record in fast.values()} == {"jpeg-lepton-1", "zstd", "store"}
    plain = await both_ways(tmp_path / "plain", "plain", objects)
    assert {record.codec for record in plain.values()} == {"zstd", "store"}
    sizes = [sum(r.stored_size for r in some.values()) for some in (full, fast, plain)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("harm", ["crash", "hang", "eat", "exit", "raise", "lossy", "long"])
async def test_a_file_that_breaks_a_worker_is_left_to_zstd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", search_path())
    pool = WorkerPool(
        HARM,
        workers=2,
        memory_bytes=512 << 20,
        job_seconds=3.0 if harm == "hang" else 60.0,
        codecs="codec_doubles:doubles",
    )
    vault = vault_in(tmp_path / "vault", PoolCoder(HARM, pool=pool, offered=offered))
    await vault.open(STORE_URL)
    objects = {"bad": order(harm) + b"\0" * 40_000, "good": order("good") + b"\0" * 40_000}
    records = await store(vault, objects)
    assert records["bad"].codec in ("zstd", "store")
    for key, data in objects.items():
        assert await read(vault, records[key]) == data
    assert (await vault.verify()).ok
    pids = pool.pids
    await vault.aclose()
    for pid in pids:
        assert await until(lambda pid=pid: gone(pid))


async def test_the_loop_goes_on_while_workers_work(tmp_path: Path) -> None:
    vault = vault_in(tmp_path / "vault", s3gc_open_coder(policy="full"))
    await vault.open(STORE_URL)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        records = await store(vault, {"png": files.pngs()[0]})
        written, turns = turns, 0
        assert await read(vault, records["png"]) == files.pngs()[0]
        tasks.cancel_scope.cancel()
    assert min(written, turns) > 10
    await vault.aclose()


async def test_a_damaged_body_is_named_and_harms_nobody(tmp_path: Path) -> None:
    vault = vault_in(tmp_path / "vault", s3gc_open_coder(policy="full"))
    await vault.open(STORE_URL)
    objects = {"jpeg": files.jpegs()[0], "text": b"text " * 99, "png": files.pngs()[0]}
    records = await store(vault, objects)
    (pack,) = vault.packs_folder.iterdir()
    whole = bytearray(pack.read_bytes())
    offset, length = (int(n) for n in records["jpeg"].location.split(":")[1:])
    whole[offset + length // 2] ^= 4
    pack.write_bytes(whole)
    with pytest.raises(VaultCorrupt):
        await read(vault, records["jpeg"])
    for key in ("text", "png"):
        assert await read(vault, records[key]) == objects[key]
    check = await vault.verify()
    assert len(check.problems) == 1
    await vault.aclose()
