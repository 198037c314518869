"""The main job under trio: the S3 client, the database drivers and the vault all work there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from fixtures_databases import postgres_server, postgres_url  # noqa: F401
from fixtures_s3 import ACCESS_KEY, SECRET_KEY, S3Server, bucket, s3_server, truth  # noqa: F401
from s3gc import Collector, Safety, create_config
from s3gc.abc import RESERVED_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = ["live/1.jpg", "live/2 ü.jpg", "free/1.jpg", "free//2", "free/3/"]


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


@pytest.fixture
def database(postgres_url: str) -> str:
    async def make() -> None:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("CREATE TABLE files (id serial PRIMARY KEY, key text)")
        await connection.execute(
            "INSERT INTO files (key) VALUES ('live/1.jpg'), ('/live/2%20%C3%BC.jpg?v=1')"
        )
        await connection.close()

    asyncio.run(make())
    return postgres_url


@pytest.mark.anyio
async def test_collect_and_restore_under_trio(
    s3_server: S3Server,
    bucket: str,
    truth: S3Client,
    database: str,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    for key in KEYS:
        truth.put_object(Bucket=bucket, Key=key, Body=key.encode(), ContentType="image/jpeg")

    def there() -> set[str]:
        listed = truth.list_objects_v2(Bucket=bucket).get("Contents", ())
        return {one["Key"] for one in listed if not one["Key"].startswith(RESERVED_PREFIX)}

    config = create_config(
        bucket=bucket,
        endpoint_url=s3_server.endpoint_url,
        database_url=database,
        tables={"files": ["key"]},
        mode="execute",
        retention_days=0,
        vault_path=tmp_path / "vault",
        safety=Safety.none(),
    )
    async with Collector.open(config) as gc:
        report = await gc.collect()
        assert set(report.deleted) == {"free/1.jpg", "free//2", "free/3/"}
        assert there() == {"live/1.jpg", "live/2 ü.jpg"}
        back = await gc.restore(operation_id=report.operation_id, dry_run=False)
        assert back.errors == {}
        journal, vault = await gc.verify()
        assert journal.ok
        assert vault.ok
    assert there() == set(KEYS)
    answer = truth.get_object(Bucket=bucket, Key="free//2")
    assert (answer["Body"].read(), answer["ContentType"]) == (b"free//2", "image/jpeg")
