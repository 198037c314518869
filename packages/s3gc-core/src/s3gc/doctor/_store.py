"""The bucket: clock, listing, what the store can do, whose it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from s3gc import breakers, capabilities
from s3gc import owner as owners
from s3gc.doctor._check import Check, Status
from s3gc.model import Mode
from s3gc.parts import Parts


async def clock(parts: Parts) -> AsyncIterator[Check]:
    theirs, ours = await parts.store.now(), parts.clock.now()
    apart = abs(theirs - ours)
    most = parts.config.safety.max_clock_skew
    if breakers.clock_skew(theirs, ours, most):
        yield Check(
            "clock",
            "",
            Status.FAIL,
            f"{apart.total_seconds():.0f} s apart from the store's, {most} is allowed",
            "set this machine's clock (NTP); ages and graces rest on it",
        )
    else:
        yield Check(
            "clock", "", Status.PASS, f"within {max(1, round(apart.total_seconds()))} s of the store's"
        )


async def listing(parts: Parts) -> AsyncIterator[Check]:
    count = 0
    async with aclosing(parts.store.list()) as pages:  # type: ignore[type-var]
        async for page in pages:
            count = len(page)
            break
    if count:
        yield Check("listing", "", Status.PASS, f"the first page has {count} objects")
    else:
        yield Check("listing", "", Status.WARN, "the bucket is empty", "is it the right bucket?")


async def store(parts: Parts) -> AsyncIterator[Check]:
    yield _judged(parts, await capabilities.last_probe(parts))


async def store_probed(parts: Parts) -> AsyncIterator[Check]:
    yield _judged(parts, await capabilities.probe(parts))


def _judged(parts: Parts, state: capabilities.StoreState | None) -> Check:
    if state is None:
        return Check(
            "store",
            "",
            Status.WARN,
            "it was never probed: what it can do, and whether these credentials may write, isn't known",
            "run `s3gc doctor --probe` (writes and removes objects below .s3gc/probe/)",
        )
    at = state.probed_at.isoformat(timespec="seconds")
    if state.held_by:
        why = "; ".join(breaker.reason for breaker in state.held_by)
        status = Status.FAIL if parts.config.mode is Mode.EXECUTE else Status.WARN
        return Check("store", "", status, f"probed at {at}: {why}", "see `s3gc store`")
    return Check("store", "", Status.PASS, f"probed at {at}: nothing of it holds a sweep")


async def owner(parts: Parts) -> AsyncIterator[Check]:
    problem = await owners.problem(parts)
    if problem is None:
        yield Check("owner", "", Status.PASS, "no other vault has a mark in the bucket that overlaps")
    else:
        fix = "use that vault, or owned_prefixes that don't overlap; or acknowledge bucket_owner"
        yield Check("owner", "", Status.FAIL, problem, fix)
