"""Everything that a report shows, from one pass over the objects, in bounded memory."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import Factory, define, frozen

MOST_PREFIXES = 5_000
"""Folders that are counted by name; what lies in further ones counts for the folder above."""

DEPTH = 3
"""Folders of a key that are told apart: ``a/b/c/`` and all below it."""

SAMPLES = 60
LARGEST = 20

_AGES = ((1, "a day"), (7, "a week"), (30, "a month"), (91, "a quarter"), (365, "a year"), (1826, "5 years"))
"""Days, and how they are called."""


@frozen
class Item:
    """One object of the report."""

    key: str
    size: int  # bytes
    modified: datetime  # when it was uploaded
    since: datetime | None  # unreferenced since
    reason: str


@define
class Folder:
    """What lies below a prefix."""

    objects: int = 0
    bytes: int = 0


@define
class Gathered:
    """What was counted."""

    now: datetime
    objects: int = 0
    bytes: int = 0
    folders: dict[str, Folder] = Factory(dict)
    sizes: Counter[int] = Factory(Counter)  # power of two → objects
    ages: Counter[int] = Factory(Counter)  # index into :data:`AGES` → objects
    waits: Counter[int] = Factory(Counter)  # the same, since they became unreferenced
    samples: list[Item] = Factory(list)
    _largest: list[tuple[int, str, int, Item]] = Factory(list)
    # The same plan gives the same report.
    _chance: random.Random = Factory(lambda: random.Random(1))

    def add(self, item: Item) -> None:
        """Count one object."""
        self.objects += 1
        self.bytes += item.size
        folder = self.folders.setdefault(self._prefix(item.key), Folder())
        folder.objects += 1
        folder.bytes += item.size
        self.sizes[item.size.bit_length()] += 1
        self.ages[_age(self.now, item.modified)] += 1
        if item.since is not None:
            self.waits[_age(self.now, item.since)] += 1
        self._sample(item)
        entry = (item.size, item.key, self.objects, item)
        if len(self._largest) < LARGEST:
            heapq.heappush(self._largest, entry)
        else:
            heapq.heappushpop(self._largest, entry)

    def _prefix(self, key: str) -> str:
        parts = key.split("/")[:-1][:DEPTH]
        while True:
            prefix = "".join(part + "/" for part in parts)
            if not parts or prefix in self.folders or len(self.folders) < MOST_PREFIXES:
                return prefix
            parts.pop()

    def _sample(self, item: Item) -> None:
        """Each object is as likely as any other (reservoir sampling, algorithm R)."""
        if len(self.samples) < SAMPLES:
            self.samples.append(item)
        elif (at := self._chance.randrange(self.objects)) < SAMPLES:
            self.samples[at] = item

    @property
    def largest(self) -> Sequence[Item]:
        """The largest objects, largest first."""
        return [item for _, _, _, item in sorted(self._largest, reverse=True)]

    def bars(self, counted: Mapping[int, int]) -> list[tuple[str, int]]:
        """An age's histogram: what each bar is called, and how many objects it has."""
        names = [f"less than {name}" for _, name in _AGES] + [f"{_AGES[-1][1]} or more"]
        return [(name, counted.get(at, 0)) for at, name in enumerate(names)]

    def size_bars(self) -> list[tuple[str, int]]:
        """The sizes' histogram, by powers of four from the smallest to the largest that there are."""
        if not self.sizes:
            return []
        by_four: Counter[int] = Counter()
        for bits, number in self.sizes.items():
            by_four[math.ceil(bits / 2)] += number
        return [(_below(at), by_four.get(at, 0)) for at in range(min(by_four), max(by_four) + 1)]


def _age(now: datetime, then: datetime) -> int:
    days = (now - then).total_seconds() / 86_400
    return next((at for at, (most, _) in enumerate(_AGES) if days < most), len(_AGES))


def _below(power: int) -> str:
    if power == 0:
        return "empty"
    number = 4**power
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"< {number} {unit}"
        number //= 1024
    return f"< {number} TiB"
