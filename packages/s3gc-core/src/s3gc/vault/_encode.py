"""Objects on their way into packs: the part that runs in worker threads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence

from attrs import define, evolve, frozen

from s3gc.abc import Compressor, EncodedObject
from s3gc.compressors.zstd import ZstdCompressor
from s3gc.errors import VaultCorrupt
from s3gc.model import BackupRecord, ObjectAttributes, ObjectInfo, SameAs
from s3gc.vault._frames import Decoder, FrameReader, Read, reader_of
from s3gc.vault._layout import (
    CHUNK_MAX_BYTES,
    CODED_VERSION,
    DIGEST_BYTES,
    SAME,
    SOLID_VERSION,
    VERSION,
    FrameBuilder,
    HeaderText,
)
from s3gc.vault._locations import index_of, location_of, parse_location
from s3gc.vault._small_frames import (
    SMALL_FRAME_BYTES,
    SmallFrame,
    build,
    contents_of,
    sha256_of,
    small_frame,
)
from s3gc.vault._solid import Block, fits, grouped, join, read_block, shares_of, solid_header
from s3gc.vault.packs import PackWriter

PACK_ROLL_BYTES = 256 * 1024 * 1024
"""A pack of small objects is closed when it is this large, so that none is too large to copy or check."""

WRITE_BYTES = 4 * 1024 * 1024
"""Frames are handed to the kernel and read back in pieces of about this size."""

RAW_ABOVE = 0.985
"""Stored/original above which compressing isn't worth the decoding, and bytes are kept as they are.

From the facts measured before the start: JPEG, video and archives lie at 0.99 to 1.0, all else well below.
"""


@define
class Arrived:
    """A small object that was read, and what is found out about it on its way."""

    info: ObjectInfo
    attributes: ObjectAttributes
    header: HeaderText
    data: bytes
    coded: EncodedObject | None = None
    """A body by a codec of whole objects, proved."""
    sha256: bytes = b""
    """Of ``data``; empty when nobody has computed it yet."""
    same_as: SameAs | None = None
    """Whose bytes these are: that was proved, and they aren't written again."""


@frozen
class Placed:
    """A frame that was written, with all that must be found again when it is read back."""

    record: BackupRecord
    writer: PackWriter
    offset: int
    frame_digest: bytes
    sha256: bytes


@frozen
class _Frame:
    """A whole frame."""

    parts: Sequence[bytes]
    length: int
    digest: bytes


def _frame(offset: int, header: bytes, body: bytes, size: int, sha256: bytes, version: int) -> _Frame:
    if len(body) <= CHUNK_MAX_BYTES:
        whole = build(offset, header, body, size, sha256, version)
        return _Frame((whole,), len(whole), whole[-DIGEST_BYTES:])
    builder = FrameBuilder(offset, header, version)
    parts = (builder.start, *builder.chunks(body), builder.end(size, sha256))
    return _Frame(parts, builder.length, builder.digest)


@frozen
class _Encoded:
    arrived: Arrived
    codec: str
    body: bytes
    sha256: bytes
    requires: Mapping[str, str] | None = None
    same_as: SameAs | None = None

    def frame(self, offset: int) -> _Frame:
        """The frame for it, with its header."""
        header = self.arrived.header.with_codec(self.codec, self.requires, self.same_as)
        plain = self.requires is None and self.same_as is None
        version = VERSION if plain else CODED_VERSION
        return _frame(offset, header, self.body, self.arrived.info.size, self.sha256, version)


def encode(arrived: Arrived, codec: Compressor) -> _Encoded:
    """Compress a small object; keep its bytes as they are if that saves too little."""
    return _encode_all([arrived], codec)[0]


def _encode_all(some: Sequence[Arrived], codec: Compressor) -> list[_Encoded]:
    small = [one for one in some if one.same_as is None and codec.name != "store" and one.data]
    bodies = dict(zip(map(id, small), codec.compress_all([one.data for one in small]), strict=True))
    return [_encoded(one, codec.name, bodies.get(id(one))) for one in some]


def _encoded(arrived: Arrived, codec: str, body: bytes | None) -> _Encoded:
    data = arrived.data
    sha256 = arrived.sha256 or sha256_of(data)
    if arrived.same_as is not None:
        return _Encoded(arrived, SAME, b"", sha256, same_as=arrived.same_as)
    coded = arrived.coded
    shrinks = body is not None and len(body) < RAW_ABOVE * len(data)
    if coded is None:
        return _Encoded(arrived, codec if shrinks else "store", body if shrinks and body else data, sha256)
    plain = body if shrinks and body else data
    # What needs a library to be read again must be worth it.
    if len(coded.body) < RAW_ABOVE * len(plain):
        return _Encoded(arrived, coded.codec, coded.body, sha256, coded.requires)
    return _Encoded(arrived, codec if shrinks else "store", plain, sha256)


