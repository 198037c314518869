"""``python -m benchmarks.host``: how late a host's event loop is while its admin backs up large objects.

The application is a process of its own, and so is the S3 server. Beside its event loop a thread of it that
only sleeps is watched, and a process that only sleeps: what is late there, too, isn't the loop's fault, or
not even the application's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
from attrs import frozen

from benchmarks.measure import ROOT, environment
from benchmarks.responder.content import key
from benchmarks.responder.process import Responder
from benchmarks.workers.s3gc_host import KEY

LIMIT_MS = 50.0
_BUCKET = "large"
_MIB = 1 << 20
_BASE = "/admin/s3gc"


@frozen
class Seen:
    """How late somebody was, in milliseconds."""

    who: str
    p99: float
    worst: float
    above: int  # how often above the limit

    @classmethod
    def of(cls, who: str, late: Sequence[float]) -> Seen:
        """From all looks, sorted."""
        return cls(who, late[int(len(late) * 0.99)], late[-1], sum(each > LIMIT_MS for each in late))


@contextmanager
def _process(module: str, *options: str, endpoint: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.workers.{module}", *options],
        cwd=ROOT,
        env=environment(endpoint),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
        process.wait(60)


def _fill(responder: Responder, objects: int, size: int, text: bool) -> None:
    """``objects`` that nobody names, and a live one."""
    responder.wipe(_BUCKET)
    responder.fill(_BUCKET, objects, 0 if text else size)
    client = boto3.client(
        "s3",
        endpoint_url=responder.endpoint,
        region_name="us-east-1",
        aws_access_key_id="benchmark",
        aws_secret_access_key="benchmark",
    )
    client.put_object(Bucket=_BUCKET, Key="live", Body=b"live")
    if text:
        line = random.Random(8).randbytes(_MIB // 2).hex().encode()
        for index in range(objects):
            body = (line[index * 1000 :] + line * (size // len(line) + 1))[:size]
            client.put_object(Bucket=_BUCKET, Key=key(index), Body=body)


def _cycle(client: httpx.Client, objects: int) -> tuple[float, float]:
    """One cycle to its end, and when it began and ended."""
    begin = client.get("/now").json()
    accepted = client.post(f"{_BASE}/run").raise_for_status().json()
    while client.get(f"{_BASE}/status").raise_for_status().json()["running"]:
        time.sleep(0.25)
    answer = client.get(f"{_BASE}/operations/{accepted['operation_id']}").raise_for_status().json()
    end = client.get("/now").json()
    operation = answer["operation"]
    assert (operation["state"], operation["counts"]["deleted"]) == ("completed", objects), operation
    return begin, end


def measure(folder: Path, objects: int, size: int, *, text: bool) -> tuple[list[Seen], float, float]:
    """Who was how late during a cycle; its seconds; the application's peak memory in MiB."""
    with sqlite3.connect(folder / "app.db") as database:
        database.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, location TEXT)")
        database.execute("INSERT INTO files (location) VALUES ('live')")
    database.close()
    with Responder() as responder:
        _fill(responder, objects, size, text)
        at = responder.endpoint
        options = ("--endpoint", at, "--bucket", _BUCKET, "--folder", str(folder))
        with (
            _process("lateness", endpoint=at) as sleeper,
            _process("s3gc_host", *options, endpoint=at) as host,
        ):
            assert host.stdout is not None
            address = f"http://127.0.0.1:{int(host.stdout.readline())}"
            headers = {"authorization": f"Bearer {KEY}"}
            retries = httpx.HTTPTransport(retries=8)
            with httpx.Client(base_url=address, timeout=120, headers=headers, transport=retries) as client:
                while not client.get(f"{_BASE}/status").json()["open"]:
                    time.sleep(0.1)
                begin, end = _cycle(client, objects)
                answer = client.get("/lateness", params={"begin": begin}).json()
            said, _ = sleeper.communicate()
            alone = sorted(1000 * late for when, late in json.loads(said)["seen"] if begin <= when < end)
    seen = [
        Seen.of("the event loop", answer["loop"]),
        Seen.of("a thread that sleeps", answer["thread"]),
        Seen.of("a process that sleeps", alone),
    ]
    return seen, end - begin, answer["peak"] / _MIB


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 if the loop was late while a process that only sleeps was not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host", description=__doc__)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--mb", type=int, default=100, help="size of each")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=["noise", "text"])
    options: Any = parser.parse_args(arguments)
    slow = False
    print(f"| bytes | ms late, p99 | worst | above {LIMIT_MS:.0f} ms | |\n|---|---:|---:|---:|---|")
    for _ in range(options.rounds):
        for kind in ("noise", "text"):
            if options.only not in (None, kind):
                continue
            with tempfile.TemporaryDirectory(prefix="s3gc-benchmark-") as folder:
                seen, seconds, peak = measure(
                    Path(folder), options.objects, options.mb * 1_000_000, text=kind == "text"
                )
            for each in seen:
                print(f"| {kind} | {each.p99:.1f} | {each.worst:.1f} | {each.above} | {each.who} |")
            print(
                f"| {kind} | {seconds:.1f} s | {peak:.0f} MiB | | the cycle, and the peak memory |",
                flush=True,
            )
            loop, _, alone = seen
            slow = slow or loop.worst > LIMIT_MS + alone.worst
    print(f"\n{options.objects} objects of {options.mb} MB, load {os.getloadavg()[0]:.1f} at the end")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
