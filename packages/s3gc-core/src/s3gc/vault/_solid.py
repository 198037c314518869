"""Solid blocks: small objects of one kind compressed together with their headers, in one frame.

The decoded body::

    count     u32
    each      header length u32 · size u64 · SHA-256 · header, as in a frame of version 1
    contents  one after the other, in the same order

All numbers are big-endian. An object's place is that of the frame and its number in it, from 0.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Collection, Mapping, Sequence
from posixpath import splitext
from typing import Any

from attrs import evolve, frozen

from s3gc.abc import Compressor
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import BackupRecord, ObjectInfo, SameAs
from s3gc.vault._frames import Decoder, FrameReader, Read, codec_named, require_match
from s3gc.vault._layout import SOLID_VERSION, Header, header_text, parse_header
from s3gc.vault._locations import index_of, location_of, parse_location
from s3gc.vault._small_frames import sha256_of
from s3gc.vault.records import canonical

SOLID_OBJECTS = 64
SOLID_BYTES = 1024 * 1024
"""A block has at most so many objects, and decodes to at most so many bytes."""

SOLID_OBJECT_BYTES = 8191
"""Larger objects have frames of their own, which can be shared."""

_HEADER_BYTES = 4096  # objects with longer headers (metadata, keys) have frames of their own
_ENTRY = struct.Struct(">IQ32s")
_COUNT = struct.Struct(">I")
_NAMES = frozenset(("bucket", "codec", "objects", "operation"))


def fits(size: int, header: int) -> bool:
    """Whether an object of so many bytes, with so long a header, goes into a block."""
    return 0 < size <= SOLID_OBJECT_BYTES and header <= _HEADER_BYTES


def grouped(objects: Collection[tuple[int, str, str | None, int]]) -> list[list[int]]:
    """What goes into one block each, of (number, key, content type, bytes): objects of one kind, by key.

    Neighbours by key have a prefix in common. A kind is what the name ends in, and the content type.
    """
    made: list[list[int]] = []
    kind, held = None, 0
    for number, key, content_type, size in sorted(objects, key=lambda one: (_kind(one[1], one[2]), one[1])):
        this = _kind(key, content_type)
        if this != kind or len(made[-1]) >= SOLID_OBJECTS or held + size > SOLID_BYTES:
            made.append([])
            kind, held = this, _COUNT.size
        made[-1].append(number)
        held += size
    return [group for group in made if len(group) > 1]


def _kind(key: str, content_type: str | None) -> tuple[str, str]:
    return splitext(key)[1].lower(), content_type or ""


def solid_header(bucket: str, codec: str, operation_id: str, objects: int) -> bytes:
    """The header of a block's frame."""
    return canonical(
        {"bucket": bucket, "codec": codec, "objects": objects, "operation": operation_id}
    ).encode()


def join(objects: Sequence[tuple[bytes, bytes, bytes]]) -> bytes:
    """A body, from header, SHA-256 and content of each."""
    parts = [_COUNT.pack(len(objects))]
    for header, sha256, data in objects:
        parts += (_ENTRY.pack(len(header), len(data), sha256), header)
    return b"".join([*parts, *(data for _, _, data in objects)])


@frozen
class Solid:
    """One object of a block that was read: its digest was right, its own hash isn't checked yet."""

    header: Header
    record: BackupRecord
    data: bytes

    def checked(self) -> bytes:
        """Its bytes.

        Raises:
            VaultCorrupt: they aren't the very bytes.
        """
        if hashlib.sha256(self.data).hexdigest() != self.record.sha256:
            raise VaultCorrupt(f"{self.record.key!r}: other bytes come out than went in")
        return self.data

    def of(self, record: BackupRecord, bucket: str) -> bytes:
        """The same, for who has a record of it.

        Raises:
            VaultCorrupt: it is another object, or not the very bytes.
        """
        require_match(self.record, record)
        if self.header.bucket != bucket:
            raise VaultCorrupt(f"the frame of {record.key!r} is of another bucket, {self.header.bucket}")
        return self.checked()


