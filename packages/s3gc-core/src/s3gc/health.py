"""Is all there that a cycle needs? Each part is asked at once, for a limited time; nothing is touched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import anyio
from attrs import frozen

from s3gc.abc import ReferenceSource
from s3gc.capture import CaptureState, ChangeCapture
from s3gc.config import scrub
from s3gc.errors import S3GCError
from s3gc.latch import latched
from s3gc.model import TrippedBreaker
from s3gc.parts import Parts, source_name
from s3gc.reading import reading_from

PATIENCE = 5.0
"""Seconds that a part may take to answer before it counts as not answering."""


@frozen
class PartHealth:
    """How the vault or the store is."""

    ok: bool
    detail: str  # one sentence for people, without secrets


@frozen
class SourceHealth:
    """How a place of references is, and how far the registry has followed it."""

    name: str
    ok: bool
    detail: str
    follows_changes: bool  # False: it is read as a whole in each cycle
    position: str | None = None  # where the registry stands; None before the first cycle
    synced_at: datetime | None = None  # when that was, by the store's clock
    lag: timedelta | None = None  # how long ago that was
    lost: str | None = None  # why its changes could not all be followed
    capture: CaptureState | None = None  # what it keeps in the database, looked at now


@frozen
class Health:
    """Each part's answer, and what waits for a person."""

    ok: bool  # every part answers, and no breaker waits
    checked_at: datetime
    vault: PartHealth
    store: PartHealth
    sources: Sequence[SourceHealth]
    waiting: Sequence[TrippedBreaker]  # breakers that want an acknowledgement


async def health(parts: Parts, patience: float | None = None) -> Health:
    """Ask vault, store and every source at once. What doesn't answer is told, never raised."""
    patience = PATIENCE if patience is None else patience
    waiting: list[TrippedBreaker] = []
    found: dict[str, PartHealth] = {}
    sources: list[SourceHealth | None] = [None] * len(parts.sources)

    async def vault() -> str:
        waiting.extend(await latched(parts))
        problem = parts.vault.journal.problem
        if problem is not None:
            raise S3GCError(f"nothing can be written to the journal: {problem}")
        return "the journal can be read and written"

    async def store() -> str:
        difference = abs(await parts.store.now() - parts.clock.now())
        if difference > parts.config.safety.max_clock_skew:
            raise S3GCError(f"its clock and this machine's differ by {difference}: set the clock")
        return "answers"

    async def one(name: str, question: Callable[[], Awaitable[str]]) -> None:
        found[name] = await _asked(parts, patience, question)

    async def source(number: int) -> None:
        sources[number] = await _source(parts, patience, parts.sources[number])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "vault", vault)
        tasks.start_soon(one, "store", store)
        for number in range(len(parts.sources)):
            tasks.start_soon(source, number)
    every = [each for each in sources if each is not None]
    answers = [found["vault"].ok, found["store"].ok, *(each.ok for each in every)]
    return Health(
        ok=all(answers) and bool(every) and not waiting,
        checked_at=parts.clock.now(),
        vault=found["vault"],
        store=found["store"],
        sources=every,
        waiting=waiting,
    )


async def _asked(parts: Parts, patience: float, question: Callable[[], Awaitable[str]]) -> PartHealth:
    try:
        with anyio.fail_after(patience):
            return PartHealth(True, await question())
    except TimeoutError:
        return PartHealth(False, f"no answer within {patience:g} s")
    except Exception as error:  # noqa: BLE001 - a driver's own error, too, is an answer here: not healthy
        text = str(error) if isinstance(error, S3GCError) else f"{type(error).__name__}: {error}"
        return PartHealth(False, scrub(text, parts.config))


async def _source(parts: Parts, patience: float, source: ReferenceSource) -> SourceHealth:
    async def reachable() -> str:
        async with reading_from(parts, source):
            identity = await source.check()
        return ", ".join([identity.kind, *(f"{name} {value}" for name, value in identity.details.items())])

    captured: list[CaptureState] = []

    async def capture() -> str:
        assert isinstance(source, ChangeCapture)
        async with reading_from(parts, source):
            captured.append(await source.capture_state())
        # What setting up would mend, the next cycle mends.
        return "; ".join(str(one) for one in captured[0].findings if one.fatal and not one.ours)

    answer = await _asked(parts, patience, reachable)
    if answer.ok and isinstance(source, ChangeCapture):
        looked = await _asked(parts, patience, capture)
        if looked.detail:
            answer = PartHealth(False, f"{answer.detail}; {looked.detail}")
    seen = captured[0] if captured else None
    name = source_name(source)
    try:
        state = await parts.registry.references.state(name)
    except S3GCError as error:
        return SourceHealth(name, False, scrub(str(error), parts.config), source.follows_changes)
    if state is None:
        return SourceHealth(name, answer.ok, answer.detail, source.follows_changes, capture=seen)
    lag = None if state.synced is None else max(parts.clock.now() - state.synced, timedelta())
    return SourceHealth(
        name,
        answer.ok and state.lost is None,
        answer.detail if state.lost is None else f"{answer.detail}; changes were lost: {state.lost}",
        source.follows_changes,
        position=state.position,
        synced_at=state.synced,
        lag=lag,
        lost=state.lost,
        capture=seen,
    )
