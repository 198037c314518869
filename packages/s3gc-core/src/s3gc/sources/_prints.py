"""Digests of what a catalogue says, and of its tables those that are there."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeVar

from s3gc.errors import SourceError

T = TypeVar("T")


def digest(*parts: object) -> str:
    """A short digest of values that print the same whenever they are the same."""
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def all_there(tables: Iterable[T | str]) -> list[T]:
    """The tables; a text in the place of one says why it isn't there.

    Raises:
        SourceError: one is missing.
    """
    found: list[T] = []
    for table in tables:
        if isinstance(table, str):
            raise SourceError(table)
        found.append(table)
    return found
