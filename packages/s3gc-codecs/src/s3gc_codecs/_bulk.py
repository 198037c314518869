"""A run of bytes by the best general codec: none, zstd, or xz (raw LZMA2), whichever is smallest."""

from __future__ import annotations

import lzma
from typing import Any

import zstandard

from s3gc.errors import VaultCorrupt

STORED, ZSTD, XZ = 0, 1, 2

INCOMPRESSIBLE = 0.985
"""What zstd's lowest level leaves more of is kept as it is (FACTS 5)."""

_ZSTD_LEVEL = 19
_ZSTD_ONLY_BELOW = 2048  # bytes; xz needs more to get going
_XZ_ONLY_ABOVE = 256 * 1024  # bytes; xz is always the smaller one there, and both take twice the time
_DICT_MIN, _DICT_MAX = 1 << 16, 1 << 25


def _filters(size: int) -> list[dict[str, Any]]:
    """LZMA2 at xz's preset 6 with a dictionary that holds all; both sides derive it from the size."""
    dictionary = min(max(1 << (size - 1).bit_length() if size > 1 else 1, _DICT_MIN), _DICT_MAX)
    return [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary}]


def compressible(data: bytes | memoryview) -> bool:
    """A cheap probe."""
    made = zstandard.ZstdCompressor(level=1).compress(data)
    return len(made) < INCOMPRESSIBLE * len(data)


def pack(data: bytes) -> tuple[int, bytes]:
    """How, and the bytes."""
    if not data or (len(data) > 4096 and not compressible(data)):
        return STORED, data
    best = (STORED, data)
    if len(data) <= _XZ_ONLY_ABOVE:
        made = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=True).compress(data)
        if len(made) < len(data):
            best = (ZSTD, made)
    if len(data) >= _ZSTD_ONLY_BELOW:
        made = lzma.compress(data, lzma.FORMAT_RAW, filters=_filters(len(data)))
        if len(made) < len(best[1]):
            best = (XZ, made)
    return best


def unpack(method: int, stored: bytes, size: int) -> bytes:
    """The ``size`` bytes; never more.

    Raises:
        VaultCorrupt: something else comes out.
    """
    if method == STORED:
        data = stored
    elif method == ZSTD:
        if zstandard.frame_content_size(stored) != size:
            raise VaultCorrupt("a section of zstd declares another size")
        data = zstandard.ZstdDecompressor(max_window_size=_DICT_MAX).decompress(stored, size)
    elif method == XZ:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(size))
        data = decoder.decompress(stored, size)
        if not decoder.eof and (decoder.decompress(b"", 1) or not decoder.eof):
            raise VaultCorrupt("a section of xz doesn't end where it says")
    else:
        raise VaultCorrupt(f"a section is packed by method {method}, which is unknown here")
    if len(data) != size:
        raise VaultCorrupt(f"a section holds {len(data)} bytes and says {size}")
    return data
