"""What one process was told during its present operation: the evidence that its deletions must rest on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from attrs import Factory, define

if TYPE_CHECKING:
    from s3gc.testing.simulator._bucket import Version
    from s3gc.testing.simulator._world import World


@define
class Fence:
    """One call of a source's fence, in ticks."""

    began: int
    ended: int | None = None


@define
class Found:
    """One direct read."""

    began: int
    ended: int
    keys: Collection[str]
    named: frozenset[str]


@define(eq=False)
class Eyes:
    """Of one process; most of it is forgotten when an operation begins."""

    world: World
    doing: str = "nothing"
    garbled: bool = False  # values were read that lead elsewhere: beyond all guards but the resolve rate
    began: int = 0
    taint: str = ""  # why nothing may be deleted any more in this operation
    troubled: bool = False  # something failed, or it was paused
    listed: dict[str, tuple[Version, int]] = Factory(dict)  # key → (as listed, tick)
    looks: dict[str, int] = Factory(dict)  # key → tick of the last look at the object
    synced: set[str] = Factory(set)  # sources that were read up to their end, by scan or by changes
    fenced_at: dict[str, int] = Factory(dict)  # source → LSN at its last fence
    begun_at: dict[str, int] = Factory(dict)  # source → LSN from which changes are to be followed
    untracked: dict[str, Sequence[str]] = Factory(dict)  # source → values that nobody tracks
    went_back: str = ""  # a source that stood before where it stood; nothing may be deleted then
    store_now: datetime | None = None  # the store's last word on the time
    skews: list[timedelta] = Factory(list)
    fences: dict[str, list[Fence]] = Factory(dict)
    finds: dict[str, list[Found]] = Factory(dict)
    identities: dict[str, str] = Factory(dict)  # source → which database answered
    operation: str = ""  # the collect or restore whose start stands in the journal
    plan: str = ""  # the plan that was made in this operation
    executes: str = ""  # the plan that this operation executes, if another made it
    pending_resets: list[str] = Factory(list)  # keys found referenced: grace begins anew when it goes on

    def begin(self, doing: str) -> None:
        """An operation begins."""
        self.__init__(self.world, doing, began=self.world.tick())  # type: ignore[misc]

    def spoil(self, why: str) -> None:
        """From here on nothing may be deleted in this operation (P6)."""
        if not self.taint:
            self.taint = why

    def told_time(self, now: datetime, here: datetime) -> None:
        self.store_now = now
        self.skews.append(abs(now - here))

    def looked(self, key: str) -> None:
        self.looks[key] = self.world.tick()

    def listed_page(self, after: str, page: Sequence[Version], *, last: bool) -> None:
        tick = self.world.tick()
        if not after:
            self.listed = {}
        for version in page:
            if not version.info.key.startswith(".s3gc/"):
                self.listed[version.info.key] = (version, tick)
        # A listing is a look at every key that lies in its page, also at those that aren't there.
        upper = None if last or not page else page[-1].info.key
        for key in self.world.bucket.last:
            if key > after and (upper is None or key <= upper):
                self.looks[key] = tick

    def last_fence(self, source: str) -> Fence | None:
        found = self.fences.get(source)
        return found[-1] if found else None
