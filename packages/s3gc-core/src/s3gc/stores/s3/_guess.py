"""Where keys may lie: arithmetic on texts, to guess where a part of a listing can be split.

A guess need not be a key. A bad one costs a request; it can't make a listing wrong.
"""

from __future__ import annotations

import string
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from attrs import frozen

_LEARNT = 8
"""Keys of a page that are looked at."""

_PLACES = 128
"""Places of a key that are looked at, from its start."""

_AFTER = 6
"""Places behind the first one at which a page's keys differ that a guess is exact to."""

_PLAIN = frozenset(string.ascii_letters + string.digits + "-./_")
_ORDERED = "".join(sorted(_PLAIN))
_CLASSES = (
    # If any of the first was seen, all of the second are expected.
    (string.digits, string.digits),
    ("abcdef", "abcdef"),
    ("ghijklmnopqrstuvwxyz", string.ascii_lowercase),
    ("ABCDEF", "ABCDEF"),
    ("GHIJKLMNOPQRSTUVWXYZ", string.ascii_uppercase),
)


def is_plain(text: str) -> bool:
    """Whether any server can be trusted with this text as ``start-after``.

    They echo it, and not all escape it well (moto doesn't).
    """
    return text.isascii() and _PLAIN.issuperset(text)


@frozen
class Sample:
    """The first and the last key of a page, and the number of keys after the first."""

    first: str
    last: str
    keys: int


class Guess:
    """What was learnt of the keys: the characters that stand at each place."""

    def __init__(self) -> None:
        self._seen: list[set[str]] = []
        self._mixed: set[str] = set()  # those of places at which both digits and letters stand
        self._known: dict[int, Sequence[str]] = {}

    def learn(self, keys: Sequence[str]) -> None:
        """Look at some keys."""
        for key in keys[:: max(1, len(keys) // _LEARNT)]:
            self._seen += [set() for _ in range(len(self._seen), min(len(key), _PLACES))]
            for chars, char in zip(self._seen, key, strict=False):
                if char not in chars:
                    chars.add(char)
                    self._known.clear()
                    if any(map(str.isdigit, chars)) and any(map(str.isalpha, chars)):
                        self._mixed |= chars & _PLAIN

    def expected(self, sample: Sample, low: str, high: str | None) -> float:
        """About how many keys lie between two texts, if they lie there as in the sample."""
        ruler = self._ruler(sample, low, high)
        way = ruler.value(sample.last) - ruler.value(sample.first)
        return sample.keys * (ruler.value(high) - ruler.value(low)) / max(1, way)

    def between(self, sample: Sample, low: str, high: str | None, share: float) -> str | None:
        """The text that has this share of the way from ``low`` to ``high`` below it; None: can't tell."""
        ruler = self._ruler(sample, low, high)
        if not is_plain(ruler.prefix):
            return None
        start = ruler.value(low)
        return ruler.text(start + (ruler.value(high) - start) * int(share * 1024) // 1024, low)

    def beyond(self, sample: Sample, low: str) -> Iterator[str]:
        """Texts after all that begin as ``low`` does, the shortest beginning first.

        For ``a/0042`` these are ``a0``, ``a/1``, ``a/01``, ``a/005``: each leaves one level of folders, or
        one length of numbers. Only as far as the keys of the sample begin alike: beyond that, all varies.
        """
        alike = _alike(sample.first, sample.last)
        for place, char in enumerate(low[: alike + 1]):
            if char not in _PLAIN:
                return
            if place < alike and char.isalpha() and not low[place + 1 : place + 2].isdigit():
                continue  # within a word
            chars = _ORDERED if char in "-./_" else self._characters(place)
            text = _past(low[:place], char, chars) or _past(low[:place], char, _ORDERED)
            if text is not None:
                yield text

    def _ruler(self, sample: Sample, low: str, high: str | None) -> _Ruler:
        same = _alike(sample.first, sample.last)
        start = 0 if high is None else min(same, _alike(sample.last, low), _alike(low, high))
        stop = max(start, same) + _AFTER
        return _Ruler(low[:start], [self._characters(place) for place in range(start, stop)])

    def _characters(self, place: int) -> Sequence[str]:
        found = self._known.get(place)
        if found is None:
            seen = self._seen[place] if place < len(self._seen) else set()
            found = self._known[place] = self._completed(seen & _PLAIN)
        return found

    def _completed(self, seen: set[str]) -> Sequence[str]:
        """The characters that may stand where these were seen, sorted."""
        if not seen.isdisjoint(string.digits):
            seen = seen | self._mixed
        for sign, whole in _CLASSES:
            if not seen.isdisjoint(sign):
                seen = seen.union(whole)
        return sorted(seen) or ["0"]


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return place
    return min(len(one), len(other))


def _past(beginning: str, char: str, chars: Sequence[str]) -> str | None:
    at = bisect_right(chars, char)
    return beginning + chars[at] if at < len(chars) else None


class _Ruler:
    """Texts that begin alike as numbers, one digit for each place."""

    def __init__(self, prefix: str, places: Sequence[Sequence[str]]) -> None:
        self.prefix = prefix
        self._places = places

    def value(self, text: str | None) -> int:
        """Hardly ever falls as texts rise; None is behind all."""
        number, most = 0, text is None
        for place, chars in enumerate(self._places, len(self.prefix)):
            number *= len(chars)
            char = text[place : place + 1] if text else ""
            if most:
                number += len(chars) - 1
            elif char:
                rank = bisect_left(chars, char)
                if rank and (rank == len(chars) or chars[rank] != char):
                    # Not among those known: as far as can be below the next one.
                    most, rank = True, rank - 1
                number += rank
        return number

    def text(self, number: int, low: str) -> str | None:
        """The text at a number, after ``low`` and as short as can be."""
        found: list[str] = []
        for chars in reversed(self._places):
            number, rank = divmod(number, len(chars))
            found.append(chars[rank])
        whole = "".join(reversed(found))
        short = len(whole)
        while short and whole[short - 1] == self._places[short - 1][0]:
            short -= 1
        return next((t for t in (self.prefix + whole[:short], self.prefix + whole) if t > low), None)
