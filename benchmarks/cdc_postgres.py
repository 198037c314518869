# ruff: noqa: E501 - statements and table heads stand on one line
"""Change capture beside ``pg_recvlogical`` to nowhere, on the same backlog, in the same run.

    python -m benchmarks.cdc_postgres [--rows N] [--rounds N] [--write]

Starts a PostgreSQL of its own. *Decode* takes the stream and decodes every message; *end to end* resolves
each value and applies each change to a registry on disk, with its position. Wall times of a shared machine
differ from run to run: compare the rates of one round. The last part reads one transaction of all rows, in a
process of its own, and tells the most memory that it took beyond what it had when it began.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]

from benchmarks import page
from benchmarks.spent import Clock, Spent, resident
from s3gc.model import Position
from s3gc.registry import Registry
from s3gc.resolver import Resolver
from s3gc_cdc_postgres._wire import ReplicationConnection
from s3gc_cdc_postgres.pgoutput import Commit, Insert, Update, decode
from s3gc_cdc_postgres.position import parse_lsn
from s3gc_cdc_postgres.source import PostgresCdcSource

ROOT = Path(__file__).parents[1]
PER_TRANSACTION = 100
PATIENCE = timedelta(minutes=10)
SCHEMA = """
CREATE TABLE files (id bigint PRIMARY KEY, path text, note text);
CREATE PUBLICATION s3gc FOR TABLE files (id, path)
    WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
"""


async def spent(work: Callable[[], Awaitable[int]]) -> Spent:
    clock = Clock()
    return clock.spent(await work())


async def backlog(url: str, rows: int, *, one_transaction: bool = False) -> str:
    """Rows written by many small transactions, or by one. Returns where the log ends."""
    connection = await asyncpg.connect(url)
    try:
        if one_transaction:
            await connection.execute(
                f"INSERT INTO files SELECT n, 'photos/' || n % 1000 || '/' || n || '.jpg' FROM generate_series(1, {rows}) n"
            )
        else:
            await connection.execute("SET synchronous_commit = off")
            await connection.execute(
                "CREATE OR REPLACE PROCEDURE fill(rows int, step int) LANGUAGE plpgsql AS $$ BEGIN"
                " FOR at IN 0 .. rows / step - 1 LOOP"
                "  INSERT INTO files SELECT n, 'photos/' || n % 1000 || '/' || n || '.jpg'"
                "   FROM generate_series(at * step, (at + 1) * step - 1) n; COMMIT;"
                " END LOOP; END $$"
            )
            await connection.execute(f"CALL fill({rows}, {PER_TRANSACTION})")
        await connection.execute("SET synchronous_commit = on")
        await connection.execute("SELECT pg_logical_emit_message(true, 'bench', 'end')")
        return str(await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text"))
    finally:
        await connection.close()


async def slot(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_create_logical_replication_slot($1::text, 'pgoutput')", name)
    await connection.close()


async def to_nowhere(url: str, end: str, rows: int) -> Spent:
    """What PostgreSQL's own client does with the stream: nothing."""
    wall, before = time.perf_counter(), os.times().children_user + os.times().children_system
    command = [
        program("pg_recvlogical"), "-d", url, "--slot", "bench_recv", "--start", "-f", "/dev/null", "--no-loop",
        "--endpos", end, "-o", "proto_version=1", "-o", "publication_names=s3gc",
    ]  # fmt: skip
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    cpu = os.times().children_user + os.times().children_system - before
    return Spent(time.perf_counter() - wall, max(cpu, 1e-9), rows)


async def decoded(url: str, end: str) -> int:
    connection = await ReplicationConnection.connect(url, {}, 30)
    await connection.start("bench_decode", "s3gc", 0)
    rows, until = 0, parse_lsn(end)
    try:
        while True:
            for item in await connection.take():
                if isinstance(item, int):
                    if item >= until:
                        return rows
                    continue
                message = decode(item)
                rows += isinstance(message, Insert | Update)
                if isinstance(message, Commit) and message.end >= until:
                    return rows
    finally:
        await connection.close()


async def applied(source: PostgresCdcSource, begun: Position, registry: Registry) -> int:
    rows = 0
    fence = await source.fence(PATIENCE)
    async for batch in source.changes(begun, fence):
        await registry.references.change("bench", batch, batch.at or datetime.now(UTC))
        rows += len(batch.changes)
    await source.applied(fence)
    return rows


