"""A restore: choose from the journal what to bring back, then put it back, one object at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from attrs import define, frozen
from ulid import ULID

from s3gc import journal_events
from s3gc._pool import each
from s3gc.backup import back_up
from s3gc.errors import PreconditionFailed, S3GCError
from s3gc.model import BackupRecord, JournalDraft, JournalEntry, ObjectHead, RestoreReport
from s3gc.parts import Parts
from s3gc.putback import digest_of, put_back
from s3gc.vault.records import record_from_json, record_to_json

ALREADY_THERE = "already there, the same object"
NEWER = "another object is there now: give overwrite=True to replace it (it is backed up first)"


@frozen
class Selection:
    """What to restore; all given filters must match.

    ``at`` means: as the bucket was at that time, as far as s3gc removed anything since.
    """

    key: str | None = None
    prefix: str | None = None
    operation_id: str | None = None
    at: datetime | None = None


@define
class _Choice:
    entry: JournalEntry
    record: BackupRecord


async def choose(parts: Parts, selection: Selection) -> Mapping[str, _Choice]:
    """By key the removed version to bring back: the latest, or the one that was live at ``at``."""
    chosen: dict[str, _Choice] = {}
    at = selection.at
    async for entry in parts.vault.journal.read(
        key=selection.key,
        prefix=selection.prefix,
        operation_id=selection.operation_id,
        events={journal_events.DELETED, journal_events.OVERWRITTEN, journal_events.BACKUP_FOUND},
    ):
        if entry.key is None:
            continue
        record = record_from_json(entry.data["backup"])
        before = chosen.get(entry.key)
        if before is not None and before.entry.event == journal_events.BACKUP_FOUND:
            # Packs aren't in the order of history; a later removal is of a later version.
            better = record.last_modified >= before.record.last_modified
        else:
            # The first removal after a moment took the version that was live then.
            better = at is None or before is None
        if better and (at is None or _gone_by(entry) > at >= record.last_modified):
            chosen[entry.key] = _Choice(entry, record)
    return chosen


FOUND_DOUBT = timedelta(days=1)
"""How long after its operation began a backup that a rebuild found may have been deleted, at the latest.

Of such a backup only the operation's id tells a time. To bring back too much harms nobody.
"""


def _gone_by(entry: JournalEntry) -> datetime:
    """When the object was removed; for a backup that a rebuild found, the latest that is likely."""
    if entry.event != journal_events.BACKUP_FOUND:
        return entry.at
    try:
        return ULID.from_str(entry.operation_id).datetime + FOUND_DOUBT
    except ValueError:
        return entry.at  # no id of ours: it went some time before the rebuild


async def restore(
    parts: Parts, operation_id: str, selection: Selection, *, dry_run: bool, overwrite: bool
) -> RestoreReport:
    """Bring objects back. Never over a live object unless ``overwrite``; then that one is backed up first.

    An object that fails is reported in ``errors`` and the rest goes on: nothing is deleted by a restore.
    """
    started = parts.clock.monotonic()
    restored: list[str] = []
    skipped: dict[str, str] = {}
    errors: dict[str, str] = {}
    chosen = await choose(parts, selection)
    parts.emit("restore_started", operation_id=operation_id, objects=len(chosen), dry_run=dry_run)

    async def one(choice: _Choice) -> None:
        key = choice.record.key
        try:
            live = await parts.store.head(key)
            why = await _skip(parts, live, choice.record, overwrite=overwrite)
            if why is not None:
                skipped[key] = why
                return
            await parts.vault.locate(choice.record)  # it may have been removed on purpose
            if not dry_run:
                await _put_back(parts, operation_id, choice, live)
            restored.append(key)
        except PreconditionFailed:
            skipped[key] = NEWER
        except S3GCError as error:
            errors[key] = str(error)

    await each([chosen[key] for key in sorted(chosen)], one)
    if selection.key is not None and not chosen:
        errors[selection.key] = "the journal knows no removal of this key that matches"
    return RestoreReport(
        operation_id=operation_id,
        dry_run=dry_run,
        restored=sorted(restored),
        skipped=skipped,
        errors=errors,
        duration=timedelta(seconds=parts.clock.monotonic() - started),
    )


async def _skip(
    parts: Parts, live: ObjectHead | None, record: BackupRecord, *, overwrite: bool
) -> str | None:
    if live is None:
        return None
    if not record.attributes.otherwise_in(live.attributes) and await _same_bytes(parts, live, record):
        return ALREADY_THERE
    return None if overwrite else NEWER


async def _same_bytes(parts: Parts, live: ObjectHead, record: BackupRecord) -> bool:
    """By ETag, or by reading: some stores give the same bytes a new ETag at every upload."""
    if live.info.size != record.size:
        return False
    if live.info.etag == record.etag:
        return True
    return await digest_of(parts, record.key, live.info.etag) == record.sha256


async def _put_back(parts: Parts, operation_id: str, choice: _Choice, live: ObjectHead | None) -> None:
    if live is not None:
        await _keep_overwritten(parts, operation_id, live)
    written = await put_back(parts, choice.record, overwrite=live is not None)
    await parts.vault.journal.append(
        [
            JournalDraft(
                journal_events.RESTORED,
                operation_id,
                choice.record.key,
                {"etag": written.etag, "sha256": choice.record.sha256, "deleted_seq": choice.entry.seq},
            )
        ]
    )
    await parts.registry.listing.forget([choice.record.key])
    parts.emit(
        "object_restored", operation_id=operation_id, s3_key=choice.record.key, size=choice.record.size
    )


async def _keep_overwritten(parts: Parts, operation_id: str, live: ObjectHead) -> None:
    """The live object is somebody's file: into the vault with it before it is replaced (P2)."""
    async with parts.vault.session(operation_id) as session:
        records, kept = await back_up(parts, session, [live.info], operation_id)
    for _, why in kept.values():
        raise S3GCError(f"the live object could not be backed up, so it was not overwritten: {why}")
    await parts.vault.journal.append(
        [
            JournalDraft(
                journal_events.OVERWRITTEN, operation_id, record.key, {"backup": record_to_json(record)}
            )
            for record in records.values()
        ]
    )
