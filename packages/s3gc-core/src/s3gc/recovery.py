"""After a crash: finish or undo what the journal shows as open (P5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

import anyio
from attrs import define, field

from s3gc import gates, journal_events
from s3gc.backup import same_object
from s3gc.confirm import confirm, confirm_operation
from s3gc.deletion import deletion_draft, request_life
from s3gc.errors import VaultCorrupt
from s3gc.model import BackupRecord, JournalDraft, JournalEntry, ObjectInfo
from s3gc.parts import Parts
from s3gc.vault.records import record_from_json

_ENDS = frozenset(
    {journal_events.OPERATION_COMPLETED, journal_events.OPERATION_FAILED, journal_events.OPERATION_RECOVERED}
)


@define
class _Open:
    """What an operation left unconfirmed, and how much it had done in all."""

    counts: Counter[str] = field(factory=Counter)

    backups: dict[str, BackupRecord] = field(factory=dict)
    intended: dict[str, JournalEntry] = field(factory=dict)
    deleted: dict[str, BackupRecord] = field(factory=dict)

    def settle(self, key: str) -> None:
        """How the delete ended stands in the journal."""
        self.intended.pop(key, None)
        self.backups.pop(key, None)


async def open_operations(parts: Parts) -> list[str]:
    """Operations that began and did not end, oldest first."""
    begun: dict[str, None] = {}
    events = _ENDS | {journal_events.OPERATION_STARTED}
    async for entry in parts.vault.journal.read(events=events):
        if entry.event == journal_events.OPERATION_STARTED:
            begun[entry.operation_id] = None
        else:
            begun.pop(entry.operation_id, None)
    return list(begun)


async def recover(parts: Parts) -> None:
    """Bring every open operation to its end. Call under the lease; may itself be interrupted and repeated.

    Raises:
        S3GCError: it can't be finished now (store or vault unreachable); it stays open.
    """
    for operation_id in await open_operations(parts):
        left = await _read(parts, operation_id)
        deleted = dict(left.deleted)
        drafts = []
        for key, intent in left.intended.items():
            record = left.backups.get(key)
            if record is None:
                raise VaultCorrupt(
                    f"the journal has an intent to delete {key!r} in {operation_id} without a backup: "
                    "run audit verify"
                )
            if await _still_there(parts, record, intent):
                drafts.append(
                    JournalDraft(
                        journal_events.DELETE_SKIPPED,
                        operation_id,
                        key,
                        {
                            "reason": gates.INTERRUPTED,
                            "detail": "still there: a crash came before the delete",
                            "intent": intent.seq,
                        },
                    )
                )
            else:
                # Gone, or another upload is there now: that version is only in the vault.
                deleted[key] = record
                drafts.append(deletion_draft(record, operation_id, recovered=True))
        if drafts:
            await parts.vault.journal.append(drafts)
        back = list((await confirm(parts, deleted, operation_id)).back) if deleted else []
        if deleted or left.counts[journal_events.DELETED]:
            back += await confirm_operation(parts, operation_id)
        # Before the end stands in the journal: after it nobody would look for what this operation had doomed.
        await parts.registry.claims.spare(operation_id)
        await parts.vault.journal.append(
            [
                JournalDraft(
                    journal_events.OPERATION_RECOVERED,
                    operation_id,
                    data=_counts(left, len(deleted), len(back)),
                )
            ]
        )
        parts.emit(
            "operation_recovered", operation_id=operation_id, deleted=len(deleted), resurrected=len(back)
        )
    # Nothing is open any more: what is doomed still belongs to a journal that isn't ours (a vault put back).
    await parts.registry.claims.spare_all()


async def _still_there(parts: Parts, record: BackupRecord, intent: JournalEntry) -> bool:
    """Whether the upload that was to be deleted is there, once no request of before can take it any more.

    The process that died may have sent its delete in its last moment: see :func:`s3gc.deletion.is_gone`. It
    may take another upload, too, of the same ETag (the same bytes again): whatever is there is waited for.
    """
    found = await parts.store.stat(record.key)
    if found is None:
        return False
    life = request_life(parts)
    left = min(life, life - (parts.clock.now() - intent.at))  # also when the clock went back
    if left > timedelta(0):
        await anyio.sleep(left.total_seconds())
        found = await parts.store.stat(record.key)
    return found is not None and same_object(_listed(record), found)


async def _read(parts: Parts, operation_id: str) -> _Open:
    """What isn't settled. A batch is copied while the one before is confirmed: its backups count on."""
    left = _Open()
    async for entry in parts.vault.journal.read(operation_id=operation_id):
        left.counts[entry.event] += 1
        match entry.event:
            case journal_events.BACKED_UP if entry.key is not None:
                left.backups[entry.key] = _record(entry.data)
            case journal_events.DELETE_INTENDED if entry.key is not None:
                left.intended[entry.key] = entry
            case journal_events.DELETED if entry.key is not None:
                left.settle(entry.key)
                left.deleted[entry.key] = _record(entry.data)
            case journal_events.DELETE_SKIPPED | journal_events.RESURRECTED if entry.key is not None:
                left.settle(entry.key)
                left.deleted.pop(entry.key, None)
            case journal_events.BATCH_CONFIRMED:
                left.deleted.clear()
    return left


def _counts(left: _Open, deleted: int, back: int) -> dict[str, int]:
    """Totals of the whole operation, in the terms of OPERATION_COMPLETED."""
    counts = left.counts
    newly = deleted - len(left.deleted)
    resurrected = counts[journal_events.RESURRECTED] + back
    return {
        "deleted": counts[journal_events.DELETED] + newly - resurrected,
        "backed_up": counts[journal_events.BACKED_UP],
        "restored": counts[journal_events.RESTORED],
        "resurrected": resurrected,
    }


def _record(data: Mapping[str, object]) -> BackupRecord:
    return record_from_json(data["backup"])  # type: ignore[arg-type]


def _listed(record: BackupRecord) -> ObjectInfo:
    return ObjectInfo(record.key, record.size, record.etag, record.last_modified, record.version_id)
