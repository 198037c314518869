"""Operations as the journal tells them, newest first, in pages. What was read once isn't read again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import anyio
from attrs import define

from s3gc import Collector, journal_events
from s3gc.model import JournalEntry
from s3gc.operations import EVENTS, Operation, take

_OBJECTS = frozenset({journal_events.DELETE_INTENDED, journal_events.WOULD_DELETE, journal_events.RESTORED})
_OUTCOMES = {
    journal_events.DELETE_INTENDED: "delete intended",
    journal_events.WOULD_DELETE: "would be deleted",
    journal_events.DELETED: "deleted",
    journal_events.DELETE_SKIPPED: "kept",
    journal_events.RESURRECTED: "put back",
    journal_events.RESTORED: "restored",
}


def document(one: Operation) -> dict[str, Any]:
    """An operation as JSON."""
    return {
        "operation_id": one.operation_id,
        "kind": one.kind,
        "mode": one.mode,
        "state": one.state,
        "started_at": one.started_at.isoformat(),
        "ended_at": one.ended_at.isoformat() if one.ended_at else None,
        "error": one.error,
        "counts": dict(one.counts),
        "kept": dict(one.kept),
        "filters": dict(one.filters),
    }


@define
class History:
    """The operations of one journal."""

    _operations: dict[str, Operation]
    _order: list[str]  # operation ids, oldest first
    _read: int
    _lock: anyio.Lock
    reclaimed: int = 0
    """Bytes deleted over all operations, those that came back included."""

    @classmethod
    def new(cls) -> History:
        """Nothing is read yet."""
        return cls({}, [], 0, anyio.Lock())

    async def refresh(self, gc: Collector) -> None:
        """Take in what came since the last time."""
        async with self._lock:
            async for entry in gc.history(events=EVENTS, after_seq=self._read):
                self._take(entry)
                self._read = entry.seq

    def _take(self, entry: JournalEntry) -> None:
        found = take(entry, self._operations)
        if found is None:
            return
        before = self._operations.get(entry.operation_id)
        if before is None:
            self._order.append(entry.operation_id)
        self.reclaimed += _bytes(found) - (0 if before is None else _bytes(before))
        self._operations[entry.operation_id] = found

    def __len__(self) -> int:
        return len(self._order)

    def get(self, operation_id: str) -> Operation | None:
        """One of them."""
        return self._operations.get(operation_id)

    def page(self, *, before: int | None, offset: int, limit: int) -> Sequence[Operation]:
        """Newest first: those that began before entry ``before``, without the first ``offset`` of them."""
        found: list[Operation] = []
        for operation_id in reversed(self._order):
            operation = self._operations[operation_id]
            if before is not None and operation.seq >= before:
                continue
            if offset:
                offset -= 1
                continue
            found.append(operation)
            if len(found) == limit:
                break
        return found

    def latest(self, kind: str) -> Operation | None:
        """The newest one of its kind."""
        return next(
            (self._operations[o] for o in reversed(self._order) if self._operations[o].kind == kind), None
        )

    def open(self) -> Operation | None:
        """The newest one, if it has no end yet: it runs somewhere, or a crash left it."""
        newest = self._operations[self._order[-1]] if self._order else None
        return newest if newest is not None and newest.state == "open" else None


def _bytes(one: Operation) -> int:
    return int(one.counts.get("bytes_deleted", 0))


async def objects(gc: Collector, operation_id: str, *, after: int, limit: int) -> Sequence[dict[str, Any]]:
    """Objects of an operation in the order of the journal, each with its reason and how it ended."""
    intents: list[JournalEntry] = []
    wanted = _read(gc, operation_id=operation_id, events=_OBJECTS, after_seq=after)
    async with aclosing(wanted) as entries:
        async for entry in entries:
            if entry.key is not None:
                intents.append(entry)
                if len(intents) == limit:
                    break
    return [await _object(gc, operation_id, intent) for intent in intents]


async def _object(gc: Collector, operation_id: str, intent: JournalEntry) -> dict[str, Any]:
    last = intent
    detail = str(intent.data.get("reason", ""))
    size = intent.data.get("size")
    async for entry in _read(
        gc, key=intent.key, operation_id=operation_id, events=set(_OUTCOMES), after_seq=intent.seq
    ):
        last = entry
        if entry.event == journal_events.DELETE_SKIPPED:
            detail = f"{entry.data['reason']}: {entry.data.get('detail', '')}".rstrip(": ")
        elif entry.event == journal_events.RESURRECTED:
            detail = str(entry.data["why"])
    if intent.event == journal_events.RESTORED:
        detail = f"undoes entry {intent.data['deleted_seq']}"
    return {
        "seq": intent.seq,
        "at": last.at.isoformat(),
        "s3_key": intent.key,
        "size": size if isinstance(size, int) else None,
        "outcome": _OUTCOMES[last.event],
        "reason": detail,
    }


async def _read(gc: Collector, **filters: Any) -> AsyncGenerator[JournalEntry, None]:
    async for entry in gc.history(**filters):
        yield entry
