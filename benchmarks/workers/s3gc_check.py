"""After a collection, unmeasured: verify journal and backups, and restore the keys of a JSON file."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
from s3gc import Collector

from benchmarks.workers import arguments, report
from benchmarks.workers.s3gc_setup import configuration


async def main() -> None:
    """Verify, restore, and tell every problem."""
    options = arguments("database", "vault", "keys")
    keys: list[str] = json.loads(Path(options.keys).read_text())
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
    anyio.run(main)
