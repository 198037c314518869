"""Reading references: fences, the sync into the registry, the direct read. Failures are SourceErrors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime

import anyio
from attrs import evolve, frozen

from s3gc.abc import ReferenceSource
from s3gc.config import scrub
from s3gc.errors import PositionLost, Reconfigured, S3GCError, SourceError
from s3gc.model import Position, Reference, SourceIdentity, UntrackedColumn
from s3gc.parts import Parts, source_name
from s3gc.protection import Sought
from s3gc.scanning import Counted, scan_first, scan_from, scan_whole


@asynccontextmanager
async def reading_from(parts: Parts, source: ReferenceSource) -> AsyncIterator[None]:
    """Turn whatever a source raises into a SourceError that names it and shows no secret of ours."""
    try:
        yield
    except SourceError as error:
        raise type(error)(scrub(str(error), parts.config)) from error
    except S3GCError:
        raise
    except Exception as error:
        why = scrub(f"{type(error).__name__}: {error}", parts.config)
        raise SourceError(f"source {source_name(source)} failed: {why}") from error


async def identities(parts: Parts) -> Sequence[SourceIdentity]:
    """Each source checked: reachable, whole, and which one it is. Raises SourceError."""
    found = []
    for source in parts.sources:
        async with reading_from(parts, source):
            found.append(evolve(await source.check(), name=source_name(source)))
    return found


async def untracked(parts: Parts) -> AsyncIterator[tuple[str, UntrackedColumn]]:
    """Every source's columns that could hold references and aren't configured. Raises SourceError."""
    for source in parts.sources:
        async with (
            reading_from(parts, source),
            aclosing(source.untracked(parts.config.safety.coverage_sample)) as columns,  # type: ignore[type-var]
        ):
            async for column in columns:
                yield source_name(source), column


async def _fence(parts: Parts, source: ReferenceSource) -> Position:
    position = await source.fence(parts.config.safety.max_transaction_age)
    return evolve(position, source=source_name(source))


async def fences(parts: Parts, *, follow: bool = True, onward: bool = True) -> Sequence[Position]:
    """A fence at every source, and what changed up to it is in the registry.

    Reads begun after this see all that was open or committed before.

    Args:
        follow: bring the registry up to the fence, too. A confirmation has no need of it: it reads directly,
            and must go on when changes can't be followed any more.
        onward: refuse a source that stands before where the registry is.

    Raises:
        SourceError: a transaction stayed open beyond ``max_transaction_age``.
        PositionLost: a followed source can't tell all changes any more.
    """
    positions = []
    for source in parts.sources:
        async with reading_from(parts, source):
            synced = await parts.store.now()
            position = await _fence(parts, source)
            if follow:
                await _reach(parts, source, position, synced)
            elif onward:
                await _onward(parts, position)
            positions.append(position)
    return positions


async def _reach(parts: Parts, source: ReferenceSource, position: Position, synced: datetime) -> None:
    """Bring the registry to a fence, or note for the next cycle that it can't be."""
    try:
        await not_back(parts, position)
        if source.follows_changes:
            await follow_to(parts, source, position, synced)
    except PositionLost as error:
        await parts.registry.references.lose_position(position.source, str(error))
        raise


async def _onward(parts: Parts, position: Position) -> None:
    """As :func:`not_back`, and the next cycle will tell of the loss."""
    try:
        await not_back(parts, position)
    except PositionLost as error:
        await parts.registry.references.lose_position(position.source, str(error))
        raise


async def not_back(parts: Parts, position: Position) -> None:
    """A source that stands before where the registry is has another history now."""
    state = await parts.registry.references.state(position.source)
    if state is None or state.ordinal is None or position.ordinal is None:
        return
    if position.ordinal < state.ordinal:
        raise PositionLost(
            f"{position.source} is at {position.value}, before {state.position}: was it restored to its past?"
        )


async def sync(parts: Parts, operation_id: str) -> Mapping[str, Counted]:
    """Bring the registry up to a fence taken now, source by source."""
    seen: dict[str, Counted] = {}
    await parts.registry.references.forget_others({source_name(source) for source in parts.sources})
    for source in parts.sources:
        name = source_name(source)
        async with reading_from(parts, source):
            counted = seen[name] = await _sync_one(parts, source)
        parts.emit(
            "source_synced",
            operation_id=operation_id,
            source=name,
            position=counted.position.value,
            references=counted.total,
        )
    return seen


async def sync_again(parts: Parts, names: Collection[str]) -> Mapping[str, Counted]:
    """Bring some sources' rows in the registry up to a fence taken now."""
    seen: dict[str, Counted] = {}
    for source in parts.sources:
        if source_name(source) in names:
            async with reading_from(parts, source):
                seen[source_name(source)] = await _sync_one(parts, source, going_on=True)
    return seen


