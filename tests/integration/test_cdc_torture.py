"""Everything at once, at random, for half a minute. By hand for longer: ``python -m cdc_torture``."""

from __future__ import annotations

import pytest

from cdc_torture import torture

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_at_every_fence_the_rows_are_right() -> None:
    counts = await torture(40, seed=20261130)
    for what in ("transactions", "changes", "compared", "watched", "crash", "ddl"):
        assert counts[what] > 0, what
    assert counts["server crashes"] + counts["server restarts"] > 0
