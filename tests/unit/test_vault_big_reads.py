"""A large backup is read back once, not twice."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.vault import LocalVault, _fs

pytestmark = pytest.mark.anyio

MIB = 1 << 20
SIZE = 16 * MIB


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(SIZE // MIB):
        yield os.urandom(MIB)


async def test_each_chunk_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = LocalVault(tmp_path / "vault", compressors=[ZstdCompressor()], clock=SystemClock())
    await vault.open("s3://b")
    info = ObjectInfo("k", SIZE, "e", datetime.now(UTC))
    read = 0
    real = _fs.read_at

    def counted(fd: int, size: int, offset: int) -> bytes:
        nonlocal read
        data = real(fd, size, offset)
        read += len(data)
        return data

    async with vault.session("01K00000000000000000000000") as session:
        await session.add(info, ObjectAttributes(), pieces())
        monkeypatch.setattr(_fs, "read_at", counted)
        await session.commit()
    assert SIZE <= read < 1.1 * SIZE
    await vault.aclose()
