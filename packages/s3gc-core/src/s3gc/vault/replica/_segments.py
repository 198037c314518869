"""Stretches of the journal as objects: JSON Lines in one zstd frame, every entry with its hashes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import zstandard
from attrs import frozen

from s3gc.abc import Journal
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import JournalEntry
from s3gc.vault._chain import Row, link, problem_of
from s3gc.vault.packs import parse_location
from s3gc.vault.records import canonical, quoted, time_to_text
from s3gc.vault.replica._names import Span

SEGMENT_ENTRIES = 10_000
SEGMENT_BYTES = 8 * 1024 * 1024
"""A segment ends after so many entries, or bytes of text."""

TEXT_MAX_BYTES = 64 * 1024 * 1024
"""No segment decodes to more: one entry may be longer than SEGMENT_BYTES, but not than this."""

T = TypeVar("T")

_NAMES = ("at", "data", "event", "hash", "key", "operation_id", "previous", "seq")


@frozen
class Segment:
    """Entries in order, as the lines that they are written in."""

    span: Span
    lines: bytes
    places: Mapping[str, int]
    """Pack → up to which byte the entries name it."""


@asynccontextmanager
async def closing(iterator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Ends an iterator that may not be read to its end."""
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


def places_in(data: Any) -> Iterator[tuple[str, int]]:
    """The packs that an entry's data names, each with the byte behind the frame.

    A place stands beside the frame's size in a backup's record, wherever in ``data`` that is. What an object
    carried (its metadata may be called anything) is not looked into.
    """
    if isinstance(data, Mapping):
        location = data.get("location")
        if isinstance(location, str) and type(data.get("stored_size")) is int:
            try:
                pack, offset, length = parse_location(location)
            except VaultError:
                pass  # of another kind of vault
            else:
                yield pack, offset + length
            # What it shares stands in no record of its own if that was never confirmed.
            shared = data.get("same_as")
            if isinstance(shared, Mapping) and isinstance(shared.get("location"), str):
                yield from places_in({"location": shared["location"], "stored_size": 0})
        for name, value in data.items():
            if name != "attributes":
                yield from places_in(value)
    elif isinstance(data, list):
        for value in data:
            yield from places_in(value)


def line_of(entry: JournalEntry, bucket_json: str) -> str:
    """An entry as its line.

    Raises:
        VaultCorrupt: its hash doesn't fit.
    """
    at, data = time_to_text(entry.at), canonical(dict(entry.data))
    made = link(bucket_json, entry.seq, at, entry.operation_id, entry.event, entry.key, data, entry.previous)
    if made != entry.hash:
        raise VaultCorrupt(
            f"journal entry {entry.seq}: its hash doesn't fit its contents; run `audit verify`"
        )
    key = "null" if entry.key is None else quoted(entry.key)
    return (
        f'{{"at":{quoted(at)},"data":{data},"event":{quoted(entry.event)},"hash":{quoted(entry.hash)},'
        f'"key":{key},"operation_id":{quoted(entry.operation_id)},"previous":{quoted(entry.previous)},'
        f'"seq":{entry.seq}}}\n'
    )


async def segments(
    journal: Journal, span: Span, bucket: str, *, entries: int = SEGMENT_ENTRIES, size: int = SEGMENT_BYTES
) -> AsyncIterator[Segment]:
    """The journal's entries of a span, cut into segments.

    Raises:
        VaultCorrupt: the journal isn't what was written, or has a gap.
    """
    bucket_json = canonical(bucket)
    lines: list[bytes] = []
    begun, held = span[0], 0
    places: dict[str, int] = {}
    at, last = span[0], ""
    async with closing(journal.read(after_seq=span[0])) as found:
        async for entry in found:
            if entry.seq > span[1]:
                break
            if entry.seq != at + 1 or (last and entry.previous != last):
                raise VaultCorrupt(f"journal entry {at + 1}: the chain is broken; run `audit verify`")
            line = line_of(entry, bucket_json).encode()
            lines.append(line)
            held += len(line)
            at, last = entry.seq, entry.hash
            for pack, end in places_in(entry.data):
                places[pack] = max(places.get(pack, 0), end)
            if len(lines) >= entries or held >= size:
                yield Segment((begun, at), b"".join(lines), places)
                begun, lines, held, places = at, [], 0, {}
    if lines:
        yield Segment((begun, at), b"".join(lines), places)
    if at != span[1]:
        raise VaultCorrupt(f"journal entry {at + 1}: missing, the journal went on to {span[1]} before")


def pack_lines(lines: bytes) -> bytes:
    """Lines as a segment's bytes.

    Raises:
        VaultError: an entry is longer than any reader takes.
    """
    if len(lines) > TEXT_MAX_BYTES:
        raise VaultError(
            f"a journal entry has {len(lines)} bytes: more than {TEXT_MAX_BYTES} aren't replicated"
        )
    return zstandard.ZstdCompressor(level=9, write_checksum=True, write_content_size=True).compress(lines)


def unpack_lines(data: bytes) -> bytes:
    """The inverse.

    Raises:
        VaultCorrupt: it isn't a segment.
    """
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= TEXT_MAX_BYTES:
            raise VaultCorrupt(f"the segment declares {size} bytes")
        if zstandard.get_frame_parameters(data).has_checksum is False:
            raise VaultCorrupt("the segment has no checksum")
        stream = zstandard.ZstdDecompressor().decompressobj()
        lines = stream.decompress(data)
        if not stream.eof or stream.unused_data or len(lines) != size:
            raise VaultCorrupt("the segment is cut off, or more stands behind it")
    except zstandard.ZstdError as error:
        raise VaultCorrupt(f"the segment can't be decoded: {error}") from error
    return lines


def rows_in(lines: bytes, span: Span, bucket_json: str) -> list[Row]:
    """The rows of a segment, each checked against its hash and all of them against each other.

    Raises:
        VaultCorrupt: they aren't the entries of ``span``.
    """
    rows: list[Row] = []
    for seq, line in enumerate(lines.splitlines(keepends=True), start=span[0] + 1):
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict) or tuple(fields) != _NAMES or fields["seq"] != seq:
                raise VaultCorrupt(f"entry {seq}: its line is another one")
            row = (
                seq,
                fields["at"],
                fields["operation_id"],
                fields["event"],
                fields["key"],
                canonical(fields["data"]),
                fields["previous"],
                fields["hash"],
            )
        except (ValueError, RecursionError, VaultError) as error:
            raise VaultCorrupt(f"entry {seq}: its line can't be read: {error}") from error
        if problem := problem_of(row, bucket_json):
            raise VaultCorrupt(f"entry {seq}: {problem}")
        if rows and row[6] != rows[-1][7]:
            raise VaultCorrupt(f"entry {seq}: it doesn't follow the entry before it")
        rows.append(row)
    if len(rows) != span[1] - span[0]:
        raise VaultCorrupt(f"the segment holds {len(rows)} entries, its name says {span[1] - span[0]}")
    return rows
