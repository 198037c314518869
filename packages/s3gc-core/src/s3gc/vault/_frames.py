"""Reading frames: everything is checked before it is believed, only small objects are read whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property

from attrs import evolve, frozen

from s3gc.abc import Compressor
from s3gc.errors import CodecMissing, VaultCorrupt, VaultError
from s3gc.model import BackupRecord, SameAs
from s3gc.vault import _fs
from s3gc.vault._layout import (
    CHUNK_MAX_BYTES,
    END_MAGIC,
    HEAD_BYTES,
    HEADER_MAX_BYTES,
    LENGTH,
    MAGIC,
    PREAMBLE,
    TAIL_BYTES,
    TRAILER,
    VERSIONS,
    Header,
    parse_header,
)
from s3gc.vault._locations import parse_location
from s3gc.vault._small_frames import small_record

Read = Callable[[int, int], bytes]
"""(offset, size) → up to ``size`` bytes, fewer only at the end."""

READ_AHEAD_BYTES = CHUNK_MAX_BYTES + 4096  # a chunk and its length: less would read each chunk twice

MATCHED = (
    "key",
    "etag",
    "size",
    "last_modified",
    "version_id",
    "attributes",
    "codec",
    "sha256",
    "stored_size",
)
"""The fields of a BackupRecord that a frame repeats: all but its location."""


class TornFrame(VaultCorrupt):
    """The file ends inside of a frame."""


def reader_of(fd: int, ahead: int = READ_AHEAD_BYTES) -> Read:
    """Positioned reads of an open file that fetch at least ``ahead`` bytes at a time."""
    start, held = 0, b""

    def read(offset: int, size: int) -> bytes:
        nonlocal start, held
        if not start <= offset <= offset + size <= start + len(held):
            start, held = offset, _fs.read_at(fd, max(size, ahead), offset)
        return held[offset - start : offset - start + size]

    return read


def reader_in(data: bytes, base: int = 0) -> Read:
    """Positioned reads of bytes that stand at ``base`` of a pack."""
    return lambda offset, size: data[offset - base : offset - base + size]


class FrameReader:
    """One frame at ``offset``. Its head is checked at once, the rest by :meth:`chunks` or :meth:`skip`.

    Args:
        hashes: compute the frame's digest; False only for who compares every byte with what was written.

    Raises:
        TornFrame: the file ends before the frame does.
        VaultCorrupt: these are not the bytes that were written.
        VaultError: the frame's version is unknown.
    """

    def __init__(self, read: Read, offset: int, *, hashes: bool = True) -> None:
        self._read = read
        self._hashes = hashes
        self.offset = offset
        self._position = offset
        head = self._take(HEAD_BYTES)
        magic, version, reserved, length, stands_at = PREAMBLE.unpack_from(head)
        if magic != MAGIC:
            raise VaultCorrupt(f"no frame begins at {offset}")
        if length > HEADER_MAX_BYTES:
            raise VaultCorrupt(f"the frame at {offset} has a header of {length} bytes")
        self.header_bytes = self._take(length)
        digest = hashlib.sha256(head[: PREAMBLE.size])
        digest.update(self.header_bytes)
        if digest.digest() != head[PREAMBLE.size :]:
            raise VaultCorrupt(f"the header of the frame at {offset} is damaged")
        if stands_at != offset:
            raise VaultCorrupt(
                f"the frame at {offset} was written at {stands_at}: the pack was put together anew"
            )
        if version not in VERSIONS or reserved:
            raise VaultError(
                f"the frame at {offset} is of version {version}, known are up to {VERSIONS[-1]}: update s3gc"
            )
        self.version: int = version
        self._sha = hashlib.sha256(head)
        self._sha.update(self.header_bytes)
        self.size = -1
        self.sha256 = b""
        self.stored = 0
        self.length = 0
        self.digest = b""

    @cached_property
    def header(self) -> Header:
        return parse_header(self.header_bytes, self.version)

    @property
    def position(self) -> int:
        """Where the next byte stands that wasn't taken yet."""
        return self._position

    def within(self, end: int) -> bool:
        """Whether the next step of :meth:`chunks` needs no byte from ``end`` on."""
        begin = self._position + LENGTH.size
        if begin > end:
            return False
        length = self._chunk_length(self._read(self._position, LENGTH.size))
        return begin + (length or TAIL_BYTES) <= end

    def chunks(self) -> Iterator[bytes]:
        """The stored bytes. When it is exhausted, the whole frame was found to be as written."""
        while True:
            prefix = self._take(LENGTH.size)
            self._sha.update(prefix)
            length = self._chunk_length(prefix)
            if not length:
                break
            data = self._take(length)
            if self._hashes:
                self._sha.update(data)
            self.stored += length
            yield data
        tail = self._trailer()
        self._sha.update(tail[: TRAILER.size])
        self.digest = tail[TRAILER.size :]
        if self._hashes and self._sha.digest() != self.digest:
            raise VaultCorrupt(f"the frame at {self.offset} is damaged: its digest is another one")

    def skip(self) -> int:
        """Where the frame ends, by its lengths alone: the stored bytes are neither read nor checked."""
        while length := self._chunk_length(self._take(LENGTH.size)):
            self._position += length
            self.stored += length
        self.digest = self._trailer()[TRAILER.size :]
        return self._position

    def _chunk_length(self, prefix: bytes) -> int:
        length: int = LENGTH.unpack(prefix)[0]
        if length > CHUNK_MAX_BYTES:
            raise VaultCorrupt(f"the frame at {self.offset} has a chunk of {length} bytes")
        return length

    def _trailer(self) -> bytes:
        tail = self._take(TAIL_BYTES)
        magic, self.size, self.sha256, stored, self.length = TRAILER.unpack_from(tail)
        if magic != END_MAGIC or stored != self.stored or self.length != self._position - self.offset:
            raise VaultCorrupt(f"the trailer of the frame at {self.offset} is damaged")
        return tail

    def _take(self, size: int) -> bytes:
        data = self._read(self._position, size)
        if len(data) != size:
            raise TornFrame(f"the pack ends inside of the frame at {self.offset}")
        self._position += size
        return data


