"""The codecs that come with s3gc. Each is bit-exact and streams."""

from __future__ import annotations

from s3gc.compressors.store import StoreCompressor
from s3gc.compressors.zstd import ZstdCompressor

__all__ = ["StoreCompressor", "ZstdCompressor"]
