"""Each gate keeps for its own reason, and only for that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc import Candidate, Moment, ObjectInfo, Safety
from s3gc.abc import RESERVED_PREFIX, Gate
from s3gc.derivation import Derivation
from s3gc.gates import (
    AmbiguousKey,
    Archived,
    ExcludedPrefix,
    Grace,
    Observations,
    Retention,
    first_objection,
    standard_gates,
)
from s3gc.protection import Protection

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def candidate(
    key: str = "a.jpg",
    *,
    age: timedelta = 100 * DAY,
    free: timedelta = 50 * DAY,
    observations: int = 5,
    storage_class: str | None = None,
    ambiguous: bool = False,
) -> Candidate:
    info = ObjectInfo(key, 1, "etag", NOW - age, storage_class=storage_class, ambiguous=ambiguous)
    return Candidate(info, NOW - free, observations)


GATES = standard_gates(
    exclude_prefixes=["images"],
    owned_prefixes=["a*", "images", "b"],
    protection=Protection(Derivation({"a/{key}-{x}": "{key}"})),
    retention=7 * DAY,
    safety=Safety.full(),
)


@pytest.mark.parametrize(
    ("doomed", "code"),
    [
        (candidate(ambiguous=True), "ambiguous_key"),
        (candidate("images/a.jpg"), "excluded_prefix"),
        (candidate("b2/a.jpg"), "not_owned"),
        (candidate("b"), "not_owned"),
        (candidate("a/" + "-" * 1020), "unclear_parent"),
        (candidate(age=timedelta(days=6, hours=23)), "too_young"),
        (candidate(storage_class="GLACIER"), "archived"),
        (candidate(storage_class="DEEP_ARCHIVE"), "archived"),
        (candidate(free=Safety.full().grace - timedelta(microseconds=1)), "in_grace"),
        (candidate(observations=1), "too_few_observations"),
    ],
)
def test_each_gate_keeps_alone(doomed: Candidate, code: str) -> None:
    objecting = [gate.code for gate in GATES if gate.keeps(doomed, Moment(NOW)) is not None]
    assert objecting == [code]
    found = first_objection(GATES, doomed, Moment(NOW))
    assert found is not None
    assert found[0] == code


def test_an_old_free_object_passes_them_all() -> None:
    assert first_objection(GATES, candidate(), Moment(NOW)) is None
    assert all(not gate.verdict(candidate(), Moment(NOW)).keep for gate in GATES)


def test_bounds_are_inclusive_where_the_wait_is_over() -> None:
    assert Retention(7 * DAY).keeps(candidate(age=7 * DAY), Moment(NOW)) is None
    assert Grace(3 * DAY).keeps(candidate(free=3 * DAY), Moment(NOW)) is None
    assert Observations(2).keeps(candidate(observations=2), Moment(NOW)) is None


def test_an_object_from_the_future_is_young() -> None:
    assert Retention(timedelta(0)).keeps(candidate(age=-DAY), Moment(NOW)) is not None


def excluded(key: str, prefix: str) -> bool:
    return ExcludedPrefix((prefix,)).keeps(candidate(key), Moment(NOW)) is not None


@pytest.mark.parametrize(
    ("key", "prefix", "inside"),
    [
        ("images/a.jpg", "images", True),
        ("images/a.jpg", "images/", True),
        ("images2/a.jpg", "images", False),  # supabase/storage#830
        ("images2/a.jpg", "images*", True),
        ("images", "images", True),
        ("imag", "images", False),
        ("a/images/b", "images", False),
        ("tmp/x/y", "tmp/x", True),
    ],
)
def test_a_prefix_ends_at_a_slash(key: str, prefix: str, inside: bool) -> None:
    assert excluded(key, prefix) is inside


@given(st.text(min_size=1), st.text(min_size=1).filter(lambda text: not text.endswith("*")))
def test_only_what_is_below_a_folder_is_excluded(key: str, prefix: str) -> None:
    folder = prefix.rstrip("/")
    reserved = key == RESERVED_PREFIX[:-1] or key.startswith(RESERVED_PREFIX)
    assert excluded(f"{folder}/{key}", prefix)
    assert excluded(key, prefix) == (reserved or key == folder or key.startswith(folder + "/"))


def test_every_gate_has_a_code_and_a_reason_with_words() -> None:
    gates: list[Gate] = [
        AmbiguousKey(),
        Archived(),
        ExcludedPrefix(("a.jpg",)),
        Grace(timedelta(days=1000)),
        Observations(1000),
        Retention(timedelta(days=1000)),
    ]
    assert len({gate.code for gate in gates}) == len(gates)
    doomed = candidate(ambiguous=True, storage_class="GLACIER")
    assert all(" " in (gate.keeps(doomed, Moment(NOW)) or "") for gate in gates)
