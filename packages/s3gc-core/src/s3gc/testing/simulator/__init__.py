"""A deterministic simulation of the real collector in a world of trouble.

Collector, registry, vault, journal and plans are the real ones; time, databases, bucket, applications and
all faults are simulated and come from a seed. An oracle that knows the whole truth checks the promises P1 to
P6 at every effect::

    from s3gc.testing.simulator import simulate
    outcome = simulate(4711)
    if outcome.violation:
        raise outcome.violation  # tells the seed and the story
"""

from s3gc.testing.simulator._chooser import Chooser, HypothesisChooser, SeedChooser
from s3gc.testing.simulator._run import (
    Outcome,
    Totals,
    run,
    run_schedule,
    schedule_of,
    simulate,
    simulate_drawn,
)
from s3gc.testing.simulator._schedule import Act, Profile, Schedule, Settings, Step, Trigger
from s3gc.testing.simulator._story import Violation
from s3gc.testing.simulator._worlds import DEFAULT, WORLDS

__all__ = [
    "DEFAULT",
    "WORLDS",
    "Act",
    "Chooser",
    "HypothesisChooser",
    "Outcome",
    "Profile",
    "Schedule",
    "SeedChooser",
    "Settings",
    "Step",
    "Totals",
    "Trigger",
    "Violation",
    "run",
    "run_schedule",
    "schedule_of",
    "simulate",
    "simulate_drawn",
]
