"""Zstandard (RFC 8878), the vault's default codec.

Every stream is one zstd frame that declares its content's size and ends with zstd's own checksum, so
the ``zstd`` program can read it too. The window is at most 8 MiB, as RFC 8878 (3.1.1.1.2) advises for
frames that every decoder should take; so memory is bounded on both sides.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeVar

import zstandard

from s3gc.abc import Compressor, CompressStream, DecompressStream
from s3gc.errors import VaultCorrupt, VaultError

MAX_LEVEL = 19
"""Levels above it need windows larger than MAX_WINDOW_BYTES."""

MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""No frame may ask for more memory than this when it is decoded."""

_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1
_WRITE_BYTES = 128 * 1024  # how much zstd hands over at a time: one block
_AT_ONCE_BYTES = (
    1024 * 1024
)  # frames of at most so many bytes of content are decoded whole if they come whole
_TOGETHER_BYTES = 64 * 1024
"""Contents of up to so many bytes are encoded and decoded many at a time.

zstd gives Python's lock away for each call; while others want it, getting it back takes far longer than 4 KB.
"""
_MANY = 8  # fewer aren't worth setting it up
_POOL_SIZE = 8  # idle contexts kept; making one costs five times the compression of 4 KB

_T = TypeVar("_T")


class _CompressStream:
    def __init__(self, pool: list[zstandard.ZstdCompressor], level: int, size: int) -> None:
        # A context serves one stream at a time, so it is taken out of the pool until flush().
        self._context = _taken(pool) or _compressor(level)
        self._pool = pool
        self._size = size
        self._stream: zstandard.ZstdCompressionObj | None = None
        self._whole = False  # all of it came in one piece

    def compress(self, data: bytes, /) -> bytes:
        try:
            if self._stream is None and not self._whole and 0 < len(data) == self._size:
                made = self._context.compress(data)  # without a buffer for what may come
                self._whole = True
                return made
            if self._whole:
                if data:
                    raise VaultError(f"zstd was promised {self._size} bytes and got more")
                return b""
            return self._streaming().compress(data)
        except zstandard.ZstdError as error:
            raise VaultError(f"zstd was promised {self._size} bytes and got more: {error}") from error

    def flush(self) -> bytes:
        try:
            end = b"" if self._whole else self._streaming().flush()
        except zstandard.ZstdError as error:
            raise VaultError(f"zstd was promised {self._size} bytes and got fewer: {error}") from error
        _give_back(self._pool, self._context)
        return end

    def _streaming(self) -> zstandard.ZstdCompressionObj:
        if self._stream is None:
            self._stream = self._context.compressobj(size=self._size)
        return self._stream


class _Sink:
    """Takes decoded bytes, and no more of them than the frame declares."""

    def __init__(self, declared: int) -> None:
        self.declared = declared
        self.total = 0
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.total += len(data)
        if self.total > self.declared:
            raise VaultCorrupt(f"zstd: more than the declared {self.declared} bytes come out")
        self.pieces.append(data)
        return len(data)

    def take(self) -> bytes:
        taken = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces = []
        return taken


class _DecompressStream:
    def __init__(self, pool: list[zstandard.ZstdDecompressor]) -> None:
        self._pool = pool
        self._whole = False  # the frame came in one piece, and was decoded
        self._start = b""
        self._sink: _Sink | None = None
        self._writer: zstandard.ZstdDecompressionWriter | None = None

    def decompress(self, data: bytes, /) -> bytes:
        try:
            if self._whole:
                if data:
                    raise VaultCorrupt("zstd: there are bytes after the frame's end")
                return b""
            if self._writer is None:
                self._start += data
                if (whole := self._at_once()) is not None:
                    return whole
                if not self._open():
                    return b""
                data, self._start = self._start, b""
            assert self._writer is not None
            assert self._sink is not None
            self._writer.write(data)
            return self._sink.take()
        except zstandard.ZstdError as error:
            raise VaultCorrupt(f"zstd can't decode this: {error}") from error

    def _at_once(self) -> bytes | None:
        """A small frame that came whole, by a context that served before; None if it isn't one.

        Decoding at once makes room for the declared size and for no byte more.
        """
        size = self._declared()
        if size is None or not 0 < size <= _AT_ONCE_BYTES:
            return None
        context = _taken(self._pool) or _decompressor()
        try:
            data = context.decompress(self._start, allow_extra_data=False)
        except zstandard.ZstdError:
            return None  # not whole yet, or damaged: piece by piece that shows
        _give_back(self._pool, context)
        self._whole, self._start = True, b""
        return data

    def _declared(self) -> int | None:
        """The content's size, as soon as the header is whole; refuses what ``compressor`` never makes."""
        start = self._start
        if start[:4] != _MAGIC[: len(start)]:
            raise VaultCorrupt("zstd: this is not a zstd frame")
        if len(start) < 5 or len(start) < zstandard.frame_header_size(start):
            return None
        header = zstandard.get_frame_parameters(start)
        if header.content_size == zstandard.CONTENTSIZE_UNKNOWN:
            raise VaultCorrupt("zstd: the frame doesn't declare its content's size")
        if header.window_size > MAX_WINDOW_BYTES:
            raise VaultCorrupt(f"zstd: the frame asks for a window of {header.window_size} bytes")
        return int(header.content_size)

    def _open(self) -> bool:
        """Begin to decode as soon as the header is whole."""
        size = self._declared()
        if size is None:
            return False
        self._sink = _Sink(size)
        context = _decompressor()
        self._writer = context.stream_writer(self._sink, write_size=_WRITE_BYTES, closefd=False)  # type: ignore[arg-type]
        return True


