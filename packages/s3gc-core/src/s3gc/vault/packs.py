"""Packs: files of frames, one after the other. They can be read without the journal and without a vault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attrs import frozen

from s3gc.abc import Compressor, ObjectCodec
from s3gc.compressors.zstd import ZstdCompressor
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.vault import _fs
from s3gc.vault._frames import (
    Frame,
    FrameReader,
    Read,
    coded_record,
    finished,
    reader_of,
    stream_record,
)
from s3gc.vault._layout import END_MAGIC, MAGIC, SOLID_VERSION, TAIL_BYTES, TRAILER
from s3gc.vault._locations import index_of, location_of, parse_location, places_of
from s3gc.vault._solid import block_of, read_block
from s3gc.vault._straight import Straight

__all__ = [
    "Frame",
    "PackDamage",
    "PackWriter",
    "location_of",
    "parse_location",
    "places_of",
    "read_frames",
    "read_payload",
    "torn_at",
]

PACK_SUFFIX = ".pack"

_BLOCK_CODECS: Mapping[str, Compressor] = {ZstdCompressor.name: ZstdCompressor()}
"""What blocks are written by."""

_SEARCH_BYTES = 1024 * 1024


@frozen
class PackDamage:
    """A stretch of a pack that holds no readable frame."""

    offset: int  # bytes from the start of the pack
    length: int
    reason: str
    torn: bool  # it reaches to the end: what a crash leaves


class PackWriter:
    """One new pack, locked by its descriptor while it is open so that nobody takes its end for a torn one."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.path = folder / (name + PACK_SUFFIX)
        self.size = 0  # bytes of whole writes
        self.broken = False
        self._synced = 0
        self._named = False  # its name is durable
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _fs.PRIVATE_FILE)
        _fs.try_lock(self.fd)

    def write(self, data: bytes | memoryview, straight: Straight | None = None) -> None:
        """Append, perhaps past the page cache; when that fails, the pack ends where it ended before."""
        try:
            if straight is None:
                _fs.write_at(self.fd, data, self.size)
            else:
                straight.write(memoryview(data), self.size)
        except OSError:
            self.broken = True
            os.ftruncate(self.fd, self.size)
            raise
        self.size += len(data)

    def sync(self) -> None:
        """Make all that was written durable, and leave none of it in the page cache."""
        size = self.size  # what another thread appends meanwhile is for the next time
        if self._synced < size:
            _fs.sync_data(self.fd)
            _fs.drop_cache(self.fd, self._synced, size - self._synced)
            self._synced = size
        if not self._named:
            _fs.sync_folder(self.folder)
            self._named = True

    def close(self) -> None:
        """May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def remove(self) -> None:
        """Close and delete a pack of which nothing counts."""
        self.broken = True
        self.close()
        self.path.unlink(missing_ok=True)


def read_frames(path: Path, *, on_damage: Callable[[PackDamage], None] | None = None) -> Iterator[Frame]:
    """Every frame of a pack, checked to its last byte but not decoded, in constant memory.

    Args:
        on_damage: told of each stretch without a readable frame; the frames after it are found.
            Without it the first one raises.

    Raises:
        VaultCorrupt: there is damage and no ``on_damage``.
        VaultError: a frame is of a newer version.
        OSError: the file can't be read.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        read = reader_of(fd)
        offset = 0
        while offset < size:
            try:
                reader = FrameReader(read, offset)
                pack = path.name.removesuffix(PACK_SUFFIX)
                if reader.version == SOLID_VERSION:
                    block = block_of(reader, pack, _BLOCK_CODECS)
                    for one in block.objects:
                        header = one.header
                        yield Frame(one.record, header.bucket, header.operation_id, offset, block.length)
                    offset += block.length
                    continue
                for _ in reader.chunks():
                    pass
                yield finished(reader, location_of(pack, offset, reader.length))
                offset += reader.length
            except VaultCorrupt as error:
                if on_damage is None:
                    raise
                after = _next_frame(read, offset + 1, size)
                on_damage(PackDamage(offset, after - offset, str(error), after == size))
                offset = after
    finally:
        os.close(fd)


def read_payload(path: Path, frame: Frame, codecs: Mapping[str, Compressor | ObjectCodec]) -> Iterator[bytes]:
    """The object's bytes of a frame, decoded piece by piece; by a codec of whole objects at once, and here.

    Raises:
        VaultCorrupt: at the latest at the end, when they aren't the very bytes.
        VaultError: the codec isn't among ``codecs``, or the bytes are those of another frame.
    """
    if frame.record.same_as is not None:
        raise VaultError(
            f"the bytes of {frame.record.key!r} are those of another frame of the same SHA-256, which stood "
            f"at {frame.record.same_as.location} when this one was written"
        )
    fd = os.open(path, os.O_RDONLY)
    try:
        read, codec = reader_of(fd), codecs.get(frame.record.codec)
        if index_of(frame.record.location) is not None:
            block = read_block(read, frame.record.location, _BLOCK_CODECS)
            yield block.at(frame.record.location).of(frame.record, frame.bucket)
            return
        if isinstance(codec, ObjectCodec):
            coded = coded_record(read, frame.offset, frame.record, frame.bucket)
            yield coded.checked(codec.decode(coded.body, coded.size))
            return
        streaming = {name: one for name, one in codecs.items() if isinstance(one, Compressor)}
        yield from stream_record(read, frame.offset, frame.record, frame.bucket, streaming)
    finally:
        os.close(fd)


def torn_at(fd: int) -> int | None:
    """Where the torn tail of a pack begins; None when its last frame is whole.

    A tail is torn when a frame can't be read to its end and no frame follows. Damage in front of
    readable frames is not a torn tail.

    Raises:
        VaultError: a frame is of a newer version.
    """
    size = os.fstat(fd).st_size
    read = reader_of(fd, ahead=4096)
    if size == 0 or _ends_whole(read, size):
        return None
    offset = 0
    while offset < size:
        try:
            offset = FrameReader(read, offset).skip()
        except VaultCorrupt:
            after = _next_frame(reader_of(fd), offset + 1, size)
            if after == size:
                return offset
            offset = after
    return None


def _ends_whole(read: Read, size: int) -> bool:
    """Whether the file's last bytes are the trailer of a frame whose head is where it says."""
    if size < TAIL_BYTES:
        return False
    magic, _, _, _, length = TRAILER.unpack_from(read(size - TAIL_BYTES, TAIL_BYTES))
    if magic != END_MAGIC or not TAIL_BYTES < length <= size:
        return False
    try:
        FrameReader(read, size - length)
    except VaultCorrupt:
        return False
    return True


def _next_frame(read: Read, start: int, size: int) -> int:
    """Where the next frame begins, or ``size``.

    A frame's head tells its own offset, so a pack that was backed up into this one yields no frames.
    """
    while start < size:
        window = read(start, min(_SEARCH_BYTES, size - start))
        found = window.find(MAGIC)
        if found < 0:
            start += max(1, len(window) - len(MAGIC) + 1)
            continue
        try:
            FrameReader(read, start + found)
        except VaultCorrupt:
            start += found + 1
            continue
        except VaultError:
            pass  # of a newer version, and a frame all the same
        return start + found
    return size
