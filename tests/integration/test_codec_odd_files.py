"""Odd, broken and hostile files: back exactly or refused, in bounded time and memory."""

from __future__ import annotations

import gzip
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import codec_files as files
from s3gc.errors import VaultCorrupt
from s3gc_codecs import POLICIES, classify, codecs
from s3gc_codecs import _container as container
from s3gc_codecs._container import Deflate, Pixels, Verbatim
from s3gc_codecs._deflate import Params, deflate
from s3gc_codecs._lepton import expand, squeeze
from s3gc_codecs._limits import MAX_INFLATED_BYTES, MAX_OBJECT_BYTES, MAX_PIXEL_BYTES
from s3gc_codecs._pixels import Shape, from_webp, to_webp
from s3gc_codecs._raster import locate

CODECS = {codec.name: codec for codec in codecs()}
TESTS = Path(__file__).parents[1]


def test_seven_hundred_odd_files_come_back_exactly_or_are_refused() -> None:
    taken: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for number, data in enumerate(files.odd_files(700)):
        kinds[classify(data)] += 1
        for rule in POLICIES["full"].codecs_for(classify(data)):
            body = CODECS[rule.codec].encode(data)
            if body is not None:
                assert CODECS[rule.codec].decode(body, len(data)) == data, number
                taken[rule.codec] += 1
    assert sum(kinds[kind] for kind in ("jpeg", "png", "zip", "pdf", "gzip", "bmp", "tiff", "pnm")) >= 500
    assert min(taken[name] for name in CODECS if name != "xz-1") > 10  # it isn't all refused


# --------------------------------------------------------------------------- bombs


def png_bomb() -> bytes:
    """A few hundred KB that declare 60,000 x 60,000 pixels, and do inflate to them."""
    deflater = zlib.compressobj(9)
    row = bytes(60_001 * 500)
    stream = b"".join(deflater.compress(row) for _ in range(20)) + deflater.flush()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)),
        (b"IDAT", stream),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def bmp_bomb() -> bytes:
    """24 KB that declare 3 million x 2 million pixels: 19 GB in a decoder that believes it (FACTS 5)."""
    header = struct.pack("<IiiHHIIiiII", 40, 3_000_000, 2_000_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 24_000, 0, 0, 54) + header + bytes(24_000 - 54)


