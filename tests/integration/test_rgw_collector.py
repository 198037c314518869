"""The collector on a real Ceph gateway: what it deletes, that all comes back, and that one has the lease."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from attrs import define, field

from ceph_objects import KEYS, MIB, ODD_HEADERS, honours_if_match, shown, upload_in_parts
from fixtures_s3 import ACCESS_KEY, SECRET_KEY, S3Client
from s3gc import Collector, Config, Safety, create_config
from s3gc.abc import RESERVED_PREFIX
from s3gc.clock import SystemClock
from s3gc.errors import CycleHeld, LeaseHeld, LeaseLost, StoreError
from s3gc.lease import bucket_lease
from s3gc.stores.s3 import S3Store
from s3gc.stores.s3._transport import Call

if TYPE_CHECKING:
    from fixtures_rgw import RgwServer

pytest_plugins = ["fixtures_rgw"]
pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


REFERENCED = ("dir", "lead", "a/b", "日本語/ファイル.png", "a+b", "line\nfeed", "_x")


def fill(server: RgwServer, truth: S3Client, bucket: str) -> None:
    for key in KEYS:
        truth.put_object(Bucket=bucket, Key=key, Body=key.encode())
    server.exchange("put_object", bucket, "attributes.html", headers=ODD_HEADERS, body=b"x")
    server.exchange("put_object", bucket, "unreadable", headers={"Cache-Control": b"\xfc"}, body=b"x")
    upload_in_parts(
        truth, bucket, "parts", [b"p" * (5 * MIB), b"q"], ContentType="video/mp4", Tagging="lost=by-ceph"
    )


def configuration(server: RgwServer, bucket: str, folder: Path, safety: Safety) -> Config:
    database = folder / "app.db"
    if not database.exists():
        with sqlite3.connect(database) as db:
            db.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, key TEXT)")
            db.executemany("INSERT INTO files (key) VALUES (?)", [(key,) for key in REFERENCED])
        db.close()
    return create_config(
        bucket,
        endpoint_url=server.endpoint_url,
        database_url=f"sqlite:///{database}",
        tables={"files": ["key"]},
        mode="execute",
        retention_days=0,
        vault_path=folder / "vault",
        safety=safety,
    )


def snapshot(server: RgwServer, truth: S3Client, bucket: str) -> dict[str, Any]:
    """All of the application's objects, with hash, headers and tags."""
    found: dict[str, Any] = {}
    for page in truth.get_paginator("list_objects").paginate(Bucket=bucket):
        for key in [entry["Key"] for entry in page.get("Contents", ())]:
            if not key.startswith(RESERVED_PREFIX):
                found[key] = shown(server, bucket, key)
    return found


