"""Two folders, byte by byte."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from attrs import frozen

_PIECE = 1024 * 1024


@frozen
class Comparison:
    """How a folder differs from the one that it should equal."""

    same: int  # files with the very same bytes
    bytes: int  # in those files
    missing: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether there is no difference at all. Two empty folders are no proof of anything."""
        return self.same > 0 and not (self.missing or self.different or self.extra)

    def __str__(self) -> str:
        if self.equal:
            return f"{self.same:,} files, {self.bytes:,} bytes, all equal"
        found = (("missing", self.missing), ("different", self.different), ("too many", self.extra))
        said = [f"{len(keys):,} {what}, e.g. {keys[0]!r}" for what, keys in found if keys]
        return f"{self.same:,} files equal; " + ("; ".join(said) or "nothing was compared")


def files(folder: Path) -> frozenset[str]:
    """The keys of all files in a folder."""
    return frozenset(
        os.path.relpath(os.path.join(base, name), folder).replace(os.sep, "/")
        for base, _, names in os.walk(folder)
        for name in names
    )


def compare(original: Path, bucket: Path, *, only: Collection[str] | None = None) -> Comparison:
    """Compare every byte of two folders, or of those keys ``only`` (then nothing counts as too many)."""
    wanted = files(original) if only is None else frozenset(only)
    there = files(bucket)
    same, total, different = 0, 0, []
    for key in sorted(wanted & there):
        length = _equal(original / key, bucket / key)
        if length is None:
            different.append(key)
        else:
            same, total = same + 1, total + length
    return Comparison(
        same=same,
        bytes=total,
        missing=tuple(sorted(wanted - there)),
        different=tuple(different),
        extra=tuple(sorted(there - wanted)) if only is None else (),
    )


def _equal(first: Path, second: Path) -> int | None:
    """The length of two files with the same bytes, else None."""
    length = 0
    try:
        with first.open("rb") as one, second.open("rb") as other:
            while True:
                expected, found = one.read(_PIECE), other.read(_PIECE)
                if expected != found:
                    return None
                if not expected:
                    return length
                length += len(expected)
    except FileNotFoundError:
        return None  # a key that is in neither: nothing was compared
