"""Backups that are no longer where they were written: moved into another pack, or gone for good."""

from __future__ import annotations

from s3gc.abc import Journal
from s3gc.errors import BackupGone, VaultCorrupt
from s3gc.journal_events import BACKUP_REMOVED, BYTES_MOVED, PACK_RETIRED, REPACKED
from s3gc.model import BackupRecord, SameAs
from s3gc.vault.packs import parse_location
from s3gc.vault.records import record_from_json, same_as_from_json


class Moved:
    """The packs that the journal has retired, and where their backups went."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.retired: set[str] = set()
        self._seen = 0

    async def load(self) -> None:
        """Read which packs were retired since the last time; there are as many entries as packs.

        Raises:
            VaultCorrupt: an entry isn't what was written.
        """
        async for entry in self._journal.read(events={PACK_RETIRED}, after_seq=self._seen):
            self.retired.add(str(entry.data["pack"]))
            self._seen = entry.seq

    async def locate(self, record: BackupRecord) -> BackupRecord:
        """The record with the place where its backup is now.

        Raises:
            BackupGone: it was removed, and why.
        """
        # One that shares bytes may get bytes of its own without its pack being retired.
        if record.same_as is None and parse_location(record.location)[0] not in self.retired:
            return record
        events = {REPACKED, BACKUP_REMOVED}
        async for entry in self._journal.read(key=record.key, events=events):
            if entry.data["from"] != record.location:
                continue
            if entry.event == BACKUP_REMOVED:
                raise BackupGone(
                    f"the backup of {record.key!r} is gone for good since {entry.at.isoformat()}: "
                    f"{entry.data['why']} ({entry.data['reason']}); operation {entry.operation_id}"
                )
            record = record_from_json(entry.data["backup"])
        return record

    async def bytes_of(self, same_as: SameAs) -> SameAs:
        """Where shared bytes are now: maybe at another backup, when that whose they were is gone.

        Raises:
            VaultCorrupt: the journal doesn't say.
        """
        before = None
        while parse_location(same_as.location)[0] in self.retired and same_as != before:
            before = same_as
            async for entry in self._journal.read(key=same_as.key, events={BYTES_MOVED}):
                if entry.data["from"] == same_as.location:
                    same_as = same_as_from_json(entry.data["to"])
                    break
        if same_as == before:
            raise VaultCorrupt(f"the bytes of {same_as.key!r} at {same_as.location} are gone")
        return same_as
