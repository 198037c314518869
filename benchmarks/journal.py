"""The journal at length: ``python -m benchmarks.journal --entries 1000000 [--made 9000000]``.

Side by side, in one run and on one machine: what s3gc's journal does, and what SQLite alone does with the
same rows. Written are the entries of a sweep: backed_up, delete_intended and deleted for each object, in
batches of 1,000. With ``--made`` so many entries are there before, which were put into the file at once and
not measured. Queries are for what was chosen by chance, each in a journal that was just opened.
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
from typing import Any

import anyio
import anyio.to_thread

from s3gc.clock import SystemClock
from s3gc.model import BackupRecord, JournalDraft, ObjectAttributes
from s3gc.vault import SqliteJournal, record_to_json
from s3gc.vault._chain import COLUMNS, INSERT, SCHEMA, genesis, link
from s3gc.vault._head import Head, HeadFile
from s3gc.vault.records import canonical, time_to_text

BATCH = 1_000
QUERIES = 200
SINGLE = 101
"""Every so manieth object has an operation of its own."""

URL = "s3://benchmark"
VAULT = "01K00000000000000000000000"
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
LINE = "{:<44} {:>14} {:>12}"


def key_of(number: int) -> str:
    return f"uploads/{number % 997:03d}/{number:09d}.jpg"


def operation_of(number: int) -> str:
    """Of 50,000 objects each; some objects have one of their own."""
    return f"02K{number:023d}" if number % SINGLE == 0 else f"01K{number // 50_000:023d}"


def drafts(first: int, entries: int) -> Iterator[list[JournalDraft]]:
    """A sweep's entries, a batch at a time."""
    batch: list[JournalDraft] = []
    for number in range(first, first + entries):
        object_number, step = divmod(number, 3)
        batch.append(draft(object_number, step, operation_of(object_number), key_of(object_number)))
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


def make(folder: Path, entries: int) -> None:
    """Entries as if they had been appended: triggers and indexes are made at the end, and nothing is synced.

    ``audit verify`` finds no difference.
    """
    path = folder / "journal.sqlite3"
    database = sqlite3.connect(path, isolation_level=None)
    pieces = SCHEMA[SCHEMA.index("CREATE INDEX") :]
    for kind, name in database.execute(
        "SELECT type, name FROM sqlite_master WHERE sql LIKE 'CREATE %'"
    ).fetchall():
        if kind in ("index", "trigger"):
            database.execute(f"DROP {kind} {name}")
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-262144"):
        database.execute(f"PRAGMA {pragma}")
    previous, seq, bucket_json = genesis(VAULT, URL), 0, canonical(URL)
    samples = [draft(0, step, "", "") for step in range(3)]
    texts = [canonical(dict(one.data)) for one in samples]
    database.execute("BEGIN")
    while seq < entries:
        rows = []
        for _ in range(min(3 * BATCH, entries - seq)):
            number, step = divmod(seq, 3)
            seq += 1
            at = time_to_text(WHEN + timedelta(milliseconds=seq))
            data = texts[step].replace("0" * 32, f"{number:032x}", 1)
            operation, key = operation_of(number), key_of(number)
            made = link(bucket_json, seq, at, operation, samples[step].event, key, data, previous)
            rows.append((seq, at, operation, samples[step].event, key, data, previous, made))
            previous = made
        database.executemany(INSERT, rows)
    database.execute("COMMIT")
    database.executescript(pieces)
    database.execute("PRAGMA journal_mode=WAL")
    database.close()
    HeadFile(folder / "journal.head").create(Head(seq, previous))


async def run(folder: Path, entries: int, before: int) -> bool:
    clock = SystemClock()
    journal = SqliteJournal(folder, vault_id=VAULT, bucket=URL, clock=clock)
    await journal.create()
    if before:
        begun = time.perf_counter()
        await anyio.to_thread.run_sync(make, folder, before)
        print(f"{before:,} entries were put into the file in {time.perf_counter() - begun:.0f} s")
    await journal.open()
    print(LINE.format(f"{entries + before:,} entries", "entries/s", "CPU µs each"))
    spent = [0.0, 0.0]
    for batch in drafts(before, entries):
        begun_at = time.perf_counter(), time.process_time()
        await journal.append(batch)
        spent[0] += time.perf_counter() - begun_at[0]
        spent[1] += time.process_time() - begun_at[1]
    show("append, 1,000 at a time, each on the disk", entries, *spent)
    if not before:
        show("the same rows into SQLite, no chain", entries, *plain_insert(folder))
    entries += before

    begun_at = time.perf_counter(), time.process_time()
    found = await journal.verify()
    seconds = time.perf_counter() - begun_at[0]
    rate = show("audit verify", entries, seconds, time.process_time() - begun_at[1])
    assert found.ok, found.problems[:3]
    assert found.entries == entries
    show("SQLite alone: PRAGMA integrity_check", entries, *timed(folder, "PRAGMA integrity_check(10)"))
    show(
        "SQLite alone: read all rows", entries, *timed(folder, f"SELECT {COLUMNS} FROM entries ORDER BY seq")
    )
    if not before:
        begun_at = time.perf_counter(), time.process_time()
        count = 0
        async for _ in journal.read():
            count += 1
        took = time.perf_counter() - begun_at[0], time.process_time() - begun_at[1]
        show("read, each entry checked", count, *took)
    await journal.aclose()

    print(f"\nqueries, {QUERIES} of each kind, each tells 3 entries; milliseconds:")
    slowest = 0.0
    for kind in KINDS:
        times = await queries(folder, entries, kind)
        middle = statistics.median(times)
        slowest = max(slowest, middle)
        print(f"  by {kind:<20} median {middle:.2f}, 99 of 100 below {sorted(times)[-3]:.2f}", flush=True)
    size = (folder / "journal.sqlite3").stat().st_size
    print(f"\nthe file has {size:,} bytes, {size / entries:.0f} an entry")
    return rate >= 200_000 and slowest < 5


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


def filters(kind: str, number: int) -> dict[str, Any]:
    """What finds the three entries of an object."""
    key = key_of(number)
    if kind == "key":
        return {"key": key}
    if kind == "prefix":
        return {"prefix": key[: -len("0.jpg")]}
    if kind == "prefix and event":
        return {"prefix": key[: -len(".jpg")], "events": {"backed_up", "delete_intended", "deleted"}}
    return {"operation_id": operation_of(number)}


KINDS = ("key", "prefix", "prefix and event", "operation")


async def queries(folder: Path, entries: int, kind: str) -> list[float]:
    chance = random.Random(1)
    times = []
    for _ in range(QUERIES):
        number = chance.randrange(max(1, entries // 3))
        if kind == "operation":
            number -= number % SINGLE
        journal = SqliteJournal(folder, vault_id=VAULT, bucket=URL, clock=SystemClock())
        await journal.open(read_only=True)
        begun = time.perf_counter()
        found = [e async for e in journal.read(**filters(kind, number))]
        times.append((time.perf_counter() - begun) * 1000)
        assert key_of(number) in {entry.key for entry in found}
        assert len(found) % 3 == 0
        await journal.aclose()
    return times


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.journal")
    options.add_argument("--entries", type=int, default=1_000_000, help="appended one batch after the other")
    options.add_argument("--made", type=int, default=0, help="there before: a multiple of three")
    options.add_argument("--folder", type=Path, help="where the journal is made; on the disk to be measured")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        return 0 if anyio.run(run, Path(folder), given.entries, given.made) else 1


if __name__ == "__main__":
    sys.exit(main())
