"""The breakers: each is one reason to stop a whole cycle, a pure function of what the cycle saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from attrs import Factory, frozen

from s3gc.model import (
    Column,
    ColumnCount,
    SourceIdentity,
    StoreCapabilities,
    TrippedBreaker,
    UntrackedColumn,
    Versioning,
)
from s3gc.registry import Resolved, SourceState
from s3gc.safety import Safety

SHOWN = 5
"""Examples named in a reason."""

ACKNOWLEDGEABLE = frozenset(
    {
        "bucket_owner",
        "identity_changed",
        "no_references",
        "empty_column",
        "position_went_back",
        "reference_drop",
        "resolve_rate",
        "too_many_deletes",
        "untracked_column",
    }
)
"""Breakers that a person may let pass, with a reason, as long as their cause lasts. Others must be cured.

One that was cured stays all the same, until a person has acknowledged that it tripped (:mod:`s3gc.latch`).
"""


NEVER_STAYS = frozenset({"no_sources", "recovery_pending", "unconditional_delete"})
"""Breakers that are over when their cause is: a person has configured it away, or the crash is settled."""


@frozen
class Evidence:
    """What a cycle saw, before anything is condemned."""

    listed: int  # objects in the bucket
    sources: Sequence[SourceIdentity] = ()
    states: Mapping[str, SourceState] = Factory(dict)  # by source
    counts: Mapping[str, Mapping[Column, ColumnCount]] = Factory(dict)  # by source
    columns: Mapping[str, Sequence[Column]] = Factory(dict)  # tracked, by source
    resolved: Mapping[tuple[str, Column], Resolved] = Factory(dict)
    examples: Mapping[tuple[str, Column], Sequence[str]] = Factory(dict)  # mentions that name no object
    lost: Mapping[str, str] = Factory(dict)  # source → why its changes could not be followed
    untracked: Sequence[tuple[str, UntrackedColumn, Sequence[str]]] = ()  # source, column, keys that exist


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
    """Too few mentions of a column name an existing object: the resolver's settings or the bucket are wrong.

    Each column counts by itself: one that reads well must not hide another that doesn't. No mention at all
    that names an object always trips, whatever the safety numbers are: that is a database of another bucket.
    """
    if not evidence.listed:
        return []
    tripped = []
    for (source, column), count in sorted(evidence.resolved.items(), key=lambda item: str(item[0])):
        rate = count.resolved / count.mentions if count.mentions else 1.0
        if rate >= safety.min_resolve_rate:
            continue
        examples = list(evidence.examples.get((source, column), ()))
        shown = f" Such as {'; '.join(examples)}." if examples else ""
        name = f"{column.table}.{column.column}"
        tripped.append(
            TrippedBreaker(
                "resolve_rate",
                f"{source}:{name}",
                f"only {count.resolved} of {count.mentions} mentions in {name} of {source} name an object of "
                f"this bucket ({rate:.1%}, at least {safety.min_resolve_rate:.0%} wanted): is it the right "
                f"bucket, are base_urls missing?{shown}",
                {"mentions": count.mentions, "resolved": count.resolved, "examples": examples},
            )
        )
    mentions = sum(column.mentions for column in evidence.resolved.values())
    if not tripped and mentions and not any(column.resolved for column in evidence.resolved.values()):
        tripped.append(
            TrippedBreaker(
                "resolve_rate",
                "",
                f"not one of {mentions} mentions names an object of this bucket: is it the right one?",
                {"mentions": mentions, "resolved": 0},
            )
        )
    return tripped


def position_lost(evidence: Evidence) -> list[TrippedBreaker]:
    """A followed source can't tell all changes since the last position: what happened is unknown."""
    return [
        TrippedBreaker(
            "position_lost",
            source,
            f"the changes of {source} since the last cycle are lost ({why}); its rows were read anew, and "
            "every grace begins anew. Find out why (a failover, a dropped slot, a purged log?), then "
            "acknowledge",
        )
        for source, why in evidence.lost.items()
    ]


