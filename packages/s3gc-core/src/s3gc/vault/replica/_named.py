"""What the journal names: which packs are to be copied, and how far."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import anyio

from s3gc import _threads
from s3gc.abc import Journal
from s3gc.errors import VaultCorrupt
from s3gc.journal_events import PACK_RETIRED
from s3gc.vault.replica._notes import Notes
from s3gc.vault.replica._segments import closing, places_in

SCAN_ENTRIES = 10_000
"""After so many entries of the journal it is noted how far it was read."""

RETIRED = -1
"""Stands in the notes for the bytes of a pack that is no more."""


class Named:
    """The packs of a journal, up to one of its entries."""

    def __init__(self, journal: Journal, notes: Notes) -> None:
        self._journal = journal
        self._notes = notes
        self._reading = anyio.Lock()
        self.bounds: dict[str, int] = {}
        """Pack → bytes that the journal, or a record given, names."""
        self.retired: set[str] = set()
        """Packs that were written anew without what was pruned."""
        self.seq = 0
        """Of the last entry that was read."""
        self._hash = ""

    async def remember(self) -> None:
        """Begin with what was noted, if the journal is still the one that it was noted of."""
        seq, entry_hash, bounds = await _threads.run(self._notes.scanned)
        if seq and await self._hash_at(seq) != entry_hash:
            # The vault was put back from an older copy, and the notes weren't.
            await _threads.run(self._notes.forget_scanned)
            return
        self.seq, self._hash = seq, entry_hash
        self.bounds = {pack: end for pack, end in bounds.items() if end != RETIRED}
        self.retired = bounds.keys() - self.bounds.keys()

    def also(self, pack: str, end: int) -> None:
        """Copy so much of a pack, though the journal may not name it yet."""
        self.bounds[pack] = max(self.bounds.get(pack, 0), end)

    async def catch_up(self) -> None:
        """Read the journal's new entries.

        Raises:
            VaultCorrupt: its chain is broken.
        """
        async with self._reading:
            await self._catch_up()

    async def _catch_up(self) -> None:
        changed: dict[str, int] = {}
        count = 0
        async with closing(self._journal.read(after_seq=self.seq)) as entries:
            async for entry in entries:
                if entry.seq != self.seq + 1 or (self._hash and entry.previous != self._hash):
                    raise VaultCorrupt(
                        f"journal entry {self.seq + 1}: the chain is broken; run `audit verify`"
                    )
                for pack, end in places_in(entry.data):
                    if pack not in self.retired:
                        self.also(pack, end)
                        changed[pack] = self.bounds[pack]
                if entry.event == PACK_RETIRED:
                    pack = str(entry.data["pack"])
                    self.retired.add(pack)
                    self.bounds.pop(pack, None)
                    changed[pack] = RETIRED
                self.seq, self._hash = entry.seq, entry.hash
                count += 1
                if count % SCAN_ENTRIES == 0:
                    await self._note(changed)
                    changed = {}
        if count:
            await self._note(changed)

    async def _note(self, changed: dict[str, int]) -> None:
        await _threads.run(partial(self._notes.note_scanned, self.seq, self._hash, changed))

    async def _hash_at(self, seq: int) -> str | None:
        async with closing(self._journal.read(after_seq=seq - 1)) as entries:
            async for entry in entries:
                return entry.hash if entry.seq == seq else None
        return None

    async def time_behind(self, seq: int) -> datetime | None:
        """When the first entry behind this one was made; None if there is none."""
        async with closing(self._journal.read(after_seq=seq)) as entries:
            async for entry in entries:
                return entry.at
        return None
