"""The listing by pages against plain Python: any order of pages, any split, and what is no listing at all."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from unittest.mock import patch

import anyio
import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from s3gc import Position, Reference
from s3gc.errors import StoreError
from s3gc.model import Column, ObjectInfo
from s3gc.registry import Registry, _pages, key_hash

START = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = st.text(st.sampled_from("ab/\x00é\U0001f600\ufffe"), min_size=1, max_size=3)
OURS = st.sampled_from([".s3gc/lease", ".s3gc/owner", ".s3g", ".s3gc", ".s3gc0"])
ENTRIES = st.dictionaries(KEYS | OURS, st.booleans(), max_size=12)  # key → can't be addressed exactly


def info(key: str, odd: bool = False) -> ObjectInfo:
    number = key_hash(key)
    return ObjectInfo(
        key,
        number % 1_000,
        f"etag {number}",
        START + timedelta(microseconds=number % 10**9),
        f"v{number}" if number % 2 else None,
        "STANDARD" if number % 3 else None,
        odd,
    )


@st.composite
def cut(draw: st.DrawFn, entries: st.SearchStrategy[dict[str, bool]] = ENTRIES) -> list[list[ObjectInfo]]:
    """A right listing: pages in any order; what can't be addressed stands anywhere in them."""
    found = draw(entries)
    plain = [info(key) for key in sorted(found) if not found[key]]
    pages: list[list[ObjectInfo]] = [[]]
    for one in plain:
        if draw(st.booleans()):
            pages.append([])
        pages[-1].append(one)
    for key in (key for key in found if found[key]):
        page = draw(st.sampled_from(pages))
        page.insert(draw(st.integers(0, len(page))), info(key, True))
    return draw(st.permutations(pages))


def with_registry(work: Callable[[Registry], Awaitable[None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            registry = Registry(f"{folder}/registry.sqlite3")
            await registry.open("fake://b")
            try:
                await work(registry)
            finally:
                await registry.aclose()

    anyio.run(run)


async def take(registry: Registry, pages: Sequence[Sequence[ObjectInfo]]) -> None:
    await registry.listing.begin()
    for page in pages:
        await registry.listing.add(page)
    await registry.listing.finish()


async def free(registry: Registry, now: datetime) -> list[ObjectInfo]:
    found, after = [], 0
    while True:
        page = await registry.listing.candidates(now, after=after, limit=2)
        found += [one.object for one in page.candidates]
        if page.after is None:
            return found
        after = page.after


@given(
    cut(),
    st.lists(st.builds(Reference, KEYS, st.just("t"), st.sampled_from("12345"), st.sampled_from("cd"))),
    st.sets(KEYS | OURS),
    st.sampled_from([1, 3, 50_000]),
)
def test_any_order_of_pages_gives_one_listing(
    pages: list[list[ObjectInfo]], rows: list[Reference], asked: set[str], at_once: int
) -> None:
    bucket = [one for page in pages for one in page if not one.key.startswith(".s3gc/")]
    named = {row.key for row in rows}

    async def work(registry: Registry) -> None:
        await take(registry, pages)
        assert registry.listing.count == len(bucket)
        await registry.references.begin()
        await registry.references.stage("db", rows)
        await registry.references.apply("db", Position("db", "1"), START)
        for _ in range(2):  # comparing again changes nothing
            await registry.listing.compare()
        await registry.listing.observe("1", START)
        found = await free(registry, START)
        there = {one.key for one in bucket}
        # In key order; what can't be addressed comes last.
        assert [one for one in found if not one.ambiguous] == sorted(
            (one for one in bucket if not one.ambiguous and one.key not in named), key=lambda one: one.key
        )
        odd = [one for one in bucket if one.ambiguous and one.key not in named]
        assert sorted(found[len(found) - len(odd) :], key=lambda one: one.key) == sorted(
            odd, key=lambda one: one.key
        )
        asked.update(there)
        told = await registry.listing.listed_among({key_hash(key): key for key in asked})
        assert sorted(told) == sorted(asked & there)
        resolved = await registry.references.resolved()
        assert {where: (one.mentions, one.resolved) for where, one in resolved.items()} == {
            ("db", Column("t", column)): (
                len({row.row_id for row in rows if row.column == column}),
                len({row.row_id for row in rows if row.column == column and row.key in there}),
            )
            for column in {row.column for row in rows}
        }

    with patch.object(_pages, "COMPARED", at_once):
        with_registry(work)


def is_listing(pages: Sequence[Sequence[str]]) -> bool:
    """As the contract says it: increasing in each page, and no key of another page in between."""
    if any(one >= other for page in pages for one, other in pairwise(page)):
        return False
    spans = sorted((page[0], page[-1]) for page in pages if page)
    return all(one[1] < other[0] for one, other in pairwise(spans))


@given(st.lists(st.lists(KEYS, max_size=3), max_size=4))
@example([["b", "a"]])
@example([["a", "a"]])
@example([["a"], ["a"]])
@example([["a", "b"], ["a", "b"]])
@example([["a", "c"], ["b"]])
@example([["b"], ["a", "c"]])
@example([["a", "b"], ["b", "c"]])
@example([["c", "d"], ["a", "b"]])
def test_anything_else_is_no_listing(pages: list[list[str]]) -> None:
    async def work(registry: Registry) -> None:
        listed = [[info(key) for key in page] for page in pages]
        if is_listing(pages):
            await take(registry, listed)
            return
        with pytest.raises(StoreError, match="not strictly increasing"):
            await take(registry, listed)

    with_registry(work)


def test_our_own_objects_prove_order_and_count_for_nothing() -> None:
    async def work(registry: Registry) -> None:
        await take(registry, [[info(".s3gc/b")], [info(".s3gc/a")]])
        assert registry.listing.count == 0
        for wrong in ([[info(".s3gc/a"), info("b")], [info("a")]], [[info(".s3gc/b"), info(".s3gc/a")]]):
            with pytest.raises(StoreError, match="not strictly increasing"):
                await take(registry, wrong)

    with_registry(work)


def test_what_cannot_be_addressed_lends_its_past_to_no_other_object() -> None:
    """A store may list a neighbour of the same name: only the very object that was seen was seen."""
    odd = evolve(info("a", True), etag="odd")

    async def work(registry: Registry) -> None:
        for number in range(3):
            page = [odd, info("a")] if number % 2 else [info("a"), odd]
            await take(registry, [page])
            await registry.listing.compare()
            await registry.listing.observe(str(number), START + timedelta(days=number))
            now = START + timedelta(days=number)
            found = (await registry.listing.candidates(now)).candidates
            assert {one.object.etag: (one.observations, one.unreferenced_since) for one in found} == {
                info("a").etag: (0, now),
                "odd": (1, now),
            }

    with_registry(work)


def test_mentions_are_added_up_over_all_pages() -> None:
    keys = ["a", "b", "c", "d"]

    async def work(registry: Registry) -> None:
        await take(registry, [[info(key)] for key in keys])
        await registry.references.begin()
        await registry.references.stage("db", [Reference(key, "t", key, "c") for key in [*keys, "gone"]])
        await registry.references.apply("db", Position("db", "1"), START)
        await registry.listing.compare()
        (resolved,) = (await registry.references.resolved()).values()
        assert (resolved.mentions, resolved.resolved) == (5, 4)

    with patch.object(_pages, "COMPARED", 1):
        with_registry(work)
