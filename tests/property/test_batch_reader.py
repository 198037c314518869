"""Rows are read in two ways, and nobody can tell which."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from s3gc.abc import Wanted
from s3gc.model import Column, ColumnCount, Reference, ScanBatch
from s3gc.resolver import Resolver
from s3gc.sources.capture import BatchReader, TableQuery, TrackedTable

RESOLVER = Resolver("my-bucket", base_urls=["https://cdn.example.com/media/"])
COLUMNS = (("key", "key"), ("other", "other"))

names = st.sampled_from(["a", "b.jpg", "d/e", "d/e/f.png", "", "/a", "my-bucket/a", "media/a", "a b", "a\nb"])
values = st.none() | names | st.sampled_from([b"", b"a", 0, 7, ["a", "d/e"]])


def by_hand(rows: list[tuple[Any, ...]], wanted: Wanted, width: int, folders: frozenset[int]) -> ScanBatch:
    """As the documentation says it: each value by itself."""
    whole = BatchReader(RESOLVER, None).of(query(width, folders), rows)
    return ScanBatch([found for found in whole.references if wanted.by(found)], whole.counts)


def query(width: int, folders: frozenset[int]) -> TableQuery:
    return TableQuery(TrackedTable("files", ("files",), COLUMNS, folders), "", width)


@given(
    rows=st.lists(st.tuples(st.integers(), values, values), max_size=6),
    wanted=st.sets(names.filter(bool)),
    with_key=st.booleans(),
    folders=st.sampled_from([frozenset(), frozenset({1})]),
)
@settings(max_examples=500, deadline=None)
def test_wanted_rows_are_those_that_are_read_one_by_one(
    rows: list[tuple[Any, ...]], wanted: set[str], with_key: bool, folders: frozenset[int]
) -> None:
    if not with_key:
        rows = [row[1:] for row in rows]
    keys = Wanted(wanted)
    found = BatchReader(RESOLVER, keys).of(query(int(with_key), folders), rows)
    expected = by_hand(rows, keys, int(with_key), folders)

    def told(batch: ScanBatch) -> list[Reference]:
        return sorted(batch.references, key=repr)

    assert told(found) == told(expected)
    assert found.counts == expected.counts


def test_plain_rows_are_read_together_and_all_the_same_told() -> None:
    rows = [(1, "a", "d/e"), (2, "b.jpg", None), (3, "a", "")]
    batch = BatchReader(RESOLVER, Wanted({"a", "d/e"})).of(query(1, frozenset()), rows)
    assert sorted((found.row_id, found.key, found.column) for found in batch.references) == [
        ("1", "a", "key"),
        ("1", "d/e", "other"),
        ("3", "a", "key"),
    ]
    assert batch.counts == {
        Column("files", "key"): ColumnCount(3, 3),
        Column("files", "other"): ColumnCount(3, 1),
    }


def test_plain_texts_of_folders_and_uuids_are_read_one_by_one() -> None:
    rows = [(1, "0b1e0ee6-1d1b-4c5f-9d0f-0d0a6a6f3c11", "d/e")]
    tracked = TrackedTable("files", ("files",), COLUMNS, frozenset({1}))
    wanted = Wanted({"d/e/f.png", "0b1e0ee61d1b4c5f9d0f0d0a6a6f3c11"})
    batch = BatchReader(RESOLVER, wanted).of(TableQuery(tracked, "", 1, frozenset({0})), rows)
    assert {(found.key, found.prefix) for found in batch.references} == {
        ("0b1e0ee61d1b4c5f9d0f0d0a6a6f3c11", False),
        ("d/e/", True),
    }
