"""Deflate streams, inflated and found again: which parameters of zlib give back the identical bytes.

zlib's output depends on level, strategy, memLevel and window, and on nothing else: not on how its input
is cut. It also depends on the kind and version of zlib (zlib-ng and others make other bytes), so what is
found here holds where :func:`fingerprint` is the same.
"""

from __future__ import annotations

import functools
import hashlib
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterator

from attrs import frozen

from s3gc_codecs._limits import MAX_STREAM_RATIO, MIN_STREAM_BYTES

_FEED = 64 * 1024
_FIRST = 256 * 1024  # wrong parameters mostly show within the first block


@frozen
class Params:
    """What ``zlib.compressobj`` takes. The stream is raw: headers and sums are kept beside it."""

    level: int
    wbits: int = 15
    mem_level: int = 8
    strategy: int = zlib.Z_DEFAULT_STRATEGY

    def pack(self) -> bytes:
        return bytes([self.level << 4 | self.strategy, self.wbits << 4 | self.mem_level])

    @classmethod
    def unpack(cls, stored: bytes) -> Params:
        """Raises ValueError for what zlib doesn't have."""
        level, strategy = stored[0] >> 4, stored[0] & 15
        wbits, mem_level = stored[1] >> 4, stored[1] & 15
        if not (1 <= level <= 9 and strategy <= 3 and 9 <= wbits <= 15 and 1 <= mem_level <= 9):
            raise ValueError(f"no parameters of zlib: {stored.hex()}")
        return cls(level, wbits, mem_level, strategy)

    def deflater(self) -> zlib._Compress:
        return zlib.compressobj(self.level, zlib.DEFLATED, -self.wbits, self.mem_level, self.strategy)


@functools.cache
def fingerprint() -> str:
    """Which zlib this is, and 8 hex digits of what it makes of a fixed text by several parameters."""
    text = b"".join(b"%d %d %x;" % (n * n, n % 97, n * 2654435761 % 2**32) for n in range(4000))
    made = hashlib.sha256()
    for level in range(1, 10):
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY):
            made.update(deflate(text, Params(level, 15, 8 + level % 2, strategy)))
    return f"{zlib.ZLIB_RUNTIME_VERSION} {made.hexdigest()[:8]}"


def deflate(data: bytes, params: Params) -> bytes:
    """The raw stream."""
    deflater = params.deflater()
    return deflater.compress(data) + deflater.flush()


def inflate(data: memoryview, limit: int) -> tuple[bytes, int] | None:
    """What the raw stream at the start of ``data`` holds, and how long it is; None if it isn't one.

    Args:
        limit: bytes that may come out at most; never more than that are held.
    """
    inflater = zlib.decompressobj(-15)
    out: list[bytes] = []
    total = fed = 0
    try:
        while not inflater.eof:
            piece = inflater.unconsumed_tail
            if not piece:
                piece = bytes(data[fed : fed + _FEED])
                fed += len(piece)
                if not piece:
                    return None
            made = inflater.decompress(piece, 1024 * 1024)
            total += len(made)
            if total > limit or total > MAX_STREAM_RATIO * fed:
                return None
            out.append(made)
    except zlib.error:
        return None
    return b"".join(out), fed - len(inflater.unused_data)


class Search:
    """Finds parameters. Remembers which it found, to try them first and not to search twice."""

    def __init__(self, seconds: float) -> None:
        self._until = time.process_time() + seconds
        self._recent: OrderedDict[Params, None] = OrderedDict()

    def find(self, data: bytes, stream: memoryview, *, png: bool, header: bytes = b"") -> Params | None:
        """The parameters with which ``data`` deflates to exactly ``stream``.

        Args:
            header: the two bytes of zlib's header before it, if there is one; a hint, not more.
        """
        if len(stream) < MIN_STREAM_BYTES or not data:
            return None
        known = hashlib.sha256(stream).digest()
        if known in _KNOWN:
            return _KNOWN[known]
        found = None
        for params in self._candidates(png, header):
            if time.process_time() > self._until:
                return None
            if _makes(data, stream, params):
                found = params
                self._recent[params] = None
                self._recent.move_to_end(params)
                break
        _KNOWN[known] = found
        while len(_KNOWN) > 20_000:
            _KNOWN.popitem(last=False)
        return found

    def _candidates(self, png: bool, header: bytes) -> Iterator[Params]:
        """Likely ones first: what was found before, then what common programs use."""
        tried = set()
        for params in reversed(self._recent):
            tried.add(params)
            yield params
        windows = [15]
        levels = [6, 9, 1, 5, 8, 7, 4, 3, 2]
        if header:
            if 9 <= (window := (header[0] >> 4) + 8) < 15:
                windows = [window, 15]
            group = ([1], [5, 4, 3, 2], [6], [9, 8, 7])[header[1] >> 6]  # RFC 1950, FLEVEL, as zlib sets it
            levels = [*group, *(level for level in (6, 9) if level not in group)]
        memory = (8, 9)
        for strategy in (zlib.Z_FILTERED, zlib.Z_DEFAULT_STRATEGY) if png else (zlib.Z_DEFAULT_STRATEGY,):
            for level in levels:
                for window in windows:
                    for mem_level in memory:
                        params = Params(level, window, mem_level, strategy)
                        if params not in tried:
                            yield params
        for strategy in (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY):  # the level changes nothing here
            for mem_level in memory if png else (8,):
                yield Params(6, 15, mem_level, strategy)


_KNOWN: OrderedDict[bytes, Params | None] = OrderedDict()
"""What was found in this process, by the stream's SHA-256: two codecs may look at one object."""


def _makes(data: bytes, stream: memoryview, params: Params) -> bool:
    """Whether these parameters make exactly this stream; gives up at the first block that differs."""
    deflater = params.deflater()
    at = done = 0
    step = _FEED
    while at < len(data):
        made = deflater.compress(data[at : at + step])
        at += step
        if made:
            if stream[done : done + len(made)] != made:
                return False
            done += len(made)
        if at >= _FIRST:
            step = 1024 * 1024
    made = deflater.flush()
    return len(stream) == done + len(made) and stream[done:] == made
