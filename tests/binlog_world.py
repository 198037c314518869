"""What the tests of the binlog reader share: a stream from a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiomysql
from sqlalchemy.engine import make_url

from s3gc_cdc_mysql.binlog import Decoder
from s3gc_cdc_mysql.connection import BinlogStream, EndOfLog, MariadbState, Start
from s3gc_cdc_mysql.events import Event, Table

Projection = Callable[[Table], Sequence[int] | None]


def settings(url: str) -> dict[str, Any]:
    """aiomysql's arguments for a URL of the fixtures."""
    made = make_url(url)
    return {
        "host": made.host,
        "port": made.port,
        "user": made.username,
        "password": str(made.password),
        "db": made.database,
    }


@asynccontextmanager
async def session(url: str, **more: Any) -> AsyncIterator[Callable[..., Any]]:
    """Statements in one session: a function that runs one and returns its rows."""
    connection = await aiomysql.connect(**settings(url), autocommit=True, charset="utf8mb4", **more)

    async def run(sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        async with connection.cursor() as cursor:
            await cursor.execute(sql, arguments or None)
            return list(await cursor.fetchall() or ())

    try:
        yield run
    finally:
        await connection.ensure_closed()


async def now(url: str) -> MariadbState:
    """Where the log ends."""
    async with session(url) as run:
        [[state]] = await run("SELECT @@gtid_binlog_pos")
        return MariadbState(state)


def everything(table: Table) -> Sequence[int]:
    return range(len(table.columns))


async def packets(url: str, start: Start, *, server_id: int = 900_001) -> tuple[list[bytes], bool]:
    """All that the log has from a position on, and whether it has checksums."""
    stream = await BinlogStream.connect(settings(url), timeout=30)
    found: list[bytes] = []
    try:
        await stream.start(server_id, start, heartbeat=10, blocking=False)
        while True:
            found += await stream.take()
    except EndOfLog:
        return found, stream.checksum
    finally:
        await stream.close()


async def events(url: str, start: Start, projection: Projection = everything) -> list[Event]:
    found, checksum = await packets(url, start)
    decoder = Decoder(projection, checksum=checksum)
    return [event for packet in found for event in decoder.decode(packet)]
