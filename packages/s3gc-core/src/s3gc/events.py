"""The events that a cycle emits: to the log (structlog) and to plugins (``s3gc_event``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy
from structlog.typing import FilteringBoundLogger

CATALOGUE: Mapping[str, str] = {
    "gc_cycle_started": "A plan or a collect begins: operation_id, kind, mode.",
    "listing_progress": "A page of the bucket was listed: operation_id, listed.",
    "listing_completed": "The bucket was listed to its end: operation_id, objects.",
    "source_synced": "References were read up to a fence: operation_id, source, position, references.",
    "scan_progress": "A scan has read more rows: source, rows, expected (about so many in all, or null).",
    "scan_resumed": "A scan that was cut off goes on where it was: source, rows.",
    "source_scanned_again": "All rows of a followed source are read once more: source, reason.",
    "plan_made": "The plan is written: operation_id, path, scanned, candidates, objects, bytes, held.",
    "batch_verified": "The direct read has looked at a batch: operation_id, objects, referenced.",
    "batch_backed_up": "A batch is durable in the vault and was read back: operation_id, objects, bytes.",
    "batch_fenced": "The fence after the back-up is passed, deletes come next: operation_id, objects.",
    "object_backed_up_and_deleted": "One object was deleted: operation_id, s3_key, size.",
    "object_resurrected": "A deleted object is back, because a row names it after all: operation_id, s3_key.",
    "batch_completed": "A batch was confirmed: operation_id, deleted, resurrected.",
    "batch_failed": "A batch ended before its deletes: operation_id, error.",
    "restore_started": "A restore knows what to look at: operation_id, objects, dry_run.",
    "object_restored": "A restore put an object back: operation_id, s3_key, size.",
    "replica_behind": "A replica isn't up to date at an operation's end: operation_id, replica, entries, "
    "bytes, lag, problem.",
    "breaker_tripped": "A breaker holds the cycle: operation_id, code, subject, reason.",
    "breaker_acknowledged": "A person let a breaker pass: code, subject, reason.",
    "operation_recovered": "What a crash left open is settled: operation_id, deleted, resurrected.",
    "follow_started": "The follower begins to keep the registry at the changes: sources.",
    "changes_followed": "The registry has applied changes between two cycles: source, changes, position.",
    "follow_waits": "Changes can't be followed at this moment; it is tried again: source, reason.",
    "follow_lost": "Changes are lost; the next cycle reads anew, and holds: source, reason.",
    "follow_paused": "The follower has given way; it goes on when it can: reason.",
    "gc_cycle_completed": "A collect ended well: operation_id, mode, deleted, duration.",
    "gc_cycle_failed": "A plan or a collect ended with an error: operation_id, error.",
    "drill_completed": "A drill has restored, compared and removed: operation_id, objects, problems, bytes.",
    "restore_completed": "A restore ended: operation_id, restored, skipped, errors, dry_run.",
}
"""Name → when it is emitted, and with which data. A test checks that nothing else is emitted."""


_QUIET = frozenset({"listing_progress", "changes_followed"})
"""So frequent that only plugins are told."""


def emit(hook: pluggy.HookRelay, log: FilteringBoundLogger, event: str, **data: Any) -> None:
    """Tell log and plugins.

    Raises:
        KeyError: no such event is in the catalogue.
    """
    if event not in CATALOGUE:
        raise KeyError(f"event {event} is not in the catalogue")
    if event not in _QUIET:
        log.info(event, **data)
    hook.s3gc_event(event=event, data=data)