@frozen
class Block:
    """A block that was read and found to be as written. Its objects are looked at when they are asked for."""

    pack: str
    offset: int
    length: int  # of its frame
    digest: bytes  # of its frame
    bucket: str
    codec: str
    operation_id: str
    entries: Sequence[tuple[bytes, bytes, bytes]]  # header, SHA-256 and content of each
    shares: Sequence[int]  # of the frame's bytes

    def object(self, index: int) -> Solid:
        """One of its objects.

        Raises:
            VaultCorrupt: it and the block contradict each other.
        """
        text, sha256, data = self.entries[index]
        header = parse_header(text)
        record = evolve(
            header.record,
            sha256=sha256.hex(),
            stored_size=self.shares[index],
            location=location_of(self.pack, self.offset, self.length, index),
        )
        same = (header.bucket, header.operation_id, record.codec, record.size)
        if same != (self.bucket, self.operation_id, self.codec, len(data)):
            raise VaultCorrupt(f"the block at {self.offset} and its object {index} contradict each other")
        return Solid(header, record, data)

    def content_of(self, record: BackupRecord, bucket: str) -> bytes:
        """The bytes of the object at a record's place.

        Raises:
            VaultCorrupt: it is another object, or not the very bytes.
        """
        index = index_of(record.location)
        if index is not None and index < len(self.entries) and self._surely(index, record, bucket):
            return self.entries[index][2]
        return self.at(record.location).of(record, bucket)

    def _surely(self, index: int, record: BackupRecord, bucket: str) -> bool:
        """Whether all that the block says of an object is what a record says, told without parsing it."""
        text, sha256, data = self.entries[index]
        info = ObjectInfo(record.key, len(data), record.etag, record.last_modified, record.version_id)
        said = (record.size, record.codec, record.sha256, record.stored_size, record.same_as, bucket)
        if said != (len(data), self.codec, sha256.hex(), self.shares[index], None, self.bucket):
            return False
        try:
            header = header_text(info, record.attributes, bucket, self.operation_id).with_codec(self.codec)
        except VaultError:
            return False
        return header == text and sha256_of(data) == sha256

    @property
    def objects(self) -> list[Solid]:
        """All of them; raises as :meth:`object`."""
        return [self.object(index) for index in range(len(self.entries))]

    def at(self, location: str) -> Solid:
        """The object at a place in this block.

        Raises:
            VaultCorrupt: there is none.
        """
        index = index_of(location)
        if index is None or index >= len(self.entries):
            raise VaultCorrupt(f"the block at {location} has {len(self.entries)} objects")
        return self.object(index)


def read_block(read: Read, location: str, codecs: Mapping[str, Compressor]) -> Block:
    """The block at a place, or of an object at a place in it.

    Raises:
        VaultCorrupt: it isn't as it was written, or isn't one.
        VaultError: its codec isn't here.
    """
    pack, offset, _ = parse_location(location)
    return block_of(FrameReader(read, offset), pack, codecs)


def block_of(reader: FrameReader, pack: str, codecs: Mapping[str, Compressor]) -> Block:
    """The same for a frame of which the head was read."""
    what = f"the block at {reader.offset}"
    if reader.version != SOLID_VERSION:
        raise VaultCorrupt(f"{what} is not a block")
    chunks: list[bytes] = []
    for chunk in reader.chunks():
        if reader.stored > 2 * SOLID_BYTES:
            raise VaultCorrupt(f"{what} is longer than any block")
        chunks.append(chunk)
    if reader.size > SOLID_BYTES:
        raise VaultCorrupt(f"{what} says that it decodes to {reader.size} bytes")
    fields = _parsed(reader.header_bytes, what)
    decoder = Decoder(codec_named(codecs, fields["codec"]), reader.size, what)
    body = b"".join(decoder.decode(chunk) for chunk in chunks)
    decoder.finish(reader.sha256)
    objects = _objects(body, what)
    if len(objects) != fields["objects"]:
        raise VaultCorrupt(f"{what} has {len(objects)} objects and says {fields['objects']}")
    return Block(
        pack,
        reader.offset,
        reader.length,
        reader.digest,
        fields["bucket"],
        fields["codec"],
        fields["operation"],
        objects,
        shares_of(reader.length, [len(data) for _, _, data in objects]),
    )


def lent_by(block: Block, place: SameAs, record: BackupRecord, bucket: str) -> BackupRecord:
    """The record of the object at a place in a block whose bytes ``record`` shares.

    Nothing so small is shared today. But where bytes are is found by their hash when a journal is made anew,
    and blocks hold them as well as frames do.

    Raises:
        VaultCorrupt: another object is there.
    """
    found = block.at(place.location)
    one, wanted = found.record, (place.key, record.size, record.sha256, bucket)
    if (one.key, one.size, one.sha256, found.header.bucket) != wanted:
        raise VaultCorrupt(f"the object at {place.location} is not the one whose bytes {record.key!r} shares")
    return one


def shares_of(length: int, sizes: Sequence[int]) -> list[int]:
    """How many of a frame's bytes count as each object's: by their sizes, and together all of them."""
    total, seen, given = max(1, sum(sizes)), 0, 0
    shares: list[int] = []
    for size in sizes:
        seen += size
        upto = length * seen // total
        shares.append(upto - given)
        given = upto
    return shares


def _parsed(header: bytes, what: str) -> dict[str, Any]:
    try:
        fields: Any = json.loads(header)
    except ValueError as error:
        raise VaultCorrupt(f"the header of {what} is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.keys() != _NAMES or type(fields["objects"]) is not int:
        raise VaultCorrupt(f"the header of {what} lacks fields")
    return fields


def _objects(body: bytes, what: str) -> list[tuple[bytes, bytes, bytes]]:
    try:
        (count,) = _COUNT.unpack_from(body)
        if count > SOLID_OBJECTS:
            raise VaultCorrupt(f"{what} says that it has {count} objects")
        at = _COUNT.size
        heads: list[tuple[bytes, int, bytes]] = []
        for _ in range(count):
            length, size, sha256 = _ENTRY.unpack_from(body, at)
            at += _ENTRY.size
            heads.append((body[at : at + length], size, sha256))
            at += length
        made: list[tuple[bytes, bytes, bytes]] = []
        for header, size, sha256 in heads:
            made.append((header, sha256, body[at : at + size]))
            at += size
    except struct.error as error:
        raise VaultCorrupt(f"{what} ends too early") from error
    if at != len(body):
        raise VaultCorrupt(f"{what} has {len(body)} bytes and describes {at}")
    return made
