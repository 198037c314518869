"""Replicas on an S3 server: create-only by If-None-Match, checksums, errors that name no secret."""

from __future__ import annotations

import base64
import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
from attrs import evolve
from botocore.exceptions import ClientError

from fixtures_replica import fetched, journal_of, local_vault
from fixtures_s3 import (  # noqa: F401
    ACCESS_KEY,
    SECRET_KEY,
    FakeS3,
    RawRequest,
    S3Client,
    S3Server,
    bucket,
    raw_error,
    raw_server,
    s3_server,
    truth,
)
from s3gc.clock import SystemClock
from s3gc.errors import ConfigError, S3GCError, VaultError
from s3gc.testing.vault_contract import STORE_URL, store
from s3gc.vault import LocalVault
from s3gc.vault.replica import ReplicaKeys, open_remote, open_replicator

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[LocalVault]:
    made = local_vault(tmp_path / "vault")
    await made.open(STORE_URL)
    await store(made, {f"k{n}": os.urandom(5000) for n in range(4)})
    yield made
    await made.aclose()


def with_slash(request: RawRequest) -> RawRequest:
    """obstore lists a bucket without the slash behind its name."""
    return evolve(request, target=request.target.replace("/bkt?", "/bkt/?"))


def url_of(endpoint: str, bucket: str) -> str:
    return f"s3://{bucket}/some/prefix?endpoint={quote(endpoint, safe='')}&region=us-east-1"


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_vault_goes_to_s3_and_comes_back(
    vault: LocalVault, s3_server: S3Server, bucket: str, truth: S3Client, tmp_path: Path, sealed: bool
) -> None:
    keys = ReplicaKeys({"k": bytes(32)}) if sealed else None
    url = url_of(s3_server.endpoint_url, bucket)
    async with open_replicator(vault, [url], clock=SystemClock(), keys=keys) as replicator:
        (status,) = await replicator.sync()
        assert (status.error, status.entries_behind, status.bytes_behind) == (None, 0, 0)
        records = await store(vault, {"more": os.urandom(70_000)})
        await replicator.ensure(records.values(), 2)
        assert replicator.copies(records["more"]) == 2
    names = {each["Key"]: each for each in truth.list_objects_v2(Bucket=bucket)["Contents"]}
    assert all(name.startswith("some/prefix/") for name in names)
    assert len(names) == 5  # replica.json, two pieces, two segments
    piece = next(name for name in names if name.endswith(".part"))
    body = truth.get_object(Bucket=bucket, Key=piece)
    assert body["Body"].read().startswith(b"S3GCSEAL" if sealed else b"\x89S3GC")
    back = await fetched(open_remote(url), tmp_path / "back", keys)
    assert back.problems == []
    assert back.entries == await journal_of(vault)


async def test_nothing_is_overwritten(s3_server: S3Server, bucket: str, truth: S3Client) -> None:
    remote = open_remote(url_of(s3_server.endpoint_url, bucket))

    def go() -> None:
        remote.create("packs/x", b"1")
        with pytest.raises(FileExistsError):
            remote.create("packs/x", b"2")
        assert remote.read("packs/x") == b"1"
        assert list(remote.names()) == [("packs/x", 1)]
        with pytest.raises(FileNotFoundError):
            remote.read("packs/y")

    await anyio.to_thread.run_sync(go)


async def test_each_upload_is_conditional_and_carries_its_checksum(
    vault: LocalVault,
    raw_server,  # type: ignore[no-untyped-def]
) -> None:
    """The checksum is what a bucket with a default retention (Object Lock) asks for."""
    fake = FakeS3()
    server = raw_server(lambda request: fake(with_slash(request)))
    async with open_replicator(
        vault, [url_of(server.endpoint_url, "bkt")], clock=SystemClock()
    ) as replicator:
        (status,) = await replicator.sync()
    assert status.error is None
    sent = server.sent("PUT")
    assert len(sent) == 4  # replica.json, its probe, a piece, a segment
    for request in sent:
        digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
        assert request.headers["x-amz-checksum-sha256"] == digest
        assert request.headers["if-none-match"] == "*"


