"""What ``compression`` may say besides the name of a codec: how much time zstd takes for what.

Codecs of whole objects, if some are installed, have policies of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from s3gc.abc import Compressor
from s3gc.compressors.zstd import ZstdCompressor

PLAIN: Final = "plain"
FAST: Final = "fast"
FULL: Final = "full"

_SMALL_BYTES = 8 * 1024
"""Up to here level 3: level 10 takes six times as long for 4 KB, and gains 6%."""

_WHOLE_BYTES = 8 * 1024 * 1024
"""What is larger is streamed at level 3 (``full``: 10), so that it doesn't hold up a sweep."""

POLICIES: Final[Mapping[str, tuple[int, Mapping[int, int]]]] = {
    PLAIN: (3, {}),
    FAST: (3, {_SMALL_BYTES: 3, _WHOLE_BYTES: 10}),
    FULL: (10, {_WHOLE_BYTES: 19}),
}
"""zstd's levels: for what is largest, and for what has up to so many bytes."""


_BLOCK_LEVELS = {FAST: 3, FULL: 19}
"""For blocks of small objects. At level 3 they take no more CPU time than a frame for each does."""


def block_codec(compression: str) -> Compressor | None:
    """What small objects are compressed together by; None: they aren't."""
    level = _BLOCK_LEVELS.get(compression)
    return None if level is None else ZstdCompressor(level)


def by_policy(compressors: Sequence[Compressor], compression: str) -> tuple[Sequence[Compressor], str]:
    """The codecs, zstd among them at the policy's levels, and the name of the one to write with.

    ``compression`` may be the name of a codec; then they are given back as they are.
    """
    if compression not in POLICIES:
        return compressors, compression
    level, up_to = POLICIES[compression]
    zstd = ZstdCompressor(level, up_to=up_to)
    return [zstd, *(one for one in compressors if one.name != zstd.name)], zstd.name
