"""Make a plan: list the bucket, read the database, compare."""

from __future__ import annotations

import anyio

from benchmarks.workers import arguments, report, timed
from benchmarks.workers.s3gc_setup import configuration
from s3gc import Collector


async def main() -> None:
    """Plan and count."""
    async with Collector.open(configuration(arguments("database", "vault"))) as collector:
        with timed() as timer:
            plan = await collector.plan()
        report(seconds=timer.seconds, cpu_seconds=timer.cpu_seconds, objects=plan.scanned, planned=len(plan))


if __name__ == "__main__":
    anyio.run(main)
