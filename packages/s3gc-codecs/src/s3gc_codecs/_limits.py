"""Every limit of the codecs, in one place. What goes beyond one stays as it is."""

from __future__ import annotations

from typing import Final

MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024
"""Objects above it are no codec's: everything here works in memory."""

MAX_INFLATED_BYTES: Final = 192 * 1024 * 1024
"""What all streams of one object may inflate to, nested ones included: three of the largest."""

MAX_STREAM_RATIO: Final = 1032
"""One deflate stream can't expand further (zlib's technical notes); what claims to is not one."""

MAX_PIXEL_BYTES: Final = 128 * 1024 * 1024
"""Bytes of pixels of one picture: 44 million of 3 bytes. WebP needs about eight times as much to encode."""

MAX_SIDE: Final = 16_383
"""Pixels that WebP can have on a side (its format has 14 bits for it)."""

MAX_PIECES: Final = 100_000
"""Pieces that one object may be cut into."""

MAX_DEPTH: Final = 3
"""How deep containers are opened: a PNG in a DOCX in a gzip."""

MAX_SEARCH_SECONDS: Final = 60.0
"""CPU time that one object's search for deflate parameters may take; streams after it stay as they are."""

MIN_STREAM_BYTES: Final = 64
"""Deflate streams and pictures below it gain nothing."""

MIN_XZ_BYTES: Final = 32 * 1024
"""Below it xz doesn't beat zstd (FACTS 5)."""

WORKER_MEMORY_BYTES: Final = 3 * 1024 * 1024 * 1024
"""RLIMIT_AS of a worker: MAX_PIXEL_BYTES through WebP, and the code."""

JOB_SECONDS: Final = 120.0
"""Wall time of one job in a worker, plus JOB_SECONDS_PER_MIB for its size."""

JOB_SECONDS_PER_MIB: Final = 10.0
"""A slow, shared core does at least this: xz -6 needs a second, WebP three."""
