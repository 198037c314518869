"""One measurement each, in a process of its own, so that its peak memory is its own.

Each prints one JSON object: ``seconds`` and ``objects`` of the measured part (imports and start-up apart),
and what else it has to say.
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
    """Wall-clock seconds of a ``with`` block."""

    seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Timer]:
    """Measure a block."""
    timer = Timer()
    begin = time.perf_counter()
    yield timer
    timer.seconds = time.perf_counter() - begin


def arguments(*more: str) -> argparse.Namespace:
    """The endpoint and bucket to work on, and further options that take one value."""
    parser = argparse.ArgumentParser()
    for name in ("endpoint", "bucket", *more):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def report(**values: Any) -> None:
    """Print what was measured."""
    print(json.dumps(values))
