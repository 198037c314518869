"""The reverse of garbage: mentions of objects that don't exist. Each is some user's broken file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from attrs import frozen

from s3gc.errors import CycleHeld, SourceError
from s3gc.model import Reference, TrippedBreaker
from s3gc.parts import Parts, source_name
from s3gc.planning import list_bucket, preflight
from s3gc.registry import key_hash


@frozen
class Missing:
    """One row's mention of which no reading names an object."""

    source: str
    table: str
    column: str
    row_id: str
    keys: Sequence[str]  # every key that the value could mean


async def missing(parts: Parts) -> AsyncIterator[Missing]:
    """List the bucket, then read all rows; memory doesn't grow with either.

    An object that is uploaded after the listing looks missing: a row written a moment ago may be told.

    Raises:
        CycleHeld: bucket or sources can't be read.
    """
    await preflight(parts)
    await list_bucket(parts, parts.new_id())
    for source in parts.sources:
        name = source_name(source)
        try:
            async with aclosing(source.scan()) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    for one in await _among(parts, name, batch.references):
                        yield one
        except SourceError as error:
            raise CycleHeld([TrippedBreaker("source_failed", "", str(error))]) from error


async def _among(parts: Parts, source: str, references: Sequence[Reference]) -> list[Missing]:
    mentions: dict[tuple[str, str, str], set[str]] = {}
    for one in references:
        if not one.prefix:  # a folder may be empty
            mentions.setdefault((one.table, one.column, one.row_id), set()).add(one.key)
    named = {key_hash(key): key for keys in mentions.values() for key in keys}
    there = set(await parts.registry.listing.listed_among(named))
    return [
        Missing(source, table, column, row_id, sorted(keys))
        for (table, column, row_id), keys in mentions.items()
        if there.isdisjoint(keys)
    ]
