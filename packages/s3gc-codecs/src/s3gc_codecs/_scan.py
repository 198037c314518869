"""Finds what is compressed inside an object, and cuts it into pieces.

Everything that looks like a stream is tried, wherever it stands; what isn't one stays verbatim, and so does
what doesn't come back.
"""

from __future__ import annotations

import re
import zlib

import zstandard

from s3gc_codecs import _bulk
from s3gc_codecs._container import Deflate, Idat, Piece, Pixels, Verbatim
from s3gc_codecs._deflate import Search, inflate
from s3gc_codecs._exact import refused
from s3gc_codecs._limits import (
    MAX_DEPTH,
    MAX_INFLATED_BYTES,
    MAX_PIECES,
    MAX_SEARCH_SECONDS,
    MIN_STREAM_BYTES,
)

PNG = b"\x89PNG\r\n\x1a\n"
_ZLIB_FIRST = bytes(window << 4 | 8 for window in range(8))  # RFC 1950: CINFO 0 to 7, method deflate
_ZLIB_SECOND = bytes(
    {
        second
        for first in _ZLIB_FIRST
        for second in range(256)
        if (first << 8 | second) % 31 == 0 and not second & 0x20  # no preset dictionary
    }
)
_SIGNATURES = re.compile(
    b"%b|PK\x03\x04|\x1f\x8b\x08|\xff\xd8\xff|[%b][%b]"
    % (re.escape(PNG), re.escape(_ZLIB_FIRST), re.escape(_ZLIB_SECOND)),
    re.DOTALL,
)
_SMALL = 256 * 1024  # bytes; below it all ways are tried instead of guessed

Found = tuple[list[Piece], int]
"""Pieces, and where in the data they end."""


class Scanner:
    """Cuts one object. Its limits hold for the object with all that is nested in it.

    Args:
        webp: pictures of PNG by WebP.
        lepton: JPEG by Lepton.
    """

    def __init__(self, *, webp: bool, lepton: bool) -> None:
        self._webp, self._lepton = webp, lepton
        self._budget = MAX_INFLATED_BYTES
        self._pieces = 0
        self._search = Search(MAX_SEARCH_SECONDS)
        self.streams = self.pictures = 0
        """What was found: deflate streams, and pictures by Lepton or WebP."""

    def split(self, data: bytes, depth: int = 0) -> tuple[Piece, ...]:
        """The whole of ``data``, in order."""
        if depth >= MAX_DEPTH:
            return (Verbatim(data),)
        view = memoryview(data)
        out: list[Piece] = []
        done = at = 0
        while self._pieces < MAX_PIECES // 8 and (match := _SIGNATURES.search(data, at)):
            start = match.start()
            found = self._try(view, start, match.group(), depth)
            if found is None:
                at = start + 1
                continue
            pieces, at = found
            if pieces:
                if done < start:
                    out.append(Verbatim(data[done:start]))
                out += pieces
                self._pieces += len(pieces) + 1
                done = at
        if done < len(data) or not out:
            out.append(Verbatim(data[done:]))
        return tuple(out)

    def _try(self, data: memoryview, start: int, signature: bytes, depth: int) -> Found | None:
        if signature == PNG:
            return self.png(data, start, depth)
        if signature == b"PK\x03\x04":
            return self._zip(data, start, depth)
        if signature == b"\x1f\x8b\x08":
            return self._gzip(data, start, depth)
        if signature == b"\xff\xd8\xff":
            return self._jpeg(data, start)
        return self._zlib(data, start, depth)

    # ----------------------------------------------------------------------- deflate

    def _stream(self, data: memoryview, start: int, depth: int, header: bytes = b"") -> Found | None:
        """A raw stream; ``([], end)`` for one that doesn't come back."""
        inflated = inflate(data[start:], self._budget)
        if inflated is None or inflated[1] < MIN_STREAM_BYTES:
            return None
        inside, size = inflated
        self._budget -= len(inside)
        params = self._search.find(inside, data[start : start + size], png=False, header=header)
        if params is None:
            return [], start + size
        self.streams += 1
        return [Deflate(params, size, self.split(inside, depth + 1))], start + size

    def _after(
        self, data: memoryview, start: int, body: int, depth: int, header: bytes = b""
    ) -> Found | None:
        """A stream at ``body`` with its header, from ``start`` on, verbatim."""
        found = self._stream(data, body, depth, header)
        if found is None or not found[0]:
            return found
        return [Verbatim(bytes(data[start:body])), *found[0]], found[1]

    def _zlib(self, data: memoryview, start: int, depth: int) -> Found | None:
        header = bytes(data[start : start + 2])
        if (header[0] << 8 | header[1]) % 31:
            return None
        return self._after(data, start, start + 2, depth, header)

    def _zip(self, data: memoryview, start: int, depth: int) -> Found | None:
        header = bytes(data[start : start + 30])
        if len(header) < 30 or header[8:10] != b"\x08\x00":
            return None
        body = start + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        return self._after(data, start, body, depth)

    def _gzip(self, data: memoryview, start: int, depth: int) -> Found | None:
        header = bytes(data[start : start + 64 * 1024])
        if len(header) < 18 or header[3] & 0xE0:  # RFC 1952, 2.3.1: reserved flags
            return None
        flags, body = header[3], 10
        if flags & 4:
            body += 2 + int.from_bytes(header[10:12], "little")
        for flag in (8, 16):  # name, comment
            if flags & flag:
                body = header.find(b"\0", body) + 1
                if not body:
                    return None
        return self._after(data, start, start + body + (2 if flags & 2 else 0), depth)

    # ----------------------------------------------------------------------- pictures

    def _jpeg(self, data: memoryview, start: int) -> Found | None:
        if not self._lepton:
            return None
        from s3gc_codecs._lepton import find_end, squeeze

        end = find_end(data[start:])
        if end is None or end < MIN_STREAM_BYTES:
            return None
        piece = squeeze(bytes(data[start : start + end]), compare=True)
        if piece is None or len(piece.lepton) >= end:
            return [], start + end
        self.pictures += 1
        return [piece], start + end

    def png(self, data: memoryview, start: int, depth: int) -> Found | None:
        """A PNG: its chunks verbatim, but the first run of IDAT, if its stream comes back."""
        at, first, chunks, parts = start + 8, -1, [], []
        header = b""
        while True:
            length = int.from_bytes(data[at : at + 4], "big")
            kind = bytes(data[at + 4 : at + 8])
            end = at + 12 + length
            if len(kind) < 4 or end > len(data):
                return None
            if kind == b"IHDR":
                header = bytes(data[at + 8 : end - 4])
            if kind == b"IDAT":
                first = at if first < 0 else first
                if zlib.crc32(data[at + 4 : end - 4]).to_bytes(4, "big") != bytes(data[end - 4 : end]):
                    return None
                chunks.append(length)
                parts.append(data[at + 8 : end - 4])
            elif first >= 0:
                break
            at = end
            if kind == b"IEND":
                return None
        whole = b"".join(parts)
        view = memoryview(whole)
        inflated = inflate(view[2:], self._budget)
        if inflated is None or inflated[1] < MIN_STREAM_BYTES:
            return None
        rows, size = inflated
        self._budget -= len(rows)
        params = self._search.find(rows, view[2 : 2 + size], png=True, header=whole[:2])
        if params is None:
            return [], at
        self.streams += 1
        inside: tuple[Piece, ...] = (Verbatim(whole[:2]), Deflate(params, size, self._rows(rows, header)))
        if 2 + size < len(whole):
            inside = (*inside, Verbatim(whole[2 + size :]))
        return [Verbatim(bytes(data[start:first])), Idat(_runs(chunks), inside)], at

    def _rows(self, rows: bytes, header: bytes) -> tuple[Piece, ...]:
        """What a PNG inflates to: pixels where that is smaller."""
        if self._webp and len(header) == 13:
            try:
                piece = _picture(rows, header)
            except BaseException as error:  # noqa: BLE001 - rows that Pillow can't read stay rows
                refused(error)
            else:
                if piece is not None and len(piece.webp) + len(piece.beside) // 4 < _otherwise(rows):
                    self.pictures += 1
                    return (piece,)
        return (Verbatim(rows),)


