"""The journal at length: ``python -m benchmarks.journal --entries 1000000``.

Side by side, in one run and on one machine: what s3gc's journal does, and what SQLite alone does with the
same rows. Written are the entries of a sweep: backed_up, delete_intended and deleted for each object, in
batches of 1,000. Point queries are for keys chosen by chance, each in a journal that was just opened.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from s3gc.clock import SystemClock
from s3gc.model import BackupRecord, JournalDraft, ObjectAttributes
from s3gc.vault import SqliteJournal, record_to_json
from s3gc.vault._chain import COLUMNS, INSERT, SCHEMA

BATCH = 1_000
QUERIES = 200
URL = "s3://benchmark"
VAULT = "01K00000000000000000000000"
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
LINE = "{:<44} {:>14} {:>12}"


def drafts(entries: int) -> Iterator[list[JournalDraft]]:
    """A sweep's entries, a batch at a time."""
    batch: list[JournalDraft] = []
    for number in range(entries):
        object_number, step = divmod(number, 3)
        operation = f"01K{object_number // 50_000:023d}"
        key = f"uploads/{object_number % 997:03d}/{object_number:09d}.jpg"
        batch.append(draft(object_number, step, operation, key))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def draft(number: int, step: int, operation: str, key: str) -> JournalDraft:
    if step == 1:
        facts = {
            "etag": f"{number:032x}",
            "size": 40_000,
            "last_modified": "2025-06-01T12:00:00.000000+00:00",
            "since": "2025-12-01T12:00:00.000000+00:00",
            "observations": 3,
            "reason": "no row of any source names it since 2025-12-01; seen in 3 cycles",
        }
        return JournalDraft("delete_intended", operation, key, facts)
    record = BackupRecord(
        key=key,
        etag=f"{number:032x}",
        size=40_000,
        sha256=f"{number:064x}",
        last_modified=WHEN - timedelta(seconds=number),
        version_id=None,
        attributes=ObjectAttributes(content_type="image/jpeg"),
        codec="zstd",
        stored_size=39_000,
        location=f"{VAULT}:{number * 39_000}:39000",
    )
    return JournalDraft(
        "deleted" if step else "backed_up", operation, key, {"backup": record_to_json(record)}
    )


async def run(folder: Path, entries: int) -> bool:
    journal = SqliteJournal(folder, vault_id=VAULT, bucket=URL, clock=SystemClock())
    await journal.create()
    await journal.open()
    print(LINE.format(f"{entries:,} entries", "entries/s", "CPU µs each"))
    spent = [0.0, 0.0]
    for batch in drafts(entries):
        begun = time.perf_counter(), time.process_time()
        await journal.append(batch)
        spent[0] += time.perf_counter() - begun[0]
        spent[1] += time.process_time() - begun[1]
    show("append, 1,000 at a time, each on the disk", entries, *spent)
    show("the same rows into SQLite, no chain", entries, *plain_insert(folder))

    begun = time.perf_counter(), time.process_time()
    found = await journal.verify()
    seconds = time.perf_counter() - begun[0]
    rate = show("audit verify", entries, seconds, time.process_time() - begun[1])
    assert found.ok, found.problems[:3]
    assert found.entries == entries
    show("SQLite alone: PRAGMA integrity_check", entries, *timed(folder, "PRAGMA integrity_check(10)"))
    show(
        "SQLite alone: read all rows", entries, *timed(folder, f"SELECT {COLUMNS} FROM entries ORDER BY seq")
    )

    begun = time.perf_counter(), time.process_time()
    count = 0
    async for _ in journal.read():
        count += 1
    show("read, each entry checked", count, time.perf_counter() - begun[0], time.process_time() - begun[1])

    times = await queries(folder, entries)
    print(f"\npoint query by key, {QUERIES} keys by chance (each tells 3 entries), milliseconds:")
    print(f"  median {statistics.median(times):.2f}, 99 of 100 below {sorted(times)[-3]:.2f}")
    await journal.aclose()
    size = (folder / "journal.sqlite3").stat().st_size
    print(f"\nthe file has {size:,} bytes, {size / entries:.0f} an entry")
    return rate >= 200_000 and statistics.median(times) < 5


def show(name: str, entries: int, seconds: float, cpu: float) -> float:
    print(LINE.format(name, f"{entries / seconds:,.0f}", f"{cpu / entries * 1e6:.1f}"), flush=True)
    return entries / seconds


def timed(folder: Path, sql: str) -> tuple[float, float]:
    connection = sqlite3.connect(folder / "journal.sqlite3")
    begun = time.perf_counter(), time.process_time()
    for _ in connection.execute(sql):
        pass
    spent = time.perf_counter() - begun[0], time.process_time() - begun[1]
    connection.close()
    return spent


def plain_insert(folder: Path) -> tuple[float, float]:
    """The rows that the journal has, into a table with the same indexes and without triggers."""
    source = sqlite3.connect(folder / "journal.sqlite3")
    path = folder / "plain.sqlite3"
    target = sqlite3.connect(path, isolation_level=None)
    target.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000;")
    target.executescript(SCHEMA[: SCHEMA.index("CREATE TRIGGER")])
    rows = source.execute(f"SELECT {COLUMNS} FROM entries ORDER BY seq")
    wall = cpu = 0.0
    while batch := rows.fetchmany(BATCH):
        begun = time.perf_counter(), time.process_time()
        target.execute("BEGIN IMMEDIATE")
        target.executemany(INSERT, batch)
        target.execute("COMMIT")
        wall += time.perf_counter() - begun[0]
        cpu += time.process_time() - begun[1]
    target.close()
    source.close()
    path.unlink()
    return wall, cpu


async def queries(folder: Path, entries: int) -> list[float]:
    chance = random.Random(1)
    times = []
    for _ in range(QUERIES):
        number = chance.randrange(max(1, entries // 3))
        journal = SqliteJournal(folder, vault_id=VAULT, bucket=URL, clock=SystemClock())
        await journal.open(read_only=True)
        begun = time.perf_counter()
        found = [e async for e in journal.read(key=f"uploads/{number % 997:03d}/{number:09d}.jpg")]
        times.append((time.perf_counter() - begun) * 1000)
        assert len(found) == 3, number
        await journal.aclose()
    return times


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.journal")
    options.add_argument("--entries", type=int, default=1_000_000)
    options.add_argument("--folder", type=Path, help="where the journal is made; on the disk to be measured")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        return 0 if anyio.run(run, Path(folder), given.entries) else 1


if __name__ == "__main__":
    sys.exit(main())
