"""Back up: the very object that was listed, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing

import anyio

from s3gc import gates, journal_events
from s3gc._pool import Room, each
from s3gc.abc import BackupSession, WholeObject
from s3gc.copies import ensure_copies
from s3gc.errors import PreconditionFailed, UnreadableObject
from s3gc.model import BackupRecord, JournalDraft, ObjectInfo
from s3gc.parts import Parts
from s3gc.vault.records import record_to_json

ON_THEIR_WAY_BYTES = 16 * 1024 * 1024
"""Bytes of objects that are read one by one at one time, a large one counted as LARGE_BYTES."""

LARGE_BYTES = 8 * 1024 * 1024
"""What an object counts for at most, as it is streamed: so at most two large ones are on their way. More take
memory, and on two processors they brought nothing."""


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


def _objection(listed: ObjectInfo, found: ObjectInfo) -> tuple[str, str] | None:
    """Why what was found isn't taken: reason code and detail."""
    if found.locked is not None:
        return gates.LOCKED, found.locked
    if not same_object(listed, found):
        return gates.CHANGED, "uploaded again since it was listed"
    return None


async def back_up(
    parts: Parts, session: BackupSession, objects: Iterable[ObjectInfo], operation_id: str
) -> tuple[dict[str, BackupRecord], dict[str, tuple[str, str]]]:
    """Take objects into the vault; on return they are durable, were read back, and stand in the journal.

    They are then in as many places as ``backup_copies`` asks for, too.

    Returns:
        The records by key, and for objects that could not be taken (reason code, detail) by key.

    Raises:
        StoreError, VaultError: anything unexpected. None of these objects may be deleted then.
        CycleHeld: as little, because there are too few copies.
    """
    kept: dict[str, tuple[str, str]] = {}
    left = {listed.key: listed for listed in objects}

    room = Room(ON_THEIR_WAY_BYTES, LARGE_BYTES)

    async def take(listed: ObjectInfo) -> None:
        try:
            # The room comes first: an answer that has begun must not wait for it, its server might hang up.
            async with room.of(listed.size), parts.store.get(listed.key, if_match=listed.etag) as reader:
                if why := _objection(listed, reader.info):
                    kept[listed.key] = why
                    return
                await session.add(listed, reader.attributes, reader.chunks())
        except PreconditionFailed as error:
            kept[listed.key] = (gates.CHANGED, str(error))
        except UnreadableObject as error:
            kept[listed.key] = (gates.UNREADABLE, str(error))

    await _take_small(parts, session, left, kept)
    await each(left.values(), take)
    records = {record.key: record for record in await session.commit()}
    await parts.vault.journal.append(
        [
            JournalDraft(journal_events.BACKED_UP, operation_id, key, {"backup": record_to_json(record)})
            for key, record in records.items()
        ]
    )
    await ensure_copies(parts, list(records.values()), operation_id)
    return records, kept


GROUPS_AT_ONCE = 3
"""Groups of small objects on their way into the vault while the next one is read; more would wait there."""


async def _take_small(
    parts: Parts,
    session: BackupSession,
    left: dict[str, ObjectInfo],
    kept: dict[str, tuple[str, str]],
) -> None:
    """Take what the store reads in groups. What it doesn't stays in ``left``, to be read one by one."""
    room = anyio.Semaphore(GROUPS_AT_ONCE)
    failed: list[BaseException] = []

    async def add(scope: anyio.CancelScope, group: Sequence[WholeObject]) -> None:
        try:
            await session.add_all(group)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below, as it was
            failed.append(error)
            scope.cancel()
        finally:
            room.release()

    async def take(tasks: anyio.abc.TaskGroup) -> None:
        async with aclosing(parts.store.get_small(list(left.values()))) as groups:  # type: ignore[type-var]
            async for group in groups:
                taken: list[WholeObject] = []
                for one in group:
                    listed = left.pop(one.listed.key)
                    if why := _objection(listed, one.info):
                        kept[listed.key] = why
                    else:
                        taken.append(one)
                if taken:
                    await room.acquire()
                    tasks.start_soon(add, tasks.cancel_scope, taken)

    async with anyio.create_task_group() as tasks:
        try:
            await take(tasks)
        except Exception as error:  # noqa: BLE001 - raised again below, as it was
            failed.append(error)
            tasks.cancel_scope.cancel()
    if failed:
        raise failed[0]