def position_went_back(evidence: Evidence) -> list[TrippedBreaker]:
    """A source stands before where it stood: a database restored to its past, or another one."""
    return [
        TrippedBreaker(
            "position_went_back",
            source,
            f"{source} is at {state.position}, before where the last good cycle saw it: was it restored to "
            "an earlier time? Files whose rows came back may be deleted already: restore --at brings them "
            "back. Then acknowledge",
            {"now": state.ordinal, "before": state.ordinal_good},
        )
        for source, state in evidence.states.items()
        if state.ordinal is not None and state.ordinal_good is not None and state.ordinal < state.ordinal_good
    ]


def untracked_column(evidence: Evidence) -> list[TrippedBreaker]:
    """A column that isn't configured holds keys of this bucket: nobody protects what it names."""
    return [
        TrippedBreaker(
            "untracked_column",
            f"{source}:{column.table}.{column.column}",
            f"{column.table}.{column.column} ({column.type}) of {source} isn't tracked, and its values name "
            f"objects of this bucket: {', '.join(map(repr, keys[:SHOWN]))}. Add it to tables, or waive it by "
            "an acknowledgement if its mentions don't matter",
            {"keys": list(keys[:SHOWN]), "found": len(keys), "sampled": column.sampled},
        )
        for source, column, keys in evidence.untracked
        if keys
    ]


def registry_disagrees(witnesses: Mapping[str, str]) -> list[TrippedBreaker]:
    """The registry calls a key free, and the database names it, before and after the registry caught up.

    Args:
        witnesses: key → where the database names it.
    """
    if not witnesses:
        return []
    some = list(witnesses.items())[:SHOWN]
    return [
        TrippedBreaker(
            "registry_disagrees",
            "",
            f"the registry doesn't know references that the database holds, to {len(witnesses)} object(s): "
            + "; ".join(f"{key!r}: {witness}" for key, witness in some)
            + ". Changes were lost (sql_log_bin=0, a table outside the publication?): nothing is deleted",
            {"keys": dict(some), "found": len(witnesses), "registry": "no reference"},
        )
    ]


def bucket_owner(problem: str | None) -> list[TrippedBreaker]:
    """Another vault has collected in this bucket, or in a part of it that overlaps ours."""
    if problem is None:
        return []
    return [
        TrippedBreaker(
            "bucket_owner",
            "",
            f"{problem}. Is this another environment's configuration? If this vault has taken over, "
            "acknowledge it, and the bucket is bound to it",
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
    """The store deletes an object even when it is no longer the one that was backed up.

    With versioning on, what was overwritten stays in the bucket as an older version: there is a way back.
    """
    if capabilities.conditional_delete or capabilities.keeps_versions or safety.allow_unconditional_delete:
        return []
    versioning = capabilities.versioning
    state = {
        Versioning.SUSPENDED: " (it is suspended, which keeps nothing new)",
        Versioning.UNKNOWN: " (whether it is on is unknown: grant s3:GetBucketVersioning)",
    }.get(versioning, "")
    return [
        TrippedBreaker(
            "unconditional_delete",
            "",
            "this store isn't proven to honour If-Match on DELETE: an object overwritten between its backup "
            f"and its delete would be lost. Either turn on versioning on the bucket{state}: what was "
            "overwritten then stays there as an older version. Or set allow_unconditional_delete in Safety "
            "(in s3gc.toml under [safety]); the risk is that very loss, so only if the application never "
            "overwrites a key, or doesn't run meanwhile",
            {**capabilities.details, "versioning": capabilities.details.get("versioning", versioning.value)},
        )
    ]


def before_candidates(evidence: Evidence, safety: Safety) -> list[TrippedBreaker]:
    """All breakers that look at what was read, before anything is condemned."""
    return [
        *no_sources(evidence),
        *no_references(evidence),
        *empty_columns(evidence),
        *reference_drop(evidence, safety),
        *position_lost(evidence),
        *position_went_back(evidence),
        *resolve_rate(evidence, safety),
        *untracked_column(evidence),
    ]
