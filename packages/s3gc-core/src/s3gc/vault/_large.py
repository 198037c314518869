"""One large object on its way into a pack of its own, in four threads that work side by side.

::

    encode   codec → chunks → frame digest → stretches of the file      the caller's thread
    hash     SHA-256 of the object
    write    a stretch to the disk, and durable
    prove    the stretch from the disk: taken apart, decoded, compared with what came in

Each does its work in the order of the bytes, and none is more than a few stretches ahead of the next.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from s3gc._processor import TURN
from s3gc.abc import Compressor, CompressStream
from s3gc.compressors.store import StoreCompressor
from s3gc.errors import VaultCorrupt
from s3gc.model import BackupRecord, ObjectAttributes, ObjectInfo
from s3gc.vault._encode import Arrived, Placed, encode, placed_at
from s3gc.vault._frames import Decoder, FrameReader, codec_named
from s3gc.vault._layout import FrameBuilder, HeaderText
from s3gc.vault._straight import Straight, room
from s3gc.vault.packs import PackWriter

STRETCH_BYTES = 4 * 1024 * 1024
"""Bytes that are written, made durable and read back at a time, while few objects are on their way."""

SMALL_STRETCH_BYTES = 1024 * 1024
"""The same while many are."""


class _Behind:
    """A thread that does what it is given in order, at most one item behind."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"s3gc-{name}")
        self._given: deque[Future[None]] = deque()

    def do(self, work: Callable[[], None]) -> None:
        """Give it more; waits while two items are under way. Raises what earlier work raised."""
        while len(self._given) > 1:
            self._given.popleft().result()
        self._given.append(self._thread.submit(work))

    def drain(self) -> None:
        """Wait until all is done. Raises what it raised."""
        while self._given:
            self._given.popleft().result()

    def close(self) -> None:
        """Wait for what it is at, and let the rest be."""
        self._thread.shutdown(cancel_futures=True)


