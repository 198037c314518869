"""Reading references: fences, the sync into the registry, the direct read. Failures are SourceErrors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

from attrs import evolve

from s3gc.abc import ReferenceSource
from s3gc.config import scrub
from s3gc.errors import S3GCError, SourceError
from s3gc.model import Column, ColumnCount, Position, Reference, SourceIdentity
from s3gc.parts import Parts, source_name


@asynccontextmanager
async def _reading(parts: Parts, source: ReferenceSource) -> AsyncIterator[None]:
    """Turn whatever a source raises into a SourceError that names it and shows no secret of ours."""
    try:
        yield
    except SourceError as error:
        raise SourceError(scrub(str(error), parts.config)) from error
    except S3GCError:
        raise
    except Exception as error:
        why = scrub(f"{type(error).__name__}: {error}", parts.config)
        raise SourceError(f"source {source_name(source)} failed: {why}") from error


async def identities(parts: Parts) -> Sequence[SourceIdentity]:
    """Each source checked: reachable, whole, and which one it is. Raises SourceError."""
    found = []
    for source in parts.sources:
        async with _reading(parts, source):
            found.append(evolve(await source.check(), name=source_name(source)))
    return found


async def fences(parts: Parts) -> Sequence[Position]:
    """A fence at every source: reads begun after this see all that was open or committed before.

    Raises:
        SourceError: a transaction stayed open beyond ``max_transaction_age``.
    """
    positions = []
    for source in parts.sources:
        async with _reading(parts, source):
            position = await source.fence(parts.config.safety.max_transaction_age)
            positions.append(Position(source_name(source), position.value))
    return positions


async def sync(
    parts: Parts, operation_id: str
) -> tuple[Sequence[Position], Mapping[str, Mapping[Column, ColumnCount]]]:
    """Bring the registry up to a fence taken now. Returns the positions and the counted columns by source."""
    positions: list[Position] = []
    counts: dict[str, Mapping[Column, ColumnCount]] = {}
    references = parts.registry.references
    await references.forget_others({source_name(source) for source in parts.sources})
    for source in parts.sources:
        name = source_name(source)
        seen: dict[Column, ColumnCount] = {}
        total = 0
        async with _reading(parts, source):
            position = Position(name, (await source.fence(parts.config.safety.max_transaction_age)).value)
            await references.begin()
            async with aclosing(source.scan()) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    await references.stage(name, batch.references)
                    total += len(batch.references)
                    for column, count in batch.counts.items():
                        before = seen.get(column, ColumnCount())
                        seen[column] = ColumnCount(before.rows + count.rows, before.values + count.values)
        await references.apply(name, position)
        positions.append(position)
        counts[name] = seen
        parts.emit(
            "source_synced",
            operation_id=operation_id,
            source=name,
            position=position.value,
            references=total,
        )
    return positions, counts


async def referenced_among(parts: Parts, keys: Collection[str]) -> dict[str, tuple[str, Reference]]:
    """The direct read: those of ``keys`` that a row names now, each with one witness (source, reference)."""
    found: dict[str, tuple[str, Reference]] = {}
    wanted = frozenset(keys)
    if not wanted:
        return found
    for source in parts.sources:
        async with _reading(parts, source), aclosing(source.find(wanted)) as references:  # type: ignore[type-var]
            async for reference in references:
                if reference.key in wanted:
                    found.setdefault(reference.key, (source_name(source), reference))
    return found
