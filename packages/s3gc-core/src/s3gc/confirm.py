"""After the deletes: one more fence, and back comes whatever a row names after all (P3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from itertools import islice

from attrs import frozen

from s3gc import _threads, journal_events
from s3gc._pool import each
from s3gc.errors import SourceError
from s3gc.model import BackupRecord, JournalDraft, Position
from s3gc.parts import Parts
from s3gc.putback import put_back_if_missing
from s3gc.reading import fences, referenced_among
from s3gc.vault.records import record_from_json

CONFIRM_KEYS = 100_000
"""Keys of one direct read in the last confirmation of an operation."""

NOT_CONFIRMED = "could not be confirmed"
"""How the journal begins to say why a key went back that, for all that is known, no row names."""


@frozen
class Confirmation:
    """How a batch of deletions stands."""

    back: Sequence[str]  # keys that are back
    unread: SourceError | None  # why the sources could not be read: then everything is back


async def confirm(
    parts: Parts, deleted: Mapping[str, BackupRecord], operation_id: str, *, since: float | None = None
) -> Confirmation:
    """Confirm a batch of deletions, or undo what can't be confirmed.

    A key that a row names, or that an application claimed meanwhile, is put back. When the sources can't be
    read any more nobody knows, so everything is put back (P6).

    Args:
        since: when the fence before the deletes began (monotonic seconds): the late references' window.

    Raises:
        S3GCError: even putting back failed. The operation stays open in the journal; the next start goes on.
    """
    why: dict[str, str] = {}
    positions: Sequence[Position] = ()
    unread: SourceError | None = None
    try:
        positions = await fences(parts, follow=False)
        for key, witnesses in (await referenced_among(parts, deleted.keys())).items():
            why[key] = str(witnesses[0])
    except SourceError as error:
        unread = error
        why = dict.fromkeys(deleted, f"{NOT_CONFIRMED}: {error}")

    for key, until in (await parts.registry.claims.active(deleted.keys(), parts.clock.now())).items():
        why.setdefault(key, f"claimed until {until.isoformat()}")

    resurrected = await _resurrect(
        parts, {key: (deleted[key], reason) for key, reason in why.items()}, operation_id
    )
    await parts.vault.journal.append(
        [
            *resurrected,
            JournalDraft(
                journal_events.BATCH_CONFIRMED,
                operation_id,
                data={
                    "positions": {position.source: position.value for position in positions},
                    "deleted": len(deleted),
                    "resurrected": len(resurrected),
                    "window": None if since is None else parts.clock.monotonic() - since,
                },
            ),
        ]
    )
    return Confirmation(list(why), unread)


async def confirm_operation(
    parts: Parts, operation_id: str, *, deleted: Iterable[str] | None = None
) -> list[str]:
    """Once more over all that an operation deleted: a row may have named a key of an early batch since.

    Memory is bounded by CONFIRM_KEYS.

    Args:
        deleted: the keys that it deleted and that aren't back; None: the journal tells.

    Returns:
        The keys that are back.

    Raises:
        S3GCError: the sources can't be read, or putting back failed. The operation stays open.
    """
    # What went back was noticed by the batches' confirmations; this one must come to an end all the same.
    await fences(parts, follow=False, onward=False)
    back: list[str] = []
    async with aclosing(
        _told(deleted) if deleted is not None else _journalled(parts, operation_id)
    ) as groups:  # type: ignore[type-var]
        async for keys in groups:
            back += await _confirm_again(parts, keys, operation_id)
    return back


async def _told(deleted: Iterable[str]) -> AsyncIterator[Collection[str]]:
    left = iter(deleted)
    while keys := await _threads.run(lambda: frozenset(islice(left, CONFIRM_KEYS))):
        yield keys


async def _journalled(parts: Parts, operation_id: str) -> AsyncIterator[Collection[str]]:
    keys: set[str] = set()
    async for entry in parts.vault.journal.read(operation_id=operation_id, events={journal_events.DELETED}):
        if entry.key is not None:
            keys.add(entry.key)
        if len(keys) == CONFIRM_KEYS:
            yield keys
            keys = set()
    if keys:
        yield keys


async def _confirm_again(parts: Parts, keys: Collection[str], operation_id: str) -> list[str]:
    doomed: dict[str, tuple[BackupRecord, str]] = {}
    for key, witnesses in (await referenced_among(parts, keys)).items():
        record: BackupRecord | None = None
        async for entry in parts.vault.journal.read(
            key=key, operation_id=operation_id, events={journal_events.DELETED, journal_events.RESURRECTED}
        ):
            is_deleted = entry.event == journal_events.DELETED
            record = record_from_json(entry.data["backup"]) if is_deleted else None
        if record is not None:
            doomed[key] = (record, str(witnesses[0]))
    await parts.vault.journal.append(await _resurrect(parts, doomed, operation_id))
    return list(doomed)


async def _resurrect(
    parts: Parts, doomed: Mapping[str, tuple[BackupRecord, str]], operation_id: str
) -> list[JournalDraft]:
    """Put objects back unless somebody uploaded them again. Returns what the journal must be told."""
    drafts: list[JournalDraft] = []

    async def one(key: str) -> None:
        record, why = doomed[key]
        written = await put_back_if_missing(parts, record)
        data = {"why": why, "etag": written.etag if written else None}
        drafts.append(JournalDraft(journal_events.RESURRECTED, operation_id, key, data))

    await each(list(doomed), one)
    await parts.registry.listing.forget(doomed.keys())
    return drafts
