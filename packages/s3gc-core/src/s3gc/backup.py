"""Back up: the very object that was listed, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterable

from s3gc import gates, journal_events
from s3gc._pool import each
from s3gc.abc import BackupSession
from s3gc.errors import PreconditionFailed, UnreadableObject
from s3gc.model import BackupRecord, JournalDraft, ObjectInfo
from s3gc.parts import Parts
from s3gc.vault.records import record_to_json


def same_object(listed: ObjectInfo, found: ObjectInfo) -> bool:
    """Whether two looks saw the same upload.

    Re-uploading the same bytes keeps the ETag, so last-modified counts too; headers carry it in whole
    seconds while listings may have fractions.
    """
    return (
        listed.etag == found.etag
        and listed.size == found.size
        and listed.last_modified.replace(microsecond=0) == found.last_modified.replace(microsecond=0)
    )


async def back_up(
    parts: Parts, session: BackupSession, objects: Iterable[ObjectInfo], operation_id: str
) -> tuple[dict[str, BackupRecord], dict[str, tuple[str, str]]]:
    """Take objects into the vault; on return they are durable, were read back, and stand in the journal.

    Returns:
        The records by key, and for objects that could not be taken (reason code, detail) by key.

    Raises:
        StoreError, VaultError: anything unexpected. None of these objects may be deleted then.
    """
    kept: dict[str, tuple[str, str]] = {}

    async def take(listed: ObjectInfo) -> None:
        try:
            async with parts.store.get(listed.key, if_match=listed.etag) as reader:
                if reader.info.locked is not None:
                    kept[listed.key] = (gates.LOCKED, reader.info.locked)
                    return
                if not same_object(listed, reader.info):
                    kept[listed.key] = (gates.CHANGED, "uploaded again since it was listed")
                    return
                await session.add(listed, reader.attributes, reader.chunks())
        except PreconditionFailed as error:
            kept[listed.key] = (gates.CHANGED, str(error))
        except UnreadableObject as error:
            kept[listed.key] = (gates.UNREADABLE, str(error))

    await each(objects, take)
    records = {record.key: record for record in await session.commit()}
    await parts.vault.journal.append(
        [
            JournalDraft(journal_events.BACKED_UP, operation_id, key, {"backup": record_to_json(record)})
            for key, record in records.items()
        ]
    )
    return records, kept
