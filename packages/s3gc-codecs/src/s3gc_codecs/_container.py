"""The body of every codec here but ``xz-1``: an object cut into pieces, each verbatim or decoded.

Byte by byte (``n`` is an unsigned LEB128 number)::

    0x01                      version
    n, text                   the zlib that deflated pieces were found with (fingerprint); empty without any
    4 bytes, big endian       CRC-32 of the object
    n, method, n, bytes       the recipe: its size, how it is packed (_bulk), size packed
    n, method, n, bytes       the bulk: all that general compression helps
    bytes                     the opaque part, to the end: all that it doesn't (Lepton, WebP, other)

    recipe = n, that many pieces; a piece = its kind, then
      0 verbatim   n bytes of the bulk
      1 opaque     n bytes of the opaque part
      2 deflate    2 bytes of parameters (_deflate.Params), n = size of the stream, a recipe for
                   what it inflates to
      3 IDAT       the chunks of a PNG: n, that many (n = size, n = times); a recipe for what they hold
      4 JPEG       n bytes of the opaque part: Lepton; n: as many of the last bytes are replaced by
                   bytes of the bulk
      5 pixels     1 byte: bpp | swapped << 3 | filtered << 4, 1 byte: depth, n width, n height, n
                   pad, n bytes of the opaque part: WebP. From the bulk: a filter type
                   a row, or the pad of all rows

Everything is counted before it is made: pieces, depth, and the bytes of all levels together.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeAlias

from attrs import frozen

from s3gc.errors import VaultCorrupt
from s3gc_codecs import _bulk
from s3gc_codecs._deflate import Params, deflate, fingerprint
from s3gc_codecs._limits import MAX_DEPTH, MAX_INFLATED_BYTES, MAX_OBJECT_BYTES, MAX_PIECES

VERSION = 1
_OPAQUE_FROM = 1024  # bytes; shorter pieces aren't worth a probe


@frozen
class Verbatim:
    """Bytes as they are."""

    data: bytes


@frozen
class Deflate:
    """A raw deflate stream that its parameters give back."""

    params: Params
    size: int
    inside: tuple[Piece, ...]


@frozen
class Idat:
    """The consecutive IDAT chunks of a PNG: ``(size, times)`` of their data, and that data."""

    chunks: tuple[tuple[int, int], ...]
    inside: tuple[Piece, ...]


@frozen
class Jpeg:
    """A JPEG by Lepton, and its last bytes where Lepton gives back others."""

    lepton: bytes
    last: bytes


@frozen
class Pixels:
    """Rows of pixels by WebP; filter types of PNG, or what pads the rows."""

    bpp: int
    depth: int
    swapped: bool
    width: int
    height: int
    pad: int
    filtered: bool
    webp: bytes
    beside: bytes


Piece: TypeAlias = Verbatim | Deflate | Idat | Jpeg | Pixels


def number(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Takes bytes off a section and never past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise VaultCorrupt("a body ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self, most: int) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if value > most:
                raise VaultCorrupt(f"a body has a number above {most}")
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise VaultCorrupt("a body has a number without an end")

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self._at != len(self._data):
            raise VaultCorrupt("a body has bytes that nothing asks for")


# --------------------------------------------------------------------------- writing


class _Writer:
    def __init__(self) -> None:
        self.recipe = bytearray()
        self.bulk: list[bytes] = []
        self.opaque: list[bytes] = []
        self.deflated = False

    def pieces(self, pieces: Sequence[Piece]) -> None:
        self.recipe += number(len(pieces))
        for piece in pieces:
            self._piece(piece)

    def _piece(self, piece: Piece) -> None:
        recipe = self.recipe
        match piece:
            case Verbatim(data):
                if len(data) >= _OPAQUE_FROM and not _bulk.compressible(data):
                    recipe += b"\x01" + number(len(data))
                    self.opaque.append(data)
                else:
                    recipe += b"\x00" + number(len(data))
                    self.bulk.append(data)
            case Deflate(params, size, inside):
                self.deflated = True
                recipe += b"\x02" + params.pack() + number(size)
                self.pieces(inside)
            case Idat(chunks, inside):
                recipe += b"\x03" + number(len(chunks))
                for size, times in chunks:
                    recipe += number(size) + number(times)
                self.pieces(inside)
            case Jpeg(lepton, last):
                recipe += b"\x04" + number(len(lepton)) + number(len(last))
                self.opaque.append(lepton)
                self.bulk.append(last)
            case Pixels():
                recipe += bytes([5, piece.bpp | piece.swapped << 3 | piece.filtered << 4, piece.depth])
                for value in (piece.width, piece.height, piece.pad, len(piece.webp)):
                    recipe += number(value)
                self.opaque.append(piece.webp)
                self.bulk.append(piece.beside)


def write(pieces: Sequence[Piece], crc: int) -> bytes:
    """The body."""
    writer = _Writer()
    writer.pieces(pieces)
    made_by = fingerprint().encode() if writer.deflated else b""
    out = [bytes([VERSION]), number(len(made_by)), made_by, crc.to_bytes(4, "big")]
    for section in (bytes(writer.recipe), b"".join(writer.bulk)):
        method, packed = _bulk.pack(section)
        out += [number(len(section)), bytes([method]), number(len(packed)), packed]
    return b"".join([*out, *writer.opaque])


# --------------------------------------------------------------------------- reading


def _section(reader: _Reader) -> _Reader:
    size = reader.number(MAX_INFLATED_BYTES)
    method = reader.byte()
    return _Reader(_bulk.unpack(method, reader.take(reader.number(MAX_OBJECT_BYTES)), size))


class _Maker:
    def __init__(self, recipe: _Reader, bulk: _Reader, opaque: _Reader) -> None:
        self.recipe, self.bulk, self.opaque = recipe, bulk, opaque
        self._pieces = MAX_PIECES
        self._bytes = MAX_INFLATED_BYTES + MAX_OBJECT_BYTES

    def _count(self, size: int) -> int:
        self._bytes -= size
        if self._bytes < 0:
            raise VaultCorrupt("a body makes more than any object holds")
        return size

    def pieces(self, most: int, depth: int) -> bytes:
        """What the next pieces make: ``most`` bytes or fewer."""
        count = self.recipe.number(self._pieces)
        self._pieces -= count
        if depth > 2 * MAX_DEPTH:
            raise VaultCorrupt("a body's recipe is nested too deep")
        out: list[bytes] = []
        total = 0
        for _ in range(count):
            made = self._piece(most - total, depth)
            total += self._count(len(made))
            if total > most:
                raise VaultCorrupt("more comes out of a body than its object holds")
            out.append(made)
        return b"".join(out)

    def _piece(self, most: int, depth: int) -> bytes:
        recipe = self.recipe
        kind = recipe.byte()
        if kind == 0:
            return self.bulk.take(recipe.number(most))
        if kind == 1:
            return self.opaque.take(recipe.number(most))
        if kind == 2:
            params, size = Params.unpack(recipe.take(2)), recipe.number(most)
            made = deflate(self.pieces(MAX_INFLATED_BYTES, depth + 1), params)
            if len(made) != size:
                raise VaultCorrupt("a deflate stream comes out with another size")
            return made
        if kind == 3:
            return self._idat(most, depth)
        if kind == 4:
            return self._jpeg(most)
        if kind == 5:
            return self._pixels(MAX_INFLATED_BYTES if depth else most)
        raise VaultCorrupt(f"a body has a piece of kind {kind}, which is unknown here")

    def _idat(self, most: int, depth: int) -> bytes:
        chunks = [
            (self.recipe.number(most), self.recipe.number(MAX_PIECES))
            for _ in range(self.recipe.number(MAX_PIECES))
        ]
        if sum((size + 12) * times for size, times in chunks) > most:
            raise VaultCorrupt("more comes out of a body than its object holds")
        inside = self.pieces(most, depth + 1)
        out, at = [], 0
        for size, times in chunks:
            for _ in range(times):
                data = b"IDAT" + inside[at : at + size]
                at += size
                out += [size.to_bytes(4, "big"), data, zlib.crc32(data).to_bytes(4, "big")]
        if at != len(inside):
            raise VaultCorrupt("the chunks of a PNG don't hold what their body says")
        return b"".join(out)

    def _jpeg(self, most: int) -> bytes:
        from s3gc_codecs._lepton import expand

        lepton = self.opaque.take(self.recipe.number(MAX_OBJECT_BYTES))
        last = self.bulk.take(self.recipe.number(most))
        made = expand(lepton, most)
        return made[: len(made) - len(last)] + last if last else made

    def _pixels(self, most: int) -> bytes:
        from s3gc_codecs._pixels import Shape, from_webp
        from s3gc_codecs._png_filters import refilter

        recipe = self.recipe
        bits, depth = recipe.take(2)
        width, height, pad = recipe.number(1 << 16), recipe.number(1 << 16), recipe.number(1 << 16)
        shape = Shape(bits & 7, depth, bool(bits & 8), width, height, pad)
        filtered = bool(bits & 16)
        if not shape.allowed() or bits > 31 or shape.size > most:
            raise VaultCorrupt("a body has a picture of a shape that isn't allowed")
        webp = self.opaque.take(recipe.number(MAX_OBJECT_BYTES))
        beside = self.bulk.take(height if filtered else height * pad)
        self._count(shape.size)
        rows = from_webp(webp, shape)
        if filtered:
            return refilter(beside, rows, shape.stride, shape.bpp)
        if not pad:
            return rows
        stride = shape.stride
        return b"".join(
            rows[row * stride : (row + 1) * stride] + beside[row * pad : (row + 1) * pad]
            for row in range(height)
        )


def read(body: bytes, size: int) -> bytes:
    """The object.

    Raises:
        VaultCorrupt: the body is damaged, or was made with another zlib than is here.
    """
    whole = _Reader(body)
    version = whole.byte()
    if version != VERSION:
        raise VaultCorrupt(f"a body of version {version}, which is unknown here")
    made_by = whole.take(whole.number(64)).decode("ascii", "replace")
    crc = int.from_bytes(whole.take(4), "big")
    recipe, bulk = _section(whole), _section(whole)
    maker = _Maker(recipe, bulk, _Reader(whole.rest()))
    try:
        data = maker.pieces(size, 0)
        for section in (maker.recipe, maker.bulk, maker.opaque):
            section.end()
        if len(data) != size or zlib.crc32(data) != crc:
            raise VaultCorrupt("other bytes come out than went in")
    except VaultCorrupt as error:
        if made_by and made_by != fingerprint():
            raise VaultCorrupt(f"{error} (made with zlib {made_by}, this is zlib {fingerprint()})") from error
        raise
    return data
