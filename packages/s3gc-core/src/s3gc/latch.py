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
    waiting: dict[tuple[str, str], TrippedBreaker] = {}
    events = {journal_events.BREAKER_TRIPPED, journal_events.BREAKER_ACKNOWLEDGED}
    async for entry in parts.vault.journal.read(events=events):
        name = (str(entry.data["code"]), str(entry.data["subject"]))
        if entry.event == journal_events.BREAKER_ACKNOWLEDGED:
            waiting.pop(name, None)
        elif entry.data.get("stays") and name[0] not in parts.config.safety.self_clearing:
            tripped = converter.structure(
                {field: value for field, value in entry.data.items() if field != "stays"}, TrippedBreaker
            )
            first = waiting.get(name)
            since = first.since if first and first.since else entry.at
            waiting[name] = evolve(
                tripped,
                since=since,
                reason=f"tripped at {since.isoformat(timespec='seconds')} and not acknowledged yet: "
                f"{tripped.reason}",
            )
    return list(waiting.values())


async def acknowledge(parts: Parts, code: str, reason: str, subject: str) -> None:
    """Let a breaker go, on record.

    Raises:
        ValueError: no such breaker waits, or the reason is empty.
    """
    if not reason.strip():
        raise ValueError("give the reason: it stands in the journal")
    waiting = [one.subject for one in await latched(parts) if one.code == code]
    if code not in ACKNOWLEDGEABLE and subject not in waiting:
        if waiting:
            raise ValueError(f"{code} waits with another subject: {', '.join(map(repr, waiting))}")
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
    parts.emit("breaker_acknowledged", **data)
