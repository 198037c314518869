"""One measurement each, in a process of its own, so that its peak memory is its own.

Each prints one JSON object: ``seconds``, ``cpu_seconds`` and ``objects`` of the measured part (imports and
start-up apart), and what else it has to say.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import define


@define
class Timer:
    """What a ``with`` block took: wall-clock seconds, and processor seconds of all threads."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Timer]:
    """Measure a block."""
    timer = Timer()
    begin, cpu = time.perf_counter(), time.process_time()
    yield timer
    timer.seconds, timer.cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu


def arguments(*more: str) -> argparse.Namespace:
    """The endpoint and bucket to work on, and further options that take one value."""
    parser = argparse.ArgumentParser()
    for name in ("endpoint", "bucket", *more):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def report(**values: Any) -> None:
    """Print what was measured."""
    print(json.dumps(values))
