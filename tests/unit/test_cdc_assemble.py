"""From hand-made messages to changes: what the assembler refuses, and when it says that it has arrived."""

# ruff: noqa: E501 - hand-made values stand on one line

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attrs import evolve

from property.test_pgoutput import encode
from s3gc.errors import PositionLost, SourceError
from s3gc.resolver import Resolver
from s3gc.sources.capture import tracked_tables
from s3gc_cdc_postgres._assemble import Assembler, Gathered
from s3gc_cdc_postgres.catalogue import ColumnInfo, TableInfo
from s3gc_cdc_postgres.pgoutput import (
    UNCHANGED,
    AnyMessage,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    PgOutputError,
    Relation,
    RelationColumn,
    Truncate,
    Type,
    Update,
    Value,
)
from s3gc_cdc_postgres.position import Committed, Fingerprint, Place, TablePrint, Told

OID, TEXT, INT = 500, 25, 23
[TRACKED] = tracked_tables({"files": ["path", "doc"]}, {})
ID, PATH, DOC = (
    ColumnInfo(number, name, oid, kind, False, "1")
    for number, name, oid, kind in ((1, "id", INT, "integer"), (2, "path", TEXT, "text"), (3, "doc", TEXT, "text"))
)  # fmt: skip
TABLE = TableInfo(
    TRACKED, OID, "public", "files", "r", "p", "d", False, 1, False, False, [ID], [PATH, DOC], [], None, None
)
PRINTS = Fingerprint("s", "c", "p", (TablePrint("shape", "storage"),))
AFTER = Place(1000, Committed(7, 70), PRINTS)
UNTIL = Place(2000, Told("fence", 2100), PRINTS)
KNOWN = [Begin(1000, 70, 7), Commit(1000, 1008, 70)]
FENCE = [Begin(2010, 99, 9), Message(True, 2000, "s3gc", b"fence"), Commit(2010, 2018, 99)]
RELATION = Relation(
    OID, "public", "files", "d",
    (RelationColumn("id", INT, -1, True), RelationColumn("path", TEXT, -1, False), RelationColumn("doc", TEXT, -1, False)),
)  # fmt: skip


def assembler(after: Place = AFTER, until: Place = UNTIL, batch: int = 100) -> Assembler:
    one = Assembler("db", [TABLE], after, Resolver("my-bucket"), batch=batch)
    one.towards(until)
    return one


def feed(one: Assembler, *messages: AnyMessage) -> list[Gathered]:
    for message in messages:
        one.feed(encode(message))
    return list(one.ready)


def row(id: int, path: Value = b"a", doc: Value = b"d") -> tuple[Value, ...]:
    return str(id).encode(), path, doc


def test_the_known_transaction_is_not_told_again_and_the_fence_ends_it() -> None:
    one = assembler()
    [batch] = feed(
        one, KNOWN[0], RELATION, Insert(OID, row(1)), KNOWN[1],
        Begin(1500, 80, 8), Insert(OID, row(2, b"b")), Commit(1500, 1508, 80), *FENCE,
    )  # fmt: skip
    assert one.reached
    assert [change.row_id for change in batch.changes] == ["2"]
    assert {r.key for r in batch.changes[0].references} == {"b", "d"}
    assert batch.place == Place(2010, Committed(9, 99), PRINTS)


@pytest.mark.parametrize("begin", [Begin(1000, 71, 7), Begin(1000, 70, 8), Begin(1001, 70, 7)])
def test_another_transaction_in_the_known_place_is_another_history(begin: Begin) -> None:
    with pytest.raises(PositionLost, match="another transaction now"):
        feed(assembler(), begin)


def test_a_beginning_must_be_told_before_the_fence() -> None:
    begun = evolve(AFTER, proof=Told("begun", 1100))
    told = [Begin(1010, 70, 7), Message(True, 1000, "s3gc", b"begun"), Commit(1010, 1018, 70)]
    one = assembler(begun)
    feed(one, *told, *FENCE)
    assert one.reached
    with pytest.raises(PositionLost, match="didn't tell the beginning"):
        feed(assembler(begun), *FENCE)


@pytest.mark.parametrize(
    "other",
    [
        Message(True, 2000, "s3gc", b"another"),
        Message(True, 2000, "elsewhere", b"fence"),
        Message(False, 2000, "s3gc", b"fence"),
    ],
)
def test_other_messages_are_no_fence(other: Message) -> None:
    one = assembler()
    feed(one, *KNOWN, FENCE[0], other, FENCE[2])
    assert not one.reached


def test_a_stream_that_passes_the_fence_without_it_is_another_history() -> None:
    one = assembler()
    feed(one, *KNOWN)
    one.sent_up_to(2099)
    with pytest.raises(PositionLost, match="never told the fence"):
        one.sent_up_to(2100)
    with pytest.raises(PositionLost, match="never told the fence"):
        feed(one, Begin(2200, 99, 10))


def test_a_batch_within_a_transaction_has_the_position_before_it() -> None:
    one = assembler(batch=2)
    batches = feed(
        one, *KNOWN, RELATION, Begin(1500, 80, 8), *(Insert(OID, row(n)) for n in range(5)),
        Commit(1500, 1508, 80), *FENCE,
    )  # fmt: skip
    assert [len(batch.changes) for batch in batches] == [2, 2, 1]
    assert [batch.place.lsn for batch in batches if batch.place] == [1000, 1000, 2010]
    times = [batch.at for batch in batches]
    assert times[0] == times[1], "the time of the transaction that they are of"


