"""Reading all rows of a source into the registry: at once, or so that it can be cut off and go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime

from attrs import Factory, define, evolve

from s3gc.abc import ReferenceSource
from s3gc.errors import PositionLost
from s3gc.model import Column, ColumnCount, Position, Reference, ScanBatch
from s3gc.parts import Parts, source_name
from s3gc.registry import CutOff

SAMPLES = 20
"""Mentions of each column that a scan remembers, to name some when too few resolve."""

PROGRESS_EVERY = 100_000
"""Rows between two ``scan_progress`` events."""


@define
class Counted:
    """What a sync saw of one source."""

    position: Position
    columns: Mapping[Column, ColumnCount] = Factory(dict)
    samples: Mapping[Column, Mapping[str, set[str]]] = Factory(dict)  # row id → keys, of a few mentions
    total: int = 0


async def scan_whole(parts: Parts, source: ReferenceSource, position: Position, synced: datetime) -> Counted:
    """All rows, in the place of those that the registry has. What is cut off is begun anew."""
    name = source_name(source)
    references = parts.registry.references
    reading = _Reading(parts, name, position)
    await references.begin()
    async with aclosing(source.scan()) as batches:  # type: ignore[type-var]
        async for batch in batches:
            await references.stage(name, batch.references)
            reading.take(batch)
    await references.apply(name, position, synced, followed=source.follows_changes)
    return reading.counted


async def scan_first(parts: Parts, source: ReferenceSource, synced: datetime) -> Counted:
    """All rows of a followed source of which the registry knows no position to follow from.

    A scan that was cut off goes on, if all changes since its beginning can still be told.
    """
    name = source_name(source)
    if source.resumes_scans and (cut := await parts.registry.scans.cut_off(name)) is not None and cut.mark:
        try:
            return await _scan_on(parts, source, cut)
        except PositionLost as error:
            parts.log.info("scan_begins_anew", source=name, reason=str(error))
    begun = evolve(await source.begin(), source=name)
    return await _scan(parts, source, begun, synced)


async def scan_from(parts: Parts, source: ReferenceSource, begun: Position, synced: datetime) -> Counted:
    """All rows of a followed source, begun where the registry stands.

    A scan that was cut off goes on if the registry stands where it was begun: what was applied since then
    would be undone by rows that were read before.
    """
    cut = await parts.registry.scans.cut_off(source_name(source)) if source.resumes_scans else None
    if cut is not None and cut.mark and cut.position == begun:
        return await _scan_on(parts, source, cut)
    return await _scan(parts, source, begun, synced)


async def _scan(parts: Parts, source: ReferenceSource, begun: Position, synced: datetime) -> Counted:
    if not source.resumes_scans:
        return await scan_whole(parts, source, begun, synced)
    name = source_name(source)
    await parts.registry.scans.begin(name, begun, synced)
    return await _kept(parts, source, source.scan(), _Reading(parts, name, begun))


async def _scan_on(parts: Parts, source: ReferenceSource, cut: CutOff) -> Counted:
    name = source_name(source)
    parts.emit("scan_resumed", source=name, rows=cut.rows)
    reading = _Reading(parts, name, cut.position, dict(cut.counts), rows=cut.rows)
    return await _kept(parts, source, source.scan_on(cut.position, cut.mark), reading)


async def _kept(
    parts: Parts, source: ReferenceSource, batches: AsyncIterator[ScanBatch], reading: _Reading
) -> Counted:
    """Batches, each kept with its mark, and all of them the source's rows at the end."""
    name = source_name(source)
    async with aclosing(batches):  # type: ignore[type-var]
        async for batch in batches:
            reading.take(batch)
            await parts.registry.scans.add(name, batch, reading.counted.columns)
    await parts.registry.references.apply_scanned(name)
    return reading.counted


class _Reading:
    """What a scan has seen so far."""

    def __init__(
        self,
        parts: Parts,
        name: str,
        position: Position,
        columns: dict[Column, ColumnCount] | None = None,
        *,
        rows: int = 0,
    ) -> None:
        self._parts = parts
        self._name = name
        self._columns = columns if columns is not None else {}
        self._samples: dict[Column, dict[str, set[str]]] = {}
        self._rows = self._told = rows
        self.counted = Counted(position, self._columns, self._samples)

    def take(self, batch: ScanBatch) -> None:
        """Count a batch, and tell of it now and then."""
        self.counted.total += len(batch.references)
        for column, count in batch.counts.items():
            before = self._columns.get(column, ColumnCount())
            self._columns[column] = ColumnCount(before.rows + count.rows, before.values + count.values)
        _sample(batch.references, self._samples)
        self._rows += batch.rows
        if self._rows - self._told >= PROGRESS_EVERY:
            self._told = self._rows
            self._parts.emit("scan_progress", source=self._name, rows=self._rows, expected=batch.expected)


def _sample(references: Sequence[Reference], samples: dict[Column, dict[str, set[str]]]) -> None:
    """Remember the first mentions of each column. Most batches are of one table: look at their first rows."""
    for reference in references[: SAMPLES * 8]:
        if reference.prefix:
            continue
        rows = samples.setdefault(Column(reference.table, reference.column), {})
        if reference.row_id in rows or len(rows) < SAMPLES:
            rows.setdefault(reference.row_id, set()).add(reference.key)
