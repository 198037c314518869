"""Reading backups again, all or a share of them at a time, and noting what was found."""

from __future__ import annotations

import zlib
from datetime import datetime

from attrs import define, field

from s3gc.abc import Vault
from s3gc.clock import Clock
from s3gc.errors import VaultError
from s3gc.journal_events import VAULT_VERIFIED
from s3gc.model import JournalDraft, JournalEntry, ScrubReport, Share, VaultCheck
from s3gc.vault.packs import parse_location

STRIDE_BYTES = 4 * 1024 * 1024
"""Backups that begin in one stretch of a pack, this long, are in one share: they are read in one go."""

NOTED_PROBLEMS = 20
"""Problems that the journal gets word by word; the rest is counted."""


def in_share(location: str, share: Share) -> bool:
    """Whether a backup belongs to this share. Each belongs to exactly one of ``share.of``, for ever.

    Raises:
        VaultCorrupt: it isn't a location.
    """
    pack, offset, _ = parse_location(location)
    return (zlib.crc32(pack.encode()) + offset // STRIDE_BYTES) % share.of == share.number


@define
class Verified:
    """What the verifications on record have found, and up to when they cover the whole vault."""

    at: datetime | None = None  # the last one
    problems: int | None = None  # of the last whole one (a round of shares is one) and the shares since
    whole_at: datetime | None = None  # all that the vault held then was read since
    _of: int = field(default=0, init=False)
    _before: int = field(default=0, init=False)  # problems of the last whole one
    _shares: dict[int, tuple[datetime, int]] = field(factory=dict, init=False)  # since then

    def take(self, entry: JournalEntry) -> None:
        """The next VAULT_VERIFIED."""
        share, problems = entry.data["share"], int(entry.data["problems"])
        self.at = entry.at
        if share is None:
            self._shares, self._before, self.whole_at = {}, problems, entry.at
        else:
            if share["of"] != self._of:  # other stretches: what the old shares found still counts
                self._before += sum(found for _, found in self._shares.values())
                self._of, self._shares = share["of"], {}
            self._shares.pop(share["number"], None)  # the newest is the last one
            self._shares[share["number"]] = entry.at, problems
            if len(self._shares) == self._of:
                self._before = 0
                self.whole_at = min(at for at, _ in self._shares.values())
        self.problems = self._before + sum(found for _, found in self._shares.values())


async def next_share(vault: Vault, of: int) -> Share:
    """The share behind the last one that was read to its end; the first one if there is none.

    Raises:
        ValueError: ``of`` is less than 1.
    """
    if of < 1:
        raise ValueError(f"a share is one of at least 1, got {of}")
    number = 0
    async for entry in vault.journal.read(events={VAULT_VERIFIED}):
        share = entry.data["share"]
        if share is not None and share["of"] == of:
            number = (share["number"] + 1) % of
    return Share(number, of)


async def scrub(vault: Vault, clock: Clock, operation_id: str, share: Share | None) -> ScrubReport:
    """Read and decode all backups, or those of a share, and note the result in the journal.

    A run that was cut off notes nothing, so the next one takes the same share. A result that can't be noted
    (the vault is read-only) is a problem itself.

    Raises:
        VaultError: the vault isn't open.
    """
    started = clock.monotonic()
    found = await vault.verify(share)
    seconds = round(clock.monotonic() - started, 3)
    facts = {
        "share": {"number": share.number, "of": share.of} if share else None,
        "backups": found.backups,
        "problems": len(found.problems),
        "first_problems": [str(problem)[:1_000] for problem in found.problems[:NOTED_PROBLEMS]],
        "seconds": seconds,
    }
    try:
        await vault.journal.append([JournalDraft(VAULT_VERIFIED, operation_id, None, facts)])
    except VaultError as error:
        problems = (*found.problems, f"this result could not be noted: {error}")
        found = VaultCheck(False, found.backups, problems)
    return ScrubReport(operation_id, found.ok, share, found.backups, found.problems, seconds)