@frozen
class Frame:
    """A frame that was read to its end and found to be as written."""

    record: BackupRecord
    bucket: str
    operation_id: str
    offset: int  # bytes from the start of the pack
    length: int  # bytes


def finished(reader: FrameReader, location: str) -> Frame:
    """The frame that ``reader`` has read to its end.

    Raises:
        VaultCorrupt: header and trailer contradict each other.
    """
    header = reader.header
    if header.record.size != reader.size:
        raise VaultCorrupt(f"the frame at {reader.offset} contradicts itself about the object's size")
    record = evolve(header.record, sha256=reader.sha256.hex(), stored_size=reader.length, location=location)
    return Frame(record, header.bucket, header.operation_id, reader.offset, reader.length)


def codec_named(
    codecs: Mapping[str, Compressor], name: str, requires: Mapping[str, str] | None = None
) -> Compressor:
    """The codec of a frame.

    Raises:
        CodecMissing: it isn't installed.
    """
    try:
        return codecs[name]
    except KeyError:
        raise missing_codec(name, requires or {}, codecs) from None


def missing_codec(name: str, requires: Mapping[str, str], known: Collection[str]) -> CodecMissing:
    """What to say of a backup whose codec isn't here."""
    needs = ", ".join(f"{library} {version}" for library, version in sorted(requires.items()))
    return CodecMissing(
        f"this backup needs the codec {name!r}{f' with {needs}' if needs else ''}, and only "
        f"{', '.join(sorted(known))} are here: install its plugin (those of pictures and documents are in "
        "the distribution s3gc-codecs, with the extras lepton and images)"
    )


@frozen
class Coded:
    """The body of a frame whose codec works on whole objects, found to be as written."""

    codec: str
    requires: Mapping[str, str]
    body: bytes
    size: int  # of the object
    sha256: bytes  # of the object
    what: str  # for errors

    def checked(self, data: bytes) -> bytes:
        """``data``, if these are the very bytes.

        Raises:
            VaultCorrupt: they aren't.
        """
        if len(data) != self.size or hashlib.sha256(data).digest() != self.sha256:
            raise VaultCorrupt(f"{self.what}: other bytes come out than went in")
        return data


class Decoder:
    """Decodes an object's chunks and holds them against its size and SHA-256."""

    def __init__(self, codec: Compressor, size: int, what: str) -> None:
        self._stream = codec.decompressor()
        self._size = size
        self._what = what
        self._total = 0
        self._sha = hashlib.sha256()

    def decode(self, chunk: bytes) -> bytes:
        data = self._stream.decompress(chunk)
        self._total += len(data)
        if self._total > self._size:
            raise VaultCorrupt(f"{self._what}: more than its {self._size} bytes come out")
        self._sha.update(data)
        return data

    def finish(self, sha256: bytes) -> None:
        """Raises VaultCorrupt unless the very bytes came out."""
        if self._total != self._size:
            raise VaultCorrupt(f"{self._what}: {self._total} of its {self._size} bytes come out")
        if self._sha.digest() != sha256:
            raise VaultCorrupt(f"{self._what}: other bytes come out than went in")


