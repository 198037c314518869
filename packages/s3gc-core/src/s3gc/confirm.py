"""After the deletes: one more fence, and back comes whatever a row names after all (P3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3gc import journal_events
from s3gc._pool import each
from s3gc.errors import SourceError
from s3gc.model import BackupRecord, JournalDraft, Position
from s3gc.parts import Parts
from s3gc.putback import put_back_if_missing
from s3gc.reading import fences, referenced_among


async def confirm(parts: Parts, deleted: Mapping[str, BackupRecord], operation_id: str) -> Sequence[str]:
    """Confirm a batch of deletions, or undo what can't be confirmed.

    A key that a row names is put back. When the sources can't be read any more nobody knows, so
    everything is put back (P6). Returns the keys that are back.

    Raises:
        S3GCError: even putting back failed. The operation stays open in the journal; the next start goes on.
    """
    why: dict[str, str] = {}
    positions: Sequence[Position] = ()
    try:
        positions = await fences(parts)
        for key, (source, reference) in (await referenced_among(parts, deleted.keys())).items():
            why[key] = f"{source}: {reference.table}.{reference.column} of row {reference.row_id} names it"
    except SourceError as error:
        why = dict.fromkeys(deleted, f"could not be confirmed: {error}")

    resurrected: list[JournalDraft] = []

    async def resurrect(key: str) -> None:
        written = await put_back_if_missing(parts, deleted[key])
        resurrected.append(
            JournalDraft(
                journal_events.RESURRECTED,
                operation_id,
                key,
                {"why": why[key], "etag": written.etag if written else None},
            )
        )

    await each(list(why), resurrect)
    await parts.registry.listing.forget(why.keys())
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
                },
            ),
        ]
    )
    return list(why)