def test_an_unchanged_value_is_left_out_and_with_a_new_id_it_is_read_again() -> None:
    one = assembler()
    [batch] = feed(
        one, *KNOWN, RELATION, Begin(1500, 80, 8),
        Update(OID, None, False, row(1, b"new", UNCHANGED)),
        Update(OID, (b"1", None, None), False, row(5, b"newer", UNCHANGED)),
        Update(OID, row(5, b"newer", b"old"), True, row(6, b"newest", UNCHANGED)),
        Commit(1500, 1508, 80), *FENCE,
    )  # fmt: skip
    kept, moved, whole = batch.changes
    assert (kept.columns, kept.previous_row_id) == ({"path"}, None)
    assert (moved.columns, moved.previous_row_id, moved.row_id) == ({"path"}, "1", "5")
    assert (whole.columns, whole.previous_row_id) == (None, "5")
    assert {r.key for r in whole.references} == {"newest", "old"}
    assert [(again.change, list(again.key), again.xid) for again in batch.again] == [(1, ["5"], 8)]


def test_truncate_comes_before_what_follows_and_after_what_was_before() -> None:
    one = assembler()
    first, second = feed(
        one, *KNOWN, RELATION, Begin(1500, 80, 8), Insert(OID, row(1)), Truncate((OID, 7), 0),
        Insert(OID, row(2)), Commit(1500, 1508, 80), *FENCE,
    )  # fmt: skip
    assert (len(first.changes), first.emptied) == (1, [])
    assert (len(second.changes), second.emptied) == (1, ["files"])


def test_a_new_file_is_explained_by_a_truncate_only() -> None:
    until = evolve(UNTIL, prints=Fingerprint("s", "c", "p", (TablePrint("shape", "another"),)))
    truncate = [Begin(1500, 80, 8), Truncate((OID,), 0), Commit(1500, 1508, 80)]
    one = assembler(until=until)
    feed(one, *KNOWN, *truncate, *FENCE)
    assert one.place.prints == until.prints
    with pytest.raises(PositionLost, match="files was rewritten"):
        feed(assembler(until=until), *KNOWN, *FENCE)


def test_what_was_altered_is_told_before_anything_is_read() -> None:
    until = evolve(UNTIL, prints=Fingerprint("s", "c", "x", PRINTS.tables))
    with pytest.raises(PositionLost, match="the publication was changed"):
        assembler(until=until)


def test_other_relations_types_and_origins_are_passed_over() -> None:
    one = assembler()
    [batch] = feed(
        one, *KNOWN, Type(9, "public", "t"), evolve_relation(oid=9), Begin(1500, 80, 8), Origin(3, "there"),
        Insert(9, row(1)), Update(9, None, False, row(1)), Delete(9, row(1), False), Commit(1500, 1508, 80), *FENCE,
    )  # fmt: skip
    assert batch.changes == []


def evolve_relation(**changes: object) -> Relation:
    return RELATION._replace(**changes)  # type: ignore[arg-type]


BEGUN = [*KNOWN, RELATION, Begin(1500, 80, 8)]
WITHOUT_PATH = evolve_relation(columns=RELATION.columns[:1])
NO_KEY = evolve_relation(columns=tuple(c._replace(is_key=False) for c in RELATION.columns))
ALL_KEYS = evolve_relation(columns=tuple(c._replace(is_key=True) for c in RELATION.columns))


@pytest.mark.parametrize(
    ("messages", "kind", "match"),
    [
        ([*KNOWN, WITHOUT_PATH], PositionLost, "come without its column 'path'"),
        ([*KNOWN, NO_KEY], PositionLost, "replica identity"),
        ([*KNOWN, ALL_KEYS], PositionLost, "replica identity"),
        ([*KNOWN, evolve_relation(identity="n")], PositionLost, "replica identity"),
        ([*KNOWN, Begin(1500, 80, 8), Insert(OID, row(1))], PgOutputError, "of which nothing was told"),
        ([*BEGUN, Insert(OID, row(1, UNCHANGED))], PgOutputError, "without all values"),
        ([*BEGUN, Insert(OID, (None, b"a", b"b"))], PgOutputError, "without its key"),
        ([*BEGUN, Delete(OID, (UNCHANGED, None, None), False)], PgOutputError, "without its key"),
        ([*BEGUN, Begin(1600, 80, 8)], PgOutputError, "inside another"),
        ([*BEGUN, Commit(1501, 1508, 80)], PgOutputError, "without its transaction"),
        ([*KNOWN, Commit(1500, 1508, 80)], PgOutputError, "without its transaction"),
        ([*KNOWN, RELATION, Insert(OID, row(1))], PgOutputError, "outside of a transaction"),
        ([*BEGUN, Commit(1500, 1508, 80), Begin(1400, 80, 8)], PgOutputError, "don't come in order"),
        ([*BEGUN, Commit(1500, 1508, 80), Begin(1500, 80, 8)], PgOutputError, "don't come in order"),
    ],
)
def test_what_cannot_be_is_an_error(
    messages: Iterable[AnyMessage], kind: type[SourceError], match: str
) -> None:
    with pytest.raises(kind, match=match):
        feed(assembler(), *messages)


def test_a_key_that_is_kept_out_of_line_comes_with_the_old_row() -> None:
    [batch] = feed(
        assembler(), *BEGUN, Update(OID, (b"1", None, None), False, (UNCHANGED, b"a", b"b")),
        Commit(1500, 1508, 80), *FENCE,
    )  # fmt: skip
    [change] = batch.changes
    assert (change.row_id, change.previous_row_id) == ("1", None)