async def test_nothing_is_deleted_where_the_condition_is_ignored(
    rgw_server: RgwServer, rgw_bucket: str, rgw_truth: S3Client, tmp_path: Path
) -> None:
    fill(rgw_server, rgw_truth, rgw_bucket)
    before = snapshot(rgw_server, rgw_truth, rgw_bucket)
    async with Collector.open(configuration(rgw_server, rgw_bucket, tmp_path, Safety.none())) as gc:
        if honours_if_match(rgw_truth, rgw_bucket):
            assert (await gc.collect()).deleted
            return
        with pytest.raises(CycleHeld, match="allow_unconditional_delete") as held:
            await gc.collect()
    assert [breaker.code for breaker in held.value.breakers] == ["unconditional_delete"]
    assert snapshot(rgw_server, rgw_truth, rgw_bucket) == before


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
async def test_only_versioning_that_is_on_stands_in_for_the_condition(
    rgw_server: RgwServer,
    rgw_bucket: str,
    rgw_truth: S3Client,
    tmp_path: Path,
    status: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rgw_truth.put_bucket_versioning(Bucket=rgw_bucket, VersioningConfiguration={"Status": status})
    for key in (*REFERENCED, "free"):
        rgw_truth.put_object(Bucket=rgw_bucket, Key=key, Body=b"old")
    conditional = honours_if_match(rgw_truth, rgw_bucket)
    async with Collector.open(configuration(rgw_server, rgw_bucket, tmp_path, Safety.none())) as gc:
        state = await gc.capabilities(probe=True)
        assert state is not None
        assert state.capabilities.keeps_versions is (status == "Enabled")
        if status == "Suspended" and not conditional:
            assert state.held_by
            with pytest.raises(CycleHeld, match="suspended"):
                await gc.collect()
            assert rgw_truth.head_object(Bucket=rgw_bucket, Key="free")["ContentLength"] == 3
            return
        assert not state.held_by
        store = gc._parts.store
        assert isinstance(store, S3Store)
        request = store._client.request

        async def too_late(call: Call, **options: Any) -> Any:
            if (call.method, call.key, call.query) == ("DELETE", "free", ()):  # a writer after the look
                rgw_truth.put_object(Bucket=rgw_bucket, Key="free", Body=b"new!")
            return await request(call, **options)

        monkeypatch.setattr(store._client, "request", too_late)
        assert (await gc.collect()).deleted == []
    assert rgw_truth.get_object(Bucket=rgw_bucket, Key="free")["Body"].read() == b"new!"
    assert len(rgw_truth.list_object_versions(Bucket=rgw_bucket, Prefix="free")["Versions"]) == 2


async def test_collect_and_restore_everything(
    rgw_server: RgwServer, rgw_bucket: str, rgw_truth: S3Client, tmp_path: Path
) -> None:
    fill(rgw_server, rgw_truth, rgw_bucket)
    before = snapshot(rgw_server, rgw_truth, rgw_bucket)
    safety = Safety.none().but(allow_unconditional_delete=True)
    async with Collector.open(configuration(rgw_server, rgw_bucket, tmp_path, safety)) as gc:
        plan = await gc.plan()
        planned = set(plan.keys())
        assert not planned & set(REFERENCED)
        assert {"dir/", "/lead", "a//b", "\ufffe", "a\x01b", "__x", "attributes.html", "parts"} <= planned
        report = await gc.collect(plan)
        gone = planned - {"unreadable"}
        assert report.errors == ()
        assert set(report.deleted) == gone
        assert report.kept["unreadable"] == 1
        assert snapshot(rgw_server, rgw_truth, rgw_bucket) == {
            key: value for key, value in before.items() if key not in gone
        }
        journal, vault = await gc.verify()
        assert journal.ok, journal.problems
        assert vault.ok, vault.problems
        back = await gc.restore(operation_id=report.operation_id, dry_run=False)
        assert back.errors == {}
        assert set(back.restored) == gone
    assert snapshot(rgw_server, rgw_truth, rgw_bucket) == before


# --------------------------------------------------------------------------- the lease


CONTENDERS = 5


@define
class Contest:
    """Several want the lease at once; who gets one asks whether it may delete once all have tried."""

    store: S3Store
    tried: int = 0
    allowed: list[int] = field(factory=list)  # tokens
    all_tried: anyio.Event = field(factory=anyio.Event)

    def _count(self) -> None:
        self.tried += 1
        if self.tried == CONTENDERS:
            self.all_tried.set()

    async def contend(self, name: str) -> None:
        try:
            async with bucket_lease(
                self.store, SystemClock(), Safety.none(), holder=name, new_id=lambda: uuid.uuid4().hex
            ) as lease:
                self._count()
                await self.all_tried.wait()
                await lease.before_delete()
                self.allowed.append(lease.token)
        except LeaseHeld:
            self._count()
        except LeaseLost:
            pass
        except StoreError as error:
            if not error.outcome_unknown:  # else another one's content is there
                raise
            self._count()


@pytest.mark.parametrize("versioned", [False, True])
async def test_one_of_many_gets_the_lease(
    rgw_server: RgwServer, rgw_bucket: str, rgw_truth: S3Client, versioned: bool
) -> None:
    """In a versioned bucket Ceph 16 ignores If-None-Match: the look before the first delete tells then."""
    if versioned:
        rgw_truth.put_bucket_versioning(Bucket=rgw_bucket, VersioningConfiguration={"Status": "Enabled"})
    store = rgw_server.store(rgw_bucket)
    await store.probe()
    tokens: list[int] = []
    for _ in range(3):
        contest = Contest(store)
        async with anyio.create_task_group() as group:
            for number in range(CONTENDERS):
                group.start_soon(contest.contend, f"collector {number}")
        assert len(contest.allowed) == 1
        tokens += contest.allowed
    assert tokens == sorted(set(tokens)), "every holder's token is greater than those before"
    await store.aclose()
