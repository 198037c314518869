"""What the rules of a configuration demand of a plan, worked out anew from what the process was told.

Nothing here shares code with the core's gates and breakers: else both would be wrong together.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from s3gc.testing.simulator._database import FOLDER, UNTRACKED

if TYPE_CHECKING:
    from s3gc.testing.simulator._invariants import Oracle
    from s3gc.testing.simulator._memory import Tripped
    from s3gc.testing.simulator._operation import Operation, PlanFacts
    from s3gc.testing.simulator._process import Process

Why = tuple["Tripped", str]


def breakers(oracle: Oracle, process: Process, plan: PlanFacts) -> Iterator[Why]:
    """((code, subject), why) of each breaker that has to hold this plan."""
    rules, registry = oracle.rules, oracle.registry(process)
    references = registry.references()
    for source in process.sources:
        rows = references.get(source, ())
        if not rows:
            yield ("no_references", source), f"{source} told of none"
        for table, column in oracle.world.links[source].database.columns:
            if not any((one.table, one.column) == (table, column) for one in rows):
                yield ("empty_column", f"{source}:{table}.{column}"), f"{table}.{column} had no value"
        before, now = registry.good.get(source), len(rows)
        if before and before - now > rules.max_drop * before:
            yield ("reference_drop", source), f"{source} told of {now} references, {before} before"
        if registry.ordinals.get(source, 0) < registry.good_ordinals.get(source, 0):
            yield ("position_went_back", source), f"{source} stands before where it stood"
        if source in registry.lost:
            yield ("position_lost", source), f"changes of {source} were lost"
        seen = [one for one in process.eyes.untracked.get(source, ()) if one in process.eyes.listed]
        if seen:
            yield ("untracked_column", f"{source}:{'.'.join(UNTRACKED)}"), f"it names {sorted(seen)}"
    yield from _identity(oracle, process)
    yield from _resolve_rate(oracle, process)
    allowed = _allowed(oracle, plan)
    if len(plan.objects) > allowed:
        yield ("too_many_deletes", ""), f"{len(plan.objects)} of {plan.scanned}, {allowed} are allowed"


def _identity(oracle: Oracle, process: Process) -> Iterator[Why]:
    seen, pinned = set(process.eyes.identities.values()), oracle.vault(process).pinned
    if pinned is not None and seen != pinned:
        yield ("identity_changed", ""), f"{sorted(seen)} answered, bound to {sorted(pinned)}"


def _resolve_rate(oracle: Oracle, process: Process) -> Iterator[Why]:
    """By column, folders left out; and none at all is always too few."""
    listed = process.eyes.listed
    hits: dict[str, list[bool]] = {}
    for source, rows in oracle.registry(process).references().items():
        for one in rows:
            if (one.table, one.column) != FOLDER:
                hits.setdefault(f"{source}:{one.table}.{one.column}", []).append(one.key in listed)
    if not listed:
        return
    tripped = False
    for subject, some in sorted(hits.items()):
        if sum(some) / len(some) < oracle.rules.min_rate:
            tripped = True
            yield ("resolve_rate", subject), f"{sum(some)} of {len(some)} mentions name an object"
    if hits and not tripped and not any(any(some) for some in hits.values()):
        yield ("resolve_rate", ""), "no mention names an object"


def _allowed(oracle: Oracle, plan: PlanFacts) -> int:
    allowed = int(oracle.rules.max_share * plan.scanned)
    return allowed if oracle.rules.max_deletes is None else min(allowed, oracle.rules.max_deletes)


def too_many(oracle: Oracle, process: Process, operation: Operation) -> None:
    """More deletions than one operation may make."""
    if operation.plan is None or ("too_many_deletes", "") in oracle.registry(process).acknowledged:
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


def change_grace(oracle: Oracle, process: Process, key: str) -> None:
    """Where changes are followed, grace begins anew at each change that names the key.

    The store's clock may be off by what a cycle allows.
    """
    changed, now = oracle.registry(process).changed_at.get(key), process.eyes.store_now
    if changed is None or now is None:
        return
    passed = now - oracle.world.loop.at(changed) + oracle.rules.max_skew
    if passed < oracle.rules.grace:
        off = passed - oracle.rules.max_skew
        oracle.broken(
            "gates", "{} is to be deleted {} after a change that named it", key, max(off, timedelta(0))
        )
