"""Each breaker trips on its own evidence, at its bound, and not before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from s3gc import Safety
from s3gc import breakers as b
from s3gc.model import Column, ColumnCount, SourceIdentity, StoreCapabilities, UntrackedColumn
from s3gc.registry import Resolved, SourceState

COLUMN = Column("users", "avatar")
FULL = Safety.full()


def evidence(
    *,
    listed: int = 100,
    references: int = 90,
    good: int | None = None,
    values: int = 90,
    mentions: int = 90,
    resolved: int = 90,
    sources: int = 1,
) -> b.Evidence:
    return b.Evidence(
        listed=listed,
        sources=[SourceIdentity("db", "test")][:sources],
        states={"db": SourceState("1", references, good)},
        counts={"db": {COLUMN: ColumnCount(100, values)}},
        columns={"db": [COLUMN]},
        resolved={("db", COLUMN): Resolved(mentions, resolved)},
    )


OTHER = Column("posts", "cover")


def codes(found: b.Evidence, safety: Safety = FULL) -> list[str]:
    return [breaker.code for breaker in b.before_candidates(found, safety)]


def test_good_evidence_trips_nothing() -> None:
    assert codes(evidence()) == []


@pytest.mark.parametrize("safety", [Safety.full(), Safety.none(), Safety.demo()])
def test_no_preset_takes_emptiness_for_evidence(safety: Safety) -> None:
    assert "no_sources" in codes(evidence(sources=0), safety)
    assert "no_references" in codes(evidence(references=0), safety)
    assert "empty_column" in codes(evidence(values=0), safety)
    assert "resolve_rate" in codes(evidence(resolved=0), safety)


def test_a_source_that_was_never_read_has_no_references() -> None:
    unread = b.Evidence(listed=1, sources=[SourceIdentity("db", "test")])
    assert "no_references" in codes(unread)


def test_a_column_that_was_never_counted_is_empty() -> None:
    found = b.Evidence(
        listed=1,
        sources=[SourceIdentity("db", "test")],
        states={"db": SourceState("1", 1, None)},
        columns={"db": [COLUMN]},
        resolved={("db", COLUMN): Resolved(1, 1)},
    )
    assert codes(found) == ["empty_column"]


def test_reference_drop_trips_beyond_its_share() -> None:
    assert codes(evidence(references=80, good=100)) == []
    assert codes(evidence(references=79, good=100)) == ["reference_drop"]
    assert codes(evidence(references=200, good=100)) == []


def test_resolve_rate_trips_below_its_share() -> None:
    assert codes(evidence(mentions=100, resolved=50)) == []
    assert codes(evidence(mentions=100, resolved=49)) == ["resolve_rate"]


def test_a_column_that_reads_well_doesnt_hide_one_that_doesnt() -> None:
    found = evolve(
        evidence(mentions=1000, resolved=1000),
        resolved={("db", COLUMN): Resolved(1000, 1000), ("db", OTHER): Resolved(10, 4)},
        examples={("db", OTHER): ["row 7: 'x.jpg'"]},
    )
    [tripped] = b.before_candidates(found, FULL)
    assert (tripped.code, tripped.subject) == ("resolve_rate", "db:posts.cover")
    assert "row 7: 'x.jpg'" in tripped.reason


def test_lost_changes_trip_whatever_the_numbers_are() -> None:
    assert codes(evolve(evidence(), lost={"db": "slot gone"}), Safety.none()) == ["position_lost"]


def test_a_source_that_went_back_trips() -> None:
    def at(now: int | None, good: int | None) -> b.Evidence:
        return evolve(evidence(), states={"db": SourceState("x", 90, None, now, good)})

    assert codes(at(9, 10), Safety.none()) == ["position_went_back"]
    assert codes(at(10, 10)) == codes(at(11, 10)) == codes(at(None, 10)) == codes(at(9, None)) == []


def test_an_untracked_column_trips_only_if_its_values_name_objects() -> None:
    column = UntrackedColumn("users", "banner", "text", ["a", "b"], 2)
    assert codes(evolve(evidence(), untracked=[("db", column, [])])) == []
    [tripped] = b.before_candidates(evolve(evidence(), untracked=[("db", column, ["a"])]), Safety.none())
    assert (tripped.code, tripped.subject) == ("untracked_column", "db:users.banner")


def test_a_disagreement_names_both_evidences() -> None:
    assert b.registry_disagrees({}) == []
    [tripped] = b.registry_disagrees({"a": "db: users.avatar of row 1 names 'a'"})
    assert tripped.evidence["registry"] == "no reference"
    assert "row 1" in tripped.reason


def test_an_empty_bucket_can_resolve_nothing_and_lose_nothing() -> None:
    assert codes(evidence(listed=0, resolved=0)) == []


@pytest.mark.parametrize(
    ("planned", "listed", "safety", "trips"),
    [
        (0, 100, FULL.but(max_deletes=0), False),
        (1, 100, FULL.but(max_deletes=0), True),  # 0 means none (opal#924)
        (1, 100, FULL.but(max_delete_share=0.0), True),
        (50, 100, FULL, False),
        (51, 100, FULL, True),
        (100, 100, Safety.none(), False),
        (11, 100, FULL.but(max_deletes=10), True),
        (10, 100, FULL.but(max_deletes=10), False),
    ],
)
def test_limits_on_deletions(planned: int, listed: int, safety: Safety, trips: bool) -> None:
    assert bool(b.too_many_deletes(planned, listed, safety)) is trips


def test_clock_skew_in_either_direction() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    limit = timedelta(minutes=5)
    assert b.clock_skew(now, now + limit, limit) == []
    assert b.clock_skew(now, now + limit + timedelta(seconds=1), limit)
    assert b.clock_skew(now + limit + timedelta(seconds=1), now, limit)


def test_a_store_that_ignores_if_match_needs_a_decision() -> None:
    careless = StoreCapabilities(conditional_delete=False, conditional_put=True)
    assert b.unconditional_delete(careless, Safety.none())
    assert b.unconditional_delete(careless, FULL.but(allow_unconditional_delete=True)) == []
    assert b.unconditional_delete(StoreCapabilities(True, True), FULL) == []
