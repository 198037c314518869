"""Make a plan when the registry is up to date by changes: list the bucket and compare, with nothing to scan.

As many references as objects: most name one of them, as many as there is garbage name none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import anyio
import structlog

from benchmarks.responder.content import key
from benchmarks.workers import arguments, report, timed
from s3gc import Collector, Position, Reference, ReferenceSource, Safety, create_config
from s3gc.model import ChangeBatch

_BATCH = 10_000


class Rows(ReferenceSource):
    """Rows that were scanned once, and that nobody changes any more."""

    name = "rows"
    follows_changes = True

    def __init__(self, objects: int, garbage: int) -> None:
        """Every object but each ``garbage``-th has a row; the rows of these name nothing."""
        self._objects = objects
        self._garbage = garbage

    async def references(self) -> AsyncIterator[Sequence[Reference]]:
        """All rows."""
        for start in range(0, self._objects, _BATCH):
            yield [
                Reference(
                    f"missing/{row}" if row % self._garbage == 0 else key(row), "files", str(row), "key"
                )
                for row in range(start, min(start + _BATCH, self._objects))
            ]

    async def begin(self) -> Position:
        """Where the changes begin."""
        return Position(self.name, "1", 1)

    async def fence(self, timeout: timedelta) -> Position:
        """Where they end: at the same place."""
        return Position(self.name, "1", 1)

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        """Nothing."""
        yield ChangeBatch((), until)


async def main() -> None:
    """Plan once to fill the registry, and once to measure."""
    options = arguments("objects", "garbage", "vault")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    config = create_config(
        bucket=options.bucket,
        endpoint_url=options.endpoint,
        mode="dry_run",
        retention_days=0,
        vault_path=options.vault,
        safety=Safety.none(),
    )
    rows = Rows(int(options.objects), int(options.garbage))
    async with Collector.open(config, sources=[rows]) as collector:
        await collector.plan()
        with timed() as timer:
            plan = await collector.plan()
        report(seconds=timer.seconds, cpu_seconds=timer.cpu_seconds, objects=plan.scanned, planned=len(plan))


if __name__ == "__main__":
    anyio.run(main)
