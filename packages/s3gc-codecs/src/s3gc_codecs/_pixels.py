"""Pixels by WebP's lossless form (VP8L), through Pillow. The lossy form is neither written nor read."""

from __future__ import annotations

import io
import struct
import zlib

from attrs import frozen
from PIL import Image

from s3gc.errors import VaultCorrupt
from s3gc_codecs._limits import MAX_PIXEL_BYTES, MAX_SIDE

MODES = ("L", "LA", "RGB", "RGBA")
"""One to four bytes a pixel."""

_METHOD, _EFFORT = 3, 90  # measured: more of either costs several times the time for one percent
_PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # colour types of PNG with 8 bits, by bytes a pixel


@frozen
class Shape:
    """How bytes lie in rows: ``height`` rows of ``width`` pixels and then ``pad`` other bytes."""

    bpp: int  # bytes a pixel; 1 also for depths below 8
    depth: int  # bits a sample: 8; 4, 2 or 1 with bpp 1
    swapped: bool  # blue before red
    width: int
    height: int
    pad: int = 0

    @property
    def stride(self) -> int:
        """Bytes of a row, without pad."""
        return self.width * self.bpp * self.depth // 8

    @property
    def size(self) -> int:
        return (self.stride + self.pad) * self.height

    def allowed(self) -> bool:
        """Asked before anything is decoded or made."""
        return (
            self.bpp in (1, 2, 3, 4)
            and (self.depth == 8 or (self.bpp == 1 and self.depth in (1, 2, 4) and not self.swapped))
            and 1 <= self.width <= MAX_SIDE
            and 1 <= self.height <= MAX_SIDE
            and self.width * self.bpp * self.depth % 8 == 0
            and self.width * self.height * self.bpp <= MAX_PIXEL_BYTES
            and 0 <= self.pad <= 1024
        )


def _swap(pixels: bytes, bpp: int) -> bytes:
    out = bytearray(pixels)
    out[0::bpp], out[2::bpp] = pixels[2::bpp], pixels[0::bpp]
    return bytes(out)


def _spread(packed: bytes, depth: int) -> bytes:
    """One byte for each sample of ``depth`` bits, the highest bits first."""
    per = 8 // depth
    out = bytearray(len(packed) * per)
    for lane in range(per):
        shift = 8 - depth * (lane + 1)
        out[lane::per] = packed.translate(bytes(value >> shift & (1 << depth) - 1 for value in range(256)))
    return bytes(out)


def _gather(spread: bytes, depth: int) -> bytes:
    per = 8 // depth
    packed = 0
    for lane in range(per):
        packed |= int.from_bytes(spread[lane::per], "little") << 8 - depth * (lane + 1)
    return packed.to_bytes(len(spread) // per, "little")


def to_webp(rows: bytes, shape: Shape) -> bytes:
    """Rows without pad as a WebP file.

    Raises:
        ValueError: WebP made something else than its lossless form.
    """
    pixels = _spread(rows, shape.depth) if shape.depth < 8 else rows
    if shape.swapped:
        pixels = _swap(pixels, shape.bpp)
    image = Image.frombytes(MODES[shape.bpp - 1], (shape.width, shape.height), pixels)
    if shape.bpp == 1:
        image = image.convert("RGB")
    elif shape.bpp == 2:
        grey, alpha = image.split()
        image = Image.merge("RGBA", (grey, grey, grey, alpha))
    made = io.BytesIO()
    image.save(made, "WEBP", lossless=True, exact=True, method=_METHOD, quality=_EFFORT)
    webp = made.getvalue()
    if webp[12:16] != b"VP8L":
        raise ValueError("this WebP isn't lossless")
    return webp


def from_webp(webp: bytes, shape: Shape) -> bytes:
    """The rows that :func:`to_webp` was given.

    Raises:
        VaultCorrupt: it isn't lossless, or of another size; found out before any pixel is decoded.
    """
    if webp[:4] != b"RIFF" or webp[8:16] != b"WEBPVP8L" or len(webp) < 25:
        raise VaultCorrupt("pixels that aren't lossless WebP")
    (bits,) = struct.unpack_from("<I", webp, 21)  # VP8L: 14 bits each of width - 1 and height - 1
    if ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1) != (shape.width, shape.height):
        raise VaultCorrupt("a WebP of another size than its body says")
    with Image.open(io.BytesIO(webp), formats=["WEBP"]) as image:
        if image.size != (shape.width, shape.height):
            raise VaultCorrupt("a WebP of another size than its body says")
        image.load()
        if shape.bpp == 1:
            pixels = image.getchannel(0).tobytes()
        elif shape.bpp == 2:
            rgba = image.convert("RGBA")
            pixels = Image.merge("LA", (rgba.getchannel(0), rgba.getchannel(3))).tobytes()
        else:
            pixels = image.convert(MODES[shape.bpp - 1]).tobytes()
    if shape.swapped:
        pixels = _swap(pixels, shape.bpp)
    return _gather(pixels, shape.depth) if shape.depth < 8 else pixels


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def unfilter(filtered: bytes, stride: int, bpp: int, height: int) -> bytes:
    """PNG's filters undone, by Pillow: the rows as a PNG of 8 bits with as many bytes a pixel.

    Raises whatever Pillow raises when they aren't rows with filters.
    """
    header = struct.pack(">IIBBBBB", stride // bpp, height, 8, _PNG_COLOUR[bpp], 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(filtered, 0)), _chunk(b"IEND", b""))
    )
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        image.load()
        return image.tobytes()
