# ruff: noqa: E501 - statements and table heads stand on one line
"""Change capture from MariaDB beside mysql-replication, on the same log, in the same run.

    python -m benchmarks.cdc_mysql [--rows N] [--rounds N] [--write]

Starts a MariaDB of its own. The log has so many inserts in small transactions, then an update of each row. *Decode*
takes the stream and decodes the key and the path of every row; mysql-replication, which can't leave columns out,
reads the same log as it does by itself. Rows per second of processor time are compared. *End to end* resolves each
value and applies each change to a registry on disk, with its position. The last part takes one transaction of all
rows, in a process of its own, and tells the most memory beyond what there was when it began.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.spent import Clock, Spent, resident
from s3gc.model import Position
from s3gc.registry import Registry
from s3gc.resolver import Resolver
from s3gc_cdc_mysql.binlog import Decoder
from s3gc_cdc_mysql.connection import BinlogStream, EndOfLog, FilePosition
from s3gc_cdc_mysql.events import Insert, Rows, Table, Update
from s3gc_cdc_mysql.source import MysqlCdcSource

ROOT = Path(__file__).parents[1]
PER_TRANSACTION = 100
PATIENCE = timedelta(minutes=10)
SCHEMA = "CREATE OR REPLACE TABLE bench.files (id bigint PRIMARY KEY, path text, note text)"
FILL = f"""
CREATE OR REPLACE PROCEDURE bench.fill(total int) BEGIN
    DECLARE at int DEFAULT 0;
    WHILE at < total DO
        INSERT INTO bench.files SELECT n + at, CONCAT('photos/', n, '/', n + at, '.jpg'), NULL FROM bench.numbers;
        SET at = at + {PER_TRANSACTION};
    END WHILE;
