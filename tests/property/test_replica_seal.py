"""Sealed objects: whatever is done to one is found, and no key is ever shown."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.errors import ConfigError, VaultCorrupt, VaultError
from s3gc.vault.replica import ReplicaKeys, load_keys, new_key_line, parse_keys
from s3gc.vault.replica._seal import HEADER, MAGIC, TAG_BYTES, seal, sealed_size, unseal

KEY = bytes(range(32))
KEYS = ReplicaKeys({"2026": KEY, "2025": bytes(32)})
NAME = "packs/01K00000000000000000000000/000000000000-000000000001.part"
SEGMENT = 16


@given(data=st.binary(max_size=100), segment=st.integers(1, 40))
def test_what_was_sealed_opens(data: bytes, segment: int) -> None:
    sealed = seal(KEYS, NAME, data, segment=segment)
    assert unseal(KEYS, NAME, sealed) == data
    assert len(data) < 8 or data not in sealed[HEADER.size :]


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1, 3 * 1024 * 1024])
def test_the_size_of_a_sealed_object_is_known(size: int) -> None:
    sealed = seal(KEYS, NAME, bytes(size))
    assert len(sealed) == sealed_size(size, "2026")
    assert unseal(KEYS, NAME, sealed) == bytes(size)


def test_each_flipped_bit_is_found() -> None:
    sealed = seal(KEYS, NAME, b"three segments and a little more of it", segment=SEGMENT)
    for at in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[at] ^= 1 << bit
            with pytest.raises(VaultError):
                unseal(KEYS, NAME, bytes(changed))


def segments_of(sealed: bytes) -> tuple[bytes, list[bytes]]:
    head = HEADER.size + len(KEYS.current)
    body, step = sealed[head:], SEGMENT + TAG_BYTES
    return sealed[:head], [body[begin : begin + step] for begin in range(0, len(body), step)]


@given(data=st.binary(min_size=1, max_size=100), order=st.lists(st.integers(0, 6), max_size=8))
def test_segments_left_out_moved_or_repeated_are_found(data: bytes, order: list[int]) -> None:
    sealed = seal(KEYS, NAME, data, segment=SEGMENT)
    head, parts = segments_of(sealed)
    made = head + b"".join(parts[n % len(parts)] for n in order)
    if made != sealed:
        with pytest.raises(VaultCorrupt):
            unseal(KEYS, NAME, made)


@given(data=st.binary(max_size=70))
def test_each_end_that_is_cut_off_or_added_is_found(data: bytes) -> None:
    sealed = seal(KEYS, NAME, data, segment=SEGMENT)
    for length in range(len(sealed)):
        with pytest.raises(VaultError):
            unseal(KEYS, NAME, sealed[:length])
    for more in (b"\0", bytes(TAG_BYTES), sealed[-TAG_BYTES:], sealed):
        with pytest.raises(VaultCorrupt):
            unseal(KEYS, NAME, sealed + more)


@given(one=st.binary(min_size=SEGMENT, max_size=80), other=st.binary(min_size=SEGMENT, max_size=80))
def test_a_segment_of_another_object_is_found(one: bytes, other: bytes) -> None:
    head, parts = segments_of(seal(KEYS, NAME, one, segment=SEGMENT))
    _, others = segments_of(seal(KEYS, NAME, other, segment=SEGMENT))
    with pytest.raises(VaultCorrupt):
        unseal(KEYS, NAME, head + b"".join([others[0], *parts[1:]]))


def test_another_name_is_found() -> None:
    sealed = seal(KEYS, NAME, b"x")
    for name in (NAME + "2", NAME[:-1], "", "journal/000000000001-000000000001.jsonl.zst"):
        with pytest.raises(VaultCorrupt, match="renamed"):
            unseal(KEYS, name, sealed)


def test_what_was_never_sealed_is_refused() -> None:
    for data in (b"", b"plain", MAGIC, MAGIC + b"\0" * 10):
        with pytest.raises(VaultCorrupt):
            unseal(KEYS, NAME, data)
    with pytest.raises(VaultError, match="update s3gc"):
        unseal(KEYS, NAME, seal(KEYS, NAME, b"x").replace(MAGIC + b"\0\1", MAGIC + b"\0\2"))


def test_nothing_is_sealed_twice_alike() -> None:
    some = {seal(KEYS, NAME, b"the same") for _ in range(200)}
    assert len(some) == 200
    assert len({sealed[-20:] for sealed in some}) == 200


def test_the_format_is_as_the_page_says() -> None:
    """Opened with nothing but the primitives, as docs/replication.md describes it."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    data = bytes(range(256)) * 5000
    sealed = seal(KEYS, NAME, data)
    assert sealed[:8] == b"S3GCSEAL"
    assert sealed[8:10] == b"\0\1"
    assert int.from_bytes(sealed[10:14], "big") == 1024 * 1024
    salt, length = sealed[14:46], sealed[46]
    assert sealed[47 : 47 + length] == b"2026"
    bound = sealed[: 47 + length] + NAME.encode()
    cipher = AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=bound).derive(KEY))
    body, step, opened = sealed[47 + length :], 1024 * 1024 + 16, b""
    for number, begin in enumerate(range(0, len(body), step)):
        last = begin + step >= len(body)
        nonce = bytes(7) + number.to_bytes(4, "big") + bytes([last])
        opened += cipher.decrypt(nonce, body[begin : begin + step], bound)
    assert opened == data


