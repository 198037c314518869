"""Why is this file still there, why did it go? Every gate's answer, the rows, and the journal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime

from s3gc import _threads, journal_events
from s3gc.abc import folders_of
from s3gc.derivation import TooManyParents
from s3gc.errors import AmbiguousKey, S3GCError
from s3gc.gates import CLAIMED, DERIVED, REFERENCED, REFERENCED_NOW, VETOED
from s3gc.model import Explanation, JournalEntry, Moment, ObjectInfo, Reference, Verdict
from s3gc.parts import Parts, source_name
from s3gc.protection import Sought
from s3gc.reading import identities, reading_from
from s3gc.registry import folder_hash, key_hash

_BY_ROWS = (REFERENCED, DERIVED, REFERENCED_NOW)
_ENDS = (journal_events.DELETED, journal_events.RESURRECTED, journal_events.RESTORED)


async def explain(parts: Parts, key: str, at: datetime | None = None) -> Explanation:
    """All that is known of a key. What can't be read now is said in ``problems``, not guessed.

    With ``at``, as the journal knew it at that time: nobody can ask a bucket or a database about the past.
    """
    history = await _history(parts, key)
    if at is not None:
        return await _past(parts, key, [entry for entry in history if entry.at <= at], at)
    problems: list[str] = []
    found, exists = await _look(parts, key, problems)
    references = await _references(parts, key, problems)
    verdicts = await _verdicts(parts, key, found, references, problems)
    return Explanation(
        key=key,
        exists=exists,
        decision=_decision(exists, verdicts, history, problems),
        verdicts=verdicts,
        references=references,
        history=history,
        object=found,
        problems=problems,
    )


async def _history(parts: Parts, key: str) -> list[JournalEntry]:
    """All entries of the key, and what was known of the store whenever it was about to be deleted."""
    journal = parts.vault.journal
    history = [entry async for entry in journal.read(key=key)]
    for operation_id in {e.operation_id for e in history if e.event == journal_events.DELETE_INTENDED}:
        events = {journal_events.STORE_PROBED}
        history += [entry async for entry in journal.read(operation_id=operation_id, events=events)]
    return sorted(history, key=lambda entry: entry.seq)


async def _past(parts: Parts, key: str, history: list[JournalEntry], at: datetime) -> Explanation:
    ends = [entry for entry in history if entry.event in _ENDS]
    gone = bool(ends) and ends[-1].event == journal_events.DELETED
    plans = [
        entry async for entry in parts.vault.journal.read(events={journal_events.PLAN_MADE}) if entry.at <= at
    ]
    return Explanation(
        key=key,
        exists=False if gone else None,
        decision=_decision_then(history, ends, plans, at),
        verdicts=[_verdict_of(entry) for entry in history if entry.event in _TOLD],
        references=[],
        history=history,
        problems=[
            "of the past only the journal is known: not the rows, nor what the application did to the bucket"
        ],
    )


_TOLD = (
    journal_events.WOULD_DELETE,
    journal_events.DELETE_INTENDED,
    journal_events.DELETE_SKIPPED,
    journal_events.RESURRECTED,
)


def _verdict_of(entry: JournalEntry) -> Verdict:
    """What a cycle said of the key, in the terms of the gates."""
    when = f"{entry.at.isoformat(timespec='seconds')}, operation {entry.operation_id}"
    data = entry.data
    if entry.event == journal_events.DELETE_SKIPPED:
        return Verdict(str(data["reason"]), True, f"{data.get('detail', '')} ({when})")
    if entry.event == journal_events.RESURRECTED:
        return Verdict(entry.event, True, f"{data['why']} ({when})")
    return Verdict(entry.event, False, f"{data['reason']} ({when})")


def _decision_then(
    history: list[JournalEntry], ends: list[JournalEntry], plans: list[JournalEntry], at: datetime
) -> str:
    if ends:
        last = ends[-1]
        when = f"at {last.at.isoformat()} in operation {last.operation_id}"
        if last.event == journal_events.DELETED:
            intents = [entry for entry in history if entry.event == journal_events.DELETE_INTENDED]
            why = f": {intents[-1].data['reason']}" if intents else ""
            return f"deleted by s3gc {when}{why}"
        return f"there, put back by s3gc {when} ({last.event})"
    if not plans:
        return f"no cycle had looked at the bucket by {at.isoformat()}"
    held = plans[-1].data.get("held_by")
    last_plan = f"the last one before was {plans[-1].operation_id} at {plans[-1].at.isoformat()}"
    if held:
        return f"kept: that cycle was held by {', '.join(held)}; {last_plan}"
    return f"not deleted by s3gc: no cycle until then had condemned it; {last_plan}"


async def _look(parts: Parts, key: str, problems: list[str]) -> tuple[ObjectInfo | None, bool | None]:
    try:
        found = await parts.store.stat(key)
    except AmbiguousKey as error:
        problems.append(f"ambiguous_key: {error}")
        return None, None
    except S3GCError as error:
        problems.append(f"the store: {error}")
        return None, None
    return found, found is not None


async def _references(parts: Parts, key: str, problems: list[str]) -> list[tuple[str, Reference]]:
    """The rows that protect the key: those that name it, its folder, or what it is derived from."""
    found: list[tuple[str, Reference]] = []
    sought = Sought({key}, parts.protection)
    try:
        await identities(parts)
        for source in parts.sources:
            async with (
                reading_from(parts, source),
                aclosing(source.find(sought.names)) as references,  # type: ignore[type-var]
            ):
                async for reference in references:
                    if key in sought.protected_by(reference):
                        found.append((source_name(source), reference))
    except S3GCError as error:
        problems.append(f"the direct read: {error}")
    return found


async def _verdicts(
    parts: Parts,
    key: str,
    found: ObjectInfo | None,
    references: list[tuple[str, Reference]],
    problems: list[str],
) -> list[Verdict]:
    verdicts = [
        *await _by_registry(parts, key),
        Verdict(
            REFERENCED_NOW,
            bool(references) or bool(problems),
            f"named by {_count(len(references), 'row')}"
            if references
            else "unknown"
            if problems
            else "passed",
        ),
    ]
    claims = await parts.registry.claims.active({key}, parts.clock.now())
    until = f"claimed until {claims[key].isoformat()}" if key in claims else "passed"
    verdicts.append(Verdict(CLAIMED, key in claims, until))
    if found is not None:
        now = await parts.store.now()
        (candidate,) = await parts.registry.listing.candidates_among([found], now, parts.protection.hashes)
        verdicts += [gate.verdict(candidate, Moment(now)) for gate in parts.gates]
        if parts.hook.s3gc_veto.get_hookimpls():
            vetoed = await _threads.run(lambda: parts.hook.s3gc_veto(candidate=candidate))
            verdicts.append(Verdict(VETOED, vetoed is not None, vetoed or "passed"))
    return verdicts


async def _by_registry(parts: Parts, key: str) -> list[Verdict]:
    rows = await parts.registry.references.count_of(key)
    by_folder, by_parent = parts.protection.hashes(key)
    held = await parts.registry.references.held({*by_folder, *by_parent})
    folders = [folder for folder in folders_of(key) if folder_hash(folder) in held]
    told = [f"{_count(rows, 'mention')} in the registry"] if rows else []
    told += [f"its folder {folder!r} is named" for folder in folders]
    try:
        every = sorted(parts.protection.parents(key))
    except TooManyParents:  # a gate of its own keeps the key
        every = []
    parents = [parent for parent in every if {key_hash(parent), *map(folder_hash, folders_of(parent))} & held]
    return [
        Verdict(REFERENCED, bool(told), "; ".join(told) or "passed"),
        Verdict(
            DERIVED,
            bool(parents),
            f"derived from {', '.join(map(repr, parents))}, which a row names" if parents else "passed",
        ),
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _decision(
    exists: bool | None, verdicts: Sequence[Verdict], history: list[JournalEntry], problems: list[str]
) -> str:
    if exists is None:
        ambiguous = [problem for problem in problems if problem.startswith("ambiguous_key")]
        return f"kept: {ambiguous[0]}" if ambiguous else "unknown: the store could not be asked"
    if not exists:
        gone = ""
        for entry in reversed(history):
            if entry.event == journal_events.BACKUP_REMOVED:
                gone = f"; its backup is gone for good since {entry.at.isoformat()}: {entry.data['why']}"
            if entry.event == journal_events.DELETED:
                return f"deleted by s3gc at {entry.at.isoformat()} in operation {entry.operation_id}{gone}"
            if entry.event == journal_events.BACKUP_FOUND:
                if gone:
                    return f"gone{gone}"
                return (
                    f"gone, and in the vault: backed up by operation {entry.operation_id}; "
                    "the journal of that time is lost"
                )
        return "there is no such object, and s3gc never deleted one"
    keeping = [verdict for verdict in verdicts if verdict.keep]
    # A reference says it all: what the other gates think of the object doesn't matter then.
    by_rows = [verdict for verdict in keeping if verdict.gate in _BY_ROWS]
    if keeping:
        return "kept: " + ", ".join(f"{verdict.gate} ({verdict.detail})" for verdict in by_rows or keeping)
    return "unreferenced: a cycle in execute mode may delete it" + (f" ({problems[0]})" if problems else "")
