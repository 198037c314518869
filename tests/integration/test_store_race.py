"""An overwriter against a deleter: where DELETE honours If-Match nothing is lost, else nobody deletes."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from ceph_objects import honours_if_match
from fixtures_s3 import ACCESS_KEY, SECRET_KEY, S3Client, S3Server, bucket, s3_server, truth  # noqa: F401
from s3gc import Collector, Safety, create_config
from s3gc.errors import CycleHeld
from s3gc.model import DeleteOutcome, ObjectAttributes
from s3gc.stores.s3 import S3Store

if TYPE_CHECKING:
    from fixtures_rgw import RgwServer

pytest_plugins = ["fixtures_rgw"]
pytestmark = pytest.mark.anyio

NONE = ObjectAttributes()
ROUNDS = 400
JITTER = 0.004  # seconds; about what one request takes


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def race(store: S3Store, truth: S3Client, rounds: int) -> tuple[int, Counter[DeleteOutcome]]:
    """In each round an object is overwritten and, at about the same time, its old version deleted.

    Returns:
        How many of the new versions are gone, and what the deleter was told.
    """
    rng = random.Random(1)
    lost = 0
    outcomes: Counter[DeleteOutcome] = Counter()

    async def overwrite(key: str) -> None:
        await anyio.sleep(rng.uniform(0, JITTER))
        await anyio.to_thread.run_sync(lambda: truth.put_object(Bucket=store.bucket, Key=key, Body=b"new"))

    async def delete(key: str, etag: str) -> None:
        await anyio.sleep(rng.uniform(0, JITTER))
        outcomes[await store.delete(key, if_match=etag)] += 1

    for number in range(rounds):
        key = f"k{number}"
        old = await store.put(key, b"old", size=3, attributes=NONE)
        async with anyio.create_task_group() as group:
            group.start_soon(overwrite, key)
            group.start_soon(delete, key, old.etag)
        left = await store.stat(key)
        assert left is None or left.etag != old.etag
        lost += left is None
    return lost, outcomes


@pytest.mark.slow
async def test_a_conditional_delete_loses_nothing(s3_server: S3Server, truth: S3Client, bucket: str) -> None:
    store = s3_server.store(bucket)
    assert (await store.probe()).conditional_delete
    lost, outcomes = await race(store, truth, ROUNDS)
    await store.aclose()
    assert lost == 0
    assert outcomes.total() == ROUNDS
    assert min(outcomes[DeleteOutcome.DELETED], outcomes[DeleteOutcome.CHANGED]) > ROUNDS // 20, "no race"


async def test_to_look_first_loses_objects(
    rgw_server: RgwServer, rgw_truth: S3Client, rgw_bucket: str
) -> None:
    """Why a cycle is held on such a store, and why this race is one."""
    store = rgw_server.store(rgw_bucket)
    honoured = (await store.probe()).conditional_delete
    lost, _ = await race(store, rgw_truth, ROUNDS // 2)
    await store.aclose()
    assert (lost == 0) is honoured


async def test_nobody_deletes_where_it_would_be_a_race(
    rgw_server: RgwServer,
    rgw_bucket: str,
    rgw_truth: S3Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if honours_if_match(rgw_truth, rgw_bucket):
        return  # a gateway that is safer than the one that this is about
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with sqlite3.connect(tmp_path / "app.db") as db:
        db.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, key TEXT)")
        db.execute("INSERT INTO files (key) VALUES ('referenced')")
    db.close()
    config = create_config(
        rgw_bucket,
        endpoint_url=rgw_server.endpoint_url,
        database_url=f"sqlite:///{tmp_path / 'app.db'}",
        tables={"files": ["key"]},
        mode="execute",
        retention_days=0,
        vault_path=tmp_path / "vault",
        safety=Safety.none(),
    )
    writer = rgw_server.store(rgw_bucket)
    keys = ["referenced", *(f"k{number}" for number in range(20))]
    for key in keys:
        await writer.put(key, b"old", size=3, attributes=NONE)
    held = 0
    async with Collector.open(config) as gc, anyio.create_task_group() as group:

        async def overwrite() -> None:
            for number in range(ROUNDS):
                body = f"{number:03}".encode()
                await writer.put(keys[number % len(keys)], body, size=3, attributes=NONE)
            group.cancel_scope.cancel()

        group.start_soon(overwrite)
        while True:
            with pytest.raises(CycleHeld) as caught:
                await gc.collect()
            assert [breaker.code for breaker in caught.value.breakers] == ["unconditional_delete"]
            held += 1
    assert held > 0
    for key in keys:
        assert await writer.stat(key) is not None
    await writer.aclose()
