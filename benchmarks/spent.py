"""What a piece of work took of this process: time, processor, memory."""

from __future__ import annotations

import time
from pathlib import Path

from attrs import frozen


@frozen
class Spent:
    """Seconds by the clock and of this process's processor, and rows."""

    wall: float
    cpu: float
    rows: int

    @property
    def per_second(self) -> float:
        return self.rows / self.wall

    @property
    def per_cpu_second(self) -> float:
        return self.rows / self.cpu


class Clock:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def spent(self, rows: int) -> Spent:
        """What so many rows took."""
        return Spent(time.perf_counter() - self._wall, time.process_time() - self._cpu, rows)


def resident(*, anew: bool = False) -> int:
    """The most memory that this process has had, in bytes; ``anew``: counted from now on."""
    if anew:  # getrusage's number would begin with the parent's
        Path("/proc/self/clear_refs").write_text("5")
    [line] = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
