"""What was done so far: each operation of a bucket's history, from the journal alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from typing import Any

from attrs import Factory, evolve, frozen

from s3gc import journal_events
from s3gc.abc import Journal
from s3gc.model import JournalEntry

EVENTS = frozenset(
    {
        journal_events.OPERATION_STARTED,
        journal_events.OPERATION_COMPLETED,
        journal_events.OPERATION_FAILED,
        journal_events.OPERATION_RECOVERED,
    }
)
"""The entries that an operation is read from."""

COUNTS = (
    "scanned",
    "candidates",
    "planned",
    "backed_up",
    "deleted",
    "resurrected",
    "restored",
    "skipped",
    "bytes_deleted",
    "seconds",
)
"""What is counted, where the operation's end tells it."""

_OWN = frozenset({"kind", "mode", "config", "plan", "plan_sha256"})


@frozen
class Operation:
    """An operation that stands in the journal. Sizes in bytes, times in seconds."""

    seq: int  # of its first entry
    operation_id: str
    kind: str  # collect, restore
    mode: str | None
    state: str  # open, completed, failed, recovered
    started_at: datetime
    ended_at: datetime | None = None
    error: str | None = None
    counts: Mapping[str, float] = Factory(dict)  # by the names in COUNTS
    kept: Mapping[str, int] = Factory(dict)  # reason code → objects
    filters: Mapping[str, Any] = Factory(dict)  # what a restore was told to choose


def take(entry: JournalEntry, known: Mapping[str, Operation]) -> Operation | None:
    """What an entry says of its operation; None when it isn't of EVENTS, or its beginning isn't known."""
    data = entry.data
    if entry.event == journal_events.OPERATION_STARTED:
        return Operation(
            entry.seq,
            entry.operation_id,
            str(data.get("kind", "")),
            data.get("mode"),
            "open",
            entry.at,
            filters={name: value for name, value in data.items() if name not in _OWN and value is not None},
        )
    begun = known.get(entry.operation_id)
    if begun is None or entry.event not in EVENTS:
        return None
    counts = {name: data[name] for name in COUNTS if isinstance(data.get(name), int | float)}
    kept = data.get("kept")
    return evolve(
        begun,
        state=entry.event.removeprefix("operation_"),
        ended_at=entry.at,
        error=str(data["error"]) if data.get("error") else None,
        counts={**begun.counts, **counts},
        kept=dict(kept) if isinstance(kept, dict) else begun.kept,
    )


async def operations(
    journal: Journal, *, kinds: Collection[str] = (), newest: int | None = None
) -> AsyncIterator[Operation]:
    """Operations, newest first.

    Args:
        kinds: only these; none means all.
        newest: only so many.

    Raises:
        VaultCorrupt: an entry isn't what was written.
    """
    known: dict[str, Operation] = {}
    async for entry in journal.read(events=EVENTS):
        found = take(entry, known)
        if found is not None and (not kinds or found.kind in kinds):
            known[entry.operation_id] = found
    for one in sorted(known.values(), key=lambda one: -one.seq)[:newest]:
        yield one