class ZstdCompressor(Compressor):
    """Zstandard; frames of all levels can be read.

    Args:
        level: 1 (fast) to 19 (small). 3 is zstd's own default.
        up_to: other levels for objects of up to so many bytes, smallest first: ``{8192: 3, 2**23: 10}``.

    Raises:
        ValueError: a level is out of range, or ``up_to`` isn't in order.
    """

    name = "zstd"

    def __init__(self, level: int = 3, *, up_to: Mapping[int, int] | None = None) -> None:
        self._up_to = tuple((up_to or {}).items())
        for one in (level, *(one for _, one in self._up_to)):
            if not 1 <= one <= MAX_LEVEL:
                raise ValueError(f"zstd's level must be from 1 to {MAX_LEVEL}, got {one}")
        if list(self._up_to) != sorted(self._up_to):
            raise ValueError(f"sizes must be in order, got {[size for size, _ in self._up_to]}")
        self.level = level
        self._pools: dict[int, list[zstandard.ZstdCompressor]] = {
            one: [] for one in (level, *(one for _, one in self._up_to))
        }
        self._decoders: list[zstandard.ZstdDecompressor] = []

    def level_for(self, size: int) -> int:
        """The level for an object of so many bytes."""
        return next((level for most, level in self._up_to if size <= most), self.level)

    def compressor(self, size: int) -> CompressStream:
        level = self.level_for(size)
        return _CompressStream(self._pools[level], level, size)

    def decompressor(self) -> DecompressStream:
        return _DecompressStream(self._decoders)

    def compress_all(self, contents: Sequence[bytes]) -> Sequence[bytes]:
        by_level: dict[int, list[int]] = {}
        for at, content in enumerate(contents):
            if len(contents) < _MANY or not 0 < len(content) <= _TOGETHER_BYTES:
                return super().compress_all(contents)
            by_level.setdefault(self.level_for(len(content)), []).append(at)
        made = [b""] * len(contents)
        for level, places in by_level.items():
            context = _taken(self._pools[level]) or _compressor(level)
            found = context.multi_compress_to_buffer([contents[at] for at in places], threads=0)
            _give_back(self._pools[level], context)
            for number, at in enumerate(places):
                made[at] = found[number].tobytes()
        return made

    def decompress_all(self, bodies: Sequence[bytes], sizes: Sequence[int]) -> Sequence[bytes]:
        if len(bodies) < _MANY or not all(bodies) or not all(0 < size <= _TOGETHER_BYTES for size in sizes):
            return super().decompress_all(bodies, sizes)
        context = _taken(self._decoders) or _decompressor()
        try:
            found = context.multi_decompress_to_buffer(
                list(bodies), decompressed_sizes=struct.pack(f"={len(sizes)}Q", *sizes), threads=0
            )
        except zstandard.ZstdError as error:
            raise VaultCorrupt(f"zstd can't decode this: {error}") from error
        _give_back(self._decoders, context)
        return [found[number].tobytes() for number in range(len(found))]


def _taken(pool: list[_T]) -> _T | None:
    try:
        return pool.pop()
    except IndexError:
        return None


def _give_back(pool: list[_T], context: _T) -> None:
    if len(pool) < _POOL_SIZE:
        pool.append(context)


def _compressor(level: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=level, write_checksum=True)


def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
