"""A report's list of keys: in memory while it is short, in a file when it is long."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

IN_MEMORY = 50_000
"""Keys kept in memory (at most 1,024 bytes each: 50 MB in the worst case, about 5 MB as a rule)."""


class KeyFile(Sequence[str]):
    """Keys in a file, one JSON string a line; costs 8 bytes of memory a key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets = array("Q")
        self._end = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    def extend(self, keys: Iterable[str]) -> None:
        """Append keys."""
        with self._path.open("ab") as file:
            for key in keys:
                line = json.dumps(key).encode() + b"\n"
                file.write(line)
                self._offsets.append(self._end)
                self._end += len(line)

    def renamed(self, path: Path) -> KeyFile:
        """The same list under another name."""
        self._path.replace(path)
        self._path = path
        return self

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[str]:
        with self._path.open("rb") as file:
            for line in file:
                yield json.loads(line)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        with self._path.open("rb") as file:
            file.seek(self._offsets[index])
            return str(json.loads(file.readline()))


class KeyCollector:
    """Takes keys as they come; moves to a file when they become many."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: list[str] | KeyFile = []

    def extend(self, keys: Iterable[str]) -> None:
        """Append keys."""
        self._keys.extend(keys)
        if isinstance(self._keys, list) and len(self._keys) > IN_MEMORY:
            file = KeyFile(self._path)
            file.extend(self._keys)
            self._keys = file

    def remove(self, keys: Iterable[str]) -> None:
        """Take out a few keys."""
        unwanted = frozenset(keys)
        if not unwanted:
            return
        if isinstance(self._keys, list):
            self._keys = [key for key in self._keys if key not in unwanted]
        else:
            rest = KeyFile(self._path.with_name(self._path.name + "-2"))
            rest.extend(key for key in self._keys if key not in unwanted)
            self._keys = rest.renamed(self._path)

    def keys(self) -> Sequence[str]:
        """All keys taken, in order."""
        return self._keys
