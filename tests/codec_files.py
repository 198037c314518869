"""Files for the codecs' tests: whole ones of many kinds, and odd ones made from them."""

from __future__ import annotations

import ensurepip
import functools
import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from s3gc_codecs._png_filters import refilter


def picture(mode: str, width: int = 61, height: int = 47, seed: int = 1) -> Image.Image:
    """Smooth, with some noise and an edge, as photos are."""
    draw = random.Random(seed)
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = bytearray()
    for y in range(height):
        for x in range(width):
            for band in range(bands):
                edge = 60 if (x * 3 + band * 7) // 40 % 2 else 0
                pixels.append((x * 2 + y * 3 + band * 20 + edge + draw.randrange(6)) % 256)
    return Image.frombytes(mode, (width, height), bytes(pixels))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    mode: str = "RGB",
    *,
    bits: int = 8,
    level: int = 6,
    wbits: int = 15,
    mem_level: int = 8,
    strategy: int = zlib.Z_DEFAULT_STRATEGY,
    chunk: int = 8192,
    size: tuple[int, int] = (61, 47),
    filters: bytes | None = None,
) -> bytes:
    """A PNG with chosen parameters of zlib; ``mode`` of Pillow, or P."""
    image = picture("L" if mode == "P" else mode, *size)
    data, bands = image.tobytes(), len(image.getbands())
    width, height = size
    if bits < 8:
        rows = [data[y * width : (y + 1) * width] for y in range(height)]
        packed = bytearray()
        for row in rows:
            number = 0
            for value in row:
                number = number << bits | value >> (8 - bits)
            spare = -width * bits % 8
            packed += (number << spare).to_bytes((width * bits + 7) // 8, "big")
        data = bytes(packed)
    stride = len(data) // height
    types = filters or bytes(y % 5 for y in range(height))
    filtered = refilter(types, data, stride, max(1, bands * bits // 8))
    deflater = zlib.compressobj(level, zlib.DEFLATED, wbits, mem_level, strategy)
    stream = deflater.compress(filtered) + deflater.flush()
    colour = {"L": 0, "P": 3, "RGB": 2, "LA": 4, "RGBA": 6}[mode]
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
            _chunk(b"PLTE", bytes(range(256)) * 3) if mode == "P" else b"",
            _chunk(b"tEXt", b"Comment\0made by a test"),
            *(_chunk(b"IDAT", stream[at : at + chunk]) for at in range(0, len(stream), chunk)),
            _chunk(b"IEND", b""),
        ]
    )


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    made = io.BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def text(size: int, seed: int = 3) -> bytes:
    draw = random.Random(seed)
    words = [f"{draw.randrange(10**6):x}" for _ in range(400)]
    out = io.StringIO()
    while out.tell() < size:
        out.write(f"{draw.choice(words)} {draw.choice(words)}, ")
    return out.getvalue()[:size].encode()


def table(rows: int, seed: int = 5) -> bytes:
    """Lines of a CSV, which xz makes smaller than zstd does."""
    draw = random.Random(seed)
    out, when = [], 1_700_000_000
    for row in range(rows):
        when += draw.randrange(90)
        state = draw.choice(("open", "closed", "held"))
        out.append(f"{row},{when},{state},{draw.gauss(50, 9):.2f},user{draw.randrange(900):04d}@example.com")
    return "\n".join(out).encode()


def pdf(*, jpeg: bytes, level: int = 9) -> bytes:
    """Streams of text and a photo, as a PDF has them."""
    parts = [b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"]
    for number, (extra, body) in enumerate(
        [(b"/Filter/FlateDecode", zlib.compress(text(3000 + 500 * n, n), level)) for n in range(4)]
        + [(b"/Subtype/Image/Filter/DCTDecode", jpeg)],
        start=1,
    ):
        parts.append(
            b"%d 0 obj\n<<%b/Length %d>>\nstream\n%b\nendstream\nendobj\n" % (number, extra, len(body), body)
        )
    return b"".join([*parts, b"trailer\n<</Size 6>>\n%%EOF\n"])


def archive(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED, level: int = 6) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", kind, compresslevel=level) as into:
        for name, data in files.items():
            into.writestr(zipfile.ZipInfo(name), data, kind, level)
    return made.getvalue()


@functools.cache
def jpegs() -> tuple[bytes, ...]:
    photo = picture("RGB", 120, 90)
    plain = saved(photo, "JPEG", quality=85)
    return (
        plain,
        saved(photo, "JPEG", quality=92, progressive=True),
        saved(photo, "JPEG", quality=70, subsampling=0, optimize=True),
        saved(photo, "JPEG", quality=80, restart_marker_blocks=3),
        saved(picture("L", 90, 70), "JPEG"),
        saved(picture("CMYK", 64, 64), "JPEG"),
        plain + b"behind the end marker" * 4,
        plain + saved(picture("RGB", 40, 30), "JPEG") + bytes(50),
        plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(plain)) + b"Exif\0\0" + plain + plain[2:],
    )


@functools.cache
def pngs() -> tuple[bytes, ...]:
    return (
        png("RGB"),
        png("RGB", level=9, strategy=zlib.Z_FILTERED, chunk=500),
        png("RGBA", level=1),
        png("LA", level=3, mem_level=9),
        png("L", level=9, wbits=11),
        png("P"),
        *(png("P", bits=bits, size=(83, 61)) for bits in (1, 2, 4)),
        png("L", bits=1, strategy=zlib.Z_RLE, size=(301, 200)),
        png("RGB", strategy=zlib.Z_HUFFMAN_ONLY),
    )


@functools.cache
def documents() -> tuple[bytes, ...]:
    return (
        pdf(jpeg=jpegs()[0]),
        pdf(jpeg=jpegs()[1], level=1),
        archive({f"{n}.xml": text(2000 * n + 500, n) for n in range(4)}),
        archive({"word/document.xml": text(9000), "word/media/1.png": pngs()[0], "2.jpg": jpegs()[0]}),
        archive({"a.jpg": jpegs()[2], "b.png": pngs()[3]}, zipfile.ZIP_STORED),
        gzip.compress(text(9000), mtime=0),
        gzip.compress(archive({"in": text(5000)}, zipfile.ZIP_STORED), 9, mtime=1) * 2,
    )


@functools.cache
def rasters() -> tuple[bytes, ...]:
    return (
        saved(picture("RGB"), "BMP"),
        saved(picture("L", 50, 40), "BMP"),
        saved(picture("L", 300, 200).convert("1", dither=Image.Dither.NONE), "BMP"),
        saved(picture("RGB"), "TIFF"),
        saved(picture("RGBA", 40, 40), "TIFF"),
        saved(picture("L"), "TIFF"),
        saved(picture("RGB"), "PPM"),
        saved(picture("L"), "PPM"),
    )


def real_files() -> list[bytes]:
    """From the installed Python: wheels (ZIP), icons (PNG), and what its own tests look at, as far as
    it has them.
    """
    library = Path(ensurepip.__file__).parents[1]
    found = [
        *sorted((library / "ensurepip" / "_bundled").glob("*.whl"))[:1],
        *sorted((library / "idlelib" / "Icons").glob("*.png")),
        *sorted((library / "test" / "imghdrdata").glob("*")),
    ]
    return [path.read_bytes()[:300_000] for path in found if path.is_file()]


def odd_files(wanted: int, seed: int = 7) -> Iterator[bytes]:
    """Cut, flipped, spliced and extended ones, the same in every run."""
    draw = random.Random(seed)
    whole = [*jpegs(), *pngs(), *documents(), *rasters(), *real_files()]
    for number in range(wanted):
        data = bytearray(whole[number % len(whole)])
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(data) + 1)
            match draw.randrange(7):
                case 0:
                    del data[max(at, 4) :]
                case 1:
                    for _ in range(draw.randint(1, 8)):
                        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
                case 2:
                    data += draw.randbytes(draw.randint(1, 300))
                case 3:
                    other = draw.choice(whole)
                    data[at:] = other[draw.randrange(len(other)) :]
                case 4:
                    data[at:at] = draw.randbytes(draw.randint(1, 40))
                case 5:
                    del data[at : at + draw.randint(1, 40)]
                case 6:
                    data[at : at + 4] = draw.choice([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"])
            data = data or bytearray(b"x")
        yield bytes(data)
