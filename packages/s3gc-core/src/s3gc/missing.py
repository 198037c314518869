"""The reverse of garbage: mentions of objects that don't exist. Each is some user's broken file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from attrs import frozen

from s3gc.errors import CycleHeld, SourceError
from s3gc.model import TrippedBreaker
from s3gc.parts import Parts, source_name
from s3gc.planning import list_bucket, preflight
from s3gc.reading import reading_from
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
        pending: _Mentions = {}
        folders: set[tuple[str, str, str]] = set()
        try:
            async with reading_from(parts, source), aclosing(source.scan()) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    for reference in batch.references:
                        mention = (reference.table, reference.column, reference.row_id)
                        if reference.prefix:  # a folder may be empty, and no object need have its name
                            folders.add(mention)
                        else:
                            pending.setdefault(mention, set()).add(reference.key)
                    pending = {at: keys for at, keys in pending.items() if at not in folders}
                    # A row's readings may go on in the next batch.
                    last = pending.popitem() if pending else None
                    for one in await _among(parts, name, pending):
                        yield one
                    pending = dict([last]) if last else {}
                    folders = {last[0]} & folders if last else set()
                for one in await _among(parts, name, pending):
                    yield one
        except SourceError as error:
            raise CycleHeld([TrippedBreaker("source_failed", "", str(error))]) from error


_Mentions = dict[tuple[str, str, str], set[str]]


async def _among(parts: Parts, source: str, mentions: _Mentions) -> list[Missing]:
    named = {key_hash(key): key for keys in mentions.values() for key in keys}
    there = set(await parts.registry.listing.listed_among(named))
    return [
        Missing(source, table, column, row_id, sorted(keys))
        for (table, column, row_id), keys in mentions.items()
        if there.isdisjoint(keys)
    ]
