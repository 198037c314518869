"""What a plan would delete, or an operation deleted, summed up in bounded memory: by folder, the largest."""

from __future__ import annotations

import heapq
from typing import Any

import anyio.to_thread
from attrs import Factory, define

from s3gc import Collector, Plan, journal_events
from s3gc.operations import Operation
from s3gc_fastapi._values import clean

DEPTH = 2
"""Folders of a key that are told apart: ``a/b/`` and all below it."""

MOST_FOLDERS = 5_000
"""Folders that are counted by name; what lies in further ones counts for the folder above."""

FOLDERS = 40
"""Folders that an answer names, those with the most bytes."""

LARGEST = 20
"""Objects that an answer names."""


@define
class Sums:
    """What was counted so far."""

    objects: int = 0
    bytes: int = 0
    folders: dict[str, list[int]] = Factory(dict)  # objects and bytes
    _largest: list[tuple[int, str]] = Factory(list)

    def add(self, key: str, size: int) -> None:
        """One object."""
        self.objects += 1
        self.bytes += size
        folder = self.folders.setdefault(self._folder(key), [0, 0])
        folder[0] += 1
        folder[1] += size
        if len(self._largest) < LARGEST:
            heapq.heappush(self._largest, (size, key))
        else:
            heapq.heappushpop(self._largest, (size, key))

    def _folder(self, key: str) -> str:
        parts = key.split("/")[:-1][:DEPTH]
        while parts:
            folder = "".join(part + "/" for part in parts)
            if folder in self.folders or len(self.folders) < MOST_FOLDERS:
                return folder
            parts.pop()
        return ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        ranked = sorted(self.folders.items(), key=lambda one: (-one[1][1], -one[1][0], one[0]))
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "folders": [_line(name, *numbers) for name, numbers in ranked[:FOLDERS]],
            "further_folders": len(ranked[FOLDERS:]),
            "largest": [
                {"s3_key": clean(key), "size": size} for size, key in sorted(self._largest, reverse=True)
            ],
        }


def _line(name: str, objects: int, size: int) -> dict[str, Any]:
    return {"prefix": clean(name), "objects": objects, "bytes": size}


async def of_plan(plan: Plan) -> dict[str, Any]:
    """What the plan would delete.

    Raises:
        PlanError: the file isn't what it was.
    """

    def work() -> Sums:
        sums = Sums()
        for entry in plan:
            sums.add(entry.object.key, entry.object.size)
        return sums

    sums = await anyio.to_thread.run_sync(work)
    return {
        "operation_id": plan.operation_id,
        "kind": "plan",
        "at": plan.header.created_at.isoformat(),
        **sums.document(),
        "put_back": 0,
        "kept": dict(plan.footer.kept),
    }


async def of_operation(gc: Collector, one: Operation) -> dict[str, Any]:
    """What the operation deleted, less what it put back itself. From the journal alone."""
    back = set()
    async for entry in gc.history(operation_id=one.operation_id, events={journal_events.RESURRECTED}):
        back.add(entry.key)
    sums = Sums()
    async for entry in gc.history(operation_id=one.operation_id, events={journal_events.DELETED}):
        if entry.key is not None and entry.key not in back:
            sums.add(entry.key, int(entry.data["backup"]["size"]))
    return {
        "operation_id": one.operation_id,
        "kind": one.kind,
        "at": one.started_at.isoformat(),
        **sums.document(),
        "put_back": len(back),
        "kept": dict(one.kept),
    }
