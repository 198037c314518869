"""Frames of small objects that are in memory whole: made and taken apart in few steps.

:mod:`_frames` reads any frame, piece by piece, and tells what is wrong with it. Here a frame is believed when
all of it is just as it should be, by the same digests; of anything else nothing is said, and who asks goes
the other way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from attrs import frozen

from s3gc.abc import Compressor
from s3gc.errors import VaultError
from s3gc.model import BackupRecord, ObjectInfo
from s3gc.vault._layout import (
    CHUNK_MAX_BYTES,
    DIGEST_BYTES,
    END_MAGIC,
    HEAD_BYTES,
    LENGTH,
    MAGIC,
    PREAMBLE,
    TAIL_BYTES,
    TRAILER,
    VERSION,
    header_text,
)

SMALL_FRAME_BYTES = CHUNK_MAX_BYTES
"""Larger ones are read piece by piece."""

_END = LENGTH.pack(0)
_OPERATION = re.compile(rb'"[0-9A-Za-z_-]{1,100}"')
"""An operation as it stands in a header, in characters that JSON writes in one way only."""


@frozen
class SmallFrame:
    """The parts of a frame whose digests are right."""

    header: bytes
    body: bytes
    size: int  # of the object
    sha256: bytes  # of the object
    digest: bytes


def small_frame(data: bytes, offset: int) -> SmallFrame | None:
    """Take apart a frame of version 1: all of ``data``, which stands at ``offset`` of its pack.

    None: it is another kind of frame, or one of several chunks, or none.
    """
    length = len(data)
    if length < HEAD_BYTES + LENGTH.size + TAIL_BYTES:
        return None
    magic, version, reserved, header_length, stands_at = PREAMBLE.unpack_from(data)
    begin = HEAD_BYTES + header_length
    tail = length - TAIL_BYTES
    if (magic, version, reserved, stands_at) != (MAGIC, VERSION, 0, offset) or begin + LENGTH.size > tail:
        return None
    (stored,) = LENGTH.unpack_from(data, begin)
    body_at = begin + LENGTH.size
    if stored > CHUNK_MAX_BYTES or tail != body_at + stored + (LENGTH.size if stored else 0):
        return None
    end_magic, size, sha256, all_stored, whole = TRAILER.unpack_from(data, tail)
    if (end_magic, all_stored, whole) != (END_MAGIC, stored, length):
        return None
    if stored and data[tail - LENGTH.size : tail] != _END:
        return None
    digest = data[-DIGEST_BYTES:]
    if sha256_of(data[:-DIGEST_BYTES]) != digest:
        return None
    header = data[HEAD_BYTES:begin]
    if hashlib.sha256(data[: PREAMBLE.size] + header).digest() != data[PREAMBLE.size : HEAD_BYTES]:
        return None
    return SmallFrame(header, data[body_at : body_at + stored], size, sha256, digest)


def is_header_of(header: bytes, record: BackupRecord, bucket: str) -> bool:
    """Whether a header says of its object what a record does, told from its bytes without parsing them.

    A header is canonical JSON: of one record and one operation there is one. False says nothing.
    """
    info = ObjectInfo(record.key, record.size, record.etag, record.last_modified, record.version_id)
    try:
        text = header_text(info, record.attributes, bucket, "")
    except VaultError:
        return False
    before, after = text.around_operation(record.codec)
    if len(header) <= len(before) + len(after) or not header.startswith(before) or not header.endswith(after):
        return False
    return _OPERATION.fullmatch(header, len(before), len(header) - len(after)) is not None


def frame_of_record(data: bytes, offset: int, record: BackupRecord, bucket: str) -> SmallFrame | None:
    """The frame of a record, all checked but for what comes out of it; None: it must be looked at closely."""
    frame = small_frame(data, offset)
    if frame is None or record.same_as is not None:
        return None
    if (frame.size, frame.sha256.hex(), len(data)) != (record.size, record.sha256, record.stored_size):
        return None
    return frame if is_header_of(frame.header, record, bucket) else None


def small_record(
    data: bytes, offset: int, record: BackupRecord, bucket: str, codecs: Mapping[str, Compressor]
) -> bytes | None:
    """A small object's bytes, all checked, from its frame; None: it must be looked at closely."""
    codec = codecs.get(record.codec)
    frame = frame_of_record(data, offset, record, bucket)
    return None if codec is None or frame is None else contents_of([frame], codec)[0]


def contents_of(frames: Sequence[SmallFrame], codec: Compressor) -> Sequence[bytes | None]:
    """What comes out of each, where these are the very bytes; None: it must be looked at closely."""
    try:
        made = codec.decompress_all([frame.body for frame in frames], [frame.size for frame in frames])
    except VaultError:
        return [None] * len(frames)
    return [
        data if len(data) == frame.size and sha256_of(data) == frame.sha256 else None
        for frame, data in zip(frames, made, strict=True)
    ]


_LOCK_STAYS_BYTES = 2047
_SHORT_BYTES = 16 * 1024


def sha256_of(data: bytes) -> bytes:
    """The digest.

    From 2,048 bytes on hashlib gives Python's lock away for each call. For a few KB that only costs: while
    others want the lock, getting it back takes a thousand times as long as the hashing.
    """
    if not _LOCK_STAYS_BYTES < len(data) <= _SHORT_BYTES:
        return hashlib.sha256(data).digest()
    view = memoryview(data)
    made = hashlib.sha256(view[:_LOCK_STAYS_BYTES])
    for at in range(_LOCK_STAYS_BYTES, len(data), _LOCK_STAYS_BYTES):
        made.update(view[at : at + _LOCK_STAYS_BYTES])
    return made.digest()


def build(offset: int, header: bytes, body: bytes, size: int, sha256: bytes, version: int = VERSION) -> bytes:
    """A small frame: the bytes that a :class:`~s3gc.vault._layout.FrameBuilder` makes of it one by one.

    Args:
        body: of at most CHUNK_MAX_BYTES.
        size, sha256: of the object.
    """
    preamble = PREAMBLE.pack(MAGIC, version, 0, len(header), offset)
    length = HEAD_BYTES + len(header) + LENGTH.size + TAIL_BYTES
    chunk: tuple[bytes, ...] = ()
    if body:
        length += LENGTH.size + len(body)
        chunk = (LENGTH.pack(len(body)), body)
    start = preamble + hashlib.sha256(preamble + header).digest() + header
    whole = b"".join((start, *chunk, _END, TRAILER.pack(END_MAGIC, size, sha256, len(body), length)))
    return whole + sha256_of(whole)
