"""A folder and what it should hold, byte by byte."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from attrs import frozen

from s3gc.abc import RESERVED_PREFIX


@frozen
class Comparison:
    """How a folder differs from what it should hold."""

    same: int  # files with the very same bytes
    bytes: int  # in those files
    missing: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether there is no difference at all. Nothing compared is no proof of anything."""
        return self.same > 0 and not (self.missing or self.different or self.extra)

    def __str__(self) -> str:
        if self.equal:
            return f"{self.same:,} files, {self.bytes:,} bytes, all equal"
        found = (("missing", self.missing), ("different", self.different), ("too many", self.extra))
        said = [f"{len(keys):,} {what}, e.g. {keys[0]!r}" for what, keys in found if keys]
        return f"{self.same:,} files equal; " + ("; ".join(said) or "nothing was compared")


def files(folder: Path) -> frozenset[str]:
    """The keys of all files in a folder, but for what s3gc keeps there itself."""
    return everything(folder) - own(folder)


def own(folder: Path) -> frozenset[str]:
    """The keys of what s3gc keeps in the bucket itself: whose turn it is, and whose bucket."""
    return frozenset(key for key in everything(folder) if key.startswith(RESERVED_PREFIX))


def everything(folder: Path) -> frozenset[str]:
    """The keys of all files in a folder."""
    return frozenset(
        os.path.relpath(os.path.join(base, name), folder).replace(os.sep, "/")
        for base, _, names in os.walk(folder)
        for name in names
    )


def compare(
    original: Mapping[str, bytes], bucket: Path, *, only: Collection[str] | None = None
) -> Comparison:
    """Compare every byte of a bucket with the original; with ``only``, of those keys (none is too many)."""
    wanted = frozenset(original) if only is None else frozenset(only)
    there = files(bucket)
    same, total, different = 0, 0, []
    for key in sorted(wanted & there):
        body = (bucket / key).read_bytes()
        if body == original.get(key):
            same, total = same + 1, total + len(body)
        else:
            different.append(key)
    return Comparison(
        same=same,
        bytes=total,
        missing=tuple(sorted(wanted - there)),
        different=tuple(different),
        extra=tuple(sorted(there - wanted)) if only is None else (),
    )
