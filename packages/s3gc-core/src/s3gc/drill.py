"""A drill: some backups, chosen by chance, are restored beside the bucket's own objects and compared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from random import Random

from attrs import evolve

from s3gc import journal_events
from s3gc._pool import each
from s3gc.abc import RESERVED_PREFIX
from s3gc.errors import BackupGone, S3GCError
from s3gc.model import BackupRecord, DeleteOutcome, DrillReport, JournalDraft, ObjectInfo
from s3gc.parts import Parts
from s3gc.putback import digest_of
from s3gc.vault.records import record_from_json

FOLDER = f"{RESERVED_PREFIX}drill/"
"""Where drills restore to; nothing below it outlives its drill."""

MOST_BYTES = 1024 * 1024 * 1024
"""A larger object is passed over: reading it back is what ``vault verify`` is for."""

LEFT_BEHIND = timedelta(days=1)
"""What a drill that was cut off left is removed by the first drill after this time."""

AT_ONCE = 8
"""Objects restored at one time."""


async def drill(parts: Parts, operation_id: str, objects: int, chance: Random) -> DrillReport:
    """Restore ``objects`` backups (fewer if there are fewer) below FOLDER, compare them, remove them again.

    Compared are all bytes, by SHA-256 of what the store gives back, and all attributes. Nothing else in the
    bucket is touched. What went wrong is in the report and in the journal; the rest goes on.

    Raises:
        VaultError: the journal can't be read or written.
        StoreError: what earlier drills left can't be listed.
    """
    started = parts.clock.monotonic()
    problems = await _clear(parts)
    chosen = await _choose(parts, objects, chance)
    passed: list[BackupRecord] = []

    async def one(numbered: tuple[int, BackupRecord]) -> None:
        number, record = numbered
        said = await _try(parts, f"{FOLDER}{operation_id}/{number}", record)
        if said is None:
            passed.append(record)
        else:
            problems.append(f"{record.key!r} at {record.location}: {said}")

    await each(list(enumerate(chosen)), one, workers=AT_ONCE)
    size = sum(record.size for record in passed)
    seconds = round(parts.clock.monotonic() - started, 3)
    facts = {
        "objects": len(chosen),
        "restored": len(passed),
        "bytes": size,
        "keys": sorted(record.key for record in chosen),
        "problems": problems,
        "seconds": seconds,
    }
    await parts.vault.journal.append([JournalDraft(journal_events.DRILLED, operation_id, None, facts)])
    parts.emit(
        "drill_completed", operation_id=operation_id, objects=len(chosen), problems=len(problems), bytes=size
    )
    return DrillReport(operation_id, not problems, len(chosen), len(passed), size, tuple(problems), seconds)


async def _choose(parts: Parts, objects: int, chance: Random) -> list[BackupRecord]:
    """Backups by chance: from random places in the journal, the next one from there on."""
    last = (await parts.vault.stats()).journal_entries
    chosen: dict[int, BackupRecord] = {}
    for _ in range(4 * objects):
        if len(chosen) >= objects:
            break
        after = chance.randrange(max(1, last))
        async with aclosing(_backups(parts, after)) as found:  # type: ignore[type-var]
            async for seq, record in found:
                if seq not in chosen:
                    chosen[seq] = record
                    break
    if len(chosen) < objects:  # few backups, or far apart: then all of them, from the first one on
        async with aclosing(_backups(parts, 0)) as found:  # type: ignore[type-var]
            async for seq, record in found:
                if len(chosen) >= objects:
                    break
                chosen.setdefault(seq, record)
    return [chosen[seq] for seq in sorted(chosen)]


async def _backups(parts: Parts, after: int) -> AsyncIterator[tuple[int, BackupRecord]]:
    async for entry in parts.vault.journal.read(events=journal_events.BACKUPS, after_seq=after):
        record = record_from_json(entry.data["backup"])
        if record.size > MOST_BYTES:
            continue
        try:
            yield entry.seq, await parts.vault.locate(record)
        except BackupGone:
            continue


async def _try(parts: Parts, key: str, record: BackupRecord) -> str | None:
    """Restore one backup as ``key``, compare, remove. What went wrong, or None."""
    # An archived copy could not be read back at once.
    attributes = evolve(record.attributes, storage_class=None)
    written: ObjectInfo | None = None
    said: str | None = None
    try:
        async with aclosing(parts.vault.read(record)) as chunks:  # type: ignore[type-var]
            written = await parts.store.put(
                key, chunks, size=record.size, attributes=attributes, if_none_match=True
            )
        said = await _differs(parts, key, written, record)
    except S3GCError as error:
        said = str(error)
    try:
        found = written or await parts.store.stat(key)  # an answer may have been lost
        if found is not None:
            outcome = await parts.store.delete(key, if_match=found.etag)
            if outcome is DeleteOutcome.CHANGED:
                said = said or f"{key} was written again while it was compared, and is left there"
    except S3GCError as error:
        said = said or f"{key} could not be removed: {error}"
    return said


async def _differs(parts: Parts, key: str, written: ObjectInfo, record: BackupRecord) -> str | None:
    if await digest_of(parts, key, written.etag) != record.sha256:
        return "the store gives back other bytes than were backed up"
    head = await parts.store.head(key)
    if head is None:
        return f"{key} is gone at once"
    names = [n for n in record.attributes.otherwise_in(head.attributes) if n != "storage_class"]
    return f"came back with another {', '.join(names)}" if names else None


async def _clear(parts: Parts) -> list[str]:
    """Remove what drills of before left; what can't be removed is told."""
    told: list[str] = []
    now = await parts.store.now()
    async with aclosing(parts.store.list(prefix=FOLDER)) as pages:  # type: ignore[type-var]
        async for page in pages:
            for info in page:
                if now - info.last_modified < LEFT_BEHIND:
                    continue  # of a drill that may still run
                try:
                    await parts.store.delete(info.key, if_match=info.etag)
                except S3GCError as error:
                    told.append(f"{info.key}, left by an earlier drill, could not be removed: {error}")
    return told
