"""The HTML report: nothing counts twice or not at all, rectangles fill their place, keys stay text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc_cli._report import svg
from s3gc_cli._report.gather import DEPTH, LARGEST, MOST_PREFIXES, SAMPLES, Gathered, Item
from s3gc_cli._report.html import Page, page

NOW = datetime(2026, 11, 30, tzinfo=UTC)

items = st.builds(
    Item,
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
    | st.sampled_from(["a/b/c/d/e.jpg", "a/b.jpg", "x", "/", "a//b"]),
    size=st.integers(0, 2**45),
    modified=st.integers(0, 4000).map(lambda days: NOW - timedelta(days=days)),
    since=st.none() | st.integers(0, 400).map(lambda days: NOW - timedelta(days=days)),
    reason=st.text(max_size=30),
)


def gathered(some: list[Item]) -> Gathered:
    found = Gathered(NOW)
    for item in some:
        found.add(item)
    return found


@given(st.lists(items, max_size=150))
def test_every_object_counts_once_in_each_picture(some: list[Item]) -> None:
    found = gathered(some)
    assert (found.objects, found.bytes) == (len(some), sum(item.size for item in some))
    assert sum(folder.objects for folder in found.folders.values()) == found.objects
    assert sum(folder.bytes for folder in found.folders.values()) == found.bytes
    assert sum(number for _, number in found.bars(found.ages)) == found.objects
    assert sum(number for _, number in found.size_bars()) == found.objects
    assert sum(number for _, number in found.bars(found.waits)) == sum(
        item.since is not None for item in some
    )
    assert sorted(item.size for item in found.largest) == sorted(item.size for item in some)[-LARGEST:]
    assert len(found.samples) == min(SAMPLES, len(some))
    assert all(name.count("/") <= DEPTH for name in found.folders)


def test_samples_are_of_the_whole_and_the_same_each_time() -> None:
    some = [Item(f"{number}", 1, NOW, None, "") for number in range(10_000)]
    first, again = gathered(some), gathered(some)
    assert first.samples == again.samples
    assert len({item.key for item in first.samples}) == SAMPLES
    numbers = sorted(int(item.key) for item in first.samples)
    assert numbers[0] < 2_000
    assert numbers[-1] > 8_000


def test_the_number_of_folders_is_bounded() -> None:
    found = gathered([Item(f"{n % 7}/{n}/x", 1, NOW, None, "") for n in range(MOST_PREFIXES + 500)])
    assert len(found.folders) <= MOST_PREFIXES + 8
    assert sum(folder.objects for folder in found.folders.values()) == MOST_PREFIXES + 500


@pytest.mark.parametrize(
    ("size", "called"), [(0, "empty"), (1, "< 4 B"), (1023, "< 1 KiB"), (2**20, "< 4 MiB")]
)
def test_a_size_lies_below_what_its_bar_says(size: int, called: str) -> None:
    assert gathered([Item("k", size, NOW, None, "")]).size_bars() == [(called, 1)]


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60))
def test_rectangles_have_their_areas_and_fill_the_place(areas: list[float]) -> None:
    areas = sorted(areas, reverse=True)
    inside = svg.Rect(0, 0, 960, 420)
    made = svg.squarified(areas, inside)
    assert len(made) == len(areas)
    whole = sum(areas)
    for area, rect in zip(areas, made, strict=True):
        assert rect.width * rect.height == pytest.approx(960 * 420 * area / whole, rel=1e-6, abs=1e-6)
        assert rect.x >= -1e-3
        assert rect.y >= -1e-3
        assert rect.x + rect.width <= 960 + 1e-3
        assert rect.y + rect.height <= 420 + 1e-3
    for at, one in enumerate(made):
        for other in made[at + 1 :]:
            wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert min(wide, high) < 1e-3, "two rectangles overlap"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


HOSTILE = '</title></style><script>alert(1)</script><img src=x onerror="alert(1)">\x1b[31m\u202e'


def told(text: str) -> Page:
    return Page(
        heading="What s3gc would delete",
        bucket=text,
        facts=[(text, text)],
        warnings=[text],
        verb="would be deleted",
        kept={text: 1},
        examples={text: [(text, text)]},
        missing={text: 1},
    )


def test_a_hostile_key_stays_text() -> None:
    found = gathered([Item(f"{HOSTILE}/{HOSTILE}", 9, NOW, NOW, HOSTILE), Item(HOSTILE, 5, NOW, None, "")])
    parser = Tags()
    written = page(told(HOSTILE), found)
    parser.feed(written)
    assert parser.tags.isdisjoint({"script", "img", "iframe", "link", "a", "object"})
    assert not any(name.startswith("on") for name in parser.attributes)
    assert {"src", "href"}.isdisjoint(parser.attributes), "it loads nothing"
    assert "\x1b" not in written
    assert "\u202e" not in written
    assert "default-src 'none'" in written


@given(st.lists(items, max_size=30), st.text(max_size=40))
def test_every_picture_is_well_formed(some: list[Item], text: str) -> None:
    written = page(told(text), gathered(some))
    pictures = written.split("<svg")[1:]
    assert bool(pictures) is bool(some)
    for picture in pictures:
        ElementTree.fromstring("<svg" + picture.partition("</svg>")[0] + "</svg>")


def test_nothing_to_delete_is_a_page_too() -> None:
    written = page(Page("What s3gc would delete", "s3://b", [], [], "would be deleted"), Gathered(NOW))
    assert "0 objects would be deleted" in written
    assert "No breaker tripped" in written
