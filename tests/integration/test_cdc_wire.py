"""The connection below change capture: asyncpg's transport, keepalives, back-pressure, errors."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from cdc_world import deadline
from fixtures_databases import Server, postgres_server, postgres_url
from s3gc_cdc_postgres import _wire
from s3gc_cdc_postgres._wire import ConnectionLost, ReplicationConnection, ServerError
from s3gc_cdc_postgres.pgoutput import Insert, decode

__all__ = ["deadline", "postgres_server", "postgres_url"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # it runs on a loop of its own wherever the collector runs


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[ReplicationConnection]:
    connection = await ReplicationConnection.connect(postgres_url, {"application_name": "test"}, 30)
    yield connection
    await connection.close()


async def test_the_one_private_name_of_asyncpg_is_what_it_was(postgres_url: str) -> None:
    """A canary: should a new asyncpg fail here, ``_wire.py`` has to follow."""
    plain = await asyncpg.connect(postgres_url)
    try:
        transport = plain._transport
        assert isinstance(transport, asyncio.Transport)
        assert "protocol" in inspect.signature(transport.set_protocol).parameters
        assert callable(transport.pause_reading)
        assert callable(plain.terminate)
    finally:
        await plain.close()


async def test_commands_are_answered(connection: ReplicationConnection, postgres_url: str) -> None:
    [[system, timeline, _, database]] = await connection.query("IDENTIFY_SYSTEM")
    assert str(system).isdigit()
    assert timeline == "1"
    assert database == make_url(postgres_url).database
    assert await connection.query("SELECT NULL, 'a'") == [[None, "a"]]


async def test_refusals_have_the_servers_code(connection: ReplicationConnection) -> None:
    with pytest.raises(ServerError) as error:
        await connection.start("there_is_none", "p", 0)
    assert error.value.code == "42704"


async def test_a_server_that_ends_the_connection_is_noticed(
    connection: ReplicationConnection, postgres_server: Server
) -> None:
    [[pid]] = await connection.query("SELECT pg_backend_pid()")
    postgres_server.admin(f"SELECT pg_terminate_backend({pid})")
    with pytest.raises((ConnectionLost, ServerError)):
        await ask_for_ever(connection)
    assert not connection.alive


async def ask_for_ever(connection: ReplicationConnection) -> None:
    async with asyncio.timeout(30):
        while True:
            await connection.query("SELECT 1")


async def take_for_ever(connection: ReplicationConnection) -> None:
    async with asyncio.timeout(30):
        while True:
            await connection.take()


async def make(url: str, slot: str, rows: int, size: int) -> None:
    plain = await asyncpg.connect(url)
    await plain.execute("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t")
    await plain.execute(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    await plain.execute(f"INSERT INTO t SELECT n, repeat('x', {size}) FROM generate_series(1, {rows}) n")
    await plain.close()


async def test_a_reader_that_takes_its_time_keeps_the_connection_and_little_memory(
    connection: ReplicationConnection, postgres_server: Server, postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The server ends a sender that says nothing for wal_sender_timeout. We say something all the time."""
    monkeypatch.setattr(_wire, "STATUS_SECONDS", 0.2)
    slot = f"s3gc_{make_url(postgres_url).database}"
    await make(postgres_url, slot, 4000, 20_000)  # 80 MB, ten times what is kept waiting
    await connection.query("SET wal_sender_timeout = '1s'")
    await connection.start(slot, "p", 0)
    await asyncio.sleep(3)
    assert connection._queued < 2 * _wire.HIGH_BYTES
    seen = 0
    async with asyncio.timeout(60):
        while seen < 4000:
            for item in await connection.take():
                seen += isinstance(item, bytes) and isinstance(decode(item), Insert)
    assert seen == 4000


async def test_without_status_the_server_would_have_ended_it(
    connection: ReplicationConnection, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above rests on."""
    monkeypatch.setattr(ReplicationConnection, "_send_status", lambda self: None)
    slot = f"s3gc_{make_url(postgres_url).database}"
    await make(postgres_url, slot, 1, 1)
    await connection.query("SET wal_sender_timeout = '500ms'")
    await connection.start(slot, "p", 0)
    with pytest.raises((ConnectionLost, ServerError)):
        await take_for_ever(connection)


async def test_closing_in_the_middle_keeps_nothing(
    connection: ReplicationConnection, postgres_url: str
) -> None:
    slot = f"s3gc_{make_url(postgres_url).database}"
    await make(postgres_url, slot, 4000, 20_000)
    await connection.start(slot, "p", 0)
    await connection.take()
    await connection.close()
    assert not connection._queue
    assert not connection.alive
    again = await ReplicationConnection.connect(postgres_url, {}, 30)
    try:
        await again.start(slot, "p", 0)  # the slot is free, and nothing was released
        assert await again.take()
    finally:
        await again.close()


async def test_one_huge_value_arrives_whole(connection: ReplicationConnection, postgres_url: str) -> None:
    slot = f"s3gc_{make_url(postgres_url).database}"
    await make(postgres_url, slot, 1, 40_000_000)
    await connection.start(slot, "p", 0)
    async with asyncio.timeout(60):
        while True:
            for item in await connection.take():
                if isinstance(item, bytes) and isinstance(found := decode(item), Insert):
                    assert found.new == (b"1", b"x" * 40_000_000)
                    return
