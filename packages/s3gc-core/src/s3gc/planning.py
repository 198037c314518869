"""The plan: list, sync, compare, gates. Touches nothing in the bucket."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

import anyio
import anyio.lowlevel
from attrs import frozen

from s3gc import _threads, breakers, journal_events, latch, owner, pins
from s3gc.errors import CycleHeld, SourceError, StoreError, VaultError
from s3gc.gates import DERIVED, REFERENCED, first_objection
from s3gc.model import (
    Candidate,
    Column,
    ColumnCount,
    JournalDraft,
    KeptExample,
    Mode,
    Moment,
    PlanEntry,
    SourceIdentity,
    TrippedBreaker,
    UntrackedColumn,
)
from s3gc.parts import Parts, source_name
from s3gc.plan import PLANS, Plan, PlanFooter, PlanHeader, PlanWriter
from s3gc.reading import identities, likely, sync, untracked
from s3gc.registry import key_hash
from s3gc.scanning import Counted

PROGRESS_EVERY = 10_000
"""Objects between two ``listing_progress`` events."""

OLD_CLAIMS = timedelta(days=7)
"""Ended claims are remembered so long: far longer than a batch that began while they ran."""

EXAMPLES = 5
"""Kept objects named in the plan for each reason."""


async def make_plan(parts: Parts, operation_id: str) -> Plan:
    """One look at the world, written down.

    Raises:
        CycleHeld: something can't be read at all. Other breakers are in ``plan.held_by``.
    """
    started = parts.clock.monotonic()
    safety = parts.config.safety
    await parts.registry.claims.prune(parts.clock.now() - OLD_CLAIMS)
    sources = await preflight(parts)
    listed = await list_bucket(parts, operation_id)
    try:
        counted = await sync(parts, operation_id)
        await parts.registry.listing.compare()
        spared = await _spare(parts)
        evidence = await _evidence(parts, sources, counted, listed)
        tripped = breakers.before_candidates(evidence, safety) + await belonging(parts, sources)
        now = await parts.store.now()
    except SourceError as error:
        raise CycleHeld([TrippedBreaker("source_failed", "", str(error))]) from error
    except StoreError as error:
        raise CycleHeld([TrippedBreaker("store_failed", "", str(error))]) from error
    held = await unacknowledged(parts, tripped)
    if not held:
        await parts.registry.listing.observe(operation_id, now)
    held += await still_latched(parts, held)

    header = PlanHeader(
        operation_id=operation_id,
        store_url=parts.store.url,
        config_digest=parts.config.digest,
        mode=Mode(parts.config.mode),
        created_at=parts.clock.now(),
        positions=[one.position for one in counted.values()],
        gates=[gate.code for gate in parts.gates],
    )
    missing = {
        f"{source}:{column.table}.{column.column}": count.mentions - count.resolved
        for (source, column), count in evidence.resolved.items()
        if count.mentions > count.resolved
    }
    plan = await _write(parts, header, now, _Seen(listed, spared, missing), held, started)
    if not plan.held_by:
        await parts.registry.references.mark_good(
            {name: state.references for name, state in evidence.states.items()}
        )
        await pins.pin(parts, operation_id, sources)
        tripped += breakers.too_many_deletes(len(plan), listed, safety)
        await parts.registry.end_acknowledgements({(one.code, one.subject) for one in tripped})
    await _record(parts, plan)
    if parts.config.mode is not Mode.DRY_RUN:  # the journal holds it now, and the breaker stays
        await parts.registry.references.loss_told(evidence.lost)
    return plan


async def belonging(parts: Parts, sources: Sequence[SourceIdentity]) -> list[TrippedBreaker]:
    """Whether sources, bucket and vault belong together. Asked for a plan, and again before it is executed.

    Raises:
        StoreError: the marks in the bucket can't be read.
    """
    marks = [pins.marks(one) for one in sources]
    return [
        *breakers.identity_changed(marks, await pins.pinned(parts)),
        *breakers.bucket_owner(await owner.problem(parts)),
    ]


async def preflight(parts: Parts) -> Sequence[SourceIdentity]:
    """Everything that must work before the first object is listed.

    Raises:
        CycleHeld: with each reason.
    """
    held: list[TrippedBreaker] = []
    try:
        store_now, here = await parts.store.now(), parts.clock.now()
        if breakers.clock_skew(store_now, here, parts.config.safety.max_clock_skew):
            # A slow answer looks like a skewed clock: believe only the second look.
            store_now, here = await parts.store.now(), parts.clock.now()
            held += breakers.clock_skew(store_now, here, parts.config.safety.max_clock_skew)
    except StoreError as error:
        held.append(TrippedBreaker("store_failed", "", str(error)))
    if parts.config.mode != Mode.DRY_RUN:
        try:
            await parts.vault.check(max_fill=parts.config.safety.max_vault_fill)
        except VaultError as error:
            held.append(TrippedBreaker("vault_unusable", "", str(error)))
    sources: Sequence[SourceIdentity] = ()
    try:
        sources = await identities(parts)
    except SourceError as error:
        held.append(TrippedBreaker("source_failed", "", str(error)))
    if held:
        raise CycleHeld(held)
    return sources


async def list_bucket(parts: Parts, operation_id: str) -> int:
    """The listing first: a reference made while we list is then seen by the sync after it."""
    listing = parts.registry.listing
    await listing.begin()
    shown = 0
    try:
        async with aclosing(parts.store.scan()) as pages:  # type: ignore[type-var]
            async for page in pages:
                await listing.add(page)
                if listing.count - shown >= PROGRESS_EVERY:
                    shown = listing.count
                    parts.emit("listing_progress", operation_id=operation_id, listed=shown)
        await listing.finish()
    except StoreError as error:
        raise CycleHeld([TrippedBreaker("store_failed", "", str(error))]) from error
    parts.emit("listing_completed", operation_id=operation_id, objects=listing.count)
    return listing.count


async def _spare(parts: Parts) -> Mapping[str, int]:
    """Objects that live by a folder or a parent. Nothing to look for, as a rule."""
    if not parts.config.derived and not await parts.registry.references.has_folders():
        return {}
    return await parts.registry.listing.spare(parts.protection.hashes)


async def _evidence(
    parts: Parts,
    sources: Sequence[SourceIdentity],
    counted: Mapping[str, Counted],
    listed: int,
) -> breakers.Evidence:
    references = parts.registry.references
    resolved = await references.resolved()
    states = await references.states()
    counts: dict[str, Mapping[Column, ColumnCount]] = {}
    for name, one in counted.items():
        counts[name] = one.columns or {
            # Followed, so not scanned in this cycle: what the registry has of each column.
            column: ColumnCount(values, values)
            for column, values in (await references.values(name)).items()
        }
    return breakers.Evidence(
        listed=listed,
        sources=sources,
        states=states,
        counts=counts,
        columns={source_name(source): source.columns() for source in parts.sources},
        resolved=resolved,
        examples={
            where: await _examples(parts, where[0], where[1], counted[where[0]])
            for where, count in resolved.items()
            if count.resolved < parts.config.safety.min_resolve_rate * count.mentions
        },
        lost={name: state.lost for name, state in states.items() if state.lost is not None},
        untracked=await _untracked(parts),
    )


async def _examples(parts: Parts, source: str, column: Column, counted: Counted) -> list[str]:
    """Some mentions of a column that name no object: row and key where a scan has seen them, else the row."""
    told: list[str] = []
    for row_id, keys in counted.samples.get(column, {}).items():
        if not await parts.registry.listing.listed_among({key_hash(key): key for key in keys}):
            told.append(f"row {row_id}: {min(keys, key=likely)!r}")
    if not told:
        rows = await parts.registry.references.unresolved(source, column, breakers.SHOWN)
        told = [f"row {row_id}" for row_id in rows]
    return told[: breakers.SHOWN]


async def _untracked(parts: Parts) -> list[tuple[str, UntrackedColumn, Sequence[str]]]:
    """The coverage guard's evidence: untracked columns, and which of their sampled keys exist here."""
    found: list[tuple[str, UntrackedColumn, Sequence[str]]] = []
    async with aclosing(untracked(parts)) as columns:  # type: ignore[type-var]
        async for source, column in columns:
            keys = await parts.registry.listing.listed_among({key_hash(key): key for key in column.keys})
            if keys:
                found.append((source, column, sorted(keys)))
    return found


