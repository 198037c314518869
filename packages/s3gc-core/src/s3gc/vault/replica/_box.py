"""One remote's objects as what they hold: sealed on the way out, opened and compared on the way in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from s3gc.errors import VaultCorrupt
from s3gc.vault.replica._remote import Remote
from s3gc.vault.replica._seal import ReplicaKeys, seal, sealed_size, unseal

Same = Callable[[bytes, bytes], bool]


def same_bytes(stored: bytes, wanted: bytes) -> bool:
    return stored == wanted


class Box:
    """A remote and the keys that it is sealed with, or none. All methods block."""

    def __init__(self, remote: Remote, keys: ReplicaKeys | None) -> None:
        self.remote = remote
        self._keys = keys

    def fits(self, stored: int, size: int) -> bool:
        """Whether an object of ``stored`` bytes can hold ``size`` bytes."""
        if self._keys is None:
            return stored == size
        return any(stored == sealed_size(size, key) for key in self._keys.ids)

    def read(self, name: str) -> bytes:
        """An object's content.

        Raises:
            FileNotFoundError: there is none.
            VaultCorrupt: it isn't what was sealed, or it is sealed and no keys are given, or the reverse.
            VaultError: its key is missing.
            StoreError: it can't be read.
        """
        data = self.remote.read(name)
        if self._keys is None:
            return data
        return unseal(self._keys, name, data)

    def compare(self, name: str, wanted: bytes, same: Same = same_bytes) -> None:
        """Read an object back.

        Raises:
            VaultCorrupt: it holds something else.
        """
        try:
            stored = self.read(name)
        except FileNotFoundError:
            raise VaultCorrupt(f"{self.remote.url} has lost {name}") from None
        if not same(stored, wanted):
            raise VaultCorrupt(
                f"{name} exists in {self.remote.url} with other bytes than this vault's, and nothing is "
                "overwritten there: check both, move the object away, or begin a replica under another prefix"
            )

    def create(self, name: str, content: bytes, same: Same = same_bytes) -> None:
        """Write an object where none is, and read it back. One that is there must hold the same.

        Raises:
            VaultCorrupt: it reads back as something else.
            StoreError: the outcome is unknown; doing it again finds out.
        """
        data = content if self._keys is None else seal(self._keys, name, content)
        # One that exists is from a run that was stopped, or of another process: compared like our own.
        with contextlib.suppress(FileExistsError):
            self.remote.create(name, data)
        self.compare(name, content, same)

    def probe(self, name: str) -> bool:
        """Whether the store refuses to write over an existing object, tried with that object's own bytes."""
        try:
            self.remote.create(name, self.remote.read(name))
        except FileExistsError:
            return True
        return False
