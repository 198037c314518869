"""Every codec passes its contract; the pieces that they are made of do what their names say."""

from __future__ import annotations

import gzip
import lzma
import os
import zlib
from collections.abc import Sequence

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import codec_files as files
from s3gc.abc import ObjectCodec
from s3gc.errors import VaultCorrupt
from s3gc.testing.codec_contract import CodecContract
from s3gc_codecs import classify, codecs
from s3gc_codecs._bulk import STORED, XZ, ZSTD, pack, unpack
from s3gc_codecs._container import Deflate, Piece, number, read, write
from s3gc_codecs._deflate import Params, Search, deflate, inflate
from s3gc_codecs._limits import MAX_DEPTH
from s3gc_codecs._pixels import Shape, from_webp, to_webp, unfilter
from s3gc_codecs._png_filters import refilter
from s3gc_codecs._scan import Scanner

CODECS = {codec.name: codec for codec in codecs()}


def test_all_of_them_are_there() -> None:
    """Pillow and Lepton are dependencies of the tests: nothing here is skipped."""
    assert list(CODECS) == [
        "jpeg-lepton-1",
        "png-webp-1",
        "raster-webp-1",
        "deflate-images-1",
        "deflate-1",
        "xz-1",
    ]


class TestJpegLepton(CodecContract):
    @pytest.fixture
    def codec(self) -> ObjectCodec:
        return CODECS["jpeg-lepton-1"]

    @pytest.fixture
    def samples(self) -> Sequence[bytes]:
        return [jpeg for number, jpeg in enumerate(files.jpegs()) if number != 5]  # no CMYK


class TestPngWebp(CodecContract):
    @pytest.fixture
    def codec(self) -> ObjectCodec:
        return CODECS["png-webp-1"]

    @pytest.fixture
    def samples(self) -> Sequence[bytes]:
        return files.pngs()[:6]


class TestRasterWebp(CodecContract):
    @pytest.fixture
    def codec(self) -> ObjectCodec:
        return CODECS["raster-webp-1"]

    @pytest.fixture
    def samples(self) -> Sequence[bytes]:
        return files.rasters()


class TestDeflate(CodecContract):
    @pytest.fixture
    def codec(self) -> ObjectCodec:
        return CODECS["deflate-1"]

    @pytest.fixture
    def samples(self) -> Sequence[bytes]:
        return [files.documents()[0], files.documents()[2], files.documents()[5], files.documents()[6]]


class TestDeflateImages(CodecContract):
    @pytest.fixture
    def codec(self) -> ObjectCodec:
        return CODECS["deflate-images-1"]

    @pytest.fixture
    def samples(self) -> Sequence[bytes]:
        return [files.documents()[0], files.documents()[3], files.documents()[4]]


class TestXz(CodecContract):
    @pytest.fixture
    def codec(self) -> ObjectCodec:
        return CODECS["xz-1"]

    @pytest.fixture
    def samples(self) -> Sequence[bytes]:
        return [files.table(1500)]


@pytest.mark.parametrize("at", range(len(files.pngs())))
def test_every_kind_of_png_comes_back_smaller(at: int) -> None:
    data = files.pngs()[at]
    codec = CODECS["png-webp-1"]
    body = codec.encode(data)
    assert body is not None
    assert len(body) < len(data)
    assert codec.decode(body, len(data)) == data


def test_the_body_of_xz_is_a_file_of_the_program_xz() -> None:
    data = files.table(1500)
    body = CODECS["xz-1"].encode(data)
    assert body is not None
    assert lzma.decompress(body) == data
    for more in (body, bytes(4), b"x"):  # a second file, its padding, anything else
        with pytest.raises(VaultCorrupt, match="follows"):
            CODECS["xz-1"].decode(body + more, len(data))


def test_xz_is_for_what_it_makes_smaller_than_zstd() -> None:
    words = files.text(60_000)
    assert CODECS["xz-1"].encode(words) is None
    zstd = zstandard.ZstdCompressor(level=19).compress(words)
    assert len(zstd) < len(lzma.compress(words, preset=6 | lzma.PRESET_EXTREME))


def test_containers_are_opened_three_deep() -> None:
    data = files.table(1500)
    for _ in range(6):
        data = gzip.compress(data + os.urandom(4096), 6, mtime=0)

    def depth(pieces: Sequence[Piece]) -> int:
        return max(1 + depth(piece.inside) if isinstance(piece, Deflate) else 0 for piece in pieces)

    pieces = Scanner(webp=False, lepton=False).split(data)
    assert depth(pieces) == MAX_DEPTH
    assert read(write(pieces, zlib.crc32(data)), len(data)) == data