def _twins(batch: Sequence[Arrived]) -> dict[int, int]:
    """Which objects of a batch have the very bytes of one before them, and of which, by position.

    Only those are looked at whose hash was computed: of smaller ones sharing gains nothing.
    """
    first: dict[bytes, int] = {}
    twins: dict[int, int] = {}
    for at, arrived in enumerate(batch):
        if arrived.sha256 and arrived.data:
            before = first.setdefault(arrived.sha256, at)
            if before != at and batch[before].data == arrived.data:
                twins[at] = before
    return twins


_HEADER_ABOUT = 1024  # bytes that an object's header counts for when blocks are filled


@frozen
class _Block:
    header: bytes
    body: bytes
    size: int  # decoded
    sha256: bytes  # of the decoded bytes
    sha256s: Sequence[bytes]  # of the objects


@frozen
class Blocks:
    """Makes blocks of small objects, for one session."""

    codec: Compressor
    bucket: str
    operation_id: str

    def of(self, batch: Sequence[Arrived], twins: Collection[int]) -> list[tuple[list[int], _Block]]:
        """Which objects of a batch go into blocks, by position, and these compressed."""
        small = [
            (at, one.info.key, one.attributes.content_type, one.info.size + _HEADER_ABOUT)
            for at, one in enumerate(batch)
            if fits(one.info.size, one.header.length)
            and at not in twins
            and one.coded is None
            and one.same_as is None
        ]
        return [(group, self._block([batch[at] for at in group])) for group in grouped(small)]

    def _block(self, objects: Sequence[Arrived]) -> _Block:
        sha256s = [one.sha256 or sha256_of(one.data) for one in objects]
        whole = join(
            [
                (one.header.with_codec(self.codec.name), sha256, one.data)
                for one, sha256 in zip(objects, sha256s, strict=True)
            ]
        )
        stream = self.codec.compressor(len(whole))
        body = stream.compress(whole)
        body += stream.flush()
        header = solid_header(self.bucket, self.codec.name, self.operation_id, len(objects))
        return _Block(header, body, len(whole), hashlib.sha256(whole).digest(), sha256s)


