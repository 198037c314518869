"""A restore into another bucket on an S3 server: bytes and attributes exactly, below a prefix."""

from __future__ import annotations

import os
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from fixtures_s3 import ACCESS_KEY, SECRET_KEY, S3Client, S3Server, bucket, s3_server, truth  # noqa: F401
from s3gc import Collector, Safety, create_config, create_plugin_manager
from s3gc.archive import Archive
from s3gc.bringing import ALREADY_THERE
from s3gc.testing.fakes import FakeSource

pytestmark = pytest.mark.anyio

CONTENT = {f"free/{n} ü+&": os.urandom(3_000) for n in range(30)} | {"free/large": os.urandom(9_000_000)}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


async def test_into_another_bucket(s3_server: S3Server, truth: S3Client, bucket: str, tmp_path: Path) -> None:
    truth.put_object(Bucket=bucket, Key="live", Body=b"live")
    for key, body in CONTENT.items():
        truth.put_object(
            Bucket=bucket,
            Key=key,
            Body=body,
            ContentType="image/x-test",
            CacheControl="max-age=7",
            Metadata={"owner": "42"},
            Tagging="a=b&c=d",
        )
    config = create_config(
        bucket=bucket,
        endpoint_url=s3_server.endpoint_url,
        vault_path=tmp_path / "vault",
        mode="execute",
        retention_days=0,
        safety=Safety.none().but(max_clock_skew=timedelta(days=1)),
        s3={"expected_bucket_owner": "123456789012"},
    )
    plugins = create_plugin_manager(entry_points=False)
    async with Collector.open(config, sources=[FakeSource(rows={"1": ["live"]})], plugins=plugins) as gc:
        assert len((await gc.collect()).deleted) == len(CONTENT)
    other = f"s3gc-{uuid.uuid4().hex}"
    truth.create_bucket(Bucket=other)
    into = f"s3://{other}/saved/2026"
    async with Archive.open(config, plugins=plugins) as archive:
        assert len((await archive.restore(into, prefix="")).restored) == len(CONTENT)
        assert truth.list_objects_v2(Bucket=other)["KeyCount"] == 0
        report = await archive.restore(into, prefix="", dry_run=False)
        assert (sorted(report.restored), dict(report.errors)) == (sorted(CONTENT), {})
        truth.put_object(Bucket=other, Key="saved/2026/free/large", Body=b"newer")
        again = await archive.restore(into, prefix="", dry_run=False)
    assert again.restored == []
    skipped = dict(again.skipped)
    assert "another object" in skipped.pop("free/large")
    assert set(skipped.values()) == {ALREADY_THERE}
    for key, body in CONTENT.items():
        found = truth.get_object(Bucket=other, Key=f"saved/2026/{key}")
        if key == "free/large":
            assert found["Body"].read() == b"newer"
            continue
        assert found["Body"].read() == body
        assert (found["ContentType"], found["CacheControl"]) == ("image/x-test", "max-age=7")
        assert found["Metadata"] == {"owner": "42"}
        tags = truth.get_object_tagging(Bucket=other, Key=f"saved/2026/{key}")["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"a": "b", "c": "d"}
    assert truth.list_objects_v2(Bucket=bucket, Prefix="free/")["KeyCount"] == 0
