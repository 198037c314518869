"""A body read ahead: in order, hashed before it is given out, bounded, no thread for who pauses."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from s3gc.errors import StoreError
from s3gc.stores.s3._ahead import AHEAD_BYTES, ReadAhead
from s3gc.stores.s3._checksums import Checks
from s3gc.stores.s3._transport import Lost, Rest

MIB = 1 << 20
DATA = random.Random(5).randbytes(9 * MIB + 17)


class Body:
    """What a connection gives, at the pace that a test wants."""

    def __init__(self, data: bytes, *, fails_at: int = -1, wait: float = 0.0) -> None:
        self._data = data
        self._at = 0
        self._fails_at = fails_at
        self._wait = wait
        self.reads = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def read(self, most: int) -> bytes:
        self.reads += 1
        time.sleep(self._wait)
        if 0 <= self._fails_at <= self._at:
            raise Lost("cut off")
        data = self._data[self._at : self._at + most]
        self._at += len(data)
        return data


class SlowSum(Checks):
    """Hashes slower than anybody reads, and notes what."""

    def __init__(self, wait: float) -> None:
        super().__init__({}, hashlib.md5(DATA).hexdigest())
        self._wait = wait
        self.seen: list[bytes] = []

    def update(self, data: bytes) -> None:
        time.sleep(self._wait)
        super().update(data)
        self.seen.append(data)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def ahead(body: Body, checks: Checks, executor: ThreadPoolExecutor, *, first: int = 1000) -> ReadAhead:
    start = body.read(first)
    return ReadAhead(start, cast(Rest, body), checks, MIB, executor)


def take_all(read: ReadAhead, pieces: list[bytes], pause: float = 0.0) -> None:
    while piece := read.take():
        time.sleep(pause)
        pieces.append(piece)


def all_of(read: ReadAhead, pause: float = 0.0) -> list[bytes]:
    pieces: list[bytes] = []
    take_all(read, pieces, pause)
    return pieces


@pytest.mark.parametrize(
    ("reading", "hashing", "taking"), [(0, 0, 0), (0.005, 0, 0), (0, 0.005, 0), (0, 0, 0.005)]
)
def test_whoever_is_slow_the_bytes_are_the_same(
    executor: ThreadPoolExecutor, reading: float, hashing: float, taking: float
) -> None:
    checks = SlowSum(hashing)
    pieces = all_of(ahead(Body(DATA, wait=reading), checks, executor), taking)
    assert b"".join(pieces) == DATA
    assert checks.seen == pieces
    assert checks.failed() is None


def test_nothing_is_given_out_before_it_is_hashed(executor: ThreadPoolExecutor) -> None:
    checks = SlowSum(0.002)
    read = ahead(Body(DATA), checks, executor)
    taken = 0
    while read.take():
        taken += 1
        assert len(checks.seen) >= taken


def test_what_nothing_checks_is_not_hashed(executor: ThreadPoolExecutor) -> None:
    assert b"".join(all_of(ahead(Body(DATA), Checks({}, None), executor))) == DATA


def test_who_pauses_holds_no_thread_and_little_memory(executor: ThreadPoolExecutor) -> None:
    """Many more bodies than threads, all begun and none read on: each goes on when it is its turn."""
    bodies = [Body(DATA) for _ in range(8)]
    reads = [ahead(body, SlowSum(0), executor) for body in bodies]
    firsts = [read.take() for read in reads]
    deadline = time.monotonic() + 20
    while any(body.reads < 4 for body in bodies):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    executor.submit(lambda: None).result(20)  # a thread is free
    assert all(len(DATA) - body.left <= AHEAD_BYTES + 2 * MIB for body in bodies)
    for first, read in reversed(list(zip(firsts, reads, strict=True))):
        assert first + b"".join(all_of(read)) == DATA


@pytest.mark.parametrize("checked", [True, False])
def test_what_came_before_the_fault_is_given_out(executor: ThreadPoolExecutor, checked: bool) -> None:
    body = Body(DATA, fails_at=3 * MIB)
    read = ahead(body, SlowSum(0.002) if checked else Checks({}, None), executor)
    got: list[bytes] = []
    with pytest.raises(Lost, match="cut off"):
        take_all(read, got)
    assert b"".join(got) == DATA[: 3 * MIB + 1000]
    reads = body.reads
    with pytest.raises(Lost, match="cut off"):
        read.take()
    assert body.reads == reads


def test_one_that_is_stopped_reads_no_further(executor: ThreadPoolExecutor) -> None:
    body = Body(DATA, wait=0.02)
    read = ahead(body, SlowSum(0.02), executor)
    read.take()
    assert read.stop()
    read.wait()
    reads = body.reads
    executor.submit(lambda: None).result(20)
    time.sleep(0.05)
    assert body.reads == reads
    assert not read.stop()


def test_one_whose_turn_has_not_come_is_stopped_at_once() -> None:
    with ThreadPoolExecutor(1) as executor:
        go = threading.Event()
        executor.submit(go.wait)
        body = Body(DATA)
        read = ahead(body, SlowSum(0), executor)
        assert read.take_now() is None
        assert not read.stop()
        read.wait()
        go.set()
    assert body.reads == 1


def test_a_closed_store_says_so(executor: ThreadPoolExecutor) -> None:
    read = ahead(Body(DATA), SlowSum(0), executor)
    executor.shutdown()
    with pytest.raises(StoreError, match="the store is closed"):
        read.take()


def test_a_store_closed_while_a_body_waits_loses_nothing_that_was_read(executor: ThreadPoolExecutor) -> None:
    read = ahead(Body(DATA), SlowSum(0), executor)
    got = [read.take()]
    executor.shutdown()
    with pytest.raises(StoreError, match="the store is closed"):
        take_all(read, got)
    assert DATA.startswith(b"".join(got))
