"""Work on large objects takes turns at the processor, so that the host's event loop gets its own."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from s3gc import _processor
from s3gc.abc import Compressor, CompressStream, DecompressStream
from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.stores.s3 import _ahead
from s3gc.stores.s3._ahead import ReadAhead
from s3gc.vault import LocalVault, _large

MIB = 1 << 20
TEXT = random.Random(3).randbytes(5 * MIB).hex().encode()


class Crowd:
    """Who is at work at the same time. Each stays until another one comes, or for a moment."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.inside = self.most = self.visits = 0
        self.who: set[str] = set()

    def work(self, who: str) -> None:
        with self.lock:
            self.inside += 1
            self.visits += 1
            self.who.add(who)
            self.most = max(self.most, self.inside)
            self.lock.notify_all()
            self.lock.wait_for(lambda: self.most > 1, timeout=0.01)
            self.inside -= 1


class Codec(ZstdCompressor):
    """Tells when it is at work."""

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(1)
        self.crowd = crowd

    def compressor(self, size: int) -> CompressStream:
        stream = super().compressor(size)
        return cast(Any, SimpleNamespace(compress=self._told("encode", stream.compress), flush=stream.flush))

    def decompressor(self) -> DecompressStream:
        stream = super().decompressor()
        return cast(Any, SimpleNamespace(decompress=self._told("prove", stream.decompress)))

    def _told(self, who: str, work: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        def told(data: bytes) -> bytes:
            self.crowd.work(who)
            return work(data)

        return told


def told_hash(crowd: Crowd) -> Any:
    def sha256() -> Any:
        real = hashlib.sha256()

        def update(data: bytes) -> None:
            crowd.work("hash")
            real.update(data)

        return SimpleNamespace(update=update, digest=real.digest)

    return SimpleNamespace(sha256=sha256)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), MIB):
        yield data[begin : begin + MIB]


def test_stages_and_objects_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()
    codec: Compressor = Codec(crowd)
    monkeypatch.setattr(_large, "TURN", threading.BoundedSemaphore(1))
    monkeypatch.setattr(_large, "hashlib", told_hash(crowd))

    async def story() -> None:
        vault = LocalVault(tmp_path / "vault", compressors=[codec], clock=SystemClock())
        await vault.open("s3://b")
        async with vault.session("01K00000000000000000000000") as session, anyio.create_task_group() as tasks:
            for key in "ab":
                info = ObjectInfo(key, len(TEXT), "e", datetime.now(UTC))
                tasks.start_soon(session.add, info, ObjectAttributes(), pieces(TEXT))
        await vault.aclose()

    anyio.run(story)
    assert crowd.who == {"encode", "hash", "prove"}
    assert crowd.visits > 50
    assert crowd.most == 1


def test_bodies_that_are_read_take_turns_to_be_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()
    monkeypatch.setattr(_ahead, "TURN", threading.BoundedSemaphore(1))
    checks = cast(Any, SimpleNamespace(update=lambda data: crowd.work("check")))

    class Rest:
        left = 20

        def read(self, most: int) -> bytes:
            self.left -= 1
            return b"x"

    with ThreadPoolExecutor(8) as threads:
        bodies = [ReadAhead(b"", cast(Any, Rest()), checks, 1, threads) for _ in range(4)]
        with ThreadPoolExecutor(4) as callers:
            for read in [
                callers.submit(lambda body=body: [body.take() for _ in range(20)]) for body in bodies
            ]:
                assert read.result() == [b"x"] * 20
    assert crowd.visits == 80
    assert crowd.most == 1


def test_there_are_as_many_turns_as_processors() -> None:
    assert _processor.TURN._initial_value == _processor.processors()  # type: ignore[attr-defined]
    assert _large.TURN is _ahead.TURN is _processor.TURN
