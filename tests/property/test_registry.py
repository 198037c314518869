"""The registry against plain sets and dicts: references, candidates, and how long keys have been free."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import anyio
from hypothesis import given
from hypothesis import strategies as st

from s3gc import Position, Reference
from s3gc.model import ObjectInfo
from s3gc.registry import Registry

KEYS = st.sampled_from(["a", "a/b", "a_b", "dir/", "é", "e\u0301", "nul\x00", "nul", "1.jpg", "11.jpg"])
ROWS = st.builds(
    Reference, KEYS, st.sampled_from(["t", "u"]), st.sampled_from(["1", "2", "01"]), st.just("c")
)
OBJECTS = st.dictionaries(KEYS, st.integers(0, 2))  # key → which upload of it is there
CYCLES = st.lists(st.tuples(OBJECTS, st.lists(ROWS, max_size=6)), min_size=1, max_size=5)
START = datetime(2026, 1, 1, tzinfo=UTC)


def listed(objects: dict[str, int]) -> list[ObjectInfo]:
    return [
        ObjectInfo(key, 1, f"etag{upload}", START + timedelta(microseconds=upload))
        for key, upload in sorted(objects.items())
    ]


def nothing(key: str) -> tuple[list[int], list[int]]:
    """No folder and no parent protects a key."""
    return [], []


async def cycle(
    registry: Registry, name: str, now: datetime, objects: list[ObjectInfo], rows: Sequence[Reference]
) -> None:
    await registry.listing.begin()
    for start in range(0, len(objects), 2):
        await registry.listing.add(objects[start : start + 2])
    await registry.listing.finish()
    await registry.references.begin()
    for row in rows:
        await registry.references.stage("db", [row])
    await registry.references.apply("db", Position("db", name), now)
    await registry.listing.compare()
    await registry.listing.observe(name, now)


@given(CYCLES)
def test_the_registry_is_what_the_model_says(cycles: list[tuple[dict[str, int], list[Reference]]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            registry = Registry(f"{folder}/registry.sqlite3")
            await registry.open("fake://b")
            free: dict[tuple[str, int], tuple[datetime, int]] = {}  # (key, upload) → since, observations
            for number, (objects, rows) in enumerate(cycles):
                now = START + timedelta(days=number)
                await cycle(registry, str(number), now, listed(objects), rows)
                named = {row.key for row in rows}
                free = {
                    (key, upload): (
                        free.get((key, upload), (now, 0))[0],
                        free.get((key, upload), (now, 0))[1] + 1,
                    )
                    for key, upload in objects.items()
                    if key not in named
                }
                page = await registry.listing.candidates(now, limit=3)
                found = list(page.candidates)
                while page.after is not None:
                    page = await registry.listing.candidates(now, after=page.after, limit=3)
                    found += page.candidates
                assert [one.object for one in found] == [
                    info for info in listed(objects) if info.key not in named
                ]
                assert {
                    (one.object.key, int(one.object.etag[-1])): (one.unreferenced_since, one.observations)
                    for one in found
                } == free
                again = await registry.listing.candidates_among([one.object for one in found], now, nothing)
                assert list(again) == found
                states = await registry.references.states()
                assert states["db"].references == len({(row.table, row.row_id, row.key) for row in rows})
                assert states["db"].position == str(number)
                for key in ("a", "nul", "nul\x00"):
                    mentions = {(row.table, row.row_id) for row in rows if row.key == key}
                    assert await registry.references.count_of(key) == len(mentions)
                resolved = await registry.references.resolved()
                assert sum(one.mentions for one in resolved.values()) == len(
                    {(row.table, row.row_id) for row in rows}
                )
                assert sum(one.resolved for one in resolved.values()) == len(
                    {(row.table, row.row_id) for row in rows if row.key in objects}
                )
            await registry.aclose()

    anyio.run(run)


@given(st.lists(ROWS, max_size=6), st.lists(ROWS, max_size=6))
def test_a_scan_that_was_not_applied_changes_nothing(first: list[Reference], second: list[Reference]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            registry = Registry(f"{folder}/registry.sqlite3")
            await registry.open("fake://b")
            await cycle(registry, "1", START, [], first)
            before = {row.key: await registry.references.count_of(row.key) for row in first + second}
            await registry.references.begin()
            await registry.references.stage("db", second)  # then the source broke
            assert {key: await registry.references.count_of(key) for key in before} == before
            await registry.references.begin()
            await registry.references.stage("db", first)
            await registry.references.apply("db", Position("db", "2"), START)
            assert {key: await registry.references.count_of(key) for key in before} == before
            await registry.aclose()

    anyio.run(run)


def test_an_observation_is_counted_once_a_cycle() -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            registry = Registry(f"{folder}/registry.sqlite3")
            await registry.open("fake://b")
            await cycle(registry, "1", START, listed({"a": 0}), [])
            await registry.listing.begin()
            await registry.listing.add(listed({"a": 0}))
            await registry.listing.finish()
            await registry.listing.compare()
            await registry.listing.observe("1", START)  # the same cycle again, after a crash
            (found,) = (await registry.listing.candidates(START)).candidates
            assert found.observations == 1
            await registry.aclose()

    anyio.run(run)
