"""The breakers: each is one reason to stop a whole cycle, a pure function of what the cycle saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from attrs import Factory, frozen

from s3gc.model import Column, ColumnCount, SourceIdentity, StoreCapabilities, TrippedBreaker
from s3gc.registry import Resolved, SourceState
from s3gc.safety import Safety

ACKNOWLEDGEABLE = frozenset(
    {
        "identity_changed",
        "no_references",
        "empty_column",
        "reference_drop",
        "resolve_rate",
        "too_many_deletes",
    }
)
"""Breakers that a person may let pass, with a reason, as long as their cause lasts. Others must be cured."""


@frozen
class Evidence:
    """What a cycle saw, before anything is condemned."""

    listed: int  # objects in the bucket
    sources: Sequence[SourceIdentity] = ()
    states: Mapping[str, SourceState] = Factory(dict)  # by source
    counts: Mapping[str, Mapping[Column, ColumnCount]] = Factory(dict)  # by source
    columns: Mapping[str, Sequence[Column]] = Factory(dict)  # tracked, by source
    resolved: Mapping[tuple[str, Column], Resolved] = Factory(dict)


def no_sources(evidence: Evidence) -> list[TrippedBreaker]:
    """Without a source everything would look unreferenced."""
    if evidence.sources:
        return []
    return [
        TrippedBreaker(
            "no_sources",
            "",
            "no place of references: give tables and database_url, or a source",
        )
    ]


def identity_changed(
    now: Sequence[Mapping[str, str]], pinned: Sequence[Mapping[str, str]] | None
) -> list[TrippedBreaker]:
    """The sources aren't those that this bucket is bound to: a staging database, a source left out."""
    if pinned is None:
        return []
    new = [mark for mark in now if mark not in pinned]
    missing = [mark for mark in pinned if mark not in now]
    if not new and not missing:
        return []
    told = [f"new is {_shown(mark)}" for mark in new] + [f"missing is {_shown(mark)}" for mark in missing]
    return [
        TrippedBreaker(
            "identity_changed",
            "",
            f"the sources aren't those that this bucket is bound to: {'; '.join(told)}. Wrong database? "
            "If it is right, acknowledge it, and the bucket is bound to these",
            {"new": new, "missing": missing},
        )
    ]


def _shown(mark: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in mark.items())


def no_references(evidence: Evidence) -> list[TrippedBreaker]:
    """A source without a single reference is no evidence that nothing is referenced."""
    return [
        TrippedBreaker(
            "no_references",
            source.name,
            f"source {source.name} holds no reference: is it the right database, and the right columns?",
            {"source": source.name},
        )
        for source in evidence.sources
        if source.name not in evidence.states or evidence.states[source.name].references == 0
    ]


def empty_columns(evidence: Evidence) -> list[TrippedBreaker]:
    """A tracked column without any value is no evidence either: tables may be empty, or half restored."""
    tripped = []
    for source, columns in evidence.columns.items():
        counts = evidence.counts.get(source, {})
        for column in columns:
            count = counts.get(column, ColumnCount())
            if count.values == 0:
                name = f"{column.table}.{column.column}"
                what = f"all {count.rows} rows are empty there" if count.rows else "the table has no rows"
                tripped.append(
                    TrippedBreaker(
                        "empty_column",
                        f"{source}:{name}",
                        f"column {name} of {source} has no value ({what}): acknowledge it if that is right",
                        {"rows": count.rows},
                    )
                )
    return tripped


def reference_drop(evidence: Evidence, safety: Safety) -> list[TrippedBreaker]:
    """References fell by more than ``max_reference_drop`` since the last cycle that nothing held."""
    tripped = []
    for source, state in evidence.states.items():
        before = state.references_good
        if before and before - state.references > safety.max_reference_drop * before:
            share = (before - state.references) / before
            tripped.append(
                TrippedBreaker(
                    "reference_drop",
                    source,
                    f"references of {source} fell from {before} to {state.references} ({share:.0%}); "
                    f"{safety.max_reference_drop:.0%} is allowed",
                    {"before": before, "now": state.references},
                )
            )
    return tripped


def resolve_rate(evidence: Evidence, safety: Safety) -> list[TrippedBreaker]:
    """Too few mentions name an existing object: the resolver's settings or the bucket are wrong.

    None at all always trips, whatever the safety numbers are: that is a database of another bucket.
    """
    mentions = sum(column.mentions for column in evidence.resolved.values())
    resolved = sum(column.resolved for column in evidence.resolved.values())
    if not evidence.listed or not mentions:
        return []
    rate = resolved / mentions
    if resolved and rate >= safety.min_resolve_rate:
        return []
    worst = sorted(evidence.resolved.items(), key=lambda item: item[1].resolved / max(1, item[1].mentions))[
        :5
    ]
    columns = {
        f"{source}:{column.table}.{column.column}": f"{count.resolved}/{count.mentions}"
        for (source, column), count in worst
    }
    return [
        TrippedBreaker(
            "resolve_rate",
            "",
            f"only {resolved} of {mentions} mentions name an object of this bucket ({rate:.1%}, at least "
            f"{safety.min_resolve_rate:.0%} wanted): is it the right bucket, are base_urls missing? "
            + ", ".join(f"{name} {count}" for name, count in columns.items()),
            {"mentions": mentions, "resolved": resolved, "columns": columns},
        )
    ]


def too_many_deletes(planned: int, listed: int, safety: Safety) -> list[TrippedBreaker]:
    """More than ``max_deletes`` objects, or more than ``max_delete_share`` of them. 0 means none."""
    allowed = int(safety.max_delete_share * listed)
    if safety.max_deletes is not None:
        allowed = min(allowed, safety.max_deletes)
    if planned <= allowed:
        return []
    limit = "no limit" if safety.max_deletes is None else str(safety.max_deletes)
    return [
        TrippedBreaker(
            "too_many_deletes",
            "",
            f"the plan would delete {planned} of {listed} objects; allowed are {allowed} "
            f"(max_deletes {limit}, max_delete_share {safety.max_delete_share:.0%}): look at the plan, then "
            "raise the limit or acknowledge",
            {"planned": planned, "listed": listed, "allowed": allowed},
        )
    ]


def clock_skew(store_now: datetime, our_now: datetime, limit: timedelta) -> list[TrippedBreaker]:
    """The store's clock and ours differ: ages can't be trusted."""
    skew = abs(store_now - our_now)
    if skew <= limit:
        return []
    return [
        TrippedBreaker(
            "clock_skew",
            "",
            f"the store's clock and this machine's differ by {skew}, {limit} is allowed: set the clock",
            {"store": store_now.isoformat(), "here": our_now.isoformat()},
        )
    ]


def unconditional_delete(capabilities: StoreCapabilities, safety: Safety) -> list[TrippedBreaker]:
    """The store deletes an object even when it is no longer the one that was backed up."""
    if capabilities.conditional_delete or safety.allow_unconditional_delete:
        return []
    return [
        TrippedBreaker(
            "unconditional_delete",
            "",
            "this store ignores If-Match on DELETE: an object overwritten in the last moment would be lost. "
            "Set allow_unconditional_delete in Safety (in s3gc.toml under [safety]) only if objects are "
            "never overwritten",
            dict(capabilities.details),
        )
    ]


def before_candidates(evidence: Evidence, safety: Safety) -> list[TrippedBreaker]:
    """All breakers that look at what was read, before anything is condemned."""
    return [
        *no_sources(evidence),
        *no_references(evidence),
        *empty_columns(evidence),
        *reference_drop(evidence, safety),
        *resolve_rate(evidence, safety),
    ]