async def test_each_object_is_locked_where_that_is_asked_for(
    vault: LocalVault, s3_server: S3Server, truth: S3Client
) -> None:
    bucket = f"locked-{uuid.uuid4().hex}"
    truth.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    url = url_of(s3_server.endpoint_url, bucket) + "&lock_mode=GOVERNANCE&lock_days=30"
    async with open_replicator(vault, [url], clock=SystemClock()) as replicator:
        (status,) = await replicator.sync()
    assert status.error is None
    found = truth.list_objects_v2(Bucket=bucket)["Contents"]
    assert len(found) == 3
    for each in found:
        kept = truth.head_object(Bucket=bucket, Key=each["Key"])
        assert kept["ObjectLockMode"] == "GOVERNANCE"
        left = kept["ObjectLockRetainUntilDate"] - datetime.now(UTC)
        assert timedelta(days=30) <= left < timedelta(days=31)
        with pytest.raises(ClientError, match="AccessDenied"):
            truth.delete_object(Bucket=bucket, Key=each["Key"], VersionId=kept["VersionId"])


@pytest.mark.parametrize(
    "asked",
    [
        "lock_days=3",
        "lock_mode=COMPLIANCE",
        "lock_mode=x&lock_days=3",
        "lock_mode=COMPLIANCE&lock_days=0",
        "lock_mode=COMPLIANCE&lock_days=-1",
        "lock_mode=COMPLIANCE&lock_days=",
        "lock_mode=COMPLIANCE&lock_days=36501",
    ],
)
async def test_a_lock_that_cannot_be_meant(asked: str) -> None:
    with pytest.raises(ConfigError, match="lock_mode"):
        open_remote(f"s3://bucket/prefix?{asked}")


async def test_a_prefix_is_not_its_neighbour(
    vault: LocalVault, s3_server: S3Server, bucket: str, truth: S3Client
) -> None:
    truth.put_object(Bucket=bucket, Key="some/prefix2/x", Body=b"")
    truth.put_object(Bucket=bucket, Key="other", Body=b"")
    async with open_replicator(
        vault, [url_of(s3_server.endpoint_url, bucket)], clock=SystemClock()
    ) as replicator:
        (status,) = await replicator.sync()
    assert (status.error, list(status.problems)) == (None, [])


async def test_errors_are_clear_and_show_no_secret(
    vault: LocalVault,
    s3_server: S3Server,
    tmp_path: Path,
    raw_server,  # type: ignore[no-untyped-def]
) -> None:
    refusing = raw_server(lambda request: raw_error(403, "AccessDenied", "no"))
    for url, why in (
        (url_of(s3_server.endpoint_url, "there-is-no-such-bucket"), "there is no bucket for s3://"),
        (url_of(refusing.endpoint_url, "bkt"), "AccessDenied: no"),
    ):
        async with open_replicator(vault, [url], clock=SystemClock()) as replicator:
            (status,) = await replicator.sync()
            assert status.error
            assert SECRET_KEY not in status.error
            assert "\n" not in status.error
            assert why in status.error
            with pytest.raises(VaultError, match="fewer than 2 places"):
                await replicator.ensure(list((await store(vault, {"x": b"y"})).values()), 2)
        with pytest.raises(S3GCError):
            await fetched(open_remote(url), tmp_path / "back")


async def test_a_server_that_ignores_the_condition_is_refused(
    vault: LocalVault,
    raw_server,  # type: ignore[no-untyped-def]
) -> None:
    fake = FakeS3(put_condition="ignored")
    server = raw_server(lambda request: fake(with_slash(request)))
    async with open_replicator(
        vault, [url_of(server.endpoint_url, "bkt")], clock=SystemClock()
    ) as replicator:
        (status,) = await replicator.sync()
    assert "If-None-Match" in str(status.error)
    assert list(fake.objects) == ["some/prefix/replica.json"]
