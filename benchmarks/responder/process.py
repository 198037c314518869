"""The responder as a subprocess, and its control endpoint as methods."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import frozen

from benchmarks.responder.control import PREFIX

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 300.0  # a fill of a million objects takes some seconds
_STOP_S = 10.0


@frozen
class Census:
    """What is in a bucket, against what a fill put there."""

    present: frozenset[int]  # numbers of the filled objects that are there unchanged
    others: int  # objects that no fill made, or that were changed
    some_others: Sequence[str]  # the keys of the first of them


@frozen
class Requests:
    """What the responder was asked since its last reset."""

    counts: Mapping[str, int]  # by operation
    bytes_in: int
    bytes_out: int
    most_open: int  # requests under way at once
    targets: Sequence[str]  # "GET /bucket/key…", if they were logged


class Responder:
    """A running responder on a free port of the loopback. Use it as a context manager."""

    def __init__(self, *, latency_ms: float = 0.0) -> None:
        """Remember what to start; nothing runs before ``with``."""
        self._latency_ms = latency_ms
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.responder", "--port", "0", "--until-stdin-closes"]
        command += ["--latency-ms", str(self._latency_ms)]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"the responder did not start (exit code {self._process.wait()})")
        self.port = int(line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    @property
    def endpoint(self) -> str:
        """The URL for ``endpoint_url``."""
        return f"http://127.0.0.1:{self.port}"

    def latency(self, ms: float) -> None:
        """Wait so many milliseconds before each request is handled."""
        self._command("latency", ms=ms)

    def fill(
        self,
        bucket: str,
        objects: int,
        size: int,
        *,
        age_s: int = 0,
        first: int = 0,
        step: int = 1,
        shape: str = "spread",
    ) -> None:
        """Put the objects first, first + step, … below ``objects``: ``size`` bytes, ``age_s`` seconds old.

        A census knows only those whose keys have the shape ``spread``.
        """
        part = {"first": first, "step": step, "shape": shape}
        self._command("fill", bucket=bucket, objects=objects, size=size, age_s=age_s, **part)

    def wipe(self, bucket: str) -> None:
        """Drop a bucket and all that is in it."""
        self._command("wipe", bucket=bucket)

    def count(self, bucket: str) -> int:
        """Objects in a bucket."""
        return int(self._command("count", bucket=bucket)["objects"])

    def census(self, bucket: str, objects: int, size: int) -> Census:
        """Compare a bucket with the fill of so many objects of this size."""
        found = self._command("census", bucket=bucket, objects=objects, size=size)
        bits = int(found["present"], 16)
        digits = f"{bits:b}"[::-1]
        present = frozenset(index for index, digit in enumerate(digits) if digit == "1")
        return Census(present, found["others"], found["some_others"])

    def requests(self) -> Requests:
        """What was asked since :meth:`reset`."""
        return Requests(**self._command("requests"))

    def reset(self, *, log: bool = False) -> None:
        """Count requests from nothing; with ``log`` keep what each asked for."""
        self._command("reset", log=log)

    def fault(self, **options: Any) -> None:
        """Make requests fail; the options are those of :class:`benchmarks.responder.faults.Fault`."""
        self._command("fault", **options)

    def clear_faults(self) -> None:
        """No more faults."""
        self._command("clear_faults")

    def _command(self, name: str, **options: Any) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        try:
            connection.request("POST", PREFIX + name, json.dumps(options))
            response = connection.getresponse()
            result: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"the responder refused {name}: {result['error']}")
        return result
