"""Why is this file still there, why did it go? Every gate's answer, the rows, and the journal."""

from __future__ import annotations

from s3gc import journal_events
from s3gc.errors import AmbiguousKey, S3GCError
from s3gc.gates import REFERENCED, REFERENCED_NOW
from s3gc.model import Explanation, JournalEntry, Moment, ObjectInfo, Reference, Verdict
from s3gc.parts import Parts, source_name
from s3gc.reading import identities


async def explain(parts: Parts, key: str) -> Explanation:
    """All that is known of a key. What can't be read now is said in ``problems``, not guessed."""
    problems: list[str] = []
    history = [entry async for entry in parts.vault.journal.read(key=key)]
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
    found: list[tuple[str, Reference]] = []
    try:
        await identities(parts)
        for source in parts.sources:
            async for reference in source.find({key}):
                if reference.key == key:
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
    rows = await parts.registry.references.count_of(key)
    verdicts = [
        Verdict(REFERENCED, rows > 0, f"{_count(rows, 'mention')} in the registry" if rows else "passed"),
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
    if found is not None:
        now = await parts.store.now()
        (candidate,) = await parts.registry.listing.candidates_among([found], now)
        verdicts += [gate.verdict(candidate, Moment(now)) for gate in parts.gates]
    return verdicts


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _decision(
    exists: bool | None, verdicts: list[Verdict], history: list[JournalEntry], problems: list[str]
) -> str:
    if exists is None:
        ambiguous = [problem for problem in problems if problem.startswith("ambiguous_key")]
        return f"kept: {ambiguous[0]}" if ambiguous else "unknown: the store could not be asked"
    if not exists:
        for entry in reversed(history):
            if entry.event == journal_events.DELETED:
                return f"deleted by s3gc at {entry.at.isoformat()} in operation {entry.operation_id}"
        return "there is no such object, and s3gc never deleted one"
    keeping = [verdict for verdict in verdicts if verdict.keep]
    # A reference says it all: what the other gates think of the object doesn't matter then.
    by_rows = [verdict for verdict in keeping if verdict.gate in (REFERENCED, REFERENCED_NOW)]
    if keeping:
        return "kept: " + ", ".join(f"{verdict.gate} ({verdict.detail})" for verdict in by_rows or keeping)
    return "unreferenced: a cycle in execute mode may delete it" + (f" ({problems[0]})" if problems else "")
