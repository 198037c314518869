"""The codecs. What a body means never changes under a name; a better way gets the next number."""

from __future__ import annotations

import functools
import lzma
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import zstandard

from s3gc.abc import ObjectCodec
from s3gc.errors import VaultCorrupt
from s3gc_codecs import _bulk, _container
from s3gc_codecs._container import Piece, Pixels, Verbatim
from s3gc_codecs._deflate import fingerprint
from s3gc_codecs._exact import ExactCodec
from s3gc_codecs._limits import MAX_PIECES, MIN_XZ_BYTES
from s3gc_codecs._scan import PNG, Scanner


class _PiecesCodec(ExactCodec):
    """A codec whose body is a container of pieces."""

    def split(self, data: bytes) -> Sequence[Piece] | None:
        """The object in pieces; None when there is nothing to gain."""
        raise NotImplementedError

    def make(self, data: bytes) -> bytes | None:
        pieces = self.split(data)
        return None if pieces is None else _container.write(pieces, zlib.crc32(data))

    def restore(self, body: bytes, size: int) -> bytes:
        return _container.read(body, size)


class JpegLepton(_PiecesCodec):
    """JPEG by Lepton; also several in one file, such as the previews that cameras add."""

    name = "jpeg-lepton-1"

    def __init__(self, requires: Mapping[str, str]) -> None:
        self.requires = requires

    def split(self, data: bytes) -> Sequence[Piece] | None:
        from s3gc_codecs._lepton import find_end, squeeze

        if data[:3] != b"\xff\xd8\xff":
            return None
        view = memoryview(data)
        out: list[Piece] = []
        at = 0
        while data.startswith(b"\xff\xd8\xff", at) and len(out) < MAX_PIECES // 8:
            length = find_end(view[at:])
            end = len(data) if length is None else at + length
            piece = squeeze(data[at:end], compare=False)
            if piece is None:
                if not out:
                    return None
                break
            out.append(piece)
            following = data.find(b"\xff\xd8\xff", end)
            if following < 0:
                at = end
                break
            if end < following:
                out.append(Verbatim(data[end:following]))
            at = following
        if at < len(data):
            out.append(Verbatim(data[at:]))
        return out


class PngWebp(_PiecesCodec):
    """PNG: pixels by WebP where that is smaller, else by zstd or xz; the deflate stream found again."""

    name = "png-webp-1"

    def __init__(self, requires: Mapping[str, str]) -> None:
        self.requires = requires

    def split(self, data: bytes) -> Sequence[Piece] | None:
        if not data.startswith(PNG):
            return None
        scanner = Scanner(webp=True, lepton=False)
        found = scanner.png(memoryview(data), 0, 0)
        if found is None or not found[0]:
            return None
        pieces, end = found
        return [*pieces, Verbatim(data[end:])]


class RasterWebp(_PiecesCodec):
    """BMP, TIFF and PNM whose pixels lie uncompressed: the pixels by WebP, the rest verbatim."""

    name = "raster-webp-1"

    def __init__(self, requires: Mapping[str, str]) -> None:
        self.requires = requires

    def split(self, data: bytes) -> Sequence[Piece] | None:
        from s3gc_codecs._pixels import to_webp
        from s3gc_codecs._raster import locate

        found = locate(data)
        if found is None:
            return None
        shape, start = found.shape, found.offset
        end = start + shape.size
        rows = data[start:end]
        beside = b""
        if shape.pad:
            whole, stride = shape.stride + shape.pad, shape.stride
            beside = b"".join(rows[at + stride : at + whole] for at in range(0, len(rows), whole))
            rows = b"".join(rows[at : at + stride] for at in range(0, len(rows), whole))
        picture = Pixels(
            shape.bpp,
            shape.depth,
            shape.swapped,
            shape.width,
            shape.height,
            shape.pad,
            False,
            to_webp(rows, shape),
            beside,
        )
        return [Verbatim(data[:start]), picture, Verbatim(data[end:])]


class Deflated(_PiecesCodec):
    """Whatever holds deflate streams: gzip, ZIP, office, PDF, PNG. Inflated and compressed as a whole."""

    name = "deflate-1"

    def __init__(self, requires: Mapping[str, str]) -> None:
        self.requires = requires

    def split(self, data: bytes) -> Sequence[Piece] | None:
        scanner = Scanner(webp=False, lepton=False)
        pieces = scanner.split(data)
        return pieces if scanner.streams else None


class DeflatedImages(_PiecesCodec):
    """The same, and the JPEGs and PNGs inside by Lepton and WebP."""

    name = "deflate-images-1"

    def __init__(self, requires: Mapping[str, str]) -> None:
        self.requires = requires

    def split(self, data: bytes) -> Sequence[Piece] | None:
        scanner = Scanner(webp=True, lepton=True)
        pieces = scanner.split(data)
        return pieces if scanner.pictures else None


_COMPARED_BELOW = 4 * 1024 * 1024
"""Up to here xz is held against zstd-19 itself; above, against level 10, which is ten times as fast."""


class Xz(ExactCodec):
    """xz at preset 6e for what is large and compressible: a body is a file that the program xz reads."""

    name = "xz-1"
    requires: Mapping[str, str] = {}

    def make(self, data: bytes) -> bytes | None:
        if len(data) < MIN_XZ_BYTES or not _bulk.compressible(data):
            return None
        # Texts gain a percent without the position bits that help tables and programs.
        filters = [
            {
                "id": lzma.FILTER_LZMA2,
                "preset": 6 | lzma.PRESET_EXTREME,
                "pb": 2 if b"\0" in data else 0,
            }
        ]
        body = lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)
        level, share = (19, 1.0) if len(data) <= _COMPARED_BELOW else (10, 0.95)
        return body if len(body) < share * len(zstandard.ZstdCompressor(level=level).compress(data)) else None

    def restore(self, body: bytes, size: int) -> bytes:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=64 * 1024 * 1024)
        data = decoder.decompress(body, size + 1)
        if len(data) > size or (not decoder.eof and decoder.decompress(b"", 1)) or not decoder.eof:
            raise VaultCorrupt("the .xz file doesn't end where it should")
        if decoder.unused_data:
            raise VaultCorrupt("something follows the .xz file")
        return data


def _installed(distribution: str, module: str) -> str | None:
    """The version, if it is there and can be imported."""
    try:
        __import__(module)
        return version(distribution)
    except (ImportError, PackageNotFoundError):
        return None


def _webp_works() -> bool:
    """Pillow may be built without WebP."""
    from PIL import features

    return bool(features.check("webp"))


@functools.cache
def codecs() -> tuple[ObjectCodec, ...]:
    """Those that this machine can encode and decode with."""
    lepton = _installed("lepton_jpeg_python", "lepton_jpeg_python")
    pillow = _installed("pillow", "PIL.Image")
    if pillow is not None and not _webp_works():
        pillow = None
    stock = {"zlib": fingerprint()}
    found: list[ObjectCodec] = []
    if lepton:
        found.append(JpegLepton({"lepton_jpeg_python": lepton}))
    if pillow:
        found += [PngWebp({"pillow": pillow, **stock}), RasterWebp({"pillow": pillow})]
    if lepton and pillow:
        found.append(DeflatedImages({"lepton_jpeg_python": lepton, "pillow": pillow, **stock}))
    return (*found, Deflated(stock), Xz())
