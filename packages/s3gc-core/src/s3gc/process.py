"""What s3gc sets in a process of its own (the command, the service), and never in an application's."""

from __future__ import annotations

import gc

CYCLES_AFTER = (20_000, 20, 50)
"""Objects made, and looks at the young ones, until Python looks for cycles again (``gc.set_threshold``).

A sweep holds some hundred thousand objects and makes none that form cycles; with Python's 700, 10, 10 the
looking took a seventh of its processor time (docs/benchmarks.md).
"""


def tune() -> None:
    """Make Python look for cycles of garbage less often, in the whole process."""
    gc.set_threshold(*CYCLES_AFTER)