class LargeFrame:
    """One large object. Its methods block, and are called by one thread at a time.

    Args:
        writer: a new pack.
        stretch_bytes: a multiple of the disk's blocks.
    """

    def __init__(
        self,
        info: ObjectInfo,
        attributes: ObjectAttributes,
        header: HeaderText,
        writer: PackWriter,
        codecs: Mapping[str, Compressor],
        codec: Compressor,
        stretch_bytes: int = STRETCH_BYTES,
    ) -> None:
        self.writer = writer
        self._arrived = Arrived(info, attributes, header, b"")
        self._codecs = codecs
        self._codec = codec
        self._sha = hashlib.sha256()
        self._stream: CompressStream | None = None
        self._frame: FrameBuilder | None = None
        self._proof: Proof | None = None
        self._most = stretch_bytes
        self._idle: deque[mmap.mmap] = deque()  # memory to be filled again
        self._filling: mmap.mmap | None = None
        self._filled = 0
        self._offset = 0  # of what is being filled
        self._straight = Straight(writer.path, writer.fd)
        self._hashing, self._writing, self._proving = _Behind("hash"), _Behind("write"), _Behind("prove")

    def feed(self, pieces: Sequence[bytes]) -> None:
        """The next bytes of the object, in pieces of up to a MiB.

        Raises:
            VaultCorrupt: what was written before doesn't read back as written.
            OSError: it couldn't be written.
        """
        self._hashing.do(lambda: self._hash(pieces))
        for piece in pieces:
            stream, frame, proof = self._begun(piece)
            # One call of the codec for each, so that no stored chunk decodes to much more than a MiB.
            proof.expect(piece)
            with TURN:
                chunks = frame.chunks(stream.compress(piece))
            self._append(chunks)

    def finish(self) -> BackupRecord:
        """The end of the object: on return it is durable, and was read back. Raises as :meth:`feed`."""
        stream, frame, proof = self._begun(b"")
        with TURN:
            chunks = frame.chunks(stream.flush())
        self._append(chunks)
        self._hashing.drain()
        sha256 = self._sha.digest()
        self._append([frame.end(self._arrived.info.size, sha256)])
        whole = proof.whole = placed_at(self._arrived, self._codec.name, sha256, self.writer, 0, frame)
        if self._filled:
            self._hand_on()
        self._writing.drain()
        self._proving.drain()
        if not proof.complete:
            raise VaultCorrupt(f"the backup of {self._arrived.info.key!r} was not read back to its end")
        return whole.record

    def close(self) -> None:
        """Wait for the threads, and give back what only they needed."""
        for thread in (self._hashing, self._writing, self._proving):
            thread.close()
        self._straight.close()

    # ------------------------------------------------------------- in the other threads

    def _hash(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            with TURN:
                self._sha.update(piece)

    def _write(self, memory: mmap.mmap, offset: int, length: int) -> None:
        self.writer.write(memoryview(memory)[:length], self._straight)
        self.writer.sync()
        self._idle.append(memory)
        self._proving.do(lambda: self._prove(offset, length))

    def _prove(self, offset: int, length: int) -> None:
        assert self._proof is not None
        try:
            self._proof.step(offset, length)
        except VaultCorrupt as error:
            raise VaultCorrupt(
                f"the backup of {self._arrived.info.key!r} in {self.writer.name} "
                f"does not read back as written: {error}"
            ) from error

    # ------------------------------------------------------------- filling stretches

    def _begun(self, first: bytes) -> tuple[CompressStream, FrameBuilder, Proof]:
        if self._stream is None or self._frame is None or self._proof is None:
            arrived = self._arrived
            probe = Arrived(arrived.info, arrived.attributes, arrived.header, first)
            # The first MiB tells whether the rest is worth compressing.
            with TURN:
                chosen = encode(probe, self._codec).codec
            self._codec = codec_named(self._codecs, chosen)
            self._stream = self._codec.compressor(arrived.info.size)
            self._frame = FrameBuilder(0, arrived.header.with_codec(self._codec.name))
            self._proof = Proof(self._straight, self._most, self._frame.start, self._codec, arrived.info)
            self._append([self._frame.start])
        return self._stream, self._frame, self._proof

    def _append(self, parts: Sequence[bytes]) -> None:
        for part in parts:
            view = memoryview(part)
            while view:
                if self._filling is None:
                    self._filling = self._idle.popleft() if self._idle else room(self._most)
                some, view = view[: self._most - self._filled], view[self._most - self._filled :]
                self._filling[self._filled : self._filled + len(some)] = some
                self._filled += len(some)
                if self._filled == self._most:
                    self._hand_on()

    def _hand_on(self) -> None:
        assert self._filling is not None
        self._writing.do(partial(self._write, self._filling, self._offset, self._filled))
        self._offset += self._filled
        self._filling, self._filled = None, 0


class Proof:
    """Takes a frame apart while it comes back from the disk, and compares it with what went in.

    Bytes that are stored as they are get compared one by one with those that came in. What a codec made is
    decoded, and the SHA-256 of what comes out compared; the frame's digest is computed again as well.

    Args:
        start: the frame's first bytes.
    """

    def __init__(
        self, straight: Straight, most: int, start: bytes, codec: Compressor, info: ObjectInfo
    ) -> None:
        self.whole: Placed | None = None  # known before the last step
        self.complete = False
        self._straight = straight
        self._memory = memoryview(room(most))
        self._start = start
        self._begin = self._end = 0  # the part of the file that is in memory
        self._left = b""  # what stands before it and wasn't taken apart yet
        self._plain = type(codec) is StoreCompressor
        self._expected: deque[bytes] = deque()
        self._reader: FrameReader | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._decoder = Decoder(codec, info.size, repr(info.key))
        self._total = 0

    def expect(self, piece: bytes) -> None:
        """The next bytes that went in. Another thread may be at :meth:`step`."""
        if self._plain:
            self._expected.append(piece)

    def step(self, offset: int, length: int) -> None:
        """Read the next stretch.

        Raises:
            VaultCorrupt: something differs.
        """
        position = self._reader.position if self._reader else 0
        self._left = self._read(position, self._end - position)
        self._begin = offset
        self._end = offset + self._straight.read_into(self._memory, length, offset)
        if self._end < offset + length:
            raise VaultCorrupt(f"the pack ends at {self._end}")
        whole = self.whole
        last = whole is not None and self._end == whole.record.stored_size
        if self._reader is None:
            if self._end < len(self._start):
                return
            if self._read(0, len(self._start)) != self._start:
                raise VaultCorrupt("it begins in another way")
            # What is compared byte by byte needs no digest as well.
            self._reader = FrameReader(self._read, 0, hashes=not self._plain)
            self._chunks = self._reader.chunks()
        while last or self._reader.within(self._end):
            with TURN:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                if not self._plain:
                    self._decoder.decode(chunk)
                elif not self._expected or self._expected.popleft() != chunk:
                    raise VaultCorrupt("other bytes come out than went in")
        if last:
            assert whole is not None
            self._finish(self._reader, whole)

    def _finish(self, reader: FrameReader, whole: Placed) -> None:
        if not self._plain:
            self._decoder.finish(whole.sha256)
        if (reader.digest, reader.sha256, reader.size, reader.length) != (
            whole.frame_digest,
            whole.sha256,
            whole.record.size,
            whole.record.stored_size,
        ):
            raise VaultCorrupt("it is another frame")
        self.complete = True

    def _read(self, offset: int, size: int) -> bytes:
        """Bytes of the file that are in memory."""
        if offset >= self._begin:
            return bytes(self._memory[offset - self._begin : min(offset + size, self._end) - self._begin])
        before = self._left[len(self._left) - (self._begin - offset) :][:size]
        return before + bytes(self._memory[: min(size - len(before), self._end - self._begin)])