async def unacknowledged(parts: Parts, tripped: Sequence[TrippedBreaker]) -> list[TrippedBreaker]:
    """Those that no person has let pass."""
    acknowledged = await parts.registry.acknowledged()
    return [
        breaker
        for breaker in tripped
        if breaker.code not in breakers.ACKNOWLEDGEABLE or (breaker.code, breaker.subject) not in acknowledged
    ]


async def still_latched(parts: Parts, held: Sequence[TrippedBreaker] = ()) -> list[TrippedBreaker]:
    """Breakers of earlier cycles that wait for a person, besides those that hold anyway. Not in a dry run."""
    if parts.config.mode is Mode.DRY_RUN:
        return []
    now = {(breaker.code, breaker.subject) for breaker in held}
    return [one for one in await latch.latched(parts) if (one.code, one.subject) not in now]


@frozen
class _Seen:
    """What the cycle counted before it looked at candidates."""

    listed: int
    spared: Mapping[str, int]
    missing: Mapping[str, int]


@frozen
class _Sorted:
    """A page of candidates, divided."""

    entries: list[PlanEntry]
    kept: list[tuple[str, str, str]]  # code, key, why


def _sort(parts: Parts, candidates: Sequence[Candidate], moment: Moment) -> _Sorted:
    entries: list[PlanEntry] = []
    kept: list[tuple[str, str, str]] = []
    reasons: dict[tuple[datetime, int], str] = {}  # most candidates of a cycle share theirs
    for candidate in candidates:
        objection = first_objection(parts.gates, candidate, moment)
        if objection is None:
            since, seen = candidate.unreferenced_since, candidate.observations
            reason = reasons.get((since, seen))
            if reason is None:
                reason = reasons[since, seen] = (
                    f"no row of any source names it; seen so in {seen} cycles since "
                    f"{since.isoformat(timespec='seconds')}"
                )
            entries.append(PlanEntry(candidate.object, since, seen, reason))
        else:
            kept.append((objection[0], candidate.object.key, objection[1]))
    return _Sorted(entries, kept)


