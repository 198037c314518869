"""Folders: what a value means in a column whose values reference everything below them."""

from __future__ import annotations

from collections.abc import Iterable

from s3gc.resolver import Resolver

_INSIDE = "s3gc-some-object-inside"  # stands for any object of a folder
_SEPARATORS = frozenset(" \t\r\n\v\f\0,;|\"'`<>()[]{}=&\\?#")


class FolderReader:
    """Turns the keys that a value could mean into the folders that it could mean, for every reader of rows.

    It over-approximates as the resolver does: a folder too many keeps too much.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def folders(self, keys: Iterable[str]) -> frozenset[str]:
        """The folders behind these keys, each with one ``/`` at its end; ``""`` is the whole bucket.

        A value that names the bucket itself (``/``, ``.``, ``s3://my-bucket``, a base URL, a URL that is a
        host alone) means the whole bucket. A bare ``example.com`` is a folder of that name and no host.
        """
        found: set[str] = set()
        for key in keys:
            bare = key.rstrip("/")
            found.add(bare + "/")
            if not bare.strip("./"):
                found.add("")
                continue
            if "?" in bare or "#" in bare:
                bare = bare.partition("#")[0].partition("?")[0].rstrip("/")
            if bare and _SEPARATORS.isdisjoint(bare):
                found |= self._around(bare)
        return frozenset(found)

    def _around(self, bare: str) -> set[str]:
        """The folders of an object below this token. The resolver knows hosts, base URLs, dots, buckets."""
        inside = self._resolver.keys(f"{bare}/{_INSIDE}")
        found = {key.removesuffix(_INSIDE) for key in inside if key.endswith(_INSIDE)}
        if "/" not in bare and "." in bare and ":" not in bare and not self._is_bucket(bare):
            found.discard("")  # a folder with a dot in its name isn't worth keeping a whole bucket for
        return found

    def _is_bucket(self, name: str) -> bool:
        return name.lower().startswith(self._resolver.bucket.lower())
