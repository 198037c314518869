"""Many small objects read together: neighbours in a pack by one request to the disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from s3gc.abc import Compressor
from s3gc.errors import VaultError
from s3gc.model import BackupRecord
from s3gc.vault import _fs
from s3gc.vault._frames import Read, reader_of, whole_record
from s3gc.vault._locations import index_of, parse_location
from s3gc.vault._pack_files import opened_pack
from s3gc.vault._small_frames import SMALL_FRAME_BYTES, SmallFrame, contents_of, frame_of_record
from s3gc.vault._solid import Block, read_block

FRAME_EXTRA_BYTES = 2 * 1024 * 1024
"""A small object's frame is at most this much longer than the object: header, chunk lengths, trailer."""

STRETCH_BYTES = 4 * 1024 * 1024
"""Neighbours are read together, up to about so many bytes."""

GAP_BYTES = 64 * 1024
"""So many bytes that nobody asked for are read sooner than skipped."""

_Item = tuple[int, int, BackupRecord]  # offset and length of the frame


def read_small(
    folder: Path,
    records: Sequence[BackupRecord],
    bucket: str,
    codecs: Mapping[str, Compressor],
) -> dict[str, bytes]:
    """Objects' bytes by key, each checked as if it were read alone. What can't be read so is left out.

    Args:
        folder: the packs.
        records: of small objects with bytes of their own, as they lie now.
    """
    found: dict[str, bytes] = {}
    for pack, items in _by_pack(records).items():
        with contextlib.suppress(VaultError), opened_pack(folder, pack) as fd:
            for first, end, stretch in _stretches(items):
                with contextlib.suppress(VaultError), _fs.explained("read"):
                    read = reader_of(fd, ahead=end - first)
                    read(first, end - first)
                    _take(read, stretch, bucket, codecs, found)
    return found


def _by_pack(records: Sequence[BackupRecord]) -> dict[str, list[_Item]]:
    made: dict[str, list[_Item]] = {}
    for record in records:
        with contextlib.suppress(VaultError):
            pack, offset, length = parse_location(record.location)
            alone = index_of(record.location) is None
            if alone and (length != record.stored_size or length > record.size + FRAME_EXTRA_BYTES):
                continue
            made.setdefault(pack, []).append((offset, length, record))
    return made


def _stretches(items: list[_Item]) -> Iterator[tuple[int, int, list[_Item]]]:
    """Where each begins and ends, and what is in it."""
    items.sort(key=lambda item: item[0])
    first = end = 0
    stretch: list[_Item] = []
    for item in items:
        offset, length, _ = item
        if stretch and (offset > end + GAP_BYTES or offset + length > first + STRETCH_BYTES):
            yield first, end, stretch
            stretch = []
        if not stretch:
            first = end = offset
        stretch.append(item)
        end = max(end, offset + length)
    if stretch:
        yield first, end, stretch


def _take(
    read: Read,
    stretch: Sequence[_Item],
    bucket: str,
    codecs: Mapping[str, Compressor],
    found: dict[str, bytes],
) -> None:
    frames: dict[str, list[tuple[int, BackupRecord, SmallFrame]]] = {}
    block: Block | None = None
    for offset, length, record in stretch:
        with contextlib.suppress(VaultError):
            if index_of(record.location) is None:
                frame = None
                if length <= SMALL_FRAME_BYTES and record.codec in codecs:
                    frame = frame_of_record(read(offset, length), offset, record, bucket)
                if frame is None:
                    found[record.key] = b"".join(whole_record(read, offset, record, bucket, codecs))
                else:
                    frames.setdefault(record.codec, []).append((offset, record, frame))
                continue
            if block is None or (block.offset, block.length) != (offset, length):
                block = None
                block = read_block(read, record.location, codecs)
            found[record.key] = block.content_of(record, bucket)
    for codec, some in frames.items():
        contents = contents_of([frame for _, _, frame in some], codecs[codec])
        for (offset, record, _), data in zip(some, contents, strict=True):
            if data is not None:
                found[record.key] = data
                continue
            with contextlib.suppress(VaultError):
                found[record.key] = b"".join(whole_record(read, offset, record, bucket, codecs))
