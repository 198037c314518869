"""The benchmark notices wrong work, and its figures are what they say."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from benchmarks.cases import Bench, Sample, WrongResult, expect_left
from benchmarks.measure import ProgramFailed, run
from benchmarks.responder.content import key
from benchmarks.responder.process import Responder
from benchmarks.run import main
from benchmarks.table import summarise, tables

Fault = Callable[[Responder], None]
SIZE = 4096


@pytest.fixture(scope="module")
def server() -> Iterator[Responder]:
    with Responder() as responder:
        yield responder


def send(method: str, name: str, body: bytes | None = None) -> Fault:
    """A write past everyone's back."""

    def fault(responder: Responder) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", responder.port)
        connection.request(method, f"/b/{quote(name)}", body)
        assert connection.getresponse().status in (200, 204)
        connection.close()

    return fault


@pytest.fixture
def bench(server: Responder, tmp_path: Path) -> Bench:
    server.wipe("b")
    server.fill("b", 10, SIZE)
    return Bench(server, tmp_path, 10)


def test_a_right_collection_passes(bench: Bench) -> None:
    for index in range(1, 10, 2):
        send("DELETE", key(index))(bench.responder)
    expect_left(bench, "b", frozenset(range(0, 10, 2)))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (send("DELETE", key(4)), "gone or changed"),
        (send("PUT", key(4), b"x"), "gone or changed"),
        (send("PUT", ".s3gc/left", b"x"), "nobody's"),
    ],
)
def test_a_wrong_collection_is_noticed(bench: Bench, fault: Fault, why: str) -> None:
    fault(bench.responder)
    with pytest.raises(WrongResult, match=why):
        expect_left(bench, "b", frozenset(range(10)))


def test_an_object_too_many_is_noticed(bench: Bench) -> None:
    with pytest.raises(WrongResult, match="must be gone"):
        expect_left(bench, "b", frozenset(range(9)))


def test_ratios_are_taken_within_each_round() -> None:
    def sample(case: str, seconds: float) -> Sample:
        return Sample(case, 0.0, 100, seconds, 0.5, 1 << 20, 1)

    # The machine was three times slower in the second round: the ratio is 2 in all of them.
    rounds = [(1.0, 2.0), (3.0, 6.0), (1.0, 2.0)]
    samples = [
        s for mine, theirs in rounds for s in (sample("s3gc-list", mine), sample("boto3-list", theirs))
    ]
    rows = {row.case: row for row in summarise(samples)}
    assert rows["s3gc-list"].ratios == {"boto3-list": 2.0}
    assert (rows["s3gc-list"].rate, rows["boto3-list"].rate) == (100.0, 50.0)
    assert "| s3gc list       |       100 |              2.00 |" in tables(list(rows.values()))


def test_a_small_run_gives_figures(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    options = ["--objects", "1500", "--rounds", "2", "--latency-ms", "0", "--json", str(results)]
    assert main([*options, "--only", "raw-list", "boto3-list"]) == 0
    document = json.loads(results.read_text())
    assert [(row["case"], row["objects"], row["rounds"], row["requests"]) for row in document["rows"]] == [
        ("raw-list", 1500, 2, 2),
        ("boto3-list", 1500, 2, 2),
    ]


def test_a_program_that_fails_ends_the_run() -> None:
    with pytest.raises(ProgramFailed, match="no such file"):
        run(["sh", "-c", "echo no such file >&2; exit 3"], {})


def test_peak_memory_is_the_programs_own() -> None:
    """A process inherits the peak of the one that starts it; ours must not show."""
    ours = bytearray(100 << 20)
    small = run([sys.executable, "-c", "print('done')"], os.environ)
    large = run([sys.executable, "-c", "x = bytearray(200 << 20)"], os.environ)
    assert len(ours) > small.peak_bytes
    assert large.peak_bytes > 200 << 20
    assert (small.lines, small.last_line) == (1, "done\n")
