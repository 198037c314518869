"""Which part of a listing is asked for next: key ranges, split while they are listed.

The ranges always cover all that isn't delivered yet: each holds the keys after its ``last`` up to and with
its ``end``. A split moves one range's end back and opens a new range behind it, so whatever text the split is
at, a key lies in exactly one range: a bad guess costs a request, and can't make a listing wrong.

No input or output here, and no threads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise, takewhile
from typing import Protocol

from attrs import define

from s3gc._columns import ObjectColumns, keys_of
from s3gc.errors import StoreError
from s3gc.model import ObjectInfo
from s3gc.stores.s3._guess import Guess, Sample, is_plain
from s3gc.stores.s3._xml import Page

MAX_EMPTY_PAGES = 100
"""Empty pages in a row, all saying that there is more, after which a listing counts as broken."""

MAX_HELD = 10_000
"""Ambiguous entries in a row whose range isn't known, after which a scan in parts is given up."""

WORTH = 3.0
"""Pages that a range should still hold to be split: one is under way, and two are shared."""

FAR = 256
"""More pages than this are a sign that a range reaches beyond what is known of its keys."""

BOLD = 8
"""Guesses under way for each page that was answered: a small bucket isn't worth many."""

ONE_LISTER = "if this server can't list a bucket in parts, set listers=1 ([s3] in s3gc.toml, or S3Options)"
"""What to do about a listing that fails only because several parts of it are asked for at once."""

MARK_EVERY = 2
"""Pages between two marks that are remembered for the next listing."""

MAX_MARKS = 512
"""Marks that are remembered: more ranges than that serve nobody."""


@define(eq=False)
class Range:
    """A part of the listing. Its state is the business of :class:`Ranges`."""

    last: str  # all keys up to here are delivered, or another range's
    end: str | None = None  # None: the bucket's end
    token: str | None = None  # asks for the next page; None: begin after ``last``
    busy: bool = False  # a page is being asked for
    guess: bool = False  # opened on a guess, and nothing is known of it yet
    whole: bool = False  # must not be split any more
    held: Sequence[ObjectInfo] = ()  # ambiguous entries that may be in it, or in the next range
    checks: bool = False  # all else is delivered, and the page behind its end is asked for
    sample: Sample | None = None  # to guess from
    expected: float = 0.0  # keys that are still to come, as far as can be guessed
    empty_pages: int = 0  # in a row
    unmarked: int = 0  # pages since the last mark


class Guesser(Protocol):
    """What :class:`~s3gc.stores.s3._guess.Guess` does; tests guess worse."""

    def learn(self, keys: Sequence[str]) -> None: ...
    def expected(self, sample: Sample, low: str, high: str | None) -> float: ...
    def between(self, sample: Sample, low: str, high: str | None, share: float) -> str | None: ...
    def beyond(self, sample: Sample, low: str) -> Iterable[str]: ...


