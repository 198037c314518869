"""After a collection, unmeasured: verify journal and backups, and restore the keys of a JSON file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import anyio

from benchmarks.workers import arguments, report
from benchmarks.workers.s3gc_setup import configuration
from s3gc import Collector


async def main(options: argparse.Namespace, keys: list[str]) -> None:
    """Verify, restore, and tell every problem."""
    async with Collector.open(configuration(options)) as collector:
        journal, vault = await collector.verify()
        problems = [*journal.problems, *vault.problems]
        if not (journal.ok and vault.ok):
            problems.append("verification failed")
        for key in keys:
            restored = await collector.restore(key=key, dry_run=False)
            if list(restored.restored) != [key]:
                problems.append(f"{key} was not restored: {restored.skipped} {restored.errors}")
    report(problems=problems, backups=vault.backups)


if __name__ == "__main__":
    given = arguments("database", "vault", "keys")
    anyio.run(main, given, json.loads(Path(given.keys).read_text()))
