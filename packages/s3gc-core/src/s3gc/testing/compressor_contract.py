"""What every compressor must pass. Subclass it and give it the fixture ``compressor``::

class TestMine(CompressorContract):
    @pytest.fixture
    def compressor(self):
        return Mine()
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3gc.abc import Compressor
from s3gc.errors import VaultCorrupt

_FIXTURES = settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # a compressor keeps nothing from one stream to the next
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
    deadline=None,
)

CONTENTS = st.one_of(
    st.binary(max_size=4096),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=64), st.integers(0, 5000)),
)
"""Incompressible and very compressible bytes, none, and some that cross a codec's block sizes."""


def cut_up(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """``data`` in pieces, empty ones among them."""
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def compressed(compressor: Compressor, pieces: Sequence[bytes]) -> bytes:
    """All that a stream makes of ``pieces``."""
    stream = compressor.compressor(sum(map(len, pieces)))
    return b"".join([*(stream.compress(piece) for piece in pieces), stream.flush()])


def decompressed(compressor: Compressor, pieces: Sequence[bytes]) -> bytes:
    """All that comes out of ``pieces``."""
    stream = compressor.decompressor()
    return b"".join(stream.decompress(piece) for piece in pieces)


class CompressorContract:
    """Bit-exact for every input, in any chunking, with any number of streams at a time."""

    @pytest.fixture
    def compressor(self) -> Compressor:
        raise NotImplementedError("give the fixture `compressor`")

    def test_its_name_can_stand_in_a_frame(self, compressor: Compressor) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", compressor.name)

    @_FIXTURES
    @given(
        data=CONTENTS, cuts=st.lists(st.integers(0, 2**20), max_size=6), back=st.lists(st.integers(0, 2**20))
    )
    def test_any_bytes_round_trip_in_any_chunking(
        self, compressor: Compressor, data: bytes, cuts: list[int], back: list[int]
    ) -> None:
        stored = compressed(compressor, cut_up(data, cuts))
        assert decompressed(compressor, cut_up(stored, back)) == data

    @_FIXTURES
    @given(data=st.binary(max_size=300))
    def test_byte_by_byte(self, compressor: Compressor, data: bytes) -> None:
        stored = compressed(compressor, [bytes([b]) for b in data])
        assert decompressed(compressor, [bytes([b]) for b in stored]) == data

    def test_several_mebibytes(self, compressor: Compressor) -> None:
        data = bytes(range(256)) * 4096 + b"\0" * (3 * 1024 * 1024) + b"end"
        stored = compressed(compressor, cut_up(data, range(0, len(data), 1024 * 1024)))
        assert decompressed(compressor, cut_up(stored, range(0, len(stored), 65_536))) == data
        assert decompressed(compressor, [compressed(compressor, [data])]) == data, "as one piece, too"

    @_FIXTURES
    @given(first=CONTENTS, second=CONTENTS)
    def test_streams_that_run_side_by_side_do_not_mix(
        self, compressor: Compressor, first: bytes, second: bytes
    ) -> None:
        one, two = compressor.compressor(len(first)), compressor.compressor(len(second))
        half, middle = len(first) // 2, len(second) // 2
        a = one.compress(first[:half])
        b = two.compress(second[:middle])
        a += one.compress(first[half:])
        b += two.compress(second[middle:])
        b += two.flush()
        a += one.flush()
        back_one, back_two = compressor.decompressor(), compressor.decompressor()
        out_one = back_one.decompress(a[:5])
        out_two = back_two.decompress(b[:5])
        assert out_one + back_one.decompress(a[5:]) == first
        assert out_two + back_two.decompress(b[5:]) == second

    def test_streams_in_several_threads(self, compressor: Compressor) -> None:
        def round_trip(number: int) -> bool:
            data = f"object {number} ".encode() * 2000
            return decompressed(compressor, [compressed(compressor, [data])]) == data

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(round_trip, range(64)))

    @_FIXTURES
    @given(contents=st.lists(CONTENTS, max_size=20))
    def test_many_together_are_as_each_alone(self, compressor: Compressor, contents: list[bytes]) -> None:
        bodies = compressor.compress_all(contents)
        assert [decompressed(compressor, [body]) for body in bodies] == contents
        alone = [compressed(compressor, [data]) for data in contents]
        for some in (bodies, alone):
            assert list(compressor.decompress_all(some, [len(data) for data in contents])) == contents

    @_FIXTURES
    @given(place=st.integers(0, 2**20), bit=st.integers(0, 7), which=st.integers(0, 11))
    def test_damage_to_one_of_many_raises_nothing_but_vault_corrupt(
        self, compressor: Compressor, place: int, bit: int, which: int
    ) -> None:
        contents = [f"content {number}".encode() * 50 for number in range(12)]
        bodies = [bytearray(body) for body in compressor.compress_all(contents)]
        bodies[which][place % len(bodies[which])] ^= 1 << bit
        try:
            out = compressor.decompress_all([bytes(b) for b in bodies], [len(data) for data in contents])
        except VaultCorrupt:
            return
        assert all(isinstance(data, bytes) for data in out)

    @_FIXTURES
    @given(data=st.binary(min_size=1, max_size=2000), place=st.integers(0, 2**20), bit=st.integers(0, 7))
    def test_damage_raises_nothing_but_vault_corrupt(
        self, compressor: Compressor, data: bytes, place: int, bit: int
    ) -> None:
        stored = bytearray(compressed(compressor, [data]))
        stored[place % len(stored)] ^= 1 << bit
        try:
            out = decompressed(compressor, [bytes(stored)])
        except VaultCorrupt:
            return
        assert isinstance(out, bytes)  # the vault finds it by its SHA-256

    @_FIXTURES
    @given(noise=st.binary(max_size=2000))
    def test_noise_raises_nothing_but_vault_corrupt(self, compressor: Compressor, noise: bytes) -> None:
        try:
            out = decompressed(compressor, [noise])
        except VaultCorrupt:
            return
        assert isinstance(out, bytes)