# ---------------------------------------------------------------------------------- keys


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    old = ReplicaKeys({"2025": bytes(32)})
    sealed = seal(old, NAME, b"x")
    assert unseal(KEYS, NAME, sealed) == b"x"
    fresh = seal(KEYS, NAME, b"x")
    assert b"2026" in fresh
    with pytest.raises(VaultError, match="sealed with the key '2026', and the keys given are 2025"):
        unseal(old, NAME, fresh)


def test_another_key_of_the_same_id_is_told() -> None:
    sealed = seal(KEYS, NAME, b"x")
    with pytest.raises(VaultCorrupt, match="another key had this id"):
        unseal(ReplicaKeys({"2026": bytes(32)}), NAME, sealed)


def test_keys_come_from_a_file_or_a_variable(tmp_path: Path) -> None:
    line = new_key_line("a")
    text = f"# made today\n\n{line}old {base64.b64encode(KEY).decode()}  # of last year\n"
    (tmp_path / "keys").write_text(text)
    keys = load_keys(str(tmp_path / "keys"))
    assert (keys.ids, keys.current) == (("a", "old"), "a")
    assert unseal(keys, NAME, seal(ReplicaKeys({"old": KEY}), NAME, b"x")) == b"x"
    variable = ";".join(text.splitlines())
    assert load_keys("env:MINE", {"MINE": f"old {base64.b64encode(KEY).decode()}"}).ids == ("old",)
    assert load_keys("env:MINE", {"MINE": variable}).ids == ("a", "old")
    with pytest.raises(ConfigError, match="'MINE'"):
        load_keys("env:MINE", {})
    with pytest.raises(ConfigError, match="can't be read"):
        load_keys(str(tmp_path / "none"))


SECRET = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        f"a {SECRET} more",
        f"a {SECRET[:-4]}",
        f"a {SECRET[:-1]}",
        f"a !{SECRET}",
        f"a {SECRET}\na {SECRET}",
        f"a {SECRET}\nb {SECRET}",
        f"a/b {SECRET}",
        f"{SECRET} a",
    ],
)
def test_bad_keys_are_told_without_showing_them(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_keys(text)
    told = str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)
    assert SECRET[:12] not in told
    assert caught.value.__cause__ is None


def test_keys_are_never_shown_nor_pickled() -> None:
    assert repr(KEYS) == "ReplicaKeys(2026, 2025)" == str(KEYS)
    with pytest.raises(TypeError):
        pickle.dumps(KEYS)
    assert new_key_line("x") != new_key_line("x")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match="encryption"):
        ReplicaKeys({"a": KEY})
