"""The follower in an application's lifespan, on a real PostgreSQL: it keeps up, and lets go at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI

from cdc_cycle_world import Bucket
from fixtures_admin import BASE, OPERATOR, client_of, run
from fixtures_databases import Server, run_postgres
from integration.test_cdc_cycle import (
    SETTINGS,
    Database,
    bucket,
    config_of,
    database,
    plugins,
    prepare,
)
from s3gc import Collector
from s3gc_fastapi import _admin, setup_s3gc_plugin

__all__ = ["bucket", "database"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run_postgres(**SETTINGS) as server:
        yield server


async def test_it_keeps_up_and_lets_go(
    database: Database, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_admin, "FRESH", -1.0)
    bucket.put("k/0", "k/1")
    database.sql("INSERT INTO files VALUES (0, 'k/0'), (1, 'k/1')")
    config = config_of(database, bucket, tmp_path, admin_api_key=OPERATOR)
    prepare(database, config)
    app = FastAPI()
    setup_s3gc_plugin(app, config, follow=True, plugins=plugins())
    active = f"SELECT count(*) FROM pg_replication_slots WHERE active AND database = '{database.name}'"
    async with client_of(app) as client:

        async def source() -> Any:
            return (await client.get(f"{BASE}/health")).json()["sources"][0]

        await run(client)
        before = await source()
        assert (before["ok"], before["follows_changes"], before["capture"]["ready"]) == (True, True, True)
        assert before["capture"]["held_bytes"] >= 0
        database.sql("INSERT INTO files VALUES (2, 'k/2')")
        with anyio.fail_after(60):
            while (await source())["position"] == before["position"]:  # noqa: ASYNC110 - asked over HTTP
                await anyio.sleep(0.1)
        health = (await client.get(f"{BASE}/health")).json()
        assert (health["follower"]["state"], health["ok"]) == ("following", True)
        assert database.server.admin(active) == "1"
        await run(client)  # it gives way
    with anyio.fail_after(60):
        while database.server.admin(active) != "0":  # noqa: ASYNC110 - the server takes its time
            await anyio.sleep(0.05)
    async with Collector.open(config, plugins=plugins()) as gc:  # so somebody else can
        await gc.plan()
