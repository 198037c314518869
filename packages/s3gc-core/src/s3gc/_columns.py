"""A page of a listing in columns. Most objects are compared by key and forgotten: they are never made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import repeat
from typing import overload

from s3gc.model import ObjectInfo


class ObjectColumns(Sequence[ObjectInfo]):
    """Objects in key order without versions, all of whose keys the store can address exactly.

    A sequence as any other, but each object is made when it is asked for, anew each time. Columns of texts
    and numbers are nothing that the garbage collector looks at; a thousand objects are.
    """

    __slots__ = ("etags", "keys", "sizes", "storages", "times")

    def __init__(
        self,
        keys: list[str],
        sizes: list[int],
        etags: list[str],
        times: list[datetime],
        storages: list[str | None],
    ) -> None:
        """All of one length; ``keys`` strictly increasing."""
        self.keys = keys
        self.sizes = sizes
        self.etags = etags
        self.times = times
        self.storages = storages

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> ObjectInfo: ...
    @overload
    def __getitem__(self, place: slice) -> ObjectColumns: ...
    def __getitem__(self, place: int | slice) -> ObjectInfo | ObjectColumns:
        if isinstance(place, slice):
            if (place.step or 1) < 0:
                raise ValueError("objects in columns stay in key order: the step must be positive")
            return ObjectColumns(
                self.keys[place],
                self.sizes[place],
                self.etags[place],
                self.times[place],
                self.storages[place],
            )
        return ObjectInfo(
            self.keys[place],
            self.sizes[place],
            self.etags[place],
            self.times[place],
            None,
            self.storages[place],
            False,
        )

    def __iter__(self) -> Iterator[ObjectInfo]:
        return map(
            ObjectInfo,
            self.keys,
            self.sizes,
            self.etags,
            self.times,
            repeat(None),
            self.storages,
            repeat(False),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(
            mine == theirs for mine, theirs in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ObjectColumns({list(self)!r})"


def keys_of(objects: Sequence[ObjectInfo]) -> list[str]:
    """Their keys, without making an object."""
    return objects.keys if isinstance(objects, ObjectColumns) else [found.key for found in objects]
