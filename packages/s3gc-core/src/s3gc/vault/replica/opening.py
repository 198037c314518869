"""A replicator by URLs, in places that are worth something."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from s3gc.clock import Clock
from s3gc.config import redact
from s3gc.errors import ConfigError
from s3gc.vault.local import LocalVault
from s3gc.vault.replica._remote import open_remote
from s3gc.vault.replica._seal import ReplicaKeys
from s3gc.vault.replica.replicator import Replicator


@asynccontextmanager
async def open_replicator(
    vault: LocalVault, urls: Sequence[str], *, clock: Clock, keys: ReplicaKeys | None = None
) -> AsyncIterator[Replicator]:
    """A replicator of an open vault, by URLs; see :func:`open_remote` for their forms.

    Raises:
        ConfigError: a URL is malformed, or lies in the collected bucket or in the vault.
        VaultError: the notes can't be used.
    """
    for url in urls:
        require_elsewhere(url, vault)
    replicator = Replicator(vault, [open_remote(url) for url in urls], clock=clock, keys=keys)
    try:
        await replicator.open()
        yield replicator
    finally:
        await replicator.aclose()


def require_elsewhere(url: str, vault: LocalVault) -> None:
    """
    Raises:
        ConfigError: it would lie in the collected bucket, where no row refers to it, or in the vault.
    """
    for other, what in ((vault.journal.bucket, "the bucket that is collected"), (vault.url, "the vault")):
        if one_place(url, other):
            raise ConfigError(f"the replica {redact(url)} would lie in {what}: give it a place of its own")


def one_place(url: str, other: str) -> bool:
    """Whether two URLs are of one bucket, or of folders of which one lies in the other."""
    ours, theirs = urlsplit(url), urlsplit(other)
    scheme = ours.scheme or "file"
    if scheme != theirs.scheme:
        return False
    if scheme != "file":
        return ours.netloc == theirs.netloc
    path = Path(unquote(ours.path) if ours.scheme else url).resolve()
    folder = Path(unquote(theirs.path)).resolve()
    return path == folder or folder in path.parents or path in folder.parents
