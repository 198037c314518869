"""Invariants of the key ranges of a scan: every key once, whatever the guesses, the pages and their order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest
from attrs import define, evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from s3gc.errors import StoreError
from s3gc.model import ObjectInfo
from s3gc.stores.s3._guess import Guess, Sample, is_plain
from s3gc.stores.s3._ranges import BOLD, MAX_EMPTY_PAGES, MAX_HELD, MAX_MARKS, Guesser, Range, Ranges
from s3gc.stores.s3._xml import Page

WHEN = datetime(2026, 1, 1, tzinfo=UTC)

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
plain = st.text("0159afzAZ/-_.", min_size=1, max_size=8)
nested = st.builds("/".join, st.lists(st.sampled_from(["a", "b0", "tmp", "é", "2026", "03"]), min_size=1))
counted = st.builds("obj/{:04d}".format, st.integers(0, 3000))
keys_of_a_bucket = st.sets(text, max_size=60) | st.sets(st.one_of(plain, nested, counted), max_size=200)


def info(key: str, *, ambiguous: bool = False) -> ObjectInfo:
    return ObjectInfo(key, 1, "e", WHEN, ambiguous=ambiguous)


@define
class WildGuess:
    """Guesses that know nothing: any text, and any number of keys."""

    random: Random
    texts: Sequence[str]

    def learn(self, keys: Sequence[str]) -> None:
        assert keys

    def expected(self, sample: Sample, low: str, high: str | None) -> float:
        return self.random.choice([0.0, 5.0, 100.0, 1e9])

    def between(self, sample: Sample, low: str, high: str | None, share: float) -> str | None:
        return self.random.choice([*self.texts, low, high, None])

    def beyond(self, sample: Sample, low: str) -> Iterable[str]:
        return self.random.choices(self.texts, k=2) if self.texts else []


@define
class Bucket:
    """Pages of sorted entries, of any size, some of them empty; tokens are places in the list."""

    entries: Sequence[ObjectInfo]
    size: Callable[[], int]  # of the next page
    asked: int = 0

    def page(self, token: str | None, after: str) -> Page:
        self.asked += 1
        keys = [entry.key for entry in self.entries]
        start = bisect_right(keys, after) if token is None else int(token)
        stop = start + self.size()
        token = str(stop) if stop < len(keys) else None
        return Page(self.entries[start:stop], token)


def scanned(bucket: Bucket, ranges: Ranges, random: Random, *, under_way: int, faults: bool) -> list[str]:
    """Run the ranges to their end; answers come in any order, and some only after a repetition."""
    found: list[str] = []
    asked: list[tuple[Range, Page]] = []
    while not ranges.finished:
        while len(asked) < under_way and (part := ranges.next()) is not None:
            asked.append((part, bucket.page(part.token, part.last)))
        part, page = asked.pop(random.randrange(len(asked)))
        if faults and random.random() < 0.3:
            page = bucket.page(part.token, part.last)  # the first attempt failed
        objects = ranges.arrived(part, page)
        names = [entry.key for entry in objects]
        assert names == sorted(set(names))
        found += names
    assert not asked
    return found


@settings(deadline=None)
@given(
    keys=keys_of_a_bucket,
    listers=st.integers(1, 20),
    sizes=st.lists(st.integers(0, 9), min_size=1).filter(any),
    marks=st.lists(text | plain, max_size=20),
    wild=st.none() | st.lists(text | plain | counted, max_size=30),
    faults=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_every_key_is_delivered_once(
    keys: set[str],
    listers: int,
    sizes: Sequence[int],
    marks: Sequence[str],
    wild: Sequence[str] | None,
    faults: bool,
    random: Random,
) -> None:
    bucket = Bucket([info(key) for key in sorted(keys)], lambda: random.choice(sizes))
    guess: Guesser = Guess() if wild is None else WildGuess(random, wild)
    ranges = Ranges(listers=listers, page_size=max(sizes), marks=marks, guess=guess)
    assert sorted(scanned(bucket, ranges, random, under_way=listers, faults=faults)) == sorted(keys)
    again = Ranges(listers=listers, page_size=max(sizes), marks=ranges.marks)
    assert sorted(scanned(bucket, again, random, under_way=listers, faults=faults)) == sorted(keys)


@settings(deadline=None)
@given(
    keys=st.sets(st.one_of(plain, nested, counted), max_size=200),
    listers=st.integers(1, 20),
    size=st.integers(2, 10),
    marks=st.lists(plain, max_size=100),
    wild=st.none() | st.lists(plain | counted, max_size=30),
    random=st.randoms(use_true_random=False),
)
def test_guesses_and_marks_cost_little(
    keys: set[str],
    listers: int,
    size: int,
    marks: Sequence[str],
    wild: Sequence[str] | None,
    random: Random,
) -> None:
    bucket = Bucket([info(key) for key in sorted(keys)], lambda: size)
    guess: Guesser = Guess() if wild is None else WildGuess(random, wild)
    ranges = Ranges(listers=listers, page_size=size, marks=marks, guess=guess)
    scanned(bucket, ranges, random, under_way=listers, faults=False)
    # One fruitless request for a full page and one for each lister; then those that were under way, and the
    # last page of each range that was open.
    assert bucket.asked <= 2 * len(keys) / size + 3 * listers + 2


def test_a_small_bucket_costs_no_guess() -> None:
    bucket = Bucket([info(f"obj/{number:04d}") for number in range(1000)], lambda: 1000)
    ranges = Ranges(listers=16, page_size=1000)
    assert len(scanned(bucket, ranges, Random(0), under_way=16, faults=False)) == 1000
    assert bucket.asked == 1


@pytest.mark.parametrize(
    "name",
    [
        lambda number: f"obj/{number:06d}",
        lambda number: f"media/{number}.png",
        lambda number: f"u/{Random(number).getrandbits(128):032x}",
        lambda number: f"{number % 28 + 2000}/{number % 12 + 1:02d}/{number % 30 + 1:02d}/{number:x}.log",
        lambda number: f"{['anna', 'ben', 'carl', 'dora'][number % 4]}{number % 100}/photo_{number}.jpg",
    ],
)
def test_listers_find_work(name: Callable[[int], str]) -> None:
    """In rounds in which every lister has one answer: the more listers, the fewer rounds."""
    bucket = Bucket([info(key) for key in sorted(map(name, range(20_000)))], lambda: 100)

    def rounds(marks: Sequence[str]) -> tuple[int, Sequence[str]]:
        ranges = Ranges(listers=16, page_size=100, marks=marks)
        for number in range(1000):
            if ranges.finished:
                return number, ranges.marks
            asked = []
            while len(asked) < 16 and (part := ranges.next()) is not None:
                asked.append((part, bucket.page(part.token, part.last)))
            for part, page in asked:
                ranges.arrived(part, page)
        raise AssertionError("it doesn't end")

    first, marks = rounds(())
    assert first <= 30  # 200 pages: 12.5 rounds are ideal, and one lister needs 200
    second, _ = rounds(marks)
    assert second <= 20


@define
class UnluckyGuess(WildGuess):
    """Sees work everywhere, and guesses where there is none."""

    def expected(self, sample: Sample, low: str, high: str | None) -> float:
        return 1e6

    def beyond(self, sample: Sample, low: str) -> Iterable[str]:
        return ()

    def between(self, sample: Sample, low: str, high: str | None, share: float) -> str | None:
        return "z" * 1000 if high is None else high[:-1]


def test_unlucky_guesses_are_given_up() -> None:
    bucket = Bucket([info(f"a/{number:04d}") for number in range(1000)], lambda: 10)
    ranges = Ranges(listers=4, page_size=10, guess=UnluckyGuess(Random(0), []))
    assert len(scanned(bucket, ranges, Random(0), under_way=4, faults=False)) == 1000
    assert 150 < bucket.asked <= 2 * 100 + 2 * 4


def test_a_first_page_is_followed_by_few_guesses() -> None:
    ranges = Ranges(listers=64, page_size=10, guess=UnluckyGuess(Random(0), []))
    part = ranges.next()
    assert part is not None
    assert ranges.next() is None
    ranges.arrived(part, Page([info(f"a/{number}") for number in range(10)], "t"))
    assert ranges.next() is part
    assert sum(ranges.next() is not None for _ in range(64)) == BOLD


def test_marks_of_another_bucket_are_given_up() -> None:
    """The bucket was large and is small now."""
    bucket = Bucket([info(f"x/{number}") for number in range(5)], lambda: 10)
    ranges = Ranges(listers=4, page_size=10, marks=[f"a/{number:03d}" for number in range(500)])
    assert len(scanned(bucket, ranges, Random(0), under_way=4, faults=False)) == 5
    assert bucket.asked < 15


def test_marks_are_few_plain_and_spread() -> None:
    keys = [f"obj/{number:06d}" if number % 3 else f"obj/{number:06d} é" for number in range(9_000)]
    bucket = Bucket([info(key) for key in keys], lambda: 3)
    ranges = Ranges(listers=4, page_size=3)
    scanned(bucket, ranges, Random(0), under_way=4, faults=False)
    marks = ranges.marks
    assert list(marks) == sorted(set(marks))
    assert all(is_plain(mark) for mark in marks)
    assert MAX_MARKS / 4 < len(marks) <= MAX_MARKS
    places = [bisect_right(keys, mark) for mark in ["", *marks]] + [len(keys)]
    assert max(after - before for before, after in pairwise(places)) < 9_000 / 20


def test_pages_without_end_that_hold_no_key_are_an_error() -> None:
    ranges = Ranges(listers=4, page_size=10)
    part = ranges.next()
    assert part is not None
    ranges.arrived(part, Page([info("a")], "t"))
    with pytest.raises(StoreError, match="held no key"):  # noqa: PT012
        for _ in range(MAX_EMPTY_PAGES + 1):
            part.busy = True
            ranges.arrived(part, Page([], "t"))


# --------------------------------------------------------------------------- keys that can't be decoded


@settings(deadline=None, max_examples=300)
@given(
    keys=st.lists(plain | counted, min_size=1, max_size=80, unique=True),
    odd=st.sets(st.integers(0, 79), max_size=4),
    size=st.integers(1, 6),
    listers=st.integers(1, 8),
    random=st.randoms(use_true_random=False),
)
def test_ambiguous_entries_come_once(
    keys: list[str], odd: set[int], size: int, listers: int, random: Random
) -> None:
    """The server knows where they stand; we see them under a name that says nothing of it."""
    ordered = sorted(keys)
    texts = [text for key in keys for text in (key, key + "!", key + "\U0010ffff")]
    names = {key: f"?{number}" for number, key in enumerate(ordered) if number in odd}
    shown = [evolve(info(key), key=names.get(key, key), ambiguous=key in names) for key in ordered]

    def page(token: str | None, after: str) -> Page:
        start = bisect_right(ordered, after) if token is None else int(token)
        stop = start + size
        return Page(shown[start:stop], str(stop) if stop < len(ordered) else None)

    ranges = Ranges(
        listers=listers, page_size=size, marks=random.choices(texts, k=3), guess=WildGuess(random, texts)
    )
    found: list[str] = []
    asked: list[tuple[Range, Page]] = []
    while not ranges.finished:
        while len(asked) < listers and (part := ranges.next()) is not None:
            asked.append((part, page(part.token, part.last)))
        part, answer = asked.pop(random.randrange(len(asked)))
        found += [entry.key for entry in ranges.arrived(part, answer)]
    assert sorted(found) == sorted(entry.key for entry in shown)


def test_a_part_without_end_of_entries_that_have_no_place_is_given_up() -> None:
    ranges = Ranges(listers=4, page_size=10, marks=["m"])
    part = ranges.next()
    assert part is not None
    with pytest.raises(StoreError, match="listers"):  # noqa: PT012
        for _ in range(MAX_HELD):
            assert ranges.arrived(part, Page([info("?", ambiguous=True)] * 10, "t")) == []
            part.busy = True


@define
class FixedGuess(UnluckyGuess):
    """Always the same place."""

    def between(self, sample: Sample, low: str, high: str | None, share: float) -> str | None:
        return self.texts[0]


def test_no_range_is_split_behind_an_entry_that_has_no_place() -> None:
    """The page ends with one that stands behind ``b!``, the place to split at, and is shown as another."""
    ranges = Ranges(listers=4, page_size=3, guess=FixedGuess(Random(0), ["b!"]))
    part = ranges.next()
    assert part is not None
    ranges.arrived(part, Page([info("0"), info("1"), info("2")], "s"))  # much is expected behind these
    assert ranges.next() is part
    page = Page([info("a"), info("b"), info("?", ambiguous=True)], "t")
    assert list(ranges.arrived(part, page)) == page.objects
    assert ranges.next() is part
    assert ranges.next() is None
    ranges.arrived(part, Page([info("c"), info("d"), info("e")], "u"))
    assert ranges.next() is part
    assert ranges.next() is None


# --------------------------------------------------------------------------- guesses


@given(
    keys=st.lists(plain | counted | text, min_size=2, unique=True).map(sorted),
    low=plain | text,
    high=st.none() | plain | text,
    share=st.floats(0, 1),
    folder=st.sampled_from(["", "a/", "é/", "a b/c/"]),
)
def test_guesses_are_plain_texts(
    keys: list[str], low: str, high: str | None, share: float, folder: str
) -> None:
    keys = [folder + key for key in keys]
    low, high = folder + low, None if high is None else folder + high
    guess = Guess()
    guess.learn(keys)
    sample = Sample(keys[0], keys[-1], len(keys) - 1)
    assert guess.expected(sample, low, high) is not None
    found = [guess.between(sample, low, high, share), *guess.beyond(sample, low)]
    assert all(is_plain(mark) for mark in found if mark is not None)


def test_a_guess_goes_by_the_characters_of_the_keys() -> None:
    guess = Guess()
    keys = [f"u/{number:08x}" for number in range(0, 1 << 28, 1 << 18)]
    guess.learn(keys)
    sample = Sample(keys[0], keys[-1], len(keys) - 1)
    middle = guess.between(sample, "u/0", "u0", 0.5)
    assert middle is not None
    assert "u/7f" < middle <= "u/8"
    assert 14_000 < guess.expected(sample, keys[-1], "u0") < 17_000
    assert list(guess.beyond(Sample("a/0042", "a/0049", 1), "a/0042"))[:3] == ["a0", "a/1", "a/01"]
