"""Restoring many small objects: ``python -m benchmarks.restore --objects 20000``.

In one run and on one machine: objects go from a bucket in memory into a local vault, are taken away, and come
back from it. So the disk and s3gc are measured and no network is. Both ways are the product's own: groups of
small objects in, synced, read back and compared; a restore by prefix with its journal out, then one more that
finds everything there. Every byte is compared at the end.

Told are seconds, objects a second, and processor time an object.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import structlog

from s3gc import Collector, create_config, create_plugin_manager
from s3gc.abc import WholeObject
from s3gc.backup import back_up
from s3gc.clock import SystemClock
from s3gc.journal_events import DELETED
from s3gc.model import JournalDraft, ObjectAttributes, ObjectInfo
from s3gc.testing.fakes import FakeSource, FakeStore
from s3gc.vault.records import record_to_json

BATCH = 5_000
GROUP = 256
LINE = "{:<46} {:>10} {:>14} {:>10}"


class MemoryStore(FakeStore):
    """A bucket in memory that gives small objects in groups, as the S3 store does."""

    async def get_small(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        for start in range(0, len(objects), GROUP):
            group = []
            for listed in objects[start : start + GROUP]:
                stored = self._objects[listed.key]
                group.append(WholeObject(listed, stored.info, stored.attributes, stored.body))
            yield group


def body(number: int, size: int) -> bytes:
    """Half text, half noise: compresses about twofold."""
    chance = random.Random(number)
    return chance.randbytes(size // 2) + b"%d " % number * (size // 2 // len(b"%d " % number) + 1)


async def run(folder: Path, count: int, size: int) -> None:
    store = MemoryStore(SystemClock())
    attributes = ObjectAttributes(content_type="image/jpeg", metadata={"owner": "42"})
    for number in range(count):
        store.upload(f"uploads/{number % 997:03d}/{number:09d}.jpg", body(number, size)[:size], attributes)
    before = store.contents()
    config = create_config(bucket="memory://fake", vault_path=folder, mode="execute")
    async with Collector.open(
        config,
        store=store,
        sources=[FakeSource(rows={"1": ["live"]})],
        plugins=create_plugin_manager(entry_points=False),
    ) as gc:
        parts = gc._parts
        listed = [info async for page in store.list() for info in page]
        operation = parts.new_id()
        seconds = cpu = 0.0
        async with parts.vault.session(operation) as session:
            for start in range(0, count, BATCH):
                began, cpu_began = time.perf_counter(), time.process_time()
                records, kept = await back_up(parts, session, listed[start : start + BATCH], operation)
                seconds += time.perf_counter() - began
                cpu += time.process_time() - cpu_began
                assert not kept
                await parts.vault.journal.append(
                    [
                        JournalDraft(DELETED, operation, key, {"backup": record_to_json(record)})
                        for key, record in records.items()
                    ]
                )
        told("back up: synced, read back, journalled", count, seconds, cpu)
        for key in before:
            store.remove(key)
        for what in ("restore: into the empty bucket", "restore again: all there already"):
            began, cpu_began = time.perf_counter(), time.process_time()
            report = await gc.restore(prefix="", dry_run=False)
            told(what, count, time.perf_counter() - began, time.process_time() - cpu_began)
            assert not report.errors, report.errors
            assert len(report.restored) + len(report.skipped) == count
        assert store.contents() == before
        print("every byte came back")


def told(what: str, count: int, seconds: float, cpu_seconds: float) -> None:
    rate = f"{count / seconds:,.0f} /s"
    print(LINE.format(what, f"{seconds:.2f} s", rate, f"{cpu_seconds / count * 1e6:.0f} us"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=4096, help="bytes of each")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, Path(folder), options.objects, options.size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