class _End:
    """The end of the packs, while a batch is appended."""

    def __init__(self, packs: SmallPacks) -> None:
        self._packs = packs
        self._writer = packs.writer()
        self._parts: list[bytes] = []
        self._waiting = 0

    def place(self) -> tuple[PackWriter, int]:
        """Where the next frame goes."""
        if self._writer.size + self._waiting >= PACK_ROLL_BYTES:
            self.flush()
            self._packs.current = None
            self._writer = self._packs.writer()
        return self._writer, self._writer.size + self._waiting

    def put(self, frame: _Frame) -> None:
        """Append it."""
        self._parts += frame.parts
        self._waiting += frame.length
        if self._waiting >= WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand over what waits."""
        self._writer.write(b"".join(self._parts))
        self._parts, self._waiting = [], 0


class SmallPacks:
    """Appends batches of small objects to a pack and begins a new one when it is full. Thread-safe."""

    def __init__(
        self,
        current: PackWriter | None,
        create: Callable[[], PackWriter],
        codec: Compressor,
        blocks: Blocks | None = None,
    ) -> None:
        self.current = current
        self._blocks = blocks
        self.used: list[PackWriter] = []  # written to since the last commit
        self._create = create
        self._codec = codec
        self._lock = threading.Lock()

    def write(self, batch: Sequence[Arrived]) -> list[Placed]:
        """Compress outside of the lock, append inside of it."""
        twins = _twins(batch)
        blocks = [] if self._blocks is None else self._blocks.of(batch, twins)
        in_blocks = {at for group, _ in blocks for at in group}
        encoded = {at: _Encoded(batch[at], SAME, b"", batch[at].sha256) for at in twins}
        others = [at for at in range(len(batch)) if at not in twins and at not in in_blocks]
        encoded |= zip(others, _encode_all([batch[at] for at in others], self._codec), strict=True)
        placed: dict[int, Placed] = {}
        with self._lock:
            end = _End(self)
            for at, item in sorted(encoded.items(), key=lambda pair: pair[0]):
                if at in twins:
                    twin = placed[twins[at]].record
                    item = evolve(item, same_as=twin.same_as or SameAs(twin.key, twin.location))
                writer, offset = end.place()
                frame = item.frame(offset)
                end.put(frame)
                made = placed_at(item.arrived, item.codec, item.sha256, writer, offset, frame)
                if item.same_as is not None:
                    made = evolve(made, record=evolve(made.record, same_as=item.same_as))
                placed[at] = made
            for group, block in blocks:
                writer, offset = end.place()
                frame = _frame(offset, block.header, block.body, block.size, block.sha256, SOLID_VERSION)
                end.put(frame)
                shares = shares_of(frame.length, [len(batch[at].data) for at in group])
                for index, at in enumerate(group):
                    arrived, sha256 = batch[at], block.sha256s[index]
                    made = placed_at(arrived, ZstdCompressor.name, sha256, writer, offset, frame)
                    location = location_of(writer.name, offset, frame.length, index)
                    record = evolve(made.record, stored_size=shares[index], location=location)
                    placed[at] = evolve(made, record=record)
            end.flush()
        return [placed[at] for at in range(len(batch))]

    def take_used(self) -> list[PackWriter]:
        """The packs to make durable; called when no ``write`` runs."""
        taken, self.used = self.used, []
        return taken

    def writer(self) -> PackWriter:
        """The pack to append to. The caller has the lock."""
        if self.current is None or self.current.broken or self.current.size >= PACK_ROLL_BYTES:
            if self.current is not None and self.current not in self.used:
                self.current.close()  # full when it was handed on: nobody else would
            self.current = self._create()
        if self.current not in self.used:
            self.used.append(self.current)
        return self.current


def placed_at(
    arrived: Arrived, codec: str, sha256: bytes, writer: PackWriter, offset: int, frame: FrameBuilder | _Frame
) -> Placed:
    """A frame that is complete, at its place."""
    info = arrived.info
    record = BackupRecord(
        key=info.key,
        etag=info.etag,
        size=info.size,
        sha256=sha256.hex(),
        last_modified=info.last_modified,
        version_id=info.version_id,
        attributes=arrived.attributes,
        codec=codec,
        stored_size=frame.length,
        location=location_of(writer.name, offset, frame.length),
    )
    return Placed(record, writer, offset, frame.digest, sha256)


def read_back(placed: Sequence[Placed], codecs: Mapping[str, Compressor]) -> None:
    """Read frames of one pack from its file and compare all that comes out with what went in.

    Raises:
        VaultCorrupt: they differ.
    """
    fd = placed[0].writer.fd
    first, last = placed[0], placed[-1]
    length = last.offset + parse_location(last.record.location)[2] - first.offset
    if len(placed) > 1:
        read = reader_of(fd, ahead=length)
        read(first.offset, length)
    else:
        read = reader_of(fd)
    surely = _read_back_surely(read, placed, codecs)
    block: Block | None = None
    block_at = -1
    for frame in placed:
        record = frame.record
        what = f"the backup of {record.key!r} at {record.location} does not read back as written"
        try:
            if (index := index_of(record.location)) is not None:
                if block is None or block_at != frame.offset:
                    block, block_at = read_block(read, record.location, codecs), frame.offset
                if block.digest != frame.frame_digest:
                    raise VaultCorrupt("it is another frame")
                # Its headers are those that were written, as the digest is.
                if index >= len(block.entries) or sha256_of(block.entries[index][2]) != frame.sha256:
                    raise VaultCorrupt("other bytes come out than went in")
                continue
            if id(frame) in surely:
                continue
            reader = FrameReader(read, frame.offset)
            if record.same_as is not None:  # those bytes were compared before; nothing is to come out here
                for _ in reader.chunks():
                    raise VaultCorrupt("it has bytes of its own")
            elif record.codec in codecs:
                decoder = Decoder(codecs[record.codec], record.size, repr(record.key))
                for chunk in reader.chunks():
                    decoder.decode(chunk)
                decoder.finish(frame.sha256)
            else:  # the very bytes came out of this body before it was written: it must be this body
                for _ in reader.chunks():
                    pass
        except VaultCorrupt as error:
            raise VaultCorrupt(f"{what}: {error}") from error
        if reader.digest != frame.frame_digest:
            raise VaultCorrupt(f"{what}: it is another frame")


def _read_back_surely(read: Read, placed: Sequence[Placed], codecs: Mapping[str, Compressor]) -> set[int]:
    """Those of them, by id, that are the frames that were written, and the very bytes come out.

    Of the others nothing is said.
    """
    by_codec: dict[str, list[tuple[Placed, SmallFrame]]] = {}
    for one in placed:
        record = one.record
        if record.codec not in codecs or record.stored_size > SMALL_FRAME_BYTES:
            continue
        if index_of(record.location) is None:
            frame = small_frame(read(one.offset, record.stored_size), one.offset)
            if frame is not None and frame.digest == one.frame_digest:
                by_codec.setdefault(record.codec, []).append((one, frame))
    sure: set[int] = set()
    for codec, some in by_codec.items():
        for (one, frame), data in zip(some, contents_of([f for _, f in some], codecs[codec]), strict=True):
            if data is not None and (len(data), frame.sha256) == (one.record.size, one.sha256):
                sure.add(id(one))
    return sure


def runs(placed: Sequence[Placed]) -> list[list[Placed]]:
    """Groups that lie next to each other in one pack, of about WRITE_BYTES."""
    made: list[list[Placed]] = []
    end = -1
    size = 0
    for frame in sorted(placed, key=lambda p: (p.writer.name, p.offset)):
        length = parse_location(frame.record.location)[2]
        before = made[-1] if made and made[-1][0].writer is frame.writer else None
        if before is not None and before[-1].offset == frame.offset:
            before.append(frame)  # of the same block
            continue
        joins = before is not None and frame.offset == end
        if joins and size + length <= WRITE_BYTES:
            made[-1].append(frame)
            size += length
        else:
            made.append([frame])
            size = length
        end = frame.offset + length
    return made