def open_source(url: str, name: str) -> PostgresCdcSource:
    return PostgresCdcSource(
        url, {"files": ["path"]}, Resolver("bench"), slot=name, publication="s3gc", name="bench"
    )


async def end_to_end(url: str, rows: int, fill: Callable[[], Awaitable[object]]) -> tuple[Spent, int]:
    """From a backlog into a registry on disk. Also the most memory beyond that at the beginning, in bytes."""
    source = open_source(url, "bench_applied")
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(f"{folder}/registry.sqlite3")
        await registry.open("memory://bench")
        try:
            begun = await source.begin()
            await registry.references.begin()
            await registry.references.apply("bench", begun, datetime.now(UTC), followed=True)
            await fill()
            before = resident(anew=True)
            took = await spent(lambda: applied(source, begun, registry))
            after = resident()
        finally:
            await registry.aclose()
            await source.tear_down()
            await source.aclose()
    assert took.rows == rows, (took.rows, rows)
    return took, after - before


def program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3]))
    return str(found[-1]) if found else name


def measured(url: str, rows: int, rounds: int) -> Iterator[str]:
    async def one() -> tuple[Spent, Spent, Spent, int]:
        connection = await asyncpg.connect(url)
        await connection.execute("DROP TABLE IF EXISTS files; DROP PUBLICATION IF EXISTS s3gc;" + SCHEMA)
        await connection.close()
        await slot(url, "bench_recv")
        await slot(url, "bench_decode")
        ends: list[str] = []

        async def fill() -> None:
            ends.append(await backlog(url, rows))
            # Both read it while it lies there; their order changes from round to round.
            jobs = [lambda: to_nowhere(url, ends[0], rows), lambda: spent(lambda: decoded(url, ends[0]))]
            for at in (0, 1) if number % 2 == 0 else (1, 0):
                found[at] = await jobs[at]()

        found: dict[int, Spent] = {}
        took, memory = await end_to_end(url, rows, fill)
        connection = await asyncpg.connect(url)
        for name in ("bench_recv", "bench_decode"):
            await connection.execute("SELECT pg_drop_replication_slot($1::text)", name)
        await connection.close()
        assert found[1].rows == rows, found[1]
        return found[0], found[1], took, memory

    yield "| round | `pg_recvlogical` to nowhere, rows/s | decode, rows/s | ratio | decode, rows per CPU s | end to end, changes/s | per CPU s |\n|---|---|---|---|---|---|---|\n"
    for number in range(rounds):
        nowhere, plain, whole, _ = asyncio.run(one())
        yield (
            f"| {number + 1} | {nowhere.per_second:,.0f} | {plain.per_second:,.0f} |"
            f" {plain.per_second / nowhere.per_second:.2f} | {plain.per_cpu_second:,.0f} |"
            f" {whole.per_second:,.0f} | {whole.per_cpu_second:,.0f} |\n"
        )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cdc_postgres", "--rows", str(rows), "--memory-of", url],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    yield "\n" + done.stdout


async def memory(url: str, rows: int) -> str:
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE IF EXISTS files; DROP PUBLICATION IF EXISTS s3gc;" + SCHEMA)
    await connection.close()
    took, most = await end_to_end(url, rows, lambda: backlog(url, rows, one_transaction=True))
    return (
        f"One transaction of {rows:,} rows into the registry: {most / 1e6:.0f} MB more at the most than before, "
        f"{took.per_cpu_second:,.0f} changes per CPU second."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory-of", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="put the result into docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(asyncio.run(memory(arguments.memory_of, arguments.rows)))
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from fixtures_databases import run_postgres

    load = os.getloadavg()[0]
    lines = []
    with run_postgres(shared_buffers="128MB", max_wal_size="4GB", autovacuum="off") as server:
        url = f"postgresql://s3gc_admin:{server.password}@127.0.0.1:{server.port}/postgres"
        for text in measured(url, arguments.rows, arguments.rounds):
            print(text, end="", flush=True)
            lines.append(text)
    note = (
        f"\nMade on {datetime.now(UTC):%Y-%m-%d} with {arguments.rows:,} rows in transactions of {PER_TRANSACTION}, on "
        f"{os.cpu_count()} cores ({platform.machine()}), shared with other work (load {load:.1f} at the "
        f"beginning); Python {platform.python_version()}, asyncpg {asyncpg.__version__}, PostgreSQL 15.\n"
    )
    print(note)
    if arguments.write:
        page.put("cdc-postgres", "".join(lines) + note)


if __name__ == "__main__":
    main()
