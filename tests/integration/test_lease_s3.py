"""The lease on real stores: moto behind our S3 client, and a folder. Processes really stop and die."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from fixtures_s3 import ACCESS_KEY, SECRET_KEY, S3Client, S3Server, bucket, s3_server, truth  # noqa: F401
from s3gc.abc import ObjectStore
from s3gc.clock import SystemClock
from s3gc.errors import LeaseHeld, LeaseLost
from s3gc.lease import LEASE_PREFIX, bucket_lease
from s3gc.safety import Safety
from s3gc.stores.obstore import open_file_store

pytestmark = pytest.mark.anyio

SAFETY = Safety.none()
SCRIPT = Path(__file__).with_name("lease_child.py")
SHORT = Safety.none().but(lease_ttl=timedelta(seconds=3), lease_margin=timedelta(seconds=1))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ids(name: str) -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"{name} {os.getpid()} {next(numbers)}"


def lease(store: ObjectStore, holder: str, safety: Safety = SAFETY) -> Any:
    return bucket_lease(store, SystemClock(), safety, holder=holder, new_id=ids(holder))


@pytest.fixture(params=["probed", "not probed", "folder"])
async def store(
    request: pytest.FixtureRequest, s3_server: S3Server, bucket: str, tmp_path: Path
) -> AsyncIterator[ObjectStore]:
    opened: ObjectStore
    if request.param == "folder":
        (tmp_path / "bucket").mkdir()
        opened = open_file_store(tmp_path / "bucket")
    else:
        opened = s3_server.store(bucket)
    if request.param == "probed":
        await opened.probe()
    yield opened
    await opened.aclose()


async def keys(store: ObjectStore) -> list[str]:
    return [info.key async for page in store.list(LEASE_PREFIX) for info in page]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_from_hand_to_hand(store: ObjectStore) -> None:
    for number in (1, 2):
        async with lease(store, f"holder {number}") as held:
            assert held.token == number
            await held.before_delete()
            await held.keep()
            await held.confirm()
            with pytest.raises(LeaseHeld, match=f"holder {number}, process {os.getpid()}"):
                async with lease(store, "another"):
                    raise AssertionError
            await held.confirm()
        assert await keys(store) == [f"{LEASE_PREFIX}{number:012d}"]


async def test_a_living_holder_keeps_it_beyond_its_age(s3_server: S3Server, bucket: str) -> None:
    store = s3_server.store(bucket)
    async with lease(store, "A", SHORT) as held:
        for _ in range(10):
            await anyio.sleep(0.5)
            await held.keep()
        with pytest.raises(LeaseHeld):
            async with lease(store, "B", SHORT):
                raise AssertionError
    await store.aclose()


async def test_a_holder_that_came_back_too_late(store: ObjectStore) -> None:
    async with lease(store, "A", SHORT) as late:
        await late.before_delete()
        await anyio.sleep(4.5)  # last-modified has whole seconds in S3
        began = time.monotonic()
        async with lease(store, "B", SHORT) as held:
            assert time.monotonic() - began >= 1, "it waits for what A may still send"
            assert held.token == 2
            for method in (late.before_delete, late.keep, late.confirm):
                with pytest.raises(LeaseLost):
                    await method()
            await held.before_delete()
    async with lease(store, "C") as held:
        assert held.token == 3


def contend(make: Callable[[], ObjectStore], name: str, end: threading.Event, spans: list[Any]) -> None:
    """Take the lease as often as possible; note from when to when."""

    async def run() -> None:
        opened = make()
        await opened.probe()
        while not end.is_set():
            with contextlib.suppress(LeaseHeld):
                async with lease(opened, name) as held:
                    await held.before_delete()
                    began = time.monotonic()
                    await anyio.sleep(0.02)
                    await held.confirm()
                    spans.append((began, time.monotonic(), held.token, name))
                    if len(spans) >= 12:
                        end.set()
            await anyio.sleep(0.01)
        await opened.aclose()

    anyio.run(run)


def test_many_want_it_and_one_at_a_time_has_it(s3_server: S3Server, bucket: str) -> None:
    end = threading.Event()
    spans: list[Any] = []
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            contend(lambda: s3_server.store(bucket), name, end, spans)
        except BaseException as error:
            failed.append(error)
            end.set()
            raise

    threads = [threading.Thread(target=work, args=(name,)) for name in "ABCD"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []
    spans.sort()
    tokens = [token for _, _, token, _ in spans]
    assert tokens == sorted(set(tokens))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert len(spans) >= 12


# --------------------------------------------------------------------------- processes


class Child:
    """Another process with the lease."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), endpoint, name, ACCESS_KEY, SECRET_KEY, "3", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.token = int(self._line())

    def ask(self) -> str:
        """Whether it would delete now."""
        assert self.process.stdin is not None
        self.process.stdin.write("delete\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)


@pytest.fixture
def start(s3_server: S3Server, bucket: str) -> Iterator[Callable[[], Child]]:
    children: list[Child] = []

    def begin() -> Child:
        children.append(Child(s3_server.endpoint_url, bucket))
        return children[-1]

    yield begin
    for one in children:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(30)
        for stream in (one.process.stdin, one.process.stdout):
            if stream is not None:
                stream.close()


def content(truth: S3Client, name: str, number: int) -> dict[str, Any]:
    body = truth.get_object(Bucket=name, Key=f"{LEASE_PREFIX}{number:012d}")["Body"].read()
    found: dict[str, Any] = json.loads(body)
    return found


async def test_a_stopped_process_that_wakes_up_late_deletes_nothing(
    s3_server: S3Server, bucket: str, truth: S3Client, start: Callable[[], Child]
) -> None:
    other = start()
    assert (other.token, other.ask()) == (1, "may delete")
    os.kill(other.process.pid, signal.SIGSTOP)
    store = s3_server.store(bucket)
    with pytest.raises(LeaseHeld, match=f"child, process {other.process.pid}"):
        async with lease(store, "A", SHORT):
            raise AssertionError
    await anyio.sleep(4.5)
    async with lease(store, "A", SHORT) as held:
        assert held.token == 2
        os.kill(other.process.pid, signal.SIGCONT)
        assert other.ask() == "LeaseLost"
        await held.before_delete()
        assert other.end() == 0
        assert content(truth, bucket, 2)["released"] is False, "its end has released nothing of ours"
    assert content(truth, bucket, 2)["released"] is True
    await store.aclose()


async def test_after_a_kill_the_same_machine_goes_on_at_once(
    s3_server: S3Server, bucket: str, start: Callable[[], Child]
) -> None:
    other = start()
    other.process.kill()
    other.process.wait(30)
    store = s3_server.store(bucket)
    with pytest.raises(LeaseHeld):
        async with lease(store, "A"):
            raise AssertionError
    again = start()
    assert (again.token, again.ask()) == (2, "may delete")
    assert again.end() == 0
    async with lease(store, "A") as held:
        assert held.token == 3
    await store.aclose()