def _runs(sizes: list[int]) -> tuple[tuple[int, int], ...]:
    runs: list[tuple[int, int]] = []
    for size in sizes:
        if runs and runs[-1][0] == size:
            runs[-1] = (size, runs[-1][1] + 1)
        else:
            runs.append((size, 1))
    return tuple(runs)


def _otherwise(rows: bytes) -> float:
    """About what rows take without WebP."""
    if len(rows) <= _SMALL:
        return len(_bulk.pack(rows)[1])
    return 0.8 * len(zstandard.ZstdCompressor(level=9).compress(rows))  # xz makes less; seldom so much less


_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # PNG: samples a pixel by colour type


def _picture(rows: bytes, header: bytes) -> Pixels | None:
    """The pixels of a PNG whose IDAT inflates to ``rows``; None for kinds that WebP can't hold."""
    from s3gc_codecs._pixels import Shape, to_webp, unfilter

    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, colour, interlaced = header[8], header[9], header[12]
    bits = _SAMPLES.get(colour, 0) * depth
    if interlaced or not bits or bits > 32 or depth not in (1, 2, 4, 8, 16):
        return None
    stride = (width * bits + 7) // 8
    if len(rows) != height * (stride + 1):
        return None
    bpp = max(1, bits // 8)
    if bpp == 1:  # a row's last byte may hold fewer pixels than fit
        shape = Shape(1, bits, False, stride * 8 // bits, height)
    else:
        shape = Shape(bpp, 8, False, width, height)
    if not shape.allowed():
        return None
    types = rows[:: stride + 1]
    if max(types) > 4:
        return None
    webp = to_webp(unfilter(rows, stride, bpp, height), shape)
    return Pixels(bpp, shape.depth, False, shape.width, height, 0, True, webp, types)
