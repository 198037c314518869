"""A page in columns is the sequence of its objects, whatever is asked of it."""

from __future__ import annotations

import marshal
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from s3gc._columns import ObjectColumns, keys_of
from s3gc.abc import RESERVED_PREFIX
from s3gc.errors import StoreError
from s3gc.model import ObjectInfo
from s3gc.registry import _pages

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@st.composite
def pages(draw: st.DrawFn) -> list[ObjectInfo]:
    keys = sorted(draw(st.sets(st.text("ab/é", min_size=1, max_size=4), max_size=12)))
    return [
        ObjectInfo(
            key,
            draw(st.integers(0, 2**40)),
            draw(st.text("0123456789abcdef-", max_size=4)),
            NOON + timedelta(seconds=draw(st.integers(0, 10**9))),
            None,
            draw(st.sampled_from([None, "STANDARD", "GLACIER"])),
        )
        for key in keys
    ]


def in_columns(objects: list[ObjectInfo]) -> ObjectColumns:
    return ObjectColumns(
        [one.key for one in objects],
        [one.size for one in objects],
        [one.etag for one in objects],
        [one.last_modified for one in objects],
        [one.storage_class for one in objects],
    )


@given(pages(), st.slices(12))
def test_it_is_the_sequence_of_its_objects(objects: list[ObjectInfo], part: slice) -> None:
    columns = in_columns(objects)
    assert len(columns) == len(objects)
    assert bool(columns) is bool(objects)
    assert list(columns) == objects
    assert list(reversed(columns)) == objects[::-1]
    assert [columns[place] for place in range(-len(objects), len(objects))] == objects * 2
    assert keys_of(columns) == keys_of(objects) == [one.key for one in objects]
    if (part.step or 1) > 0:
        assert isinstance(columns[part], ObjectColumns)
        assert list(columns[part]) == objects[part]
    else:
        with pytest.raises(ValueError, match="key order"):
            columns[part]
    with pytest.raises(IndexError):
        columns[len(objects)]


@given(pages(), st.data())
def test_equal_is_who_has_equal_objects(objects: list[ObjectInfo], data: st.DataObject) -> None:
    columns = in_columns(objects)
    assert columns == objects
    assert objects == columns
    assert columns == in_columns(objects)
    assert columns != [*objects, ObjectInfo("z", 1, "e", NOON)]
    assert columns != "abc"
    if objects:
        place = data.draw(st.integers(0, len(objects) - 1))
        name, value = data.draw(
            st.sampled_from(
                [
                    ("key", "other"),
                    ("size", -1),
                    ("etag", "other"),
                    ("last_modified", NOON - timedelta(1)),
                    ("version_id", "v"),
                    ("storage_class", "other"),
                    ("ambiguous", True),
                ]
            )
        )
        others = [*objects]
        others[place] = evolve(others[place], **{name: value})
        assert columns != others


def stored(page: Sequence[ObjectInfo]) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(":memory:")
    connection.execute("ATTACH DATABASE ':memory:' AS scratch")
    connection.executescript(_pages.SCHEMA)
    count = _pages.put(connection, page)
    rows = connection.execute("SELECT * FROM scratch.pages").fetchall()
    connection.close()
    return [(count,), *((*row[:-2], marshal.loads(row[-2]), marshal.loads(row[-1])) for row in rows)]


@given(pages(), st.sets(st.sampled_from(["", "a", "zz"]).map(RESERVED_PREFIX.__add__)))
def test_the_registry_takes_it_as_it_takes_the_objects(objects: list[ObjectInfo], ours: set[str]) -> None:
    """Our own objects left out, and everything else kept."""
    whole = sorted([*objects, *(ObjectInfo(key, 1, "e", NOON) for key in ours)], key=lambda one: one.key)
    assert stored(in_columns(whole)) == stored(whole)


def test_the_registry_does_not_believe_its_order() -> None:
    objects = [ObjectInfo(key, 1, "e", NOON) for key in ("b", "a")]
    with pytest.raises(StoreError, match="not strictly increasing"):
        stored(in_columns(objects))