class Ranges:
    """The ranges of one listing that aren't delivered yet. Not for several threads at once.

    Args:
        listers: pages asked for at the same time, at most; one means that nothing is ever split.
        page_size: keys in a full page.
        marks: what :attr:`marks` gave after an earlier listing; wrong ones cost requests and nothing else.
    """

    def __init__(
        self, *, listers: int, page_size: int, marks: Sequence[str] = (), guess: Guesser | None = None
    ) -> None:
        self._listers = listers
        self._page = float(page_size)
        self._guess = guess or Guess()
        known = sorted({mark for mark in marks if mark}) if listers > 1 else []
        bounds = ["", *known, None]
        self._unbegun = deque(Range(low or "", high) for low, high in pairwise(bounds))
        self._open: list[Range] = []
        self._largest = 0
        self._answered = 0
        self._keys = 0
        self._guesses = 0
        self._mark_every = MARK_EVERY
        self._marks: list[str] = []

    @property
    def finished(self) -> bool:
        """Whether all has been delivered."""
        return not self._open and not self._unbegun

    @property
    def marks(self) -> Sequence[str]:
        """Where the next listing should be split, sorted."""
        return sorted(self._marks)

    # ------------------------------------------------------------- what to ask for

    def next(self) -> Range | None:
        """A range whose next page shall be asked for now, if any; it is busy from here on."""
        idle = [found for found in self._open if not found.busy]
        if idle:
            chosen = max(idle, key=lambda found: found.expected)
        elif self._unbegun:
            if self._wasteful and len(self._unbegun) > 1:  # the marks are of another bucket than today's
                self._unbegun = deque([Range(self._unbegun[0].last)])
            chosen = self._unbegun.popleft()
            self._open.append(chosen)
        else:
            split = self._split()
            if split is None:
                return None
            chosen = split
        chosen.busy = True
        return chosen

    @property
    def _wasteful(self) -> bool:
        """Whether more requests than one for each full page, and a few more, gave nothing."""
        full = self._keys / self._page
        return self._answered - full > full + self._listers

    def _split(self) -> Range | None:
        if self._guesses >= BOLD * self._answered or self._wasteful:
            return None
        worth = [r for r in self._open if not r.whole and r.expected >= WORTH * self._page]
        for victim in sorted(worth, key=lambda found: found.expected, reverse=True):
            mark = self._mark(victim)
            if mark is None:
                continue
            new = Range(mark, victim.end, guess=True, sample=victim.sample)
            victim.end = mark
            self._guesses += 1
            self._open.append(new)
            self._expect(victim)
            self._expect(new)
            return new
        return None

    def _mark(self, victim: Range) -> str | None:
        """Where to split a range: strictly between its last key and its end."""
        sample, low, high = victim.sample, victim.last, victim.end
        if sample is None:
            return None
        pages = victim.expected / self._page
        if pages > FAR:
            if victim.guess:
                return None  # its first key will tell more
            for mark in self._guess.beyond(sample, low):
                if low < mark and (high is None or mark < high):
                    return mark
        mark = self._guess.between(sample, low, high, (1 + 1 / pages) / 2) or ""
        return mark if low < mark and (high is None or mark < high) else None

    def _expect(self, found: Range) -> None:
        if found.sample is not None and not found.whole:
            found.expected = self._guess.expected(found.sample, found.last, found.end)

    # ------------------------------------------------------------- what came of it

    def arrived(self, found: Range, page: Page) -> Sequence[ObjectInfo]:
        """The page that ``found`` asked for, whose keys are known to rise from ``found.last`` on.

        Returns:
            what of it hasn't been delivered and won't be by another range.

        Raises:
            StoreError: the listing can't go on.
        """
        found.busy = False
        self._answered += 1
        if found.guess:
            found.guess = False
            self._guesses -= 1
        objects = page.objects
        if page.token is not None and len(objects) > self._largest:
            self._largest = len(objects)
            self._page = float(self._largest)  # some servers give fewer than they are asked for
        found.token = page.token
        if found.held or _any_ambiguous(objects):
            found.whole = True
            objects = _checked(found, objects) if found.checks else _placed(found, objects)
        elif found.end is not None and objects and objects[-1].key >= found.end:
            found.token = None
            objects = objects[: bisect_right(keys_of(objects), found.end)]
        if objects:
            found.empty_pages = 0
            if not found.checks:
                found.last = next((info.key for info in reversed(objects) if not info.ambiguous), found.last)
            self._keys += len(objects)
        elif found.token is not None and not page.objects:
            # Strictly increasing keys come to an end by themselves, empty pages don't.
            found.empty_pages += 1
            if found.empty_pages > MAX_EMPTY_PAGES:
                raise StoreError(f"could not list the bucket: {found.empty_pages} pages in a row held no key")
        if found.token is None and not found.checks:
            self._open.remove(found)
        if objects and not found.whole and self._listers > 1:
            self._learn(found, objects)
        return objects

    def _learn(self, found: Range, objects: Sequence[ObjectInfo]) -> None:
        self._guess.learn(keys_of(objects))
        if len(objects) > 1:
            found.sample = Sample(objects[0].key, objects[-1].key, len(objects) - 1)
        self._expect(found)
        found.unmarked += 1
        if found.unmarked < self._mark_every:
            return
        mark = next(filter(is_plain, reversed(keys_of(objects))), None)
        if mark is not None:
            found.unmarked = 0
            self._marks.append(mark)
            if len(self._marks) > MAX_MARKS:
                self._marks = sorted(self._marks)[1::2]
                self._mark_every *= 2


def _any_ambiguous(objects: Sequence[ObjectInfo]) -> bool:
    return not isinstance(objects, ObjectColumns) and any(info.ambiguous for info in objects)


def _placed(found: Range, objects: Sequence[ObjectInfo]) -> Sequence[ObjectInfo]:
    """The entries of a page that holds ambiguous ones, as far as they are known to be in the range.

    Those can't be compared with its end: they are in it if the next key is, beyond it if the key before is.
    Others are held, and if the range ends with some, the server is asked what it lists behind that end.
    """
    if found.end is None:
        return objects
    objects = [*found.held, *objects]
    for place, info in enumerate(objects):
        if not info.ambiguous and info.key >= found.end:
            found.token = None
            objects = objects[: place + (info.key == found.end)]
            break
    placed = next((n for n in range(len(objects), 0, -1) if not objects[n - 1].ambiguous), 0)
    found.held = objects[placed:]
    if len(found.held) > MAX_HELD:
        raise StoreError(
            f"could not list the bucket in parts: {len(found.held)} keys in a row can't be decoded; "
            + ONE_LISTER
        )
    if found.held and found.token is None:
        found.last, found.checks = found.end, True
    return objects[:placed]


def _checked(found: Range, behind: Sequence[ObjectInfo]) -> Sequence[ObjectInfo]:
    """What was held, without the entries that the server lists behind the range's end."""
    others = {info.key for info in takewhile(lambda info: info.ambiguous, behind)}
    found.token, found.checks = None, False
    return [info for info in found.held if info.key not in others]
