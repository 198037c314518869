"""A restore into the bucket itself: what s3gc removed comes back, where nothing else is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import anyio

from s3gc import journal_events
from s3gc.abc import Journal
from s3gc.backup import back_up
from s3gc.bringing import Bringing, Destination, Done
from s3gc.choosing import Choice, Choices, Selection
from s3gc.model import BackupRecord, JournalDraft, ObjectHead, RestoreReport
from s3gc.parts import Parts
from s3gc.vault.records import record_to_json

NEWER = "another object is there now: give overwrite=True to replace it (it is backed up first)"


async def on_record(
    journal: Journal,
    operation_id: str,
    facts: Mapping[str, Any],
    work: Callable[[], Awaitable[RestoreReport]],
    safe: Callable[[BaseException], str],
) -> RestoreReport:
    """A restore from its first journal entry to its last, however it ends.

    Args:
        facts: what is restored, for the first entry.
        safe: an error's text without secrets.
    """

    async def note(event: str, data: Mapping[str, Any]) -> None:
        await journal.append([JournalDraft(event, operation_id, data={"kind": "restore", **data})])

    await note(journal_events.OPERATION_STARTED, facts)
    try:
        report = await work()
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await note(journal_events.OPERATION_FAILED, {"error": safe(error)})
        raise
    with anyio.CancelScope(shield=True):  # all is restored: an end that was cancelled is an end, too
        done = counts(report)
        if "into" in facts:  # the bucket has no more objects than before
            done["restored_elsewhere"] = done.pop("restored")
        await note(journal_events.OPERATION_COMPLETED, done)
    return report


def counts(report: RestoreReport) -> dict[str, int]:
    """A report in numbers."""
    return {
        "restored": len(report.restored),
        "skipped": len(report.skipped),
        "errors": len(report.errors),
    }


async def restore(
    parts: Parts, operation_id: str, selection: Selection, *, dry_run: bool, overwrite: bool
) -> RestoreReport:
    """Bring objects back. Never over a live object unless ``overwrite``; then that one is backed up first.

    An object that fails is reported in ``errors`` and the rest goes on: nothing is deleted by a restore.
    """
    started = parts.clock.monotonic()
    choices = Choices(parts.vault.journal, selection)
    await choices.choose()
    parts.emit("restore_started", operation_id=operation_id, objects=len(choices), dry_run=dry_run)
    home = _Home(parts, operation_id)
    bringing = Bringing(parts.vault, home, parts.clock, dry_run, overwrite)
    async with aclosing(choices.records()) as found:  # type: ignore[type-var]
        await bringing.run(found)
    if selection.key is not None and not len(choices):
        bringing.errors[selection.key] = "the journal knows no removal of this key that matches"
    return bringing.report(operation_id, started)


class _Home(Destination):
    """The bucket that the backups are of."""

    newer = NEWER

    def __init__(self, parts: Parts, operation_id: str) -> None:
        self.store = parts.store
        self._parts = parts
        self._operation_id = operation_id

    def key_of(self, record: BackupRecord) -> str:
        return record.key

    def differs(self, record: BackupRecord, live: ObjectHead) -> bool:
        return bool(record.attributes.otherwise_in(live.attributes))

    async def noted_etag(self, choice: Choice) -> str | None:
        etag: str | None = None
        async for entry in self._parts.vault.journal.read(
            key=choice.record.key, events={journal_events.RESTORED}, after_seq=choice.seq
        ):
            if entry.data["deleted_seq"] == choice.seq:
                etag = str(entry.data["etag"])
        return etag

    async def keep(self, live: Sequence[ObjectHead]) -> Mapping[str, str]:
        return await _keep_overwritten(self._parts, self._operation_id, live)

    async def note(self, done: Sequence[Done]) -> None:
        parts = self._parts
        drafts: list[JournalDraft] = []
        for one in done:
            record = one.choice.record
            data = {"etag": one.etag, "sha256": record.sha256, "deleted_seq": one.choice.seq}
            if one.found:
                data["found"] = True
            drafts.append(JournalDraft(journal_events.RESTORED, self._operation_id, record.key, data))
        await parts.vault.journal.append(drafts)
        written = [one.choice.record for one in done if not one.found]
        await parts.registry.listing.forget([record.key for record in written])
        for record in written:
            parts.emit(
                "object_restored", operation_id=self._operation_id, s3_key=record.key, size=record.size
            )


async def _keep_overwritten(parts: Parts, operation_id: str, live: Sequence[ObjectHead]) -> Mapping[str, str]:
    """Live objects are somebody's files: into the vault with them before they are replaced (P2).

    Returns those that could not be taken, with the reason.
    """
    async with parts.vault.session(operation_id) as session:
        records, kept = await back_up(parts, session, [head.info for head in live], operation_id)
    await parts.vault.journal.append(
        [
            JournalDraft(
                journal_events.OVERWRITTEN, operation_id, record.key, {"backup": record_to_json(record)}
            )
            for record in records.values()
        ]
    )
    return {
        key: f"the live object could not be backed up, so it was not overwritten: {why}"
        for key, (_, why) in kept.items()
    }