def test_what_stands_behind_the_end_of_a_jpeg_is_kept_apart() -> None:
    """Lepton gives it back wrong where there is no end marker; and it isn't Lepton's to compress."""
    codec = CODECS["jpeg-lepton-1"]
    whole = files.jpegs()[0]
    for data in (
        whole[:-2],
        whole[:-1],
        whole[:-7],
        whole + b"\xff\xd9" * 3 + bytes(9),
        whole[: len(whole) // 2],
    ):
        body = codec.encode(data)
        assert body is not None
        assert codec.decode(body, len(data)) == data


# --------------------------------------------------------------------------- pieces


def slow_refilter(types: bytes, pixels: bytes, stride: int, bpp: int) -> bytes:
    """The specification, word by word."""
    out, before = bytearray(), bytes(stride)
    for y, kind in enumerate(types):
        row = pixels[y * stride : (y + 1) * stride]
        out.append(kind)
        for x, value in enumerate(row):
            a = row[x - bpp] if x >= bpp else 0
            b = before[x]
            c = before[x - bpp] if x >= bpp else 0
            p = a + b - c
            pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
            nearest = a if pa <= pb and pa <= pc else b if pb <= pc else c
            out.append((value - (0, a, b, (a + b) // 2, nearest)[kind]) % 256)
        before = row
    return bytes(out)


@settings(deadline=None)
@given(choice=st.data(), bpp=st.sampled_from([1, 2, 3, 4]), width=st.integers(1, 9))
def test_png_filters_are_those_of_the_specification(choice: st.DataObject, bpp: int, width: int) -> None:
    types = choice.draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))
    stride = bpp * width
    extreme = st.sampled_from([0, 1, 2, 127, 128, 254, 255]) | st.integers(0, 255)
    length = stride * len(types)
    pixels = bytes(choice.draw(st.lists(extreme, min_size=length, max_size=length)))
    filtered = refilter(bytes(types), pixels, stride, bpp)
    assert filtered == slow_refilter(bytes(types), pixels, stride, bpp)
    assert unfilter(filtered, stride, bpp, len(types)) == pixels


@settings(deadline=None)
@given(
    choice=st.data(),
    kind=st.sampled_from([(1, 8), (2, 8), (3, 8), (4, 8), (1, 1), (1, 2), (1, 4)]),
    swapped=st.booleans(),
)
def test_pixels_come_back_exactly(choice: st.DataObject, kind: tuple[int, int], swapped: bool) -> None:
    """Also the colour below full transparency, which WebP drops unless it is told not to."""
    bpp, depth = kind
    width, height = choice.draw(st.integers(1, 6)) * (8 // depth), choice.draw(st.integers(1, 6))
    shape = Shape(bpp, depth, swapped and bpp > 2, width, height)
    assert shape.allowed()
    rows = choice.draw(st.binary(min_size=shape.size, max_size=shape.size))
    assert from_webp(to_webp(rows, shape), shape) == rows


@settings(deadline=None, max_examples=40)
@given(
    params=st.builds(
        Params, st.integers(1, 9), st.just(15), st.sampled_from([8, 9]), st.sampled_from([0, 2, 3])
    ),
    seed=st.integers(0, 5),
)
def test_the_parameters_of_a_stream_are_found(params: Params, seed: int) -> None:
    data = files.text(40_000, seed)
    stream = deflate(data, params)
    assert inflate(memoryview(stream + b"more"), 50_000) == (data, len(stream))
    found = Search(60).find(data, memoryview(stream), png=True)
    assert found is not None
    assert deflate(data, found) == stream
    assert Params.unpack(params.pack()) == params


def test_a_stream_of_another_deflate_is_not_found() -> None:
    """Two flushes, which no parameters make."""
    data = files.text(20_000)
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    half = len(data) // 2
    stream = (
        deflater.compress(data[:half]) + deflater.flush(zlib.Z_FULL_FLUSH) + deflater.compress(data[half:])
    )
    stream += deflater.flush()
    assert Search(60).find(data, memoryview(stream), png=False) is None


def test_a_search_has_an_end() -> None:
    data = files.text(20_000, 9)
    stream = deflate(data, Params(2))
    assert Search(-1).find(data, memoryview(stream), png=False) is None
    assert Search(60).find(data, memoryview(stream), png=False) == Params(
        2
    )  # it was not taken for impossible


@settings(deadline=None)
@given(
    data=st.binary(max_size=3000) | st.builds(lambda piece: piece * 900, st.binary(min_size=1, max_size=40))
)
def test_sections_round_trip(data: bytes) -> None:
    method, stored = pack(data)
    assert len(stored) <= len(data)
    assert unpack(method, stored, len(data)) == data


def test_a_section_never_gives_more_than_it_says() -> None:
    bomb = bytes(4_000_000)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 16}]
    with pytest.raises(VaultCorrupt, match="doesn't end"):
        unpack(XZ, lzma.compress(bomb, lzma.FORMAT_RAW, filters=filters), 100)
    with pytest.raises(VaultCorrupt, match="declares"):  # before room is made for what it declares
        unpack(ZSTD, zstandard.ZstdCompressor().compress(bomb), 100)
    with pytest.raises(VaultCorrupt, match="holds"):
        unpack(STORED, bomb, 100)


@given(value=st.integers(0, 2**40))
def test_numbers_are_leb128(value: int) -> None:
    assert sum((byte & 127) << 7 * at for at, byte in enumerate(number(value))) == value


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (files.jpegs()[0], "jpeg"),
        (files.pngs()[0], "png"),
        (files.rasters()[0], "bmp"),
        (files.rasters()[3], "tiff"),
        (files.rasters()[6], "pnm"),
        (files.documents()[0], "pdf"),
        (files.documents()[2], "zip"),
        (files.documents()[5], "gzip"),
        (files.text(500), "text"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "packed"),
        (b"GIF89a", "packed"),
        (b"\0\0\0\x20ftypisom", "packed"),
        (b"\x7fELF\2\1\1\0", "other"),
        (b"", "other"),
    ],
)
def test_the_class_comes_from_the_first_bytes(data: bytes, kind: str) -> None:
    assert classify(data) == kind
