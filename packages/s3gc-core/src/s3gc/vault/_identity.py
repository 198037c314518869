"""``vault.json``: which vault a folder is, and of which bucket."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from s3gc.errors import VaultCorrupt, VaultError, VaultMismatch
from s3gc.vault import _fs
from s3gc.vault.records import canonical, time_from_text, time_to_text

IDENTITY_NAME = "vault.json"
FORMAT = 1
"""The version of the folder's layout. A newer one is refused."""


@frozen
class Identity:
    """What is pinned when a vault is made."""

    vault_id: str
    store_url: str
    created_at: datetime


def write_identity(folder: Path, identity: Identity) -> None:
    """Atomically and durably; raises OSError."""
    made = {
        "created_at": time_to_text(identity.created_at),
        "format": FORMAT,
        "store_url": identity.store_url,
        "vault_id": identity.vault_id,
    }
    _fs.replace_file(folder / IDENTITY_NAME, (canonical(made) + "\n").encode())


def read_identity(folder: Path) -> Identity | None:
    """The vault's identity; None when the folder has none.

    Raises:
        VaultError: it is of a newer version, or can't be read.
        VaultCorrupt: it isn't what was written.
    """
    path = folder / IDENTITY_NAME
    try:
        with _fs.explained(f"read {path}"):
            data = path.read_bytes() if path.exists() else None
        if data is None:
            return None
        fields: Any = json.loads(data)
    except ValueError as error:
        raise VaultCorrupt(f"{path} is damaged ({error}): bring it back from a copy of the vault") from error
    version = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise VaultError(f"{path} is of format {version}, known is {FORMAT}: update s3gc")
    names = {"created_at", "format", "store_url", "vault_id"}
    if (
        version != FORMAT
        or fields.keys() != names
        or not all(isinstance(fields[n], str) for n in names - {"format"})
    ):
        raise VaultCorrupt(f"{path} is damaged: bring it back from a copy of the vault")
    return Identity(fields["vault_id"], fields["store_url"], time_from_text(fields["created_at"]))


def require_bucket(folder: Path, identity: Identity, store_url: str) -> None:
    """Raises VaultMismatch unless it is the vault of this bucket."""
    if identity.store_url != store_url:
        raise VaultMismatch(
            f"the vault in {folder} belongs to {identity.store_url}, not to {store_url}: "
            "give every bucket a vault of its own"
        )
