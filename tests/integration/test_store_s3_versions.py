"""Buckets that keep versions on servers that ignore If-Match: a delete that hit another version is undone."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from fixtures_s3 import (
    HELLO,
    RESET,
    RawHandler,
    RawServer,
    S3Client,
    S3Server,
    bucket,
    raw_answer,
    raw_error,
    raw_server,
    s3_server,
    truth,
)
from s3gc.errors import StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes
from s3gc.stores.s3 import S3Store
from s3gc.stores.s3._traits import Condition
from s3gc.stores.s3._versions import Version, parse_versions

if TYPE_CHECKING:
    from fixtures_rgw import RgwServer

pytest_plugins = ["fixtures_rgw"]
pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
NONE = ObjectAttributes()
ROUNDS = 120
JITTER = 0.02  # seconds; about what a delete with its look takes


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def race(store: S3Store, truth: S3Client) -> list[bytes | None]:
    """In each round an object is overwritten and, at about the same time, its old version deleted."""
    rng = random.Random(2)
    left: list[bytes | None] = []
    for number in range(ROUNDS):
        key = f"a key/{number}+"
        old = await store.put(key, b"old", size=3, attributes=NONE)

        async def overwrite(key: str = key) -> None:
            await anyio.sleep(rng.uniform(0, JITTER))
            await anyio.to_thread.run_sync(
                lambda: truth.put_object(Bucket=store.bucket, Key=key, Body=b"new")
            )

        async with anyio.create_task_group() as group:
            group.start_soon(overwrite)
            await anyio.sleep(rng.uniform(0, JITTER))
            outcome = await store.delete(key, if_match=old.etag)
            assert outcome in (DeleteOutcome.DELETED, DeleteOutcome.CHANGED)
        try:
            async with store.get(key) as reader:
                left.append(b"".join([chunk async for chunk in reader.chunks()]))
        except StoreError:
            left.append(None)
    return left


async def test_no_overwritten_object_is_lost_on_a_real_gateway(
    rgw_server: RgwServer, rgw_bucket: str, rgw_truth: S3Client
) -> None:
    rgw_truth.put_bucket_versioning(Bucket=rgw_bucket, VersioningConfiguration={"Status": "Enabled"})
    store = rgw_server.store(rgw_bucket)
    assert (await store.probe()).keeps_versions
    left = await race(store, rgw_truth)
    await store.aclose()
    assert left == [b"new"] * ROUNDS


async def test_where_the_order_of_versions_is_not_theirs_nothing_is_deleted(
    s3_server: S3Server, truth: S3Client, bucket: str
) -> None:
    """moto lists delete markers after all versions. It honours If-Match, so that matters to nobody else."""
    truth.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store = s3_server.store(bucket)
    store._traits.conditional_delete = Condition.REFUSED  # looks first, sends no condition
    old = await store.put("k", b"old", size=3, attributes=NONE)
    with pytest.raises(StoreError, match="from the newest to the oldest"):
        await store.delete("k", if_match=old.etag)
    await store.aclose()
    assert truth.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"


# --------------------------------------------------------------------------- servers that fail


def listed(*entries: str, times: str = "9876543210") -> bytes:
    timed = [entry.format(time=time) for entry, time in zip(entries, times, strict=False)]
    return raw_answer(200, f"<ListVersionsResult>{''.join(timed)}</ListVersionsResult>".encode())


TIME = "<LastModified>2026-01-01T00:00:0{time}Z</LastModified>"


def version(number: str, etag: str, key: str = "k") -> str:
    what = f"<Key>{key}</Key><VersionId>{number}</VersionId>"
    return f"<Version>{what}<ETag>&quot;{etag}&quot;</ETag>{TIME}</Version>"


def marker(number: str, latest: str = "false") -> str:
    what = f"<Key>k</Key><VersionId>{number}</VersionId><IsLatest>{latest}</IsLatest>"
    return f"<DeleteMarker>{what}{TIME}</DeleteMarker>"


MARKED = raw_answer(204, b"", {"x-amz-version-id": "m"})
MISSING = raw_error(404, "NoSuchKey")


class Scripted:
    """A versioned bucket whose DELETE and ?versions answer as told."""

    def __init__(self, delete: bytes, versions: bytes, undo: bytes = raw_answer(204, b"")) -> None:
        self.undone = 0
        self._gone = False
        self._answers = delete, versions, undo

    def __call__(self, request: Any) -> bytes:
        delete, versions, undo = self._answers
        if request.method == "DELETE" and "versionId" in request.query:
            self.undone += 1
            return undo
        if request.method == "DELETE":
            self._gone = True
            return delete
        if "versions" in request.query:
            return versions
        return MISSING if self._gone else raw_answer(200, b"hello", HELLO)


async def ends(raw_server: Start, script: Scripted, etag: str | None = None) -> Any:
    store = raw_server(script).store()
    try:
        return await store.delete("k", if_match=etag or HELLO["ETag"].strip('"'))
    except StoreError as error:
        return error.outcome_unknown
    finally:
        await store.aclose()


MINE = HELLO["ETag"].strip('"')


@pytest.mark.parametrize(
    ("script", "end", "undone"),
    [
        (Scripted(MARKED, listed(marker("m"), version("1", MINE))), DeleteOutcome.DELETED, 0),
        (
            Scripted(MARKED, listed(version("3", "x"), marker("m"), version("1", MINE))),
            DeleteOutcome.DELETED,
            0,
        ),
        (Scripted(MARKED, listed(marker("m"), marker("n"), version("1", MINE))), DeleteOutcome.DELETED, 0),
        (Scripted(MARKED, listed(marker("m"))), DeleteOutcome.DELETED, 0),
        (
            Scripted(MARKED, listed(marker("m"), version("2", "x"), version("1", MINE))),
            DeleteOutcome.CHANGED,
            1,
        ),
        (Scripted(MARKED, listed(marker("m"), version("9", "x", key="kk"))), DeleteOutcome.DELETED, 0),
        # nobody can say: back it comes
        (Scripted(MARKED, listed(version("1", MINE))), False, 1),
        (Scripted(MARKED, raw_error(403, "AccessDenied")), False, 1),
        (Scripted(MARKED, raw_answer(200, b"<html>")), False, 1),
        (Scripted(MARKED, listed(marker("m"), version("", "x"))), False, 1),
        (Scripted(MARKED, listed(version("1", MINE), marker("m", "true"), times="22")), False, 1),
        (Scripted(MARKED, listed(version("1", MINE), marker("m"), times="12")), False, 1),
        # and can't be brought back: the caller must look
        (Scripted(MARKED, raw_error(403, "AccessDenied"), raw_error(403, "AccessDenied")), True, 1),
        # a suspended bucket keeps nothing beneath a marker
        (Scripted(raw_answer(204, b"", {"x-amz-version-id": "null"}), listed()), DeleteOutcome.DELETED, 0),
        # the answer is lost
        (Scripted(RESET, listed(marker("m"), version("1", MINE))), DeleteOutcome.DELETED, 0),
        (Scripted(RESET, listed(marker("null"), version("1", "x"))), DeleteOutcome.DELETED, 0),
        (Scripted(RESET, listed()), DeleteOutcome.DELETED, 0),
        (Scripted(RESET, raw_error(501, "NotImplemented")), DeleteOutcome.DELETED, 0),
        (Scripted(RESET, listed(marker("m"), version("2", "x"))), True, 1),
        (Scripted(RESET, raw_error(403, "AccessDenied")), True, 0),
    ],
)
async def test_how_a_delete_ends(raw_server: Start, script: Scripted, end: Any, undone: int) -> None:
    assert await ends(raw_server, script) == end
    assert script.undone == undone


def test_versions_of_this_very_key_only() -> None:
    document = (
        b"<ListVersionsResult><EncodingType>url</EncodingType>"
        b"<DeleteMarker><Key>a+%2B</Key><VersionId>m</VersionId>"
        b"<LastModified>2026-01-01T00:00:00.000Z</LastModified></DeleteMarker>"
        b"<Version><Key>a+%2B</Key><VersionId>1</VersionId><ETag>&quot;e&quot;</ETag>"
        b"<LastModified>2026-01-01T00:00:00.000Z</LastModified></Version>"
        b"<Version><Key>a+%2Bb</Key><VersionId>2</VersionId><ETag>&quot;f&quot;</ETag></Version>"
        b"</ListVersionsResult>"
    )
    assert parse_versions(document, "a +", plus_is_space=True) == [Version("m", None), Version("1", "e")]
    assert parse_versions(document, "a++", plus_is_space=False) == [Version("m", None), Version("1", "e")]
