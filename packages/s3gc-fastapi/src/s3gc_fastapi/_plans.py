"""The newest plan in pages: its file is checked once, and read by places from then on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from attrs import define, frozen

from s3gc import Collector, Plan
from s3gc.errors import PlanError

STRIDE = 256
"""Lines between two places that are remembered."""


@frozen
class _Opened:
    plan: Plan
    stamp: tuple[int, int]  # when the file was written, its size
    places: Sequence[int]  # where every 256th of its objects begins


@define
class Plans:
    """The plan that was made last."""

    _opened: _Opened | None
    _lock: anyio.Lock

    @classmethod
    def new(cls) -> Plans:
        """Nothing is read yet."""
        return cls(None, anyio.Lock())

    async def latest(self, gc: Collector) -> Plan | None:
        """The newest plan; None if there is none.

        Raises:
            PlanError: it was damaged.
        """
        async with self._lock:
            newest = await gc.latest_plan()
            if newest is None:
                self._opened = None
                return None
            if (
                self._opened is None
                or self._opened.plan.path != newest
                or self._opened.stamp != await _stamp(newest)
            ):
                stamp = await _stamp(newest)
                plan = await anyio.to_thread.run_sync(Plan.load, newest)
                self._opened = _Opened(plan, stamp, await anyio.to_thread.run_sync(_places, newest))
            return self._opened.plan

    async def page(self, *, after: int, limit: int) -> Sequence[dict[str, Any]]:
        """Objects of the plan that :meth:`latest` gave, from number ``after`` (from 0) on.

        Raises:
            PlanError: the file isn't what it was.
        """
        opened = self._opened
        if opened is None or after >= len(opened.plan):
            return []
        limit = min(limit, len(opened.plan) - after)
        return await anyio.to_thread.run_sync(lambda: _read(opened, after, limit))


async def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = await anyio.Path(path).stat()
    except OSError as error:
        raise PlanError(f"plan {path.name} can't be read: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size


def _places(path: Path) -> Sequence[int]:
    places = []
    with path.open("rb") as file:
        at = len(file.readline())
        for number, line in enumerate(file):
            if number % STRIDE == 0:
                places.append(at)
            at += len(line)
    return places


def _read(opened: _Opened, after: int, limit: int) -> Sequence[dict[str, Any]]:
    found = []
    try:
        with opened.plan.path.open("rb") as file:
            file.seek(opened.places[after // STRIDE])
            for _ in range(after % STRIDE):
                file.readline()
            for _ in range(limit):
                found.append(_entry(json.loads(file.readline())))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise PlanError(f"plan {opened.plan.path.name} isn't what it was ({type(error).__name__})") from None
    return found


def _entry(line: dict[str, Any]) -> dict[str, Any]:
    return {
        "s3_key": line["object"]["key"],
        "size": line["object"]["size"],
        "last_modified": line["object"]["last_modified"],
        "unreferenced_since": line["unreferenced_since"],
        "observations": line["observations"],
        "reason": line["reason"],
    }