END
"""


async def prepare(at: dict[str, Any]) -> None:
    stream = await BinlogStream.connect(at, timeout=600)
    try:
        await stream.query("CREATE DATABASE IF NOT EXISTS bench")
        await stream.query(SCHEMA)
        await stream.query(FILL)
        numbers = ", ".join(f"({n})" for n in range(PER_TRANSACTION))
        await stream.query("CREATE OR REPLACE TABLE bench.numbers (n int)")
        await stream.query(f"INSERT INTO bench.numbers VALUES {numbers}")
    finally:
        await stream.close()


async def backlog(
    at: dict[str, Any], rows: int, *, one_transaction: bool = False
) -> tuple[FilePosition, FilePosition]:
    """Writes the log. Returns where the inserts begin and where the updates do."""
    stream = await BinlogStream.connect(at, timeout=600)
    try:
        inserts = await fresh(stream)
        if one_transaction:
            await stream.query("BEGIN")
        await stream.query("CALL bench.fill(%s)", rows)
        await stream.query("COMMIT")
        updates = await fresh(stream)
        if not one_transaction:
            for start in range(0, rows, 10 * PER_TRANSACTION):
                await stream.query(
                    f"UPDATE bench.files SET path = CONCAT('moved/', id, '.jpg') WHERE id BETWEEN {start} AND {start + 10 * PER_TRANSACTION - 1}"
                )
        await fresh(stream)
        return inserts, updates
    finally:
        await stream.close()


async def fresh(stream: BinlogStream) -> FilePosition:
    """Begins a new file of the log, and tells it."""
    await stream.query("FLUSH BINARY LOGS")
    [[file, *_]] = await stream.query("SHOW MASTER STATUS")
    return FilePosition(str(file))


def wanted(table: Table) -> list[int] | None:
    return [0, 1] if table.name == "files" else None


async def decoded(at: dict[str, Any], start: FilePosition, until: FilePosition | None) -> Spent:
    """Ours. ``until``: the file to stop before."""
    stream = await BinlogStream.connect(at, timeout=60)
    clock, rows = Clock(), 0
    try:
        await stream.start(910_001, start, heartbeat=30, blocking=False)
        decoder = Decoder(wanted, checksum=stream.checksum)
        while True:
            for packet in await stream.take():
                for event in decoder.decode(packet):
                    if isinstance(event, Rows):
                        assert isinstance(event, Insert | Update)
                        rows += len(event.rows)
                    elif until is not None and getattr(event, "file", "") == until.file:
                        return clock.spent(rows)
    except EndOfLog:
        return clock.spent(rows)
    finally:
        await stream.close()


def theirs(at: dict[str, Any], start: FilePosition, until: FilePosition | None) -> Spent:
    from pymysqlreplication import BinLogStreamReader
    from pymysqlreplication.event import RotateEvent
    from pymysqlreplication.row_event import UpdateRowsEvent, WriteRowsEvent

    logging.getLogger("pymysqlreplication").setLevel(logging.CRITICAL)
    reader = BinLogStreamReader(
        connection_settings={"host": at["host"], "port": at["port"], "user": at["user"], "password": at["password"]},
        server_id=910_002, blocking=False, resume_stream=True, log_file=start.file, log_pos=start.position,
        only_events=[WriteRowsEvent, UpdateRowsEvent, RotateEvent], only_schemas=["bench"], only_tables=["files"],
    )  # fmt: skip
    clock, rows = Clock(), 0
    try:
        for event in reader:
            if isinstance(event, RotateEvent):
                if until is not None and event.next_binlog == until.file:
                    break
            else:
                rows += len(event.rows)
        return clock.spent(rows)
    finally:
        reader.close()


@asynccontextmanager
async def followed(at: dict[str, Any]) -> AsyncIterator[tuple[MysqlCdcSource, Registry, Position]]:
    """A registry on disk that is about to follow the table, from now on."""
    url = f"mysql://{at['user']}:{at['password']}@{at['host']}:{at['port']}/bench"
    source = MysqlCdcSource(url, {"files": ["path"]}, Resolver("bench"), server_id=910_003, name="bench")
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(f"{folder}/registry.sqlite3")
        await registry.open("memory://bench")
        try:
            begun = await source.begin()
            await registry.references.begin()
            await registry.references.apply("bench", begun, datetime.now(UTC), followed=True)
            yield source, registry, begun
        finally:
            await registry.aclose()
            await source.tear_down()
            await source.aclose()


async def applied(source: MysqlCdcSource, registry: Registry, begun: Position) -> Spent:
    clock, rows = Clock(), 0
    fence = await source.fence(PATIENCE)
    async for batch in source.changes(begun, fence):
        await registry.references.change("bench", batch, batch.at or datetime.now(UTC))
        rows += len(batch.changes)
    await source.applied(fence)
    return clock.spent(rows)


def measured(at: dict[str, Any], rows: int, rounds: int) -> Iterator[str]:
    asyncio.run(prepare(at))
    inserts, updates = asyncio.run(backlog(at, rows))
    yield "| round | what | mysql-replication, rows per CPU s | decode, rows per CPU s | ratio | decode, rows/s by the clock |\n|---|---|---|---|---|---|\n"
    for number in range(rounds):
        for name, start, until in (("inserts", inserts, updates), ("updates", updates, None)):
            found: dict[str, Spent] = {}
            order = ("ours", "theirs") if number % 2 else ("theirs", "ours")
            for who in order:
                found[who] = (
                    theirs(at, start, until) if who == "theirs" else asyncio.run(decoded(at, start, until))
                )
            assert found["ours"].rows == found["theirs"].rows == rows, found
            yield (
                f"| {number + 1} | {rows:,} {name} | {found['theirs'].per_cpu_second:,.0f} | {found['ours'].per_cpu_second:,.0f} |"
                f" {found['ours'].per_cpu_second / found['theirs'].per_cpu_second:.1f} | {found['ours'].per_second:,.0f} |\n"
            )
    yield "\n"
    for part in ("whole", "memory"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.cdc_mysql", "--rows", str(rows), "--part", part, "--port", str(at["port"])],
            input=at["password"], capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
        yield done.stdout


async def whole(at: dict[str, Any], rows: int) -> str:
    """Into a registry: the log of inserts and updates as it is for the reader alone."""
    await prepare(at)
    async with followed(at) as (source, registry, begun):
        await backlog(at, rows)
        took = await applied(source, registry, begun)
    assert took.rows == 2 * rows, took
    return (
        f"End to end, {took.rows:,} inserts and updates into a registry on disk: {took.per_cpu_second:,.0f} changes per CPU second, "
        f"{took.per_second:,.0f} changes/s by the clock."
    )


async def memory(at: dict[str, Any], rows: int) -> str:
    await prepare(at)
    async with followed(at) as (source, registry, begun):
        start, until = await backlog(at, rows, one_transaction=True)
        before = resident(anew=True)
        alone = await decoded(at, start, until)
        most = resident(anew=True) - before
        before = resident(anew=True)
        took = await applied(source, registry, begun)
        assert alone.rows == took.rows == rows, (alone, took)
    return (
        f"One transaction of {rows:,} inserts took, at the most, {most / 1e6:.0f} MB more than before to decode, and "
        f"{(resident() - before) / 1e6:.0f} MB more into the registry."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--part", choices=["whole", "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="put the result into docs/benchmarks.md")
    arguments = parser.parse_args()
    at: dict[str, Any] = {"host": "127.0.0.1", "user": "s3gc_admin"}
    if arguments.part:
        at |= {"port": arguments.port, "password": sys.stdin.read()}
        print(asyncio.run((whole if arguments.part == "whole" else memory)(at, arguments.rows)))
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from fixtures_databases import run_mariadb

    load = os.getloadavg()[0]
    lines = []
    with run_mariadb(innodb_buffer_pool_size="256M", max_binlog_size=1 << 30, sync_binlog=0) as server:
        at |= {"port": server.port, "password": server.password}
        for text in measured(at, arguments.rows, arguments.rounds):
            print(text, end="", flush=True)
            lines.append(text)
    note = (
        f"\nMade on {datetime.now(UTC):%Y-%m-%d}, inserts in transactions of {PER_TRANSACTION}, updates of {10 * PER_TRANSACTION}, on "
        f"{os.cpu_count()} cores ({platform.machine()}), load {load:.1f} at the beginning; Python "
        f"{platform.python_version()}, aiomysql {version('aiomysql')}, mysql-replication {version('mysql-replication')}, MariaDB 10.11.\n"
    )
    note = f"\n{textwrap.fill(note.strip(), 118)}\n"
    print(note)
    if arguments.write:
        page.put("cdc-mysql", "".join(lines) + note)


if __name__ == "__main__":
    main()
