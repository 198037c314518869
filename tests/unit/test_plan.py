"""The plan file: what is written is what is read, and its quick writer writes what the slow one would."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc import Mode, ObjectInfo, Plan, Position
from s3gc._json import converter, dumps
from s3gc.errors import PlanError
from s3gc.model import KeptExample, PlanEntry, TrippedBreaker
from s3gc.plan import PlanFooter, PlanHeader, PlanWriter, _entry_line, _entry_of

MOMENTS = st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
INFOS = st.builds(
    ObjectInfo,
    key=TEXT,
    size=st.integers(0, 2**60),
    etag=TEXT,
    last_modified=MOMENTS,
    version_id=st.none() | TEXT,
    storage_class=st.none() | TEXT,
    ambiguous=st.booleans(),
)
ENTRIES = st.builds(PlanEntry, INFOS, MOMENTS, st.integers(0, 99), TEXT)

HEADER = PlanHeader(
    "01OP",
    "s3://b",
    "digest",
    Mode.EXECUTE,
    datetime(2026, 1, 1, tzinfo=UTC),
    (Position("db", "7"),),
    ("in_grace",),
)
FOOTER = PlanFooter(
    scanned=10,
    candidates=5,
    objects=0,
    bytes=0,
    kept={"referenced": 5},
    kept_examples={"in_grace": (KeptExample("a", "1 day"),)},
    held_by=(TrippedBreaker("empty_column", "db:t.c", "empty", {"rows": 0}),),
    duration=timedelta(seconds=1.5),
)


def write(path: Path, entries: list[PlanEntry]) -> Plan:
    with PlanWriter(path, HEADER) as writer:
        writer.add(entries)
        return writer.finish(FOOTER)


@given(ENTRIES)
def test_the_quick_writer_writes_canonical_json(entry: PlanEntry) -> None:
    assert _entry_line(entry) == dumps(converter.unstructure(entry))
    assert _entry_of(json.loads(_entry_line(entry))) == converter.structure(
        converter.unstructure(entry), PlanEntry
    )


@given(st.lists(ENTRIES, max_size=5))
def test_what_is_written_is_read(entries: list[PlanEntry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = write(Path(folder) / "plan.jsonl", entries)
        read = Plan.load(written.path)
        assert read == written
        assert list(read) == entries
        assert (len(read), read.bytes) == (len(entries), sum(entry.object.size for entry in entries))
        assert read.header == HEADER
        assert read.held_by == FOOTER.held_by
        assert read.footer.duration == FOOTER.duration


@given(st.lists(ENTRIES, min_size=1, max_size=3), st.data())
def test_any_changed_byte_is_found(entries: list[PlanEntry], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "plan.jsonl", entries).path
        whole = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(whole) - 2))  # the last line feed carries nothing
        whole[position] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole)
        with pytest.raises(PlanError):
            list(Plan.load(path))


def test_a_plan_that_was_cut_short_is_none(tmp_path: Path) -> None:
    info = ObjectInfo("a", 1, "e", datetime(2026, 1, 1, tzinfo=UTC))
    path = write(tmp_path / "plan.jsonl", [PlanEntry(info, info.last_modified, 1, "r")] * 3).path
    lines = path.read_bytes().splitlines(keepends=True)
    for end in range(len(lines)):
        path.write_bytes(b"".join(lines[:end]))
        with pytest.raises(PlanError):
            Plan.load(path)


def test_nothing_stands_under_the_name_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "plan.jsonl"
    with pytest.raises(RuntimeError), PlanWriter(path, HEADER):  # noqa: PT012
        assert not path.exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PlanError, match="can't be read"):
        Plan.load(path)
