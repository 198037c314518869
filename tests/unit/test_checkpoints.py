"""A checkpoint that was kept elsewhere shows what the chain alone can't: a whole new history."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from s3gc.clock import SystemClock
from s3gc.errors import ConfigError, VaultCorrupt, VaultError
from s3gc.model import JournalDraft
from s3gc.testing.vault_contract import STORE_URL, entries
from s3gc.vault import LocalVault, SqliteJournal
from s3gc.vault.checkpoints import (
    Checkpoint,
    against,
    checkpoint_from_json,
    checkpoints_from,
    make_checkpoint,
    private_key_from,
    public_key_from,
)
from unit.test_vault_local import local_vault, vault  # noqa: F401

pytestmark = pytest.mark.anyio

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def write(vault: LocalVault, *keys: str) -> None:
    await vault.journal.append([JournalDraft("would_delete", "op", key, {"n": 1}) for key in keys])


async def sign(vault: LocalVault, key: Ed25519PrivateKey = KEY) -> Checkpoint:
    return await make_checkpoint(vault, key, NOW, "op")


async def problems(vault: LocalVault, *kept: Checkpoint) -> list[str]:
    return await against(vault, kept, KEY.public_key())


async def test_a_journal_that_only_grew_agrees(vault: LocalVault) -> None:
    await write(vault, "a", "b")
    first = await sign(vault)
    assert (first.seq, first.vault_id) == (2, vault.id)
    await write(vault, "c")
    second = await sign(vault)
    assert second.seq == 4  # the first one's own entry is number 3
    assert await problems(vault, first, second) == []
    noted = await entries(vault, events={"checkpointed"})
    assert [checkpoint_from_json(entry.data) for entry in noted] == [first, second]
    assert checkpoints_from(json.dumps(first.as_json())) == [first]
    lines = "\n".join(json.dumps(one.as_json()) for one in (first, second)) + "\n"
    assert checkpoints_from(lines) == [first, second]


async def rewritten(vault: LocalVault, *keys: str) -> LocalVault:
    """The same vault with a whole new journal, which the chain has nothing against."""
    await vault.aclose()
    for path in vault.folder.glob("journal.*"):
        path.unlink()
    journal = SqliteJournal(vault.folder, vault_id=vault.id, bucket=STORE_URL, clock=SystemClock())
    await journal.create()
    await journal.aclose()
    again = local_vault(vault.folder)
    await again.open(STORE_URL, create=False)
    await write(again, *keys)
    assert (await again.journal.verify()).ok
    return again


@pytest.mark.parametrize(
    ("keys", "said"), [(("a", "x", "c", "d"), "written anew"), (("a",), "cut off")], ids=["other", "shorter"]
)
async def test_a_whole_new_history_shows(vault: LocalVault, keys: tuple[str, ...], said: str) -> None:
    await write(vault, "a", "b", "c")
    kept = await sign(vault)
    forged = await rewritten(vault, *keys)
    (told,) = await problems(forged, kept)
    assert said in told
    assert "checkpoint of entry 3" in told
    await forged.aclose()


async def test_who_has_no_key_cannot_sign_the_new_history(vault: LocalVault) -> None:
    await write(vault, "a")
    await sign(vault)
    forged = await rewritten(vault, "x")
    await sign(forged, OTHER)
    (told,) = await problems(forged)
    assert "isn't one of this key" in told
    assert (await against(forged, [], OTHER.public_key())) == []
    await forged.aclose()


@pytest.mark.parametrize("name", ["vault_id", "seq", "hash", "at", "public_key", "signature"])
async def test_a_changed_checkpoint_proves_nothing(vault: LocalVault, name: str) -> None:
    await write(vault, "a", "b")
    kept = await sign(vault)
    other = {"seq": 1, "at": datetime(2020, 1, 1, tzinfo=UTC)}.get(name, "0" * 64)
    (told,) = await problems(vault, evolve(kept, **{name: other}))
    assert "proves nothing" in told


async def test_a_checkpoint_of_another_vault(vault: LocalVault, tmp_path: Path) -> None:
    await write(vault, "a")
    another = local_vault(tmp_path / "another")
    await another.open(STORE_URL)
    await write(another, "a")
    (told,) = await problems(vault, await sign(another))
    assert another.id in told
    await another.aclose()


async def test_a_copy_put_back_from_before_the_checkpoint_shows(vault: LocalVault, tmp_path: Path) -> None:
    await write(vault, "a", "b")
    await vault.aclose()
    shutil.copytree(vault.folder, tmp_path / "copy")
    again = local_vault(vault.folder)
    await again.open(STORE_URL)
    await write(again, "c")
    kept = await sign(again)
    await again.aclose()
    old = local_vault(tmp_path / "copy")
    await old.open(STORE_URL)
    assert (await old.journal.verify()).ok
    (told,) = await problems(old, kept)
    assert "cut off" in told
    await old.aclose()


async def test_nothing_to_sign(vault: LocalVault) -> None:
    with pytest.raises(VaultError, match="empty"):
        await sign(vault)


async def test_what_is_noted_and_is_no_checkpoint(vault: LocalVault) -> None:
    await vault.journal.append([JournalDraft("checkpointed", "op", None, {"seq": 1})])
    (told,) = await problems(vault)
    assert "entry 1: this is not a checkpoint" in told


PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def test_keys_are_read_as_openssl_writes_them() -> None:
    plain = KEY.private_bytes(PEM, PKCS8, serialization.NoEncryption())
    assert private_key_from(plain).private_bytes_raw() == b"k" * 32
    public = KEY.public_key().public_bytes(PEM, SPKI)
    assert public_key_from(public).public_bytes_raw() == KEY.public_key().public_bytes_raw()


@pytest.mark.parametrize(
    ("read", "pem"),
    [
        (private_key_from, b"nonsense"),
        (private_key_from, KEY.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x"))),
        (
            private_key_from,
            X25519PrivateKey.from_private_bytes(b"x" * 32).private_bytes(
                PEM, PKCS8, serialization.NoEncryption()
            ),
        ),
        (public_key_from, b""),
        (
            public_key_from,
            X25519PrivateKey.from_private_bytes(b"x" * 32).public_key().public_bytes(PEM, SPKI),
        ),
    ],
)
def test_what_is_no_such_key(read: Callable[[bytes], object], pem: bytes) -> None:
    with pytest.raises(ConfigError):
        read(pem)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_what_is_no_checkpoint_is_refused(value: object) -> None:
    with pytest.raises(VaultError):
        checkpoint_from_json(value)
    with pytest.raises(VaultError):
        checkpoints_from(json.dumps(value))


def test_an_empty_file_and_a_newer_format() -> None:
    for text in ("", "\n", "[]", "not json"):
        with pytest.raises(VaultCorrupt):
            checkpoints_from(text)
    with pytest.raises(VaultError, match="update"):
        checkpoint_from_json({"format": 2})
