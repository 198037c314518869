"""The simulator itself: it is deterministic, it finds what it should find, and hypothesis can shrink for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from s3gc.testing.simulator import DEFAULT, HypothesisChooser, run, simulate, simulate_drawn

TELL = """
import hashlib
from s3gc.testing.simulator import simulate
for seed in range(150):
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
    assert first.count("\n") == 150
    assert _told("2") == first
    assert _told("random") == first


@pytest.mark.parametrize("world", [profile.name for profile in DEFAULT])
@given(data=st.data())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
def test_no_promise_is_broken_in_any_world(world: str, data: st.DataObject) -> None:
    outcome = simulate_drawn(HypothesisChooser(data), world)
    if outcome.violation is not None:
        raise outcome.violation


def test_a_run_meets_all_that_it_is_for() -> None:
    totals = run(range(400))
    assert not totals.violations, str(totals.violations[0])
    for what in ("deletions", "resurrected", "crashes", "restored", "operations", "held by source_failed"):
        assert totals.counts[what] > 0, what
    assert set(totals.worlds) == {profile.name for profile in DEFAULT}
    assert simulate(7).story[-1] == simulate(7).story[-1]
