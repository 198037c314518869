"""What every codec of whole objects must pass. Subclass it and give it its fixtures::

class TestMine(CodecContract):
    @pytest.fixture
    def codec(self):
        return Mine()

    @pytest.fixture
    def samples(self):
        return [a_picture, another]
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3gc.abc import ObjectCodec
from s3gc.errors import VaultCorrupt

_FIXTURES = settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # a codec keeps nothing from one call to the next
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
    deadline=None,
)


class CodecContract:
    """Bit-exact or refused, for every input; damage is found; never more bytes than asked for."""

    @pytest.fixture
    def codec(self) -> ObjectCodec:
        raise NotImplementedError("give the fixture `codec`")

    @pytest.fixture
    def samples(self) -> Sequence[bytes]:
        """Objects that the codec takes, small ones: they are encoded many times."""
        raise NotImplementedError("give the fixture `samples`")

    def test_its_name_can_stand_in_a_frame_and_has_a_version(self, codec: ObjectCodec) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*-[0-9]+", codec.name)

    def test_it_names_what_it_needs_with_versions(self, codec: ObjectCodec) -> None:
        for name, version in codec.requires.items():
            assert name
            assert version

    def test_samples_are_taken_and_come_back_smaller(
        self, codec: ObjectCodec, samples: Sequence[bytes]
    ) -> None:
        assert samples
        for data in samples:
            body = codec.encode(data)
            assert body is not None
            assert len(body) < len(data)
            assert codec.decode(body, len(data)) == data

    @_FIXTURES
    @given(data=st.binary(max_size=3000))
    def test_any_bytes_come_back_or_are_refused(self, codec: ObjectCodec, data: bytes) -> None:
        body = codec.encode(data)
        assert body is None or codec.decode(body, len(data)) == data
        assert body is None or len(body) < len(data), "what doesn't get smaller is refused"

    @_FIXTURES
    @given(choice=st.data())
    def test_changed_samples_come_back_or_are_refused(
        self, codec: ObjectCodec, samples: Sequence[bytes], choice: st.DataObject
    ) -> None:
        data = bytearray(samples[choice.draw(st.integers(0, len(samples) - 1))])
        for _ in range(choice.draw(st.integers(0, 3))):
            data[choice.draw(st.integers(0, len(data) - 1))] = choice.draw(st.integers(0, 255))
        changed = bytes(data[: choice.draw(st.integers(0, len(data)))]) + choice.draw(st.binary(max_size=20))
        body = codec.encode(changed)
        assert body is None or codec.decode(body, len(changed)) == changed
        assert body is None or len(body) < len(changed), "what doesn't get smaller is refused"

    @_FIXTURES
    @given(choice=st.data())
    def test_a_damaged_body_raises_nothing_but_vault_corrupt(
        self, codec: ObjectCodec, samples: Sequence[bytes], choice: st.DataObject
    ) -> None:
        data = samples[choice.draw(st.integers(0, len(samples) - 1))]
        made = codec.encode(data)
        assert made is not None
        body = bytearray(made)
        if choice.draw(st.booleans()):
            body[choice.draw(st.integers(0, len(body) - 1))] ^= 1 << choice.draw(st.integers(0, 7))
        else:
            del body[choice.draw(st.integers(0, len(body) - 1)) :]
        self._decodes_or_raises(codec, bytes(body), len(data))

    @_FIXTURES
    @given(noise=st.binary(max_size=2000), size=st.integers(0, 5000))
    def test_noise_raises_nothing_but_vault_corrupt(
        self, codec: ObjectCodec, noise: bytes, size: int
    ) -> None:
        self._decodes_or_raises(codec, noise, size)

    def test_another_size_is_never_answered_with_other_bytes(
        self, codec: ObjectCodec, samples: Sequence[bytes]
    ) -> None:
        for data in samples:
            body = codec.encode(data)
            assert body is not None
            for size in (0, 1, len(data) - 1, len(data) + 1):
                with pytest.raises(VaultCorrupt):
                    codec.decode(body, size)

    def _decodes_or_raises(self, codec: ObjectCodec, body: bytes, size: int) -> None:
        try:
            out = codec.decode(body, size)
        except VaultCorrupt:
            return
        assert len(out) == size  # the vault finds wrong ones by their SHA-256
