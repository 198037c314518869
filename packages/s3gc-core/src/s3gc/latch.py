"""Breakers that stay: one that tripped holds every later cycle until a person has acknowledged it.

The journal alone says so: a trip that stays, and no acknowledgement of it since. So it outlives the registry
and the process, and who let it pass, and why, is on record.
"""

from __future__ import annotations

from attrs import evolve

from s3gc import journal_events
from s3gc._json import converter
from s3gc.breakers import ACKNOWLEDGEABLE
from s3gc.model import JournalDraft, TrippedBreaker
from s3gc.parts import Parts


async def latched(parts: Parts) -> list[TrippedBreaker]:
    """Breakers that wait for an acknowledgement, each with the time when it first tripped since then."""
    return [
        evolve(
            breaker,
            reason=f"tripped at {since.isoformat(timespec='seconds')} and not acknowledged yet: "
            f"{breaker.reason}",
        )
        for breaker, stays in await _unanswered(parts)
        if stays and (since := breaker.since) is not None
    ]


async def _unanswered(parts: Parts) -> list[tuple[TrippedBreaker, bool]]:
    """All that tripped and wasn't acknowledged since, in a dry run too; and whether it stays."""
    waiting: dict[tuple[str, str], tuple[TrippedBreaker, bool]] = {}
    events = {journal_events.BREAKER_TRIPPED, journal_events.BREAKER_ACKNOWLEDGED}
    async for entry in parts.vault.journal.read(events=events):
        name = (str(entry.data["code"]), str(entry.data["subject"]))
        if entry.event == journal_events.BREAKER_ACKNOWLEDGED:
            waiting.pop(name, None)
            continue
        data = {field: value for field, value in entry.data.items() if field != "stays"}
        stays = bool(entry.data.get("stays")) and name[0] not in parts.config.safety.self_clearing
        before, stayed = waiting.get(name, (None, False))
        since = before.since if before and stayed else entry.at
        waiting[name] = (evolve(converter.structure(data, TrippedBreaker), since=since), stays or stayed)
    return list(waiting.values())


async def acknowledge(parts: Parts, code: str, reason: str, subject: str) -> None:
    """Let a breaker go, on record.

    Raises:
        ValueError: no such breaker waits, or the reason is empty.
    """
    if not reason.strip():
        raise ValueError("give the reason: it stands in the journal")
    tripped = [breaker.subject for breaker, _ in await _unanswered(parts) if breaker.code == code]
    if tripped and subject not in tripped:
        others = ", ".join(map(repr, tripped))
        raise ValueError(f"{code} has tripped with another subject; acknowledge each: {others}")
    if not tripped and code not in ACKNOWLEDGEABLE:
        raise ValueError(
            f"{code} doesn't wait for an acknowledgement, and in advance it can't be acknowledged, only "
            "cured; these can: " + ", ".join(sorted(ACKNOWLEDGEABLE))
        )
    data = {"code": code, "subject": subject, "reason": reason}
    await parts.vault.journal.append(
        [JournalDraft(journal_events.BREAKER_ACKNOWLEDGED, parts.new_id(), data=data)]
    )
    if code in ACKNOWLEDGEABLE:
        await parts.registry.acknowledge(code, subject, reason, parts.clock.now())
    if code == "position_lost":
        await parts.registry.references.loss_told([subject])
    parts.emit("breaker_acknowledged", **data)
