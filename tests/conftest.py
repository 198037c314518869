"""Settings for all tests. Fixtures live beside the tests that use them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# No deadlines: the machine that runs the tests may be shared, and a slow example is no bug.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command run within the test process leaves its log handler, whose stream pytest then closes."""
    yield
    root = logging.getLogger()
    root.handlers = [
        handler for handler in root.handlers if not type(handler).__module__.startswith("s3gc_cli")
    ]
    root.setLevel(logging.WARNING)
    structlog.reset_defaults()
