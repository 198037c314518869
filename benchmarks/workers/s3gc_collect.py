"""Plan and collect in execute mode."""

from __future__ import annotations

import anyio

from benchmarks.workers import arguments, report, timed
from benchmarks.workers.s3gc_setup import configuration
from s3gc import Collector, process


async def main() -> None:
    """Plan, collect, and say what the report says."""
    process.tune()  # as the command does
    async with Collector.open(configuration(arguments("database", "vault"))) as collector:
        with timed() as planning:
            plan = await collector.plan()
        with timed() as collecting:
            done = await collector.collect(plan)
        report(
            plan_seconds=planning.seconds,
            plan_cpu_seconds=planning.cpu_seconds,
            collect_seconds=collecting.seconds,
            collect_cpu_seconds=collecting.cpu_seconds,
            deleted=len(done.deleted),
            backed_up=done.backed_up,
            errors=list(done.errors),
        )


if __name__ == "__main__":
    anyio.run(main)
