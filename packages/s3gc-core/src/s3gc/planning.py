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

from s3gc import _threads, breakers, journal_events, pins
from s3gc.errors import CycleHeld, SourceError, StoreError, VaultError
from s3gc.gates import REFERENCED, first_objection
from s3gc.model import (
    Candidate,
    Column,
    ColumnCount,
    JournalDraft,
    KeptExample,
    Mode,
    Moment,
    ObjectInfo,
    PlanEntry,
    SourceIdentity,
    TrippedBreaker,
)
from s3gc.parts import Parts, source_name
from s3gc.plan import Plan, PlanFooter, PlanHeader, PlanWriter
from s3gc.reading import identities, sync

PROGRESS_EVERY = 10_000
"""Objects between two ``listing_progress`` events."""

EXAMPLES = 5
"""Kept objects named in the plan for each reason."""


async def make_plan(parts: Parts, operation_id: str) -> Plan:
    """One look at the world, written down.

    Raises:
        CycleHeld: something can't be read at all. Other breakers are in ``plan.held_by``.
    """
    started = parts.clock.monotonic()
    sources = await preflight(parts)
    listed = await _list(parts, operation_id)
    try:
        positions, counts = await sync(parts, operation_id)
    except SourceError as error:
        raise CycleHeld([TrippedBreaker("source_failed", "", str(error))]) from error
    now = await parts.store.now()

    evidence = await _evidence(parts, sources, counts, listed)
    tripped = breakers.before_candidates(evidence, parts.config.safety)
    tripped += breakers.identity_changed([pins.marks(one) for one in sources], await pins.pinned(parts))
    held = await _unacknowledged(parts, tripped)
    if not held:
        await parts.registry.listing.observe(operation_id, now)

    header = PlanHeader(
        operation_id=operation_id,
        store_url=parts.store.url,
        config_digest=parts.config.digest,
        mode=Mode(parts.config.mode),
        created_at=parts.clock.now(),
        positions=list(positions),
        gates=[gate.code for gate in parts.gates],
    )
    plan = await _write(parts, header, now, listed, held, started)
    if not plan.held_by:
        await parts.registry.references.mark_good(
            {name: state.references for name, state in evidence.states.items()}
        )
        await pins.pin(parts, operation_id, sources)
        tripped += breakers.too_many_deletes(len(plan), listed, parts.config.safety)
        await parts.registry.end_acknowledgements({(one.code, one.subject) for one in tripped})
    await _record(parts, plan)
    return plan


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


async def _list(parts: Parts, operation_id: str) -> int:
    """The listing first: a reference made while we list is then seen by the sync after it."""
    listing = parts.registry.listing
    await listing.begin()
    previous = ""
    shown = 0
    try:
        async with aclosing(parts.store.list()) as pages:  # type: ignore[type-var]
            async for page in pages:
                previous = _increasing(page, previous, first=listing.count == 0)
                await listing.add(page)
                if listing.count - shown >= PROGRESS_EVERY:
                    shown = listing.count
                    parts.emit("listing_progress", operation_id=operation_id, listed=shown)
    except StoreError as error:
        raise CycleHeld([TrippedBreaker("store_failed", "", str(error))]) from error
    await listing.finish()
    parts.emit("listing_completed", operation_id=operation_id, objects=listing.count)
    return listing.count


def _increasing(page: Sequence[ObjectInfo], previous: str, *, first: bool) -> str:
    """The last key of a page whose keys strictly increase; anything else is no listing."""
    for found in page:
        if found.key <= previous and not first:
            raise StoreError(f"the listing is not strictly increasing: {found.key!r} came after {previous!r}")
        previous, first = found.key, False
    return previous


async def _evidence(
    parts: Parts,
    sources: Sequence[SourceIdentity],
    counts: Mapping[str, Mapping[Column, ColumnCount]],
    listed: int,
) -> breakers.Evidence:
    references = parts.registry.references
    return breakers.Evidence(
        listed=listed,
        sources=sources,
        states=await references.states(),
        counts=counts,
        columns={source_name(source): source.columns() for source in parts.sources},
        resolved=await references.resolved(),
    )


async def _unacknowledged(parts: Parts, tripped: Sequence[TrippedBreaker]) -> list[TrippedBreaker]:
    acknowledged = await parts.registry.acknowledged()
    return [
        breaker
        for breaker in tripped
        if breaker.code not in breakers.ACKNOWLEDGEABLE or (breaker.code, breaker.subject) not in acknowledged
    ]


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
    listed: int,
    held: list[TrippedBreaker],
    started: float,
) -> Plan:
    """Candidates through the gates into the plan's file, page by page."""
    moment = Moment(now)
    kept: Counter[str] = Counter()
    examples: dict[str, list[KeptExample]] = {}
    candidates = 0
    after: int | None = 0
    with PlanWriter(parts.folder / "plans" / f"{header.operation_id}.jsonl", header) as writer:
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
        kept[REFERENCED] = listed - candidates
        too_many = breakers.too_many_deletes(writer.objects, listed, parts.config.safety)
        held = held + await _unacknowledged(parts, too_many)
        return writer.finish(
            PlanFooter(
                scanned=listed,
                candidates=candidates,
                objects=0,
                bytes=0,
                kept={code: count for code, count in sorted(kept.items()) if count},
                kept_examples=examples,
                held_by=held,
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
