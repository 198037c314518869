"""Everything at once, at random, in each form of the log. By hand: ``python -m cdc_mysql_torture``."""

from __future__ import annotations

from typing import Any

import pytest

from cdc_mysql_torture import torture

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    "settings",
    [
        {"binlog_row_image": "FULL"},
        {"binlog_row_image": "MINIMAL"},
        {"binlog_row_image": "MINIMAL", "log_bin_compress": "ON", "log_bin_compress_min_len": 10},
    ],
    ids=["full", "minimal", "minimal-compressed"],
)
async def test_at_every_fence_the_rows_are_right(settings: dict[str, Any]) -> None:
    counts = await torture(20, seed=20261130, **settings)
    for what in ("transactions", "changes", "compared", "watched", "crash"):
        assert counts[what] > 0, what
    assert counts["server crashes"] + counts["server restarts"] > 0
