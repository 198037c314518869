"""Following PostgreSQL between two cycles, and what the stream can't show is left to the next fence."""

# ruff: noqa: E501 - statements stand on one line

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from cdc_cycle_world import Bucket
from cdc_world import App, deadline
from fixtures_databases import Server, postgres_server, postgres_url, run_postgres
from integration.test_cdc_cycle import (
    SETTINGS,
    Database,
    bucket,
    config_of,
    database,
    plugins,
    prepare,
)
from s3gc import Collector, following
from s3gc.errors import PositionLost
from s3gc_cdc_postgres._names import names_for

__all__ = ["bucket", "database", "deadline", "postgres_server", "postgres_url"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run_postgres(**SETTINGS) as server:
        yield server


@pytest.fixture
async def app(postgres_url: str) -> AsyncIterator[App]:
    app = App(postgres_url)
    await app.run(
        "CREATE TABLE one (id int PRIMARY KEY, path text)", "CREATE TABLE two (id int PRIMARY KEY, path text)",
        "INSERT INTO one VALUES (1, 'a'), (2, 'b')", "INSERT INTO two VALUES (1, 'z')",
    )  # fmt: skip
    yield app
    await app.close()


TABLES = {"one": ["path"], "two": ["path"]}


# --------------------------------------------------------------------------- the source's part


async def test_it_waits_for_no_open_transaction(app: App) -> None:
    kept = await app.follow(TABLES)
    async with app.other() as other:
        await other.run("BEGIN", "INSERT INTO one VALUES (9, 'open')")
        await app.run("INSERT INTO one VALUES (3, 'c')")
        with anyio.fail_after(20):
            assert await kept.up_to_now()
        assert kept.keys == {"a", "b", "c", "z"}
        await other.run("COMMIT")
        await kept.up_to_now()
    assert await kept.agrees() == {"a", "b", "c", "z", "open"}


async def test_an_idle_server_is_not_written_to(app: App) -> None:
    kept = await app.follow(TABLES)
    await app.run("INSERT INTO one VALUES (3, 'c')")
    with anyio.fail_after(60):  # the server notes its running transactions now and then
        while await kept.up_to_now():
            pass
        before = await app.ask("SELECT pg_current_wal_insert_lsn()")
        wrote = [await kept.up_to_now() for _ in range(20)]
        while any(wrote):
            before = await app.ask("SELECT pg_current_wal_insert_lsn()")
            wrote = [await kept.up_to_now() for _ in range(20)]
    assert await app.ask("SELECT pg_current_wal_insert_lsn()") == before
    await app.run("UPDATE one SET path = 'd' WHERE id = 3")
    assert await kept.up_to_now()
    assert kept.keys == {"a", "b", "d", "z"}


async def test_a_truncate_that_was_followed_is_no_gap_at_the_next_fence(app: App) -> None:
    kept = await app.follow(TABLES)
    for number in range(3):
        await app.run("TRUNCATE one", f"INSERT INTO one VALUES (5, 'c/{number}')")
        await kept.up_to_now()
        assert kept.keys == {f"c/{number}", "z"}
    assert await kept.agrees() == {"c/2", "z"}


@pytest.mark.parametrize("stop", [False, True])
async def test_what_the_stream_does_not_tell_is_noticed_at_the_next_fence(app: App, stop: bool) -> None:
    """However often it was followed in between, by one stream or by several."""
    await app.run("CREATE PUBLICATION s3gc FOR TABLE one, two WITH (publish_via_partition_root = true)")
    kept = await app.follow(TABLES)
    await app.run(
        "ALTER PUBLICATION s3gc DROP TABLE one",
        "INSERT INTO one VALUES (3, 'c')",
        "ALTER PUBLICATION s3gc ADD TABLE one",
    )
    for number in range(3):
        await app.run(f"INSERT INTO two VALUES ({10 + number}, 'y/{number}')")
        await kept.up_to_now()
        if stop:
            await kept.source.let_go()
    assert kept.keys == {"a", "b", "z", "y/0", "y/1", "y/2"}
    with pytest.raises(PositionLost, match="table one was altered"):
        await kept.follow()


async def test_what_is_let_go_another_may_have_at_once(app: App) -> None:
    kept = await app.follow(TABLES)
    await app.run("INSERT INTO one VALUES (3, 'c')")
    await kept.up_to_now()
    await kept.source.let_go()
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 's3gc' AND datname = current_database()"
    with anyio.fail_after(20):
        while await app.ask(others):  # noqa: ASYNC110 - the server has no event
            await anyio.sleep(0.02)
    assert (
        await app.ask(f"SELECT active::int FROM pg_replication_slots WHERE slot_name = 's3gc_{app.name}'")
        == 0
    )
    assert await kept.agrees() == {"a", "b", "c", "z"}


# --------------------------------------------------------------------------- the whole


async def _knows(gc: Any, key: str, count: int, limit: float = 30) -> float:
    """How long until the registry has so many mentions of a key."""
    began = time.monotonic()
    with anyio.fail_after(limit):
        while await gc._parts.registry.references.count_of(key) != count:  # noqa: ASYNC110 - no event
            await anyio.sleep(0.01)
    return time.monotonic() - began


async def test_the_registry_follows_within_a_moment_and_the_log_is_released(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("a", "b")
    database.sql("INSERT INTO files VALUES (1, 'a')")
    config = config_of(database, bucket, tmp_path)
    prepare(database, config)
    slot, _ = names_for(config)
    confirmed = f"SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = '{slot}'"
    async with Collector.open(config, plugins=plugins()) as gc:
        await gc.plan()
        before = int(database.sql(confirmed))
        took = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: gc.follow(chance=Random(1)))
            for number in range(5):
                database.sql(f"INSERT INTO files VALUES ({10 + number}, 'b')")
                took.append(await _knows(gc, "b", number + 1))
            database.sql("DELETE FROM files WHERE id >= 10")
            await _knows(gc, "b", 0)
            with anyio.fail_after(20):
                while int(database.sql(confirmed)) == before:  # noqa: ASYNC110 - no event
                    await anyio.sleep(0.05)
            # A cycle of this process, and one of another.
            assert (await gc.plan()).candidates == 1
            async with Collector.open(config, plugins=plugins()) as other:
                assert (await other.plan()).candidates == 1
            database.sql("INSERT INTO files VALUES (20, 'b')")
            await _knows(gc, "b", 1)
            tasks.cancel_scope.cancel()
        assert sorted(took)[2] < following.EVERY.total_seconds() + 1, took


async def test_over_restarts_and_crashes_of_the_server(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("a", "b")
    database.sql("INSERT INTO files VALUES (1, 'a')")
    config = config_of(database, bucket, tmp_path)
    prepare(database, config)
    process = database.server.process
    assert process is not None
    async with Collector.open(config, plugins=plugins()) as gc:
        await gc.plan()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: gc.follow(chance=Random(1)))
            for number, end in enumerate((process.stop, process.kill)):
                database.sql(f"INSERT INTO files VALUES ({10 + number}, 'b')")
                clean = await anyio.to_thread.run_sync(end)
                assert clean or end == process.kill, "the follower kept the server from stopping"
                await anyio.to_thread.run_sync(process.start)
                await _knows(gc, "b", number + 1, 90)
            tasks.cancel_scope.cancel()
        assert not (await gc.plan()).held_by


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_follows_until_it_is_stopped(
    database: Database, bucket: Bucket, tmp_path: Path, end: signal.Signals
) -> None:
    """As a service of its own, beside cycles of other processes. Being stopped is its good end."""
    bucket.put("a", "b")
    database.sql("INSERT INTO files VALUES (1, 'a')")
    config = config_of(database, bucket, tmp_path)
    prepare(database, config)
    (tmp_path / "s3gc.toml").write_text(
        f'bucket = "file://{bucket.folder}"\nvault_path = "{tmp_path}/vault"\ncdc_backend = "postgres"\n'
        f'cdc_connection_url = "{database.url}"\n[tables]\nfiles = ["path"]\n'
    )
    async with Collector.open(config, plugins=plugins()) as gc:
        await gc.plan()
        command = [sys.executable, "-m", "s3gc_cli", "--json", "cdc", "follow"]
        with subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as process:  # noqa: ASYNC220
            try:
                database.sql("INSERT INTO files VALUES (2, 'b'), (3, 'b')")
                await _knows(gc, "b", 2, 60)
                assert (await gc.plan()).candidates == 0
                database.sql("DELETE FROM files WHERE id = 3")
                await _knows(gc, "b", 1, 60)
                process.send_signal(end)
                out, err = await anyio.to_thread.run_sync(process.communicate)
            finally:
                process.kill()
        assert process.returncode == 0, err
        assert json.loads(out)["changes"] >= 1
        assert "following postgresql://" in err
