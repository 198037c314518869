"""What a vault holds, by its journal: each version of each object, or the latest of each key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from attrs import frozen

from s3gc.abc import Vault
from s3gc.errors import BackupGone
from s3gc.journal_events import BACKUPS
from s3gc.model import BackupRecord
from s3gc.vault.records import record_from_json


@frozen
class Wanted:
    """Which backups; all given filters must match.

    ``at`` means: versions that had been uploaded by then.
    """

    key: str | None = None
    prefix: str | None = None
    operation_id: str | None = None
    at: datetime | None = None


@frozen
class Stored:
    """One version of one object in the vault."""

    record: BackupRecord
    operation_id: str  # that backed it up
    seq: int  # of the journal entry that tells of it


async def versions(vault: Vault, wanted: Wanted) -> AsyncIterator[Stored]:
    """All versions that match and are there, in the journal's order, in constant memory.

    Raises:
        VaultCorrupt: an entry isn't what was written.
    """
    async for entry in vault.journal.read(
        key=wanted.key, prefix=wanted.prefix, operation_id=wanted.operation_id, events=BACKUPS
    ):
        record = record_from_json(entry.data["backup"])
        if wanted.at is not None and record.last_modified > wanted.at:
            continue
        try:
            record = await vault.locate(record)
        except BackupGone:
            continue
        yield Stored(record, entry.operation_id, entry.seq)


async def latest(vault: Vault, wanted: Wanted) -> AsyncIterator[Stored]:
    """Of each key that matches its latest version, in the journal's order.

    The journal is read twice; the first time costs about 200 bytes of memory for each key.
    """
    chosen: dict[str, tuple[datetime, int]] = {}
    async for stored in versions(vault, wanted):
        key, place = stored.record.key, (stored.record.last_modified, stored.seq)
        # Of one version that was backed up twice the later backup counts, as it does for a restore.
        if place >= chosen.get(key, place):
            chosen[key] = place
    async for stored in versions(vault, wanted):
        if chosen[stored.record.key][1] == stored.seq:
            yield stored
