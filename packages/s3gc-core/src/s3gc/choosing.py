"""What a restore brings back: of each key one removed version, chosen from the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from attrs import define, frozen
from ulid import ULID

from s3gc.abc import Journal
from s3gc.journal_events import BACKUP_FOUND, DELETED, OVERWRITTEN, RESTORED, RESTORED_ELSEWHERE
from s3gc.model import BackupRecord, JournalEntry
from s3gc.vault.records import record_from_json, time_from_text

REMOVALS = frozenset({DELETED, OVERWRITTEN, BACKUP_FOUND})


@frozen
class Selection:
    """What to restore; all given filters must match.

    ``at`` means: as the bucket was at that time, as far as s3gc removed anything since.
    """

    key: str | None = None
    prefix: str | None = None
    operation_id: str | None = None
    at: datetime | None = None

    def facts(self) -> dict[str, str | None]:
        """The same for the journal."""
        at = None if self.at is None else self.at.isoformat()
        return {"key": self.key, "prefix": self.prefix, "operation_id": self.operation_id, "at": at}

    @classmethod
    def of(
        cls, key: str | None, prefix: str | None, operation_id: str | None, at: datetime | None
    ) -> Selection:
        """
        Raises:
            ValueError: nothing was chosen, or ``at`` has no time zone.
        """
        if key is None and operation_id is None and prefix is None and at is None:
            raise ValueError("say what to restore: key, operation_id, prefix or at (prefix='' is everything)")
        if at is not None and at.tzinfo is None:
            raise ValueError("at must have a time zone, e.g. datetime.now(timezone.utc)")
        return cls(key, prefix, operation_id, at)


@frozen
class Choice:
    """One version to bring back."""

    seq: int  # of the entry that tells of its removal
    record: BackupRecord
    noted: bool  # the journal says that it is back already


KEPT_RECORDS = 100_000
"""The records of so many keys are kept in memory, about 2 kB each; of more, none is."""


@define
class _Chosen:
    """So little of it that millions fit into memory."""

    seq: int
    found: bool  # by a rebuild
    last_modified: datetime
    record: BackupRecord | None  # while they are few
    noted: bool = False


class Choices:
    """The choice for each key: the version removed last, or the one that was live at ``at``.

    The journal is read to choose, in about 300 bytes of memory for each key; where there are more than
    KEPT_RECORDS, it is read a second time for the records. They come in its order, which is the packs'.

    Args:
        into: where they are brought, as the journal has it; None for the bucket itself.
    """

    def __init__(self, journal: Journal, selection: Selection, into: str | None = None) -> None:
        self._journal = journal
        self._selection = selection
        self._into = into
        self._chosen: dict[str, _Chosen] = {}
        self._keeps = True

    def __len__(self) -> int:
        return len(self._chosen)

    async def choose(self) -> None:
        """Read the journal.

        Raises:
            VaultError: it can't be read, or isn't as it was written.
        """
        wanted = self._selection
        back = RESTORED if self._into is None else RESTORED_ELSEWHERE
        # An operation's own entries don't tell of the restores behind it; those are told by another look.
        async for entry in self._journal.read(
            key=wanted.key,
            prefix=wanted.prefix,
            operation_id=wanted.operation_id,
            events=REMOVALS | {back},
        ):
            if entry.event in REMOVALS:
                self._removed(entry)
            else:
                self._back(entry)
        if self._chosen and wanted.operation_id is not None:
            async for entry in self._journal.read(
                key=wanted.key, prefix=wanted.prefix, events={back}, after_seq=self._first
            ):
                self._back(entry)

    @property
    def _first(self) -> int:
        return min(chosen.seq for chosen in self._chosen.values()) - 1

    def _removed(self, entry: JournalEntry) -> None:
        if entry.key is None:
            return
        at = self._selection.at
        last_modified = time_from_text(entry.data["backup"]["last_modified"])
        before = self._chosen.get(entry.key)
        if before is not None and before.found:
            # Packs aren't in the order of history; a later removal is of a later version.
            better = last_modified >= before.last_modified
        else:
            # The first removal after a moment took the version that was live then.
            better = at is None or before is None
        if better and (at is None or _gone_by(entry) > at >= last_modified):
            found = entry.event == BACKUP_FOUND
            record = record_from_json(entry.data["backup"]) if self._keeps else None
            self._chosen[entry.key] = _Chosen(entry.seq, found, last_modified, record)
            if self._keeps and len(self._chosen) > KEPT_RECORDS:
                self._keeps = False
                for chosen in self._chosen.values():
                    chosen.record = None

    def _back(self, entry: JournalEntry) -> None:
        chosen = self._chosen.get(entry.key) if entry.key is not None else None
        if (
            chosen is not None
            and entry.data["deleted_seq"] == chosen.seq
            and entry.data.get("into") == self._into
        ):
            chosen.noted = True

    async def records(self) -> AsyncIterator[Choice]:
        """All that was chosen, in the journal's order."""
        if not self._chosen:
            return
        if self._keeps:
            for chosen in sorted(self._chosen.values(), key=lambda one: one.seq):
                if chosen.record is not None:
                    yield Choice(chosen.seq, chosen.record, chosen.noted)
            return
        wanted = self._selection
        async for entry in self._journal.read(
            key=wanted.key,
            prefix=wanted.prefix,
            operation_id=wanted.operation_id,
            events=REMOVALS,
            after_seq=self._first,
        ):
            picked = self._chosen.get(entry.key) if entry.key is not None else None
            if picked is not None and picked.seq == entry.seq:
                yield Choice(entry.seq, record_from_json(entry.data["backup"]), picked.noted)


FOUND_DOUBT = timedelta(days=1)
"""How long after its operation began a backup that a rebuild found may have been deleted, at the latest.

Of such a backup only the operation's id tells a time. To bring back too much harms nobody.
"""


def _gone_by(entry: JournalEntry) -> datetime:
    """When the object was removed; for a backup that a rebuild found, the latest that is likely."""
    if entry.event != BACKUP_FOUND:
        return entry.at
    try:
        return ULID.from_str(entry.operation_id).datetime + FOUND_DOUBT
    except ValueError:
        return entry.at  # no id of ours: it went some time before the rebuild
