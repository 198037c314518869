"""Two plans side by side: what is new, what is no longer in it, and why."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice

from attrs import frozen

from s3gc import _threads
from s3gc.errors import PlanError
from s3gc.gates import CHANGED, REFERENCED, first_objection
from s3gc.model import Moment, PlanEntry
from s3gc.parts import Parts
from s3gc.plan import Plan

ADDED = "added"
GONE = "gone"

NEWLY_FREE = "newly_free"
"""Of what was added: it became unreferenced after the plan before."""
WAITED = "waited"
"""Of what was added: it was unreferenced already, and something has kept it so far."""

_PAGE = 5_000


@frozen
class Difference:
    """An object that is in one of two plans only."""

    change: str  # ADDED or GONE
    entry: PlanEntry  # of the plan that has it
    code: str  # of what was added NEWLY_FREE or WAITED; of what has gone, the reason code of what keeps it
    why: str  # one sentence


async def differences(parts: Parts, before: Plan, after: Plan) -> AsyncIterator[Difference]:
    """What differs between a plan and the one that was just made, in key order.

    Call it before anything else is planned: why an object has gone is asked of the listing and the
    references that the newer plan was made from.

    Raises:
        PlanError: they are of two buckets, or one of the files was changed.
    """
    if before.header.store_url != after.header.store_url:
        raise PlanError(f"one plan is of {before.header.store_url}, the other of {after.header.store_url}")
    now = Moment(await parts.store.now())
    pairs = _apart(before.entries(), after.entries())
    while some := await _threads.run(lambda: list(islice(pairs, _PAGE))):
        gone = [entry for is_new, entry in some if not is_new]
        why = await _why_gone(parts, gone, now)
        for is_new, entry in some:
            if is_new:
                yield _added(before, entry)
            else:
                yield Difference(GONE, entry, *why[entry.object.key])


def _apart(before: Iterator[PlanEntry], after: Iterator[PlanEntry]) -> Iterator[tuple[bool, PlanEntry]]:
    """What one of them has alone, by a merge of both: (whether it is the newer one, its entry)."""
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        if old is None or (new is not None and new.object.key < old.object.key):
            assert new is not None
            yield True, new
            new = next(after, None)
        elif new is None or old.object.key < new.object.key:
            yield False, old
            old = next(before, None)
        else:
            old, new = next(before, None), next(after, None)


def _added(before: Plan, entry: PlanEntry) -> Difference:
    made = before.header.created_at
    since = entry.unreferenced_since
    if since > made:
        return Difference(
            ADDED, entry, NEWLY_FREE, f"unreferenced since {since.isoformat(timespec='seconds')}"
        )
    return Difference(
        ADDED,
        entry,
        WAITED,
        f"what kept it is over; unreferenced since {since.isoformat(timespec='seconds')}",
    )


async def _why_gone(parts: Parts, entries: Sequence[PlanEntry], now: Moment) -> dict[str, tuple[str, str]]:
    """Key → code and reason of what keeps it now."""
    if not entries:
        return {}
    keys = [entry.object.key for entry in entries]
    listed, free = await parts.registry.listing.stands(keys, now.now)
    found: dict[str, tuple[str, str]] = {}
    for key in keys:
        if key not in listed:
            found[key] = (CHANGED, "the object isn't in the bucket any more")
        elif (candidate := free.get(key)) is None:
            found[key] = (REFERENCED, "a row names it, its folder or what it is derived from")
        else:
            objection = await _threads.run(functools.partial(first_objection, parts.gates, candidate, now))
            found[key] = objection or (CHANGED, "it was looked at in another moment")
    return found
