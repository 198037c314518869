"""The codec that changes nothing: for what other codecs don't make smaller."""

from __future__ import annotations

from s3gc.abc import Compressor, CompressStream, DecompressStream


class _Identity:
    """Both directions at once."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def decompress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class StoreCompressor(Compressor):
    """Keeps the bytes as they are. Every vault can read it."""

    name = "store"

    def compressor(self, size: int) -> CompressStream:
        return _Identity()

    def decompressor(self) -> DecompressStream:
        return _Identity()
