"""How late somebody is who only wants to sleep for 5 ms, again and again.

``python -m benchmarks.workers.lateness``: in a process that does nothing else, until its stdin closes. What
is late here, too, is the machine's doing.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Sequence

from benchmarks.workers import report

PAUSE = 0.005
"""Seconds between two looks."""


class Lateness:
    """What somebody was late, in seconds, each with its time (``perf_counter``, which processes share)."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []
        self._stopped = False

    def stop(self) -> None:
        """No further looks."""
        self._stopped = True

    def in_thread(self) -> None:
        """Sleep in the caller's thread until stopped."""
        while not self._stopped:
            begun = time.perf_counter()
            time.sleep(PAUSE)
            self.seen.append((begun, time.perf_counter() - begun - PAUSE))

    async def in_loop(self) -> None:
        """Sleep on the caller's event loop until stopped."""
        while not self._stopped:
            begun = time.perf_counter()
            await asyncio.sleep(PAUSE)
            self.seen.append((begun, time.perf_counter() - begun - PAUSE))

    def between(self, begin: float, end: float) -> Sequence[float]:
        """In milliseconds, what was seen between two times, sorted."""
        return sorted(1000 * late for at, late in self.seen if begin <= at < end)


def main() -> None:
    """Tell what was seen when stdin closes."""
    lateness = Lateness()
    thread = threading.Thread(target=lateness.in_thread)
    thread.start()
    sys.stdin.read()
    lateness.stop()
    thread.join()
    report(seen=lateness.seen)


if __name__ == "__main__":
    main()
