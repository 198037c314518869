"""Compressors and codecs that break one clause each: suites must fail for all but the sound ones."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Sequence
from typing import Any

import pytest

from s3gc.abc import Compressor, ObjectCodec
from s3gc.compressors import ZstdCompressor
from s3gc.errors import VaultCorrupt
from s3gc.testing.codec_contract import CodecContract
from s3gc.testing.compressor_contract import CompressorContract

# ------------------------------------------------------------------ compressors


class _Stream:
    """A stream of zstd's, and what a mutant changes of it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def compress(self, data: bytes) -> bytes:
        return bytes(self.inner.compress(data))

    def flush(self) -> bytes:
        return bytes(self.inner.flush())

    def decompress(self, data: bytes) -> bytes:
        return bytes(self.inner.decompress(data))


class SoundCompressor(ZstdCompressor):
    stream: type[_Stream] = _Stream

    def compressor(self, size: int) -> Any:
        return self.stream(super().compressor(size))

    def decompressor(self) -> Any:
        return self.stream(super().decompressor())


class NameWithBlanks(SoundCompressor):
    name = "My Codec"


class _Trims(_Stream):
    def compress(self, data: bytes) -> bytes:
        return super().compress(data.rstrip(b"\0"))


class TrimsZeros(SoundCompressor):
    stream = _Trims


class _NoFlush(_Stream):
    def flush(self) -> bytes:
        super().flush()
        return b""


class ForgetsToFlush(SoundCompressor):
    stream = _NoFlush


class _OwnErrors(_Stream):
    def decompress(self, data: bytes) -> bytes:
        try:
            return super().decompress(data)
        except VaultCorrupt as error:
            raise ValueError(str(error)) from error


class RaisesItsOwn(SoundCompressor):
    stream = _OwnErrors


class OneStreamForAll(SoundCompressor):
    def __init__(self) -> None:
        super().__init__()
        self._one: Any = None

    def decompressor(self) -> Any:
        self._one = self._one or super().decompressor()
        return self._one


class TogetherInAnotherOrder(SoundCompressor):
    def compress_all(self, contents: Sequence[bytes]) -> Sequence[bytes]:
        return list(reversed(super().compress_all(contents)))


class TogetherRaisesItsOwn(SoundCompressor):
    def decompress_all(self, bodies: Sequence[bytes], sizes: Sequence[int]) -> Sequence[bytes]:
        try:
            return super().decompress_all(bodies, sizes)
        except VaultCorrupt as error:
            raise KeyError("damage") from error


class _Halves(_Stream):
    def compress(self, data: bytes) -> bytes:
        return super().compress(data[: 1 << 20])


class CutsLargePieces(SoundCompressor):
    stream = _Halves


# ------------------------------------------------------------------ codecs


class SoundCodec(ObjectCodec):
    """Texts by xz, with their sum."""

    name = "text-xz-1"
    requires = {"python": "3.11"}  # noqa: RUF012

    def encode(self, data: bytes) -> bytes | None:
        if not data.isascii():
            return None
        body = zlib.crc32(data).to_bytes(4, "big") + lzma.compress(data)
        return body if len(body) < len(data) else None

    def decode(self, body: bytes, size: int) -> bytes:
        try:
            data = lzma.LZMADecompressor().decompress(body[4:], max_length=size + 1)
        except (lzma.LZMAError, EOFError) as error:
            raise VaultCorrupt("no text") from error
        if len(data) != size or zlib.crc32(data).to_bytes(4, "big") != body[:4]:
            raise VaultCorrupt("another text")
        return data


class CodecWithoutVersion(SoundCodec):
    name = "text"


class CodecNeedsSomething(SoundCodec):
    requires = {"python": ""}  # noqa: RUF012


class CodecTakesNothing(SoundCodec):
    def encode(self, data: bytes) -> bytes | None:
        return None


class CodecGrows(SoundCodec):
    def encode(self, data: bytes) -> bytes | None:
        return None if not data.isascii() else zlib.crc32(data).to_bytes(4, "big") + lzma.compress(data)


class CodecWithLoss(SoundCodec):
    def encode(self, data: bytes) -> bytes | None:
        return super().encode(data.replace(b"\r", b" ") if len(data) % 2 else data)


class CodecTakesAllAndLoses(SoundCodec):
    def encode(self, data: bytes) -> bytes | None:
        return super().encode(bytes(one & 0x7F for one in data))


class CodecRaisesItsOwn(SoundCodec):
    def decode(self, body: bytes, size: int) -> bytes:
        return lzma.decompress(body[4:])


class CodecGivesAnySize(SoundCodec):
    def decode(self, body: bytes, size: int) -> bytes:
        try:
            return lzma.decompress(body[4:])
        except (lzma.LZMAError, EOFError) as error:
            raise VaultCorrupt("no text") from error


class CodecCuts(SoundCodec):
    def decode(self, body: bytes, size: int) -> bytes:
        try:
            return lzma.decompress(body[4:])[:size].ljust(size, b" ")
        except (lzma.LZMAError, EOFError) as error:
            raise VaultCorrupt("no text") from error


_TEXTS = (b"a line of text\n" * 40, b"another\r\nline\r\n" * 41 + b"x", b"{}" * 300)


def _compressors(of: type[SoundCompressor]) -> type:
    class Suite(CompressorContract):
        @pytest.fixture
        def compressor(self) -> Compressor:
            return of()

    return Suite


def _codecs(of: type[SoundCodec]) -> type:
    class Suite(CodecContract):
        @pytest.fixture
        def codec(self) -> ObjectCodec:
            return of()

        @pytest.fixture
        def samples(self) -> Sequence[bytes]:
            return _TEXTS

    return Suite


for _one in [one for one in list(globals().values()) if isinstance(one, type)]:
    if issubclass(_one, SoundCompressor):
        globals()[f"Test{_one.__name__}"] = _compressors(_one)
    elif issubclass(_one, SoundCodec):
        globals()[f"Test{_one.__name__}"] = _codecs(_one)
