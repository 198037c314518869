# ruff: noqa: E501 - statements and table heads stand on one line
"""The direct read: 1,000 candidates looked for in a table of PostgreSQL, as before each batch of deletes.

    python -m benchmarks.direct_postgres [--rows N] [--rounds N] [--write]

Starts a PostgreSQL of its own. Each read is a whole one: a new connection, a new transaction, the catalogue, the
rows, the resolver. *keys*: the column holds keys as they are; *URLs*: every value has to be resolved. *indexed*: with
the two indexes that ``s3gc cdc check`` shows. Told is the fastest of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]

from benchmarks import page
from s3gc.resolver import Resolver
from s3gc.sources.capture import two_indexes
from s3gc.sources.sql import SqlSource

ROOT = Path(__file__).parents[1]
RESOLVER = Resolver("bench", base_urls=["https://cdn.example.org/"])
KEYS = [f"free/{n}.jpg" for n in range(990)] + [f"photos/{n % 1000}/{n}.jpg" for n in range(1, 11)]


async def read(url: str, rounds: int, wanted: int) -> tuple[float, float]:
    """The fastest read: seconds by the clock, and of this process's processor."""
    best = (float("inf"), 0.0)
    source = SqlSource(url, {"files": ["path"]}, RESOLVER)
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        found = {reference.key async for reference in source.find(KEYS)}
        best = min(best, (time.perf_counter() - wall, time.process_time() - cpu))
        assert len(found) == wanted, found
    await source.aclose()
    return best


async def measured(url: str, rows: int, rounds: int) -> AsyncIterator[str]:
    connection = await asyncpg.connect(url)
    yield f"| 1,000 candidates in {rows:,} rows | seconds | of that CPU of s3gc |\n|---|---|---|\n"
    for name, value in (("keys", ""), ("URLs", "https://cdn.example.org/")):
        await connection.execute(
            "DROP TABLE IF EXISTS files; CREATE TABLE files (id bigint PRIMARY KEY, path text)"
        )
        await connection.execute(
            f"INSERT INTO files SELECT n, '{value}photos/' || n % 1000 || '/' || n || '.jpg' FROM generate_series(1, {rows}) n"
        )
        await connection.execute("VACUUM ANALYZE files")
        wall, cpu = await read(url, rounds, 10)
        yield f"| {name}, no index | {wall:.3f} | {cpu:.3f} |\n"
        if not value:
            for statement in two_indexes("files", "path", RESOLVER.odd):
                await connection.execute(statement)
            await connection.execute("VACUUM ANALYZE files")
            wall, cpu = await read(url, rounds + 8, 10)
            yield f"| {name}, indexed | {wall:.3f} | {cpu:.3f} |\n"
    await connection.close()


async def run(url: str, rows: int, rounds: int) -> list[str]:
    lines = []
    async for text in measured(url, rows, rounds):
        print(text, end="", flush=True)
        lines.append(text)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the result into docs/benchmarks.md")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from fixtures_databases import run_postgres

    load = os.getloadavg()[0]
    with run_postgres(shared_buffers="256MB", max_wal_size="4GB", autovacuum="off") as server:
        url = f"postgresql://s3gc_admin:{server.password}@127.0.0.1:{server.port}/postgres"
        lines = asyncio.run(run(url, arguments.rows, arguments.rounds))
    note = (
        f"\nMade on {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores ({platform.machine()}), shared with other "
        f"work (load {load:.1f} at the beginning); Python {platform.python_version()}, PostgreSQL 15.\n"
    )
    print(note)
    if arguments.write:
        page.put("direct-postgres", "".join(lines) + note)


if __name__ == "__main__":
    main()