def _sort_into(writer: PlanWriter, parts: Parts, candidates: Sequence[Candidate], moment: Moment) -> _Sorted:
    divided = _sort(parts, candidates, moment)
    writer.add(divided.entries)
    return divided


async def _write(
    parts: Parts,
    header: PlanHeader,
    now: datetime,
    seen: _Seen,
    held: list[TrippedBreaker],
    started: float,
) -> Plan:
    """Candidates through the gates into the plan's file, page by page."""
    moment = Moment(now)
    kept: Counter[str] = Counter()
    examples: dict[str, list[KeptExample]] = {}
    candidates = 0
    after: int | None = 0
    with PlanWriter(parts.folder / PLANS / f"{header.operation_id}.jsonl", header) as writer:
        while after is not None:
            page = await parts.registry.listing.candidates(now, after=after)
            after = page.after
            candidates += len(page.candidates)
            # In a thread: thousands of candidates would stall the host's loop.
            divided = await _threads.run(
                functools.partial(_sort_into, writer, parts, page.candidates, moment)
            )
            for code, key, why in divided.kept:
                kept[code] += 1
                named = examples.setdefault(code, [])
                if len(named) < EXAMPLES:
                    named.append(KeptExample(key, why))
            await anyio.lowlevel.checkpoint()  # let the host's other tasks run
        kept[DERIVED] = seen.spared.get("derived", 0)
        kept[REFERENCED] = seen.listed - candidates - kept[DERIVED]
        too_many = breakers.too_many_deletes(writer.objects, seen.listed, parts.config.safety)
        held = held + await unacknowledged(parts, too_many)
        return writer.finish(
            PlanFooter(
                scanned=seen.listed,
                candidates=candidates,
                objects=0,
                bytes=0,
                kept={code: count for code, count in sorted(kept.items()) if count},
                kept_examples=examples,
                held_by=held,
                missing=seen.missing,
                duration=timedelta(seconds=parts.clock.monotonic() - started),
            )
        )


async def _record(parts: Parts, plan: Plan) -> None:
    """Tell. The journal hears of the plan itself unless this is a dry run."""
    if parts.config.mode != Mode.DRY_RUN:
        await parts.vault.journal.append(
            [
                JournalDraft(
                    journal_events.PLAN_MADE,
                    plan.operation_id,
                    data={
                        "sha256": plan.digest,
                        "config": plan.header.config_digest,
                        "positions": {position.source: position.value for position in plan.header.positions},
                        "gates": list(plan.header.gates),
                        "scanned": plan.scanned,
                        "candidates": plan.candidates,
                        "objects": len(plan),
                        "bytes": plan.bytes,
                        "kept": dict(plan.kept),
                        "held_by": [breaker.code for breaker in plan.held_by],
                    },
                )
            ]
        )
    if plan.held_by:
        await parts.tripped(plan.operation_id, plan.held_by)
    parts.emit(
        "plan_made",
        operation_id=plan.operation_id,
        path=str(plan.path),
        scanned=plan.scanned,
        candidates=plan.candidates,
        objects=len(plan),
        bytes=plan.bytes,
        held=[breaker.code for breaker in plan.held_by],
    )
