"""The journal as JSON Lines or CSV, piece by piece."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import datetime
from typing import Any

from attrs import frozen

from s3gc.abc import Journal
from s3gc.model import JournalEntry
from s3gc.vault.records import canonical, time_to_text

FORMATS = ("jsonl", "csv")
COLUMNS = ("seq", "at", "bucket", "operation_id", "event", "key", "data", "previous", "hash")
"""Of a CSV file, and the names in a line of JSON. ``data`` is canonical JSON."""

PIECE_ENTRIES = 500
"""Entries given out together."""


@frozen
class Filters:
    """Which entries; all given filters must match."""

    key: str | None = None
    prefix: str | None = None
    operation_id: str | None = None
    events: Collection[str] | None = None
    since: datetime | None = None  # at this time or later
    until: datetime | None = None  # before this time


async def export(journal: Journal, filters: Filters, form: str) -> AsyncIterator[str]:
    """Text in pieces, oldest entry first, in constant memory. Exact: nothing is escaped for spreadsheets.

    Raises:
        ValueError: there is no such form.
        VaultCorrupt: an entry isn't what was written.
    """
    if form not in FORMATS:
        raise ValueError(f"an export is {' or '.join(FORMATS)}, not {form!r}")
    write = _csv if form == "csv" else _json
    if form == "csv":
        yield _csv_row(COLUMNS)
    batch: list[str] = []
    async for entry in journal.read(
        key=filters.key, prefix=filters.prefix, operation_id=filters.operation_id, events=filters.events
    ):
        # Times may go back when the clock was set back, so none of them ends the reading.
        if (filters.since is not None and entry.at < filters.since) or (
            filters.until is not None and entry.at >= filters.until
        ):
            continue
        batch.append(write(entry))
        if len(batch) >= PIECE_ENTRIES:
            yield "".join(batch)
            batch = []
    if batch:
        yield "".join(batch)


def _json(entry: JournalEntry) -> str:
    fields = {name: getattr(entry, name) for name in COLUMNS}
    return canonical({**fields, "at": time_to_text(entry.at), "data": dict(entry.data)}) + "\n"


def _csv(entry: JournalEntry) -> str:
    fields = {name: getattr(entry, name) for name in COLUMNS}
    fields |= {"at": time_to_text(entry.at), "data": canonical(dict(entry.data))}
    return _csv_row(fields.values())


def _csv_row(values: Iterable[Any]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)
    return text.getvalue()
