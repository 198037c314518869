"""What the rules of a configuration demand of a plan, worked out anew from what the process was told.

Nothing here shares code with the core's gates and breakers: else both would be wrong together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from s3gc.abc import folders_of

if TYPE_CHECKING:
    from s3gc.testing.simulator._eyes import Served
    from s3gc.testing.simulator._invariants import Memory, Oracle
    from s3gc.testing.simulator._operation import Operation, PlanFacts
    from s3gc.testing.simulator._process import Process


def breakers(oracle: Oracle, process: Process, memory: Memory, plan: PlanFacts) -> Iterator[tuple[str, str]]:
    """(code, why) of each breaker that has to hold this plan."""
    eyes, rules = process.eyes, oracle.rules
    for source in process.sources:
        served = eyes.served.get(source)
        if served is None or not served.references:
            yield "no_references", f"{source} told of none"
            continue
        for table, column in oracle.world.links[source].database.columns:
            if not any((one.table, one.column) == (table, column) for one in served.references):
                yield "empty_column", f"{table}.{column} of {source} had no value"
        before, now = memory.good.get(source), len(set(served.references))
        if before and before - now > rules.max_drop * before:
            yield "reference_drop", f"{source} told of {now} references, {before} before"
    yield from _identity(process, memory)
    yield from _resolve_rate(oracle, process)
    allowed = _allowed(oracle, plan)
    if len(plan.objects) > allowed:
        yield "too_many_deletes", f"{len(plan.objects)} of {plan.scanned}, {allowed} are allowed"


def _identity(process: Process, memory: Memory) -> Iterator[tuple[str, str]]:
    seen = set(process.eyes.identities.values())
    if memory.pinned is not None and seen != memory.pinned:
        yield "identity_changed", f"{sorted(seen)} answered, bound to {sorted(memory.pinned)}"


def _resolve_rate(oracle: Oracle, process: Process) -> Iterator[tuple[str, str]]:
    eyes = process.eyes
    folders = {folder for key in eyes.listed for folder in folders_of(key)}

    def hits(served: Served) -> Iterator[bool]:
        for one in served.references:
            yield one.key in (folders if one.prefix else eyes.listed)

    found = [hit for served in eyes.served.values() for hit in hits(served)]
    if eyes.listed and found and (not any(found) or sum(found) / len(found) < oracle.rules.min_rate):
        yield "resolve_rate", f"{sum(found)} of {len(found)} mentions name an object"


def _allowed(oracle: Oracle, plan: PlanFacts) -> int:
    allowed = int(oracle.rules.max_share * plan.scanned)
    return allowed if oracle.rules.max_deletes is None else min(allowed, oracle.rules.max_deletes)


def too_many(oracle: Oracle, memory: Memory, operation: Operation) -> None:
    """More deletions than one operation may make."""
    if operation.plan is None or "too_many_deletes" in memory.acknowledged:
        return
    allowed = _allowed(oracle, operation.plan)
    if len(operation.deletions) > allowed:
        oracle.broken(
            "P6", "{} deleted {}, {} are allowed", operation.name, len(operation.deletions), allowed
        )


def skew(oracle: Oracle, process: Process, key: str) -> None:
    """Nothing is deleted while the store's clock and ours are far apart at every look of the operation."""
    skews = process.eyes.skews
    if skews and min(skews) > oracle.rules.max_skew:
        oracle.broken("P6", "{} is to be deleted and the clocks differ by {}", key, min(skews))


def change_grace(oracle: Oracle, process: Process, memory: Memory, key: str) -> None:
    """Where changes are followed, grace begins anew at each change that names the key."""
    changed, now = memory.changed_at.get(key), process.eyes.store_now
    if changed is None or now is None:
        return
    passed = (now - oracle.world.loop.at(changed)) - oracle.world.bucket.skew
    if passed < oracle.rules.grace:
        oracle.broken("gates", "{} is to be deleted {} after a change that named it", key, passed)
