"""Signed checkpoints: what the journal's end was at a time, in the operator's hand.

The chain shows any change within a journal. It can't show that somebody who may write to the vault made up a
whole new journal. A checkpoint that is kept elsewhere does: it names one entry by number and hash, and its
signature can't be made without the operator's key. Needs the extra ``signing`` (``cryptography``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import frozen

from s3gc.abc import Vault
from s3gc.errors import ConfigError, VaultCorrupt, VaultError
from s3gc.journal_events import CHECKPOINTED
from s3gc.model import JournalDraft, JournalEntry
from s3gc.vault.records import canonical, time_from_text, time_to_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FORMAT = 1
"""The version of what is signed."""

_TEXTS = frozenset(("at", "hash", "public_key", "signature", "vault_id"))
_NAMES = _TEXTS | {"format", "seq"}


@frozen
class Checkpoint:
    """A statement about one entry of one vault's journal, and the signature below it."""

    vault_id: str
    seq: int
    hash: str  # of that entry, hex
    at: datetime
    public_key: str  # 32 bytes, hex: tells which key signed, and proves nothing
    signature: str = ""  # Ed25519 over :meth:`signed`, 64 bytes, hex

    def signed(self) -> bytes:
        """What the signature is over: canonical JSON of all but the signature."""
        return canonical({k: v for k, v in self.as_json().items() if k != "signature"}).encode()

    def as_json(self) -> dict[str, Any]:
        """The checkpoint as JSON values."""
        return {
            "at": time_to_text(self.at),
            "format": FORMAT,
            "hash": self.hash,
            "public_key": self.public_key,
            "seq": self.seq,
            "signature": self.signature,
            "vault_id": self.vault_id,
        }


def checkpoint_from_json(fields: Any) -> Checkpoint:
    """The inverse of :meth:`Checkpoint.as_json`.

    Raises:
        VaultCorrupt: it isn't a checkpoint.
        VaultError: it is of a newer format.
    """
    if isinstance(fields, dict) and isinstance(fields.get("format"), int) and fields["format"] > FORMAT:
        raise VaultError(f"this checkpoint is of format {fields['format']}, known is {FORMAT}: update s3gc")
    if (
        not isinstance(fields, dict)
        or fields.keys() != _NAMES
        or fields["format"] != FORMAT
        or type(fields["seq"]) is not int
        or not all(isinstance(fields[name], str) for name in _TEXTS)
    ):
        raise VaultCorrupt("this is not a checkpoint")
    made = Checkpoint(
        fields["vault_id"],
        fields["seq"],
        fields["hash"],
        time_from_text(fields["at"]),
        fields["public_key"],
        fields["signature"],
    )
    # The same moment and the same bytes can be written in several ways, and one of them was.
    if made.as_json() != fields or fields["signature"] != fields["signature"].lower():
        raise VaultCorrupt("this checkpoint isn't as it was written")
    return made


def checkpoints_from(text: str) -> list[Checkpoint]:
    """Those of a file: one JSON document, or one a line.

    Raises:
        VaultCorrupt, VaultError: it holds something else, or nothing.
    """
    try:
        try:
            documents = [json.loads(text)]
        except ValueError:
            documents = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise VaultCorrupt(f"this is not a file of checkpoints: {error}") from error
    found = [checkpoint_from_json(document) for document in documents]
    if not found:
        raise VaultCorrupt("the file holds no checkpoint")
    return found


# --------------------------------------------------------------------------- keys


def private_key_from(pem: bytes) -> Ed25519PrivateKey:
    """The operator's key, as ``openssl genpkey -algorithm ed25519`` writes it.

    Raises:
        ConfigError: it isn't such a key, has a password, or ``cryptography`` isn't installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise _not_installed() from error
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"this is no private key in PEM without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("the key is not of Ed25519: make one with `openssl genpkey -algorithm ed25519`")
    return key


def public_key_from(pem: bytes) -> Ed25519PublicKey:
    """The other half, as ``openssl pkey -pubout`` writes it.

    Raises:
        ConfigError: it isn't such a key, or ``cryptography`` isn't installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise _not_installed() from error
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"this is no public key in PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("the key is not of Ed25519")
    return key


def _not_installed() -> ConfigError:
    return ConfigError("checkpoints need cryptography: pip install 's3gc-core[signing]'")


# --------------------------------------------------------------------------- making and checking


async def make_checkpoint(
    vault: Vault, key: Ed25519PrivateKey, now: datetime, operation_id: str
) -> Checkpoint:
    """Sign the journal's last entry. The checkpoint becomes an entry itself; keep it elsewhere, too.

    Raises:
        VaultError: the journal is empty, or can't be read or written.
    """
    last = await _last(vault)
    if last is None:
        raise VaultError("the journal is empty: there is nothing to sign yet")
    stated = Checkpoint(vault.id, last.seq, last.hash, now, key.public_key().public_bytes_raw().hex())
    signature = key.sign(stated.signed()).hex()
    made = Checkpoint(stated.vault_id, stated.seq, stated.hash, stated.at, stated.public_key, signature)
    await vault.journal.append([JournalDraft(CHECKPOINTED, operation_id, None, made.as_json())])
    return made


async def against(vault: Vault, checkpoints: Sequence[Checkpoint], key: Ed25519PublicKey) -> list[str]:
    """What speaks against the journal: problems with the given checkpoints, and with those in the journal."""
    told: list[str] = []
    for one in checkpoints:
        told += [f"checkpoint of entry {one.seq}: {why}" for why in await _problems(vault, one, key)]
    async for entry in vault.journal.read(events={CHECKPOINTED}):
        try:
            own = checkpoint_from_json(entry.data)
        except VaultError as error:
            told.append(f"entry {entry.seq}: {error}")
            continue
        told += [f"entry {entry.seq}, a checkpoint: {why}" for why in await _problems(vault, own, key)]
    return told


async def _problems(vault: Vault, one: Checkpoint, key: Ed25519PublicKey) -> list[str]:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(bytes.fromhex(one.signature), one.signed())
    except (InvalidSignature, ValueError):
        return ["its signature isn't one of this key: it proves nothing"]
    if one.vault_id != vault.id:
        return [f"it is of the vault {one.vault_id}, and this is {vault.id}: another, or made anew"]
    async with aclosing(vault.journal.read(after_seq=one.seq - 1)) as found:  # type: ignore[type-var]
        async for entry in found:
            if entry.seq == one.seq and entry.hash == one.hash:
                return []
            break
        else:
            return ["the journal ends before it: its end was cut off"]
    return ["that entry has another hash: the history before it was written anew"]


async def _last(vault: Vault) -> JournalEntry | None:
    seq = (await vault.stats()).journal_entries
    last: JournalEntry | None = None
    async with aclosing(vault.journal.read(after_seq=max(0, seq - 1))) as found:  # type: ignore[type-var]
        async for entry in found:
            last = entry
    return last
