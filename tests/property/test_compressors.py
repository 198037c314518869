"""Our codecs pass the contract, and zstd takes nothing that could cost memory."""

from __future__ import annotations

import contextlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from s3gc.abc import Compressor
from s3gc.compressors import StoreCompressor, ZstdCompressor
from s3gc.compressors.zstd import MAX_WINDOW_BYTES
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.testing.compressor_contract import CompressorContract, compressed, decompressed


class TestStore(CompressorContract):
    @pytest.fixture
    def compressor(self) -> Compressor:
        return StoreCompressor()


class TestZstd(CompressorContract):
    @pytest.fixture(params=[1, 3, 19])
    def compressor(self, request: pytest.FixtureRequest) -> Compressor:
        return ZstdCompressor(request.param)


@pytest.mark.parametrize("level", [0, 20, -1, 100])
def test_levels_whose_window_is_too_large_are_refused(level: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 19"):
        ZstdCompressor(level)


@pytest.mark.parametrize("level", [1, 3, 10, 19])
def test_what_it_writes_it_also_takes(level: int) -> None:
    """At every level the window of a huge object stays below the bound for reading."""
    stream = ZstdCompressor(level).compressor(1 << 40)
    start = b"".join(stream.compress(bytes(1024 * 1024)) for _ in range(4))
    assert zstandard.get_frame_parameters(start).window_size <= MAX_WINDOW_BYTES
    assert ZstdCompressor().decompressor().decompress(start)


def test_the_zstd_program_can_read_it() -> None:
    stored = compressed(ZstdCompressor(), [b"abc" * 1000])
    assert zstandard.ZstdDecompressor().decompress(stored) == b"abc" * 1000
    assert zstandard.get_frame_parameters(stored).has_checksum


def lying_frame(declared: int, data: bytes) -> bytes:
    """A frame whose header declares another size than comes out: a window of 1 MiB, 4 bytes of size."""
    honest = zstandard.ZstdCompressor(level=3, write_content_size=False, write_checksum=False).compressobj()
    body = honest.compress(data) + honest.flush()
    blocks = body[zstandard.frame_header_size(body) :]
    return (
        b"\x28\xb5\x2f\xfd" + bytes([0b1000_0000, (20 - 10) << 3]) + declared.to_bytes(4, "little") + blocks
    )


def test_no_more_comes_out_than_declared() -> None:
    """64 MiB of zeros in a frame that declares 3 MiB. (zstd itself sees a lie only below the window.)"""
    bomb = lying_frame(3 * 1024 * 1024, bytes(64 * 1024 * 1024))
    assert len(bomb) < 10_000
    with pytest.raises(VaultCorrupt, match="more than the declared"):
        ZstdCompressor().decompressor().decompress(bomb)


def test_the_lying_frame_of_this_test_is_otherwise_right() -> None:
    assert decompressed(ZstdCompressor(), [lying_frame(5000, bytes(5000))]) == bytes(5000)


def test_a_frame_without_a_size_is_refused() -> None:
    made = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc")
    with pytest.raises(VaultCorrupt, match="doesn't declare"):
        ZstdCompressor().decompressor().decompress(made)


def test_a_frame_that_wants_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=1 << 30)
    start = stream.compress(bytes(1024 * 1024))
    with pytest.raises(VaultCorrupt, match="window"):
        ZstdCompressor().decompressor().decompress(start)


@given(extra=st.binary(min_size=1, max_size=40))
def test_what_follows_a_frame_never_becomes_content(extra: bytes) -> None:
    stream = ZstdCompressor().decompressor()
    assert stream.decompress(compressed(ZstdCompressor(), [b"abc"])) == b"abc"
    with contextlib.suppress(VaultCorrupt):
        assert stream.decompress(extra) == b""


@pytest.mark.parametrize("promised", [2, 4])
def test_another_size_than_promised_is_an_error(promised: int) -> None:
    with pytest.raises(VaultError, match="promised"):
        compress_as(promised, b"abc" * 100_000 if promised == 2 else b"abc")


def compress_as(size: int, data: bytes) -> bytes:
    stream = ZstdCompressor().compressor(size)
    return stream.compress(data) + stream.flush()


def test_what_comes_after_a_whole_frame_is_refused_later_too() -> None:
    codec = ZstdCompressor()
    whole = compressed(codec, [b"hello" * 100])
    for extra in (b"x", compressed(codec, [b"more"]), b"\x50\x2a\x4d\x18\x00\x00\x00\x00"):
        stream = codec.decompressor()
        assert stream.decompress(whole) == b"hello" * 100
        assert stream.decompress(b"") == b""
        with pytest.raises(VaultCorrupt):
            stream.decompress(extra)
