"""The sources: who they are, whether they can be fenced and followed, and whether a column is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta

import attrs

from s3gc import _threads, breakers, discovery, pins
from s3gc.abc import ReferenceSource
from s3gc.discovery import Lead
from s3gc.doctor._check import Check, Status
from s3gc.errors import SourceError
from s3gc.parts import Parts, source_name
from s3gc.plan import Plan, newest_plan
from s3gc.reading import reading_from

FENCE_WAIT = timedelta(seconds=5)
"""A fence may take up to ``max_transaction_age``; whether it works at all shows sooner."""


async def sources(parts: Parts) -> AsyncIterator[Check]:
    if not parts.sources:
        fix = "give database_url and [tables]: without a source every object would look unreferenced"
        yield Check("source", "", Status.FAIL, "there is no source of references", fix)
        return
    known = await pins.pinned(parts)
    identities = []
    for source in parts.sources:
        name = source_name(source)
        try:
            async with reading_from(parts, source):
                identity = attrs.evolve(await source.check(), name=name)
        except SourceError as error:
            yield Check("source", name, Status.FAIL, str(error), "the text says what is missing")
            continue
        identities.append(identity)
        columns = len(source.columns())
        yield Check("source", name, Status.PASS, f"{identity.kind}, {columns} tracked columns are there")
        yield await _fence(parts, source)
        yield await _position(parts, source)
    if len(identities) == len(parts.sources):
        tripped = breakers.identity_changed([pins.marks(one) for one in identities], known)
        for breaker in tripped:
            fix = "if it was meant: `s3gc acknowledge identity_changed`"
            yield Check("pins", breaker.subject, Status.FAIL, breaker.reason, fix)
        if not tripped:
            told = "they are those of the last cycle" if known else "this vault knows none yet"
            yield Check("pins", "", Status.PASS, told)


async def _fence(parts: Parts, source: ReferenceSource) -> Check:
    wait = min(FENCE_WAIT, parts.config.safety.max_transaction_age)
    try:
        async with reading_from(parts, source):
            position = await source.fence(wait)
    except SourceError as error:
        fix = "end it, or raise max_transaction_age if transactions take that long; a privilege: grant it"
        return Check("fence", source_name(source), Status.WARN, str(error), fix)
    return Check("fence", source_name(source), Status.PASS, f"at {position.value}")


async def _position(parts: Parts, source: ReferenceSource) -> Check:
    name = source_name(source)
    state = await parts.registry.references.state(name)
    if state is not None and state.lost is not None:
        fix = "the next plan reads all rows anew; then `s3gc acknowledge position_lost`"
        return Check("position", name, Status.FAIL, state.lost, fix)
    if not source.follows_changes:
        return Check("position", name, Status.PASS, "it is scanned in each cycle: there is none to lose")
    where = f"the registry is at {state.position}" if state else "no plan was made yet"
    return Check("position", name, Status.PASS, where)


def _told(lead: Lead) -> str:
    """How a column of which no value is a key names objects."""
    if lead.below:
        return f"its values name objects below {', '.join(lead.below)}: base_urls lacks it"
    if lead.above:
        return f"its values name objects of {', '.join(lead.above)}: key_prefixes lacks it"
    return f"{lead.folders} of {lead.tried} values name folders with objects: it belongs to folders, too"


async def coverage(parts: Parts) -> AsyncIterator[Check]:
    count = 0
    waived = await parts.registry.acknowledged()
    async with aclosing(discovery.leads(parts)) as found:  # type: ignore[type-var]
        async for lead in found:
            count += 1
            if not lead.names_objects:
                continue
            column = f"{lead.table}.{lead.column}"
            examples = ", ".join(map(repr, lead.examples[:2]))
            told = f"{lead.found} of {lead.tried} values name an object, such as {examples}"
            if not lead.found:
                told = _told(lead)
            subject = f"{lead.source}:{column}"
            if ("untracked_column", subject) in waived:
                yield Check("coverage", column, Status.WARN, f"waived: {told}", "the journal has the reason")
                continue
            fix = f"add it to [tables], or `s3gc acknowledge untracked_column --subject '{subject}'`"
            yield Check("coverage", column, Status.FAIL, told, fix)
    yield Check("coverage", "", Status.PASS, f"{count} untracked columns with values were looked at")


async def resolve_rate(parts: Parts) -> AsyncIterator[Check]:
    """What the newest plan says: to count anew would need another listing."""
    plan = await _threads.run(lambda: _newest(parts))
    if plan is None:
        yield Check("resolve_rate", "", Status.WARN, "no plan was made yet", "run `s3gc plan`")
        return
    tripped = [breaker for breaker in plan.held_by if breaker.code == "resolve_rate"]
    fix = "is it the right bucket, are base_urls missing? `s3gc missing` shows the rows"
    for breaker in tripped:
        yield Check("resolve_rate", breaker.subject, Status.FAIL, breaker.reason, fix)
    if not tripped:
        missing = sum(plan.footer.missing.values())
        at = plan.header.created_at.isoformat(timespec="seconds")
        told = f"by the plan of {at}: {missing} mentions of objects that don't exist, few enough"
        yield Check("resolve_rate", "", Status.PASS, told)


def _newest(parts: Parts) -> Plan | None:
    newest = newest_plan(parts.folder)
    return None if newest is None else Plan.load(newest)