async def _sync_one(parts: Parts, source: ReferenceSource, *, going_on: bool = False) -> Counted:
    """Bring one source's rows up to a fence.

    Args:
        going_on: within a sweep: a source that went back ends it here. (For a plan a breaker tells.)
    """
    synced = await parts.store.now()
    position = await _fence(parts, source)
    if not source.follows_changes:
        if going_on:
            await _onward(parts, position)
        return await scan_whole(parts, source, position, synced)
    name = source_name(source)
    state = await parts.registry.references.state(name)
    if state is not None and state.followed:
        try:
            await not_back(parts, position)
            total = await follow_to(parts, source, position, synced)
            if going_on or (why := await parts.registry.references.stale(name)) is None:
                return Counted(position, total=total)
            return await _scan_again(parts, source, why)
        except Reconfigured as error:
            # Its references so far are those of another question, so every grace begins anew all the same.
            await parts.registry.references.lose_position(name, None)
            parts.emit("source_scanned_again", source=name, reason=str(error))
        except PositionLost as error:
            # The rows are read anew; what happened in between nobody knows. A breaker will tell.
            await parts.registry.references.lose_position(name, str(error))
    counted = await scan_first(parts, source, synced)
    position = await _fence(parts, source)
    counted.total += await follow_to(parts, source, position, synced)
    return evolve(counted, position=position)


async def _scan_again(parts: Parts, source: ReferenceSource, why: str) -> Counted:
    """Read all rows of a source whose changes were all told, because some rows went without a word.

    The place that was followed to is as good a beginning as any: what changes from there on is told again.
    So every key keeps its grace, and one that is named no more begins it now.
    """
    name = source_name(source)
    parts.emit("source_scanned_again", source=name, reason=why)
    state = await parts.registry.references.state(name)
    assert state is not None
    synced = await parts.store.now()
    begun = Position(name, state.position, state.ordinal)
    counted = await scan_from(parts, source, begun, state.synced or synced)
    position = await _fence(parts, source)
    counted.total += await follow_to(parts, source, position, synced)
    return evolve(counted, position=position)


async def follow_to(parts: Parts, source: ReferenceSource, until: Position, synced: datetime | None) -> int:
    """Apply all changes up to a position. Returns how many rows changed.

    Args:
        synced: a moment before the position was taken, by the store's clock, if it is known.

    Raises:
        PositionLost: they are not all to be had any more, or there is no position to follow from.
    """
    name = source_name(source)
    references = parts.registry.references
    state = await references.state(name)
    if state is None or not state.followed:
        raise PositionLost(f"{name}: there is no position to follow changes from; the next cycle scans anew")
    if until.ordinal is None:
        raise SourceError(
            f"{name} follows changes, and its positions have no ordinal: they can't be compared"
        )
    reached = Position(name, state.position, state.ordinal)
    count = 0
    wait = parts.config.safety.max_catch_up
    with anyio.move_on_after(wait.total_seconds()) as scope:
        async with aclosing(source.changes(reached, until)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                await references.change(name, batch, batch.at or await parts.store.now())
                await source.applied(batch.position)
                reached = batch.position
                count += len(batch.changes)
    if scope.cancelled_caught:
        raise SourceError(
            f"{name}: the changes up to the fence were not all told within {wait} (max_catch_up): the next "
            "cycle goes on from where this one stopped"
        )
    if reached.ordinal is None or reached.ordinal < until.ordinal:
        raise SourceError(f"{name}: its changes ended at {reached.value}, before the fence at {until.value}")
    if synced is not None:
        await references.caught_up(name, synced)
    return count


def likely(key: str) -> tuple[bool, bool, int, str]:
    """Orders the readings of one value for people: first what looks like a file's key, then the shortest."""
    folder, _, name = key.strip("/").rpartition("/")
    return "." not in name.strip("."), not folder, len(key), key


@frozen
class Witness:
    """One reference that protects a key, and the source that it stands in."""

    source: str
    reference: Reference

    def __str__(self) -> str:
        one = self.reference
        what = f"names the folder {one.key!r} that it lies in" if one.prefix else f"names {one.key!r}"
        return f"{self.source}: {one.table}.{one.column} of row {one.row_id} {what}"


WITNESSES = 20
"""References remembered for each key of a direct read."""


async def referenced_among(parts: Parts, keys: Collection[str]) -> dict[str, list[Witness]]:
    """The direct read: those of ``keys`` that a row protects now, each with its first WITNESSES witnesses."""
    found: dict[str, list[Witness]] = {}
    if not keys:
        return found
    sought = Sought(keys, parts.protection)
    for source in parts.sources:
        name = source_name(source)
        async with reading_from(parts, source), aclosing(source.find(sought.names)) as references:  # type: ignore[type-var]
            async for reference in references:
                for key in sought.protected_by(reference):
                    witnesses = found.setdefault(key, [])
                    if len(witnesses) < WITNESSES:
                        witnesses.append(Witness(name, reference))
    return found
