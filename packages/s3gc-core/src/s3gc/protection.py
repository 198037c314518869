"""What protects a key: references to itself, to a folder that it lies in, to what it is derived from.

The registry and the direct read ask this one place, so that they can't disagree on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from attrs import frozen

from s3gc.abc import folders_of
from s3gc.derivation import Derivation, TooManyParents
from s3gc.model import Reference
from s3gc.registry import folder_hash, key_hash


@frozen
class Protection:
    """The rules of one configuration."""

    derivation: Derivation

    def parents(self, key: str) -> frozenset[str]:
        """Keys whose references protect this one too.

        Raises:
            TooManyParents: nobody can say which.
        """
        return self.derivation.parents(key)

    def unclear(self, key: str) -> bool:
        """Whether the rules read the key in too many ways to follow: it is kept."""
        try:
            self.parents(key)
        except TooManyParents:
            return True
        return False

    def hashes(self, key: str) -> tuple[Sequence[int], Sequence[int]]:
        """Hashes in the registry that protect the key besides its own: (folders, parents)."""
        try:
            parents = self.parents(key)
        except TooManyParents:  # kept by its gate
            parents = frozenset()
        named = [key_hash(parent) for parent in sorted(parents)]
        named += [folder_hash(folder) for parent in parents for folder in folders_of(parent)]
        return [folder_hash(folder) for folder in folders_of(key)], named

    def all_hashes(self, key: str) -> Sequence[int]:
        """Every hash in the registry that protects the key."""
        folders, parents = self.hashes(key)
        return [key_hash(key), *folders, *parents]


class Sought:
    """Keys that are looked for in a direct read, with all that protects them."""

    def __init__(self, keys: Collection[str], protection: Protection) -> None:
        self._by_key: dict[str, list[str]] = {key: [key] for key in keys}
        for key in keys:
            try:
                parents = protection.parents(key)
            except TooManyParents:  # kept by its gate
                continue
            for parent in parents:
                self._by_key.setdefault(parent, []).append(key)
        self._by_folder: dict[str, list[str]] | None = None

    @property
    def names(self) -> Collection[str]:
        """What to ask a source for."""
        return self._by_key.keys()

    def protected_by(self, reference: Reference) -> Iterator[str]:
        """The keys that a reference protects."""
        if not reference.prefix:
            yield from self._by_key.get(reference.key, ())
            return
        if self._by_folder is None:
            self._by_folder = {}
            for name, keys in self._by_key.items():
                for folder in folders_of(name):
                    self._by_folder.setdefault(folder, []).extend(keys)
        yield from self._by_folder.get(reference.key, ())
