"""Where the pixels of uncompressed pictures lie: BMP, TIFF, PNM. Headers are never believed."""

from __future__ import annotations

import re
import struct

from attrs import frozen

from s3gc_codecs._pixels import Shape

_PNM = re.compile(
    rb"P([56])((?:\s+|#[^\n]*\n)+)(\d{1,9})((?:\s+|#[^\n]*\n)+)(\d{1,9})((?:\s+|#[^\n]*\n)+)(\d{1,5})\s"
)
_MAX_ENTRIES = 100  # of a TIFF's directory; real ones have some twenty
_MAX_STRIPS = 100_000


@frozen
class Raster:
    """Rows of this shape begin at ``offset``."""

    offset: int
    shape: Shape


def locate(data: bytes) -> Raster | None:
    """The picture in the file, or None: another kind, compressed, too large, or one that says more
    than it has.
    """
    try:
        if data[:2] == b"BM":
            found = _bmp(data)
        elif data[:4] in (b"II*\0", b"MM\0*"):
            found = _tiff(data, "<" if data[:1] == b"I" else ">")
        elif data[:2] in (b"P5", b"P6"):
            found = _pnm(data)
        else:
            return None
    except (struct.error, IndexError):
        return None
    if found is None or not found.shape.allowed() or found.offset + found.shape.size > len(data):
        return None
    return found


def _bmp(data: bytes) -> Raster | None:
    (offset,) = struct.unpack_from("<I", data, 10)
    size, width, height, planes, bits, compression = struct.unpack_from("<IiiHHI", data, 14)
    if size < 40 or planes != 1 or width <= 0 or not (compression == 0 or (compression == 3 and bits == 32)):
        return None
    height = abs(height)
    stride = (width * bits + 31) // 32 * 4
    if bits in (24, 32):
        return Raster(offset, Shape(bits // 8, 8, True, width, height, stride - width * bits // 8))
    if bits in (1, 4, 8):
        return Raster(offset, Shape(1, bits, False, stride * 8 // bits, height))
    return None


def _pnm(data: bytes) -> Raster | None:
    match = _PNM.match(data[:4096])
    if match is None or int(match[7]) > 255:
        return None
    width, height = int(match[3]), int(match[5])
    return Raster(match.end(), Shape(1 if match[1] == b"5" else 3, 8, False, width, height))


def _tiff(data: bytes, order: str) -> Raster | None:
    """The first picture of a TIFF (6.0) whose strips are uncompressed and lie one after the other."""
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    if entries > _MAX_ENTRIES:
        return None
    tags: dict[int, tuple[int, ...]] = {}
    for entry in range(entries):
        at = directory + 2 + 12 * entry
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        if kind in (3, 4) and 0 < count <= _MAX_STRIPS:
            code, width = ("H", 2) if kind == 3 else ("I", 4)
            place = at + 8
            if count * width > 4:
                (place,) = struct.unpack_from(order + "I", data, place)
            tags[tag] = struct.unpack_from(f"{order}{count}{code}", data, place)
    samples = tags.get(277, (1,))[0]
    bits = tags.get(258, (1,))
    if tags.get(259, (1,))[0] != 1 or tags.get(284, (1,))[0] != 1 or 322 in tags or not 1 <= samples <= 4:
        return None
    if not {256, 257, 273, 279} <= set(tags) or len(set(bits)) != 1:
        return None
    width, height, offsets, sizes = tags[256][0], tags[257][0], tags[273], tags[279]
    if len(offsets) != len(sizes) or any(
        offset + size != following
        for offset, size, following in zip(offsets, sizes, offsets[1:], strict=False)
    ):
        return None
    if bits[0] == 8:
        shape = Shape(samples, 8, False, width, height)
    elif samples == 1 and bits[0] in (1, 2, 4):
        shape = Shape(1, bits[0], False, (width * bits[0] + 7) // 8 * 8 // bits[0], height)
    else:
        return None
    return Raster(offsets[0], shape) if shape.size == sum(sizes) else None
