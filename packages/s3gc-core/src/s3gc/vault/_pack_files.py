"""Packs as files to read from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from s3gc.errors import VaultCorrupt
from s3gc.vault import _fs
from s3gc.vault.packs import PACK_SUFFIX


class PackMissing(VaultCorrupt):
    """A pack that should be there isn't: it was lost, or moved by another process a moment ago."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is missing: bring it back from a copy of the vault")
        self.pack = path.name.removesuffix(PACK_SUFFIX)


def open_pack(folder: Path, pack: str) -> int:
    """A descriptor to read from.

    Raises:
        PackMissing: there is no such pack.
        VaultError: it can't be opened.
    """
    path = folder / (pack + PACK_SUFFIX)
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise PackMissing(path) from error
    except OSError as error:
        raise _fs.vault_error(f"read {path}", error) from error


@contextlib.contextmanager
def opened_pack(folder: Path, pack: str) -> Iterator[int]:
    """As :func:`open_pack`, and closed at the end."""
    fd = open_pack(folder, pack)
    try:
        yield fd
    finally:
        os.close(fd)
