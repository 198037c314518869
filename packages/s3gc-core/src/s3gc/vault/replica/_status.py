"""How far one replica is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import frozen


@frozen
class ReplicaStatus:
    """How far one replica is."""

    url: str
    seq: int  # the last journal entry that is there, with all before it
    entries_behind: int
    bytes_behind: int  # of packs
    oldest: datetime | None  # of the first entry that isn't there
    lag: timedelta | None  # its age
    unverified: int  # objects that are there and were never read back from here: they count as behind
    error: str | None  # why it could not be brought up to date, or looked at
    problems: Sequence[str]  # what is odd in it, or in the vault

    @property
    def whole(self) -> bool:
        """Whether all that the vault holds is there, and nothing is odd."""
        behind = self.entries_behind or self.bytes_behind or self.unverified
        return not (behind or self.error or self.problems)