def open_record(read: Read, offset: int, record: BackupRecord, bucket: str) -> FrameReader:
    """The frame of a record, its head checked against the record.

    Raises:
        VaultCorrupt: it is the frame of another object.
    """
    reader = FrameReader(read, offset)
    header = reader.header
    expected = evolve(header.record, sha256=record.sha256, stored_size=record.stored_size)
    require_match(expected, record)
    if header.bucket != bucket:
        raise VaultCorrupt(f"the frame of {record.key!r} is of another bucket, {header.bucket}")
    return reader


def close_record(reader: FrameReader, record: BackupRecord) -> None:
    """The same for the frame's trailer, once its chunks are read."""
    require_match(finished(reader, record.location).record, record)


def require_match(found: BackupRecord, record: BackupRecord) -> None:
    """Raises VaultCorrupt unless a frame's record and one of the journal agree."""
    wrong = [name for name in MATCHED if getattr(found, name) != getattr(record, name)]
    if wrong:
        raise VaultCorrupt(
            f"the frame at {record.location} is not that of {record.key!r}: {', '.join(wrong)} differ"
        )


def stream_record(
    read: Read, offset: int, record: BackupRecord, bucket: str, codecs: Mapping[str, Compressor]
) -> Iterator[bytes]:
    """An object's bytes, decoded piece by piece; wrong ones end in VaultCorrupt."""
    reader = open_record(read, offset, record, bucket)
    codec = codec_named(codecs, record.codec, reader.header.requires)
    decoder = Decoder(codec, record.size, repr(record.key))
    for chunk in reader.chunks():
        if data := decoder.decode(chunk):
            yield data
    close_record(reader, record)
    decoder.finish(reader.sha256)


def whole_record(
    read: Read, offset: int, record: BackupRecord, bucket: str, codecs: Mapping[str, Compressor]
) -> list[bytes]:
    """A small object's bytes, all checked: first the frame as it is stored, then what comes out of it."""
    length = parse_location(record.location)[2]
    if (quick := small_record(read(offset, length), offset, record, bucket, codecs)) is not None:
        return [quick]
    reader = open_record(read, offset, record, bucket)
    codec = codec_named(codecs, record.codec, reader.header.requires)
    chunks = list(reader.chunks())
    close_record(reader, record)
    decoder = Decoder(codec, record.size, repr(record.key))
    pieces = [data for chunk in chunks if (data := decoder.decode(chunk))]
    decoder.finish(reader.sha256)
    return pieces


def coded_record(read: Read, offset: int, record: BackupRecord, bucket: str) -> Coded:
    """The body of an object that a codec of whole objects made, all checked but for what comes out of it."""
    reader = open_record(read, offset, record, bucket)
    what = repr(record.key)
    chunks: list[bytes] = []
    for chunk in reader.chunks():
        if reader.stored > record.size:
            raise VaultCorrupt(f"{what}: its body is longer than the object")
        chunks.append(chunk)
    close_record(reader, record)
    header = reader.header
    return Coded(record.codec, header.requires, b"".join(chunks), record.size, reader.sha256, what)


def empty_record(read: Read, offset: int, record: BackupRecord, bucket: str) -> None:
    """Check the frame of a record that shares the bytes of another one.

    Raises:
        VaultCorrupt: it isn't as it was written.
    """
    reader = open_record(read, offset, record, bucket)
    for _ in reader.chunks():
        raise VaultCorrupt(f"{record.key!r} shares its bytes, and has some of its own")
    close_record(reader, record)


def sharer_of(read: Read, place: SameAs, record: BackupRecord, bucket: str) -> BackupRecord:
    """The record of the frame at a place whose bytes ``record`` shares; its body isn't looked at yet.

    Raises:
        VaultCorrupt: it is the frame of another object.
    """
    _, offset, length = parse_location(place.location)
    header = FrameReader(read, offset).header
    found = header.record
    if (found.key, found.size, found.same_as, header.bucket) != (place.key, record.size, None, bucket):
        raise VaultCorrupt(f"the frame at {place.location} is not the one whose bytes {record.key!r} shares")
    return evolve(found, sha256=record.sha256, stored_size=length, location=place.location)
