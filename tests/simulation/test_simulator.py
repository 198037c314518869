"""The simulator itself: it is deterministic, finds what it should find, and hypothesis can shrink for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3gc import confirm
from s3gc.testing.simulator import (
    DEFAULT,
    HypothesisChooser,
    Totals,
    Violation,
    run,
    simulate,
    simulate_drawn,
)

TELL = """
import hashlib
from s3gc.testing.simulator import simulate
for seed in range(60):
    outcome = simulate(seed)
    print(seed, outcome.steps, hashlib.sha256("\\n".join(outcome.story).encode()).hexdigest())
"""


def _told(hash_seed: str) -> str:
    """The stories of some seeds, told by a process whose sets have an order of their own."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", TELL], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    return done.stdout


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    first = _told("1")
    assert first.count("\n") == 60
    assert _told("2") == first
    assert _told("random") == first


@pytest.mark.parametrize("world", [profile.name for profile in DEFAULT])
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_promise_is_broken_in_any_world(world: str, data: st.DataObject) -> None:
    outcome = simulate_drawn(HypothesisChooser(data), world)
    if outcome.violation is not None:
        raise outcome.violation


def test_a_follower_is_told_changes_in_its_world() -> None:
    assert run(range(40), world="follower").counts["changes to a follower"] > 0


@pytest.mark.slow
def test_hypothesis_shrinks_a_story(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: object) -> None:
        return None

    simulate(0)
    monkeypatch.setattr(confirm, "put_back_if_missing", lost)  # late references don't heal
    monkeypatch.setattr("hypothesis.internal.conjecture.engine.MAX_SHRINKING_SECONDS", 30)

    @given(data=st.data())
    @settings(
        max_examples=300,
        deadline=None,
        database=None,
        derandomize=True,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    def search(data: st.DataObject) -> None:
        outcome = simulate_drawn(HypothesisChooser(data), "scanning")
        if outcome.violation is not None:
            raise outcome.violation

    with pytest.raises(Violation) as caught:
        search()
    assert caught.value.invariant == "P3"
    triggers = [line for line in caught.value.story if line.startswith("when ")]
    assert len(triggers) <= 2, str(caught.value)
    assert len(caught.value.story) < 60, str(caught.value)


def test_a_run_meets_all_that_it_is_for() -> None:
    told: list[int] = []
    totals = run(range(600), jobs=2, progress=lambda sofar: told.append(sofar.schedules))
    assert not totals.violations, str(totals.violations[0])
    assert (totals.schedules, told[-1], len(told)) == (600, 600, 6)
    for what in (
        "claims",
        "crashes",
        "deletions",
        "ended by LeaseHeld",
        "held by bucket_owner",
        "held by identity_changed",
        "held by position_lost",
        "held by position_went_back",
        "held by source_failed",
        "held by too_many_deletes",
        "operations",
        "put back",
        "restored",
        "resurrected",
    ):
        assert totals.counts[what] > 0, what
    assert set(totals.worlds) == {profile.name for profile in DEFAULT}


def test_a_violation_tells_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(0)
    monkeypatch.setattr(confirm, "confirm", None)  # calling it is an error that nobody expects
    monkeypatch.setattr("s3gc.sweep.confirm", None)
    totals: Totals = run(range(200), world="scanning")
    assert len(totals.violations) == 1
    first = totals.violations[0]
    assert first.invariant == "error"
    assert first.seed is not None
    again = simulate(first.seed, world="scanning").violation
    assert again is not None
    assert list(again.story) == list(first.story)
    assert f"seed {first.seed}" in str(first)
