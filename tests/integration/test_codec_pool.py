"""Workers: right answers from many at once, and no harm from files that break one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

import codec_files as files
from s3gc.errors import VaultCorrupt, VaultError
from s3gc_codecs import POLICIES, Policy, Rule, WorkerPool

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.anyio

HARM = Policy("harm", (Rule("xz-1", ("text", "other")),), 3)
"""Sends everything to the codec of codec_doubles."""


def search_path() -> str:
    """Where workers find codec_doubles, before whatever was there."""
    return os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYTHONPATH", search_path())
    return "codec_doubles:doubles"


def order(word: str) -> bytes:
    """An object that makes the double do that, in two equal halves; zstd can't make it smaller than a
    half.
    """
    half = word.encode() + b" " + os.urandom(3000)
    return half + half


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def until(condition: object, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        await anyio.sleep(0.05)
    return False


async def test_many_objects_at_once_come_back_exactly() -> None:
    whole = [*files.jpegs(), *files.pngs(), *files.documents(), *files.rasters(), files.table(1500)]
    taken: dict[int, str] = {}

    async with WorkerPool(POLICIES["full"], workers=2) as pool:

        async def one(at: int) -> None:
            encoded = await pool.encode(whole[at])
            if encoded is not None:
                assert len(encoded.body) < len(whole[at])
                assert await pool.decode(encoded.name, encoded.body, len(whole[at])) == whole[at]
                taken[at] = encoded.name

        async with anyio.create_task_group() as group:
            for at in range(len(whole)):
                group.start_soon(one, at)
        pids = pool.pids
        assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
    assert set(taken.values()) == {
        "jpeg-lepton-1",
        "png-webp-1",
        "raster-webp-1",
        "deflate-1",
        "deflate-images-1",
        "xz-1",
    }
    assert len(taken) > 25


async def test_fast_takes_jpegs_only_and_plain_nothing() -> None:
    async with WorkerPool(POLICIES["fast"], workers=1) as pool:
        assert await pool.encode(files.pngs()[0]) is None
        assert pool.pids == ()  # nobody was asked
        encoded = await pool.encode(files.jpegs()[0])
        assert encoded is not None
        assert encoded.name == "jpeg-lepton-1"
    async with WorkerPool(POLICIES["plain"], workers=1) as pool:
        assert await pool.encode(files.jpegs()[0]) is None


@pytest.mark.parametrize("word", ["crash", "hang", "eat", "exit", "raise"])
async def test_a_file_that_breaks_its_worker_is_refused_and_the_next_one_is_not(
    doubles: str, word: str
) -> None:
    async with WorkerPool(HARM, workers=1, job_seconds=3, codecs=doubles, memory_bytes=4 << 30) as pool:
        begun = time.monotonic()
        assert await pool.encode(order(word)) is None
        assert time.monotonic() - begun < 10  # the worker's own clock, for when the pool is gone, is at 12
        fine = order("fine")
        encoded = await pool.encode(fine)
        assert encoded is not None
        assert await pool.decode(encoded.name, encoded.body, len(fine)) == fine
        with pytest.raises(VaultCorrupt):
            await pool.decode("xz-1", order(word), 100)
        assert await pool.decode(encoded.name, encoded.body, len(fine)) == fine


@pytest.mark.parametrize("word", ["lossy", "long"])
async def test_what_does_not_come_back_in_the_worker_is_refused(doubles: str, word: str) -> None:
    async with WorkerPool(HARM, workers=1, codecs=doubles) as pool:
        assert await pool.encode(order(word)) is None


async def test_more_bytes_than_asked_for_are_not_taken(doubles: str) -> None:
    async with WorkerPool(HARM, workers=1, codecs=doubles) as pool:
        with pytest.raises(VaultCorrupt, match="where 100 are the most"):
            await pool.decode("xz-1", b"long " + bytes(300), 100)


async def test_what_a_library_prints_is_no_answer(doubles: str) -> None:
    async with WorkerPool(HARM, workers=1, codecs=doubles) as pool:
        data = order("print")
        encoded = await pool.encode(data)
        assert encoded is not None
        assert await pool.decode("xz-1", encoded.body, len(data)) == data


async def test_what_zstd_makes_smaller_is_left_to_zstd(doubles: str) -> None:
    async with WorkerPool(HARM, workers=1, codecs=doubles) as pool:
        assert await pool.encode(b"fine fine" + bytes(5000) + b"fine fine" + bytes(5000)) is None


async def test_a_worker_that_was_killed_in_mid_job_is_replaced(doubles: str) -> None:
    async with WorkerPool(HARM, workers=1, codecs=doubles) as pool, anyio.create_task_group() as group:
        results: list[object] = []

        async def hang() -> None:
            results.append(await pool.encode(order("hang")))

        group.start_soon(hang)
        assert await until(lambda: pool.pids)
        await anyio.sleep(0.3)
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        assert await until(lambda: results)
        assert results == [None]
        assert await pool.encode(order("fine")) is not None
        assert pool.pids != (pid,)


async def test_a_cancelled_job_does_not_answer_the_next_one(doubles: str) -> None:
    async with WorkerPool(HARM, workers=1, codecs=doubles) as pool:
        await pool.encode(order("fine"))
        (pid,) = pool.pids
        with anyio.move_on_after(0.5):
            await pool.encode(order("hang"))
        assert gone(pid)
        data = order("after")
        encoded = await pool.encode(data)
        assert encoded is not None
        assert encoded.body == data[: len(data) // 2]


async def test_workers_are_spawned_with_a_limit_on_memory() -> None:
    async with WorkerPool(POLICIES["fast"], workers=1, memory_bytes=3 << 30) as pool:
        await pool.encode(files.jpegs()[0])
        (pid,) = pool.pids
        assert psutil.Process(pid).rlimit(psutil.RLIMIT_AS) == (3 << 30, 3 << 30)
        assert psutil.Process(pid).cmdline()[:4] == [sys.executable, "-P", "-m", "s3gc_codecs._worker"]


async def test_a_pool_that_is_not_open_says_so() -> None:
    with pytest.raises(VaultError, match="async with"):
        await WorkerPool().encode(files.jpegs()[0])


async def test_workers_that_do_not_start_are_an_error() -> None:
    async with WorkerPool(HARM, workers=1, codecs="nowhere:at_all") as pool:
        with pytest.raises(VaultError, match="doesn't start"):
            await pool.encode(order("fine"))


async def test_a_codec_that_is_not_here_is_named() -> None:
    async with WorkerPool(workers=1) as pool:
        with pytest.raises(VaultCorrupt, match="jpeg-jxl-9 isn't installed here"):
            await pool.decode("jpeg-jxl-9", b"body", 10)


PARENT = """
import sys
import anyio
from s3gc_codecs import Policy, Rule, WorkerPool

async def main():
    async with WorkerPool(
        Policy("harm", (Rule("xz-1", ("text", "other")),), 3), workers=1, codecs="codec_doubles:doubles"
    ) as pool:
        async with anyio.create_task_group() as group:
            if sys.argv[1] == "busy":
                group.start_soon(pool.encode, b"hang " + bytes(100))
            else:
                await pool.encode(b"fine " + bytes(100))
            while not pool.pids:
                await anyio.sleep(0.01)
            await anyio.sleep(0.2)
            print(*pool.pids, flush=True)
            await anyio.sleep(3600)

anyio.run(main)
"""


@pytest.fixture(params=["idle", "busy"])
def parent(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, request.param],
        env={**os.environ, "PYTHONPATH": search_path()},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_worker_outlives_a_pool_that_was_killed(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    pid = int(await anyio.to_thread.run_sync(parent.stdout.readline))
    assert psutil.pid_exists(pid)
    parent.kill()
    assert await until(lambda: gone(pid), 20)
