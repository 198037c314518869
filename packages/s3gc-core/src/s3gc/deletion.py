"""The deletes of a batch: the intents first, then how each ended, also when its answer was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import anyio
from attrs import frozen

from s3gc import gates, journal_events
from s3gc._pool import each
from s3gc.backup import same_object
from s3gc.errors import StoreError
from s3gc.model import BackupRecord, DeleteOutcome, JournalDraft, ObjectInfo, PlanEntry, Position
from s3gc.parts import Parts
from s3gc.tally import Tally
from s3gc.vault.records import record_to_json

LOOKS = 5
"""Looks in a row that may fail when a delete's answer was lost."""

FIRST_LOOK = 0.5
"""Seconds until the second look; each pause is twice the one before."""


@frozen
class Doomed:
    """An object on its way out: what was listed, what keeps it recoverable, and why it goes."""

    entry: PlanEntry
    record: BackupRecord


def intents(doomed: Sequence[Doomed], positions: Sequence[Position], operation_id: str) -> list[JournalDraft]:
    fence = JournalDraft(
        journal_events.FENCE_REACHED,
        operation_id,
        data={"positions": {position.source: position.value for position in positions}},
    )
    return [
        fence,
        *(
            JournalDraft(
                journal_events.DELETE_INTENDED,
                operation_id,
                one.record.key,
                {
                    "etag": one.entry.object.etag,
                    "size": one.entry.object.size,
                    "last_modified": one.entry.object.last_modified.isoformat(),
                    "since": one.entry.unreferenced_since.isoformat(),
                    "observations": one.entry.observations,
                    "reason": one.entry.reason,
                },
            )
            for one in doomed
        ),
    ]


async def delete(
    parts: Parts, doomed: Sequence[Doomed], operation_id: str, tally: Tally
) -> dict[str, BackupRecord]:
    """Delete, and journal how each ended. Returns the records of all that are gone by our hand."""
    deleted: dict[str, BackupRecord] = {}
    skipped: dict[str, tuple[str, str]] = {}

    async def remove(group: Sequence[Doomed]) -> None:
        etags = {one.record.key: one.entry.object.etag for one in group}
        outcomes: Mapping[str, DeleteOutcome | StoreError]
        try:
            await parts.lease.before_delete()
            outcomes = await parts.store.delete_many(etags)
        except StoreError as error:
            outcomes = dict.fromkeys(etags, error)
        over = anyio.current_time() + request_life(parts).total_seconds()
        for one in group:
            outcome = outcomes[one.record.key]
            if isinstance(outcome, StoreError):
                await fail(one, outcome, over)
            elif outcome is DeleteOutcome.DELETED:
                deleted[one.record.key] = one.record
            else:
                skipped[one.record.key] = (gates.CHANGED, f"the store says: {outcome.value}")

    async def fail(one: Doomed, error: StoreError, over: float) -> None:
        listed = one.entry.object
        if error.outcome_unknown and await is_gone(parts, listed, over):
            deleted[listed.key] = one.record
        else:
            skipped[listed.key] = (gates.NOT_DELETED, str(error))
            tally.errors.append(f"{listed.key!r} was not deleted: {error}")

    most = parts.store.delete_most
    await each([doomed[start : start + most] for start in range(0, len(doomed), most)], remove)
    drafts = [deletion_draft(record, operation_id) for record in deleted.values()]
    drafts += [
        JournalDraft(journal_events.DELETE_SKIPPED, operation_id, key, {"reason": code, "detail": detail})
        for key, (code, detail) in skipped.items()
    ]
    await parts.vault.journal.append(drafts)
    for code, _ in skipped.values():
        tally.kept[code] += 1
    return deleted


def deletion_draft(record: BackupRecord, operation_id: str, *, recovered: bool = False) -> JournalDraft:
    """The journal's entry of a deletion: all that a restore needs."""
    data: dict[str, object] = {"backup": record_to_json(record)}
    if recovered:
        data["recovered"] = True
    return JournalDraft(journal_events.DELETED, operation_id, record.key, data)


def request_life(parts: Parts) -> timedelta:
    """How long a request that nobody waits for any more may still be carried out (safety case, A8)."""
    return parts.config.safety.lease_margin


async def is_gone(parts: Parts, listed: ObjectInfo, over: float) -> bool:
    """Look whether this very upload is gone after a delete whose answer was lost.

    Args:
        over: when the request's life (:func:`request_life`) is over, by anyio's clock. Until then "it is
            still there" is no answer.

    Raises:
        StoreError: the store doesn't answer; the intent stays open in the journal for the next start.
    """
    pause = FIRST_LOOK
    failed = 0
    while True:
        asked = anyio.current_time()
        try:
            found = await parts.store.stat(listed.key)
        except StoreError:
            failed += 1
            if failed == LOOKS:
                raise
        else:
            failed = 0
            if found is None:
                return True
            if asked >= over:
                return not same_object(listed, found)
        left = over - anyio.current_time()
        await anyio.sleep(min(pause, left) if left > 0 else FIRST_LOOK)
        pause *= 2
