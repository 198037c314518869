"""A source that goes back in the middle of a sweep is noticed wherever the sweep hears of its position."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures_kernel import (
    FREE,
    LIVE,
    Bench,
    Following,
    Scanned,
    anyio_backend,  # noqa: F401
)
from s3gc import Safety
from s3gc.errors import CycleHeld

pytestmark = pytest.mark.anyio


def with_history(folder: Path, source: type[Following]) -> Bench:
    """A bench whose source has some past to go back to."""
    bench = Bench(folder, source)
    bench.source.write("2", LIVE)
    bench.source.write("3", LIVE)
    return bench


async def test_a_scanned_source_that_went_back_is_noticed_when_the_registry_is_compared(
    tmp_path: Path,
) -> None:
    """Else the comparison's own scan would take the smaller position for the registry's."""
    bench = with_history(tmp_path, Scanned)

    def back_with_a_row() -> None:
        bench.source.restore(1, noticed=False)
        bench.source.write("late", "free/1")

    bench.on["plan_made"] = back_with_a_row
    async with bench.open() as gc:
        with pytest.raises(CycleHeld, match="position_lost"):
            await gc.collect()
        assert bench.keys == {LIVE, *FREE}
        bench.on.clear()
        assert "position_lost" in [one.code for one in (await gc.plan()).held_by]


@pytest.mark.parametrize("source", [Following, Scanned])
async def test_a_source_that_went_back_is_noticed_at_the_confirmation(
    tmp_path: Path, source: type[Following]
) -> None:
    """All of the batch is put back, and the next one doesn't begin."""
    bench = with_history(tmp_path, source)

    async def back(key: str) -> None:
        bench.store.after_delete = None
        bench.source.restore(1, noticed=False)

    bench.store.after_delete = back
    async with bench.open(safety=Safety.none().but(batch_objects=1)) as gc:
        with pytest.raises(CycleHeld, match="position_lost") as held:
            await gc.collect()
        assert held.value.report is not None
        assert list(held.value.report.resurrected) == ["free/1"]
        assert list(held.value.report.deleted) == []
    assert bench.keys == {LIVE, *FREE}