def tiff_bomb() -> bytes:
    """One that declares 4 billion strips, and a picture of 4 billion x 4 billion."""
    entries = [(256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1), (258, 3, 1, 8), (259, 3, 1, 1)]
    entries += [(273, 4, 2**32 - 1, 8), (277, 3, 1, 4), (279, 4, 2**32 - 1, 8)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(20_000)


def pnm_bomb() -> bytes:
    return b"P6\n999999999 999999999\n255\n" + bytes(20_000)


def gzip_bomb() -> bytes:
    """300 KB that inflate to 300 MB."""
    return gzip.compress(bytes(300 * 1024 * 1024), 9, mtime=0)


def nested_bomb() -> bytes:
    """A gzip in a gzip in a gzip: 3 KB to 1 GB."""
    inner = gzip.compress(bytes(100 * 1024 * 1024), 9, mtime=0) * 10
    return gzip.compress(gzip.compress(inner, 9, mtime=0), 9, mtime=0)


def zip_bomb() -> bytes:
    """Many entries of one stream of 100 MB."""
    return files.archive({"x": bytes(100 * 1024 * 1024)}, level=9) * 50


def jpeg_bomb() -> bytes:
    """A small JPEG whose frame says 65,535 x 65,535."""
    data = bytearray(files.jpegs()[0])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


BOMBS: dict[str, Callable[[], bytes]] = {
    function.__name__: function
    for function in (
        png_bomb,
        bmp_bomb,
        tiff_bomb,
        pnm_bomb,
        gzip_bomb,
        nested_bomb,
        zip_bomb,
        jpeg_bomb,
    )
}

SET_OFF = """
import resource, sys, time
from integration.test_codec_odd_files import BOMBS, CODECS, POLICIES, classify
data = BOMBS[sys.argv[1]]()
codecs = [CODECS[rule.codec] for rule in POLICIES["full"].codecs_for(classify(data))]
assert codecs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
for codec in codecs:
    body = codec.encode(data)
    assert body is None or codec.decode(body, len(data)) == data
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start, before)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_bounded_memory_and_time(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SET_OFF, name],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kibibytes, seconds, _ = map(float, done.stdout.split())
    assert kibibytes < 1_200_000  # MAX_INFLATED_BYTES several times over: inflated, deflated, by xz
    assert seconds < 60


def test_a_raster_that_says_more_than_it_has_is_not_looked_at() -> None:
    for data in files.rasters():
        found = locate(data)
        assert found is not None
        end = found.offset + found.shape.size
        assert locate(data[: end - 1]) is None
    for bomb in (bmp_bomb, tiff_bomb, pnm_bomb):
        assert locate(bomb()) is None


def test_a_picture_beyond_the_limits_is_refused_before_it_is_made() -> None:
    assert not Shape(4, 8, False, 16_383, 16_383).allowed()
    assert not Shape(1, 8, False, 16_384, 1).allowed()
    assert not Shape(1, 8, False, 1, 16_384).allowed()
    assert not Shape(3, 8, False, 10, 10, 1025).allowed()
    assert Shape(4, 8, False, 4096, MAX_PIXEL_BYTES // 4 // 4096).allowed()
    assert not Shape(4, 8, False, 4096, MAX_PIXEL_BYTES // 4 // 4096 + 1).allowed()


# --------------------------------------------------------------------------- hostile bodies


def bomb_body(pieces: tuple[container.Piece, ...]) -> bytes:
    return container.write(pieces, 0)


def test_a_body_gives_no_more_than_its_object() -> None:
    many = bomb_body((Verbatim(bytes(50_000)),))
    start = time.process_time()
    with pytest.raises(VaultCorrupt):
        CODECS["deflate-1"].decode(many, 100)
    stream = deflate(bytes(1_000_000), Params(9))
    nested = bomb_body((Deflate(Params(9), len(stream), (Verbatim(bytes(1_000_000)),)),))
    with pytest.raises(VaultCorrupt):
        CODECS["deflate-1"].decode(nested, len(stream) - 1)
    assert time.process_time() - start < 5


def test_a_picture_that_comes_out_larger_than_its_header_says_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = files.jpegs()[0]
    body = CODECS["jpeg-lepton-1"].encode(data)
    assert body is not None
    monkeypatch.setattr("s3gc_codecs._lepton.expand", lambda lepton, most: bytes(most + 1))
    with pytest.raises(VaultCorrupt, match="more comes out"):
        CODECS["jpeg-lepton-1"].decode(body, len(data))


def test_lepton_is_asked_for_its_size_before_it_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = files.jpegs()[0]
    piece = squeeze(data, compare=False)
    assert piece is not None
    assert expand(piece.lepton, len(data)) == data
    monkeypatch.setattr("s3gc_codecs._lepton.lepton_jpeg_python", None)
    for lepton, most in (
        (piece.lepton, len(data) - 1),
        (piece.lepton[:27], len(data)),
        (b"x" * 100, len(data)),
    ):
        with pytest.raises(VaultCorrupt, match="header"):
            expand(lepton, most)


def test_a_body_whose_pieces_multiply_is_refused() -> None:
    """Each level says 50 MB inside; the sum of all is beyond what any object holds."""
    piece: container.Piece = Verbatim(bytes(60_000_000))
    stream = deflate(bytes(60_000_000), Params(1))
    body = bomb_body(tuple(Deflate(Params(1), len(stream), (piece,)) for _ in range(3)))
    assert MAX_INFLATED_BYTES + MAX_OBJECT_BYTES > 3 * 60_000_000  # these three are allowed ...
    with pytest.raises(VaultCorrupt, match="other bytes"):
        CODECS["deflate-1"].decode(body, 3 * len(stream))
    maker = container._Maker(container._Reader(b""), container._Reader(b""), container._Reader(b""))
    with pytest.raises(VaultCorrupt, match="more than any object"):  # ... and no more
        maker._count(MAX_INFLATED_BYTES + MAX_OBJECT_BYTES + 1)


def test_a_recipe_that_nests_for_ever_is_refused() -> None:
    recipe = b"\x01\x02\x60\xf8\x7f" * 2000
    reader = container._Reader(recipe)
    with pytest.raises(VaultCorrupt, match="too deep"):
        container._Maker(reader, container._Reader(b""), container._Reader(b"")).pieces(1000, 0)


def test_a_recipe_of_countless_pieces_is_refused() -> None:
    recipe = container.number(2**30) + b"\0" * 100
    maker = container._Maker(container._Reader(recipe), container._Reader(b""), container._Reader(b""))
    with pytest.raises(VaultCorrupt, match="above"):
        maker.pieces(1000, 0)


def test_lossy_webp_is_neither_written_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    image = files.picture("RGB", 64, 64)
    shape = Shape(3, 8, False, 64, 64)
    lossy = files.saved(image, "WEBP", quality=100)
    with pytest.raises(VaultCorrupt, match="lossless"):
        from_webp(lossy, shape)
    with pytest.raises(VaultCorrupt, match="another size"):
        from_webp(to_webp(image.tobytes(), shape), Shape(3, 8, False, 64, 63))
    real = type(image).save
    monkeypatch.setattr(
        type(image), "save", lambda self, to, kind, **options: real(self, to, kind, quality=90)
    )
    with pytest.raises(ValueError, match="lossless"):
        to_webp(image.tobytes(), shape)
    assert CODECS["raster-webp-1"].encode(files.rasters()[0]) is None


def test_colour_below_transparency_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``exact`` WebP clears it, without a sign; then the object is refused."""
    image = files.picture("RGB", 64, 64).convert("RGBA")
    image.putalpha(0)
    data = files.saved(image, "TIFF")
    codec = CODECS["raster-webp-1"]
    body = codec.encode(data)
    assert body is not None
    assert codec.decode(body, len(data)) == data
    real = type(image).save
    monkeypatch.setattr(
        type(image),
        "save",
        lambda self, to, kind, **options: real(self, to, kind, **{**options, "exact": False}),
    )
    assert codec.encode(data) is None


def test_a_body_of_another_zlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another deflate makes other bytes: refused, with both named; never given back wrong."""
    data = files.documents()[2]
    body = CODECS["deflate-1"].encode(data)
    assert body is not None
    monkeypatch.setattr(container, "deflate", lambda inside, params: deflate(inside, Params(1)))
    monkeypatch.setattr(container, "fingerprint", lambda: "1.3.1.zlib-ng 00000000")
    with pytest.raises(VaultCorrupt, match=r"made with zlib 1\..*this is zlib 1\.3\.1\.zlib-ng"):
        CODECS["deflate-1"].decode(body, len(data))


def test_pixels_whose_shape_lies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is decoded, whatever the WebP itself says."""
    rows = files.picture("RGB", 32, 32).tobytes()
    webp = to_webp(rows, Shape(3, 8, False, 32, 32))

    def decode(
        width: int, height: int, pad: int = 0, bpp: int = 3, depth: int = 8, filtered: bool = False
    ) -> bytes:
        body = bomb_body(
            (Pixels(bpp, depth, False, width, height, pad, filtered, webp, bytes(height * pad)),)
        )
        return CODECS["raster-webp-1"].decode(body, len(rows))

    with pytest.raises(VaultCorrupt, match="another size"):
        decode(32, 31)
    monkeypatch.setattr("s3gc_codecs._pixels.Image", None)
    for shape in ((16_383, 16_383), (33, 32), (0, 0), (32, 0), (1, 1, 2000), (32, 32, 0, 5)):
        with pytest.raises(VaultCorrupt, match="isn't allowed"):
            decode(*shape)
    with pytest.raises(VaultCorrupt, match="isn't allowed"):
        decode(32, 32, depth=4)
