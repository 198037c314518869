"""The store on a real Ceph gateway: keys, what the probe says, attributes, parts. boto3 is the truth."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import pytest
from botocore.exceptions import ClientError

from ceph_objects import (
    KEYS,
    ODD_HEADERS,
    honours_etags_in_bulk,
    honours_if_match,
    honours_if_none_match,
    shown,
    upload_in_parts,
)
from fixtures_s3 import S3Client
from s3gc.abc import RESERVED_PREFIX
from s3gc.errors import AccessDenied, PreconditionFailed, StoreError, UnreadableObject
from s3gc.model import DeleteOutcome, ObjectAttributes, Versioning
from s3gc.stores.s3 import S3Options, S3Store
from s3gc.testing.keys import ODD_KEYS

if TYPE_CHECKING:  # a plugin must not be imported before pytest does it
    from fixtures_rgw import RgwServer

pytest_plugins = ["fixtures_rgw"]
pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
NONE = ObjectAttributes()

NUL_KEYS = tuple(key for key in ODD_KEYS if "\0" in key)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(rgw_server: RgwServer, rgw_bucket: str) -> AsyncIterator[S3Store]:
    """The bucket, probed."""
    store = rgw_server.store(rgw_bucket)
    await store.probe()
    yield store
    await store.aclose()


async def read(store: S3Store, key: str) -> bytes:
    async with store.get(key) as reader:
        return b"".join([chunk async for chunk in reader.chunks()])


async def listed(store: S3Store, *where: str) -> list[str]:
    return [info.key async for page in store.list(*where) for info in page]


# --------------------------------------------------------------------------- keys


async def test_objects_of_boto3_are_ours_to_the_letter(store: S3Store, rgw_truth: S3Client) -> None:
    for key in KEYS:
        rgw_truth.put_object(Bucket=store.bucket, Key=key, Body=key.encode())
    found = {info.key: info async for page in store.list() for info in page}
    assert list(found) == sorted(KEYS)
    for number, (key, info) in enumerate(found.items()):
        assert await read(store, key) == key.encode()
        assert await store.delete(key, if_match=info.etag) is DeleteOutcome.DELETED
        if number % 10 == 0:
            left = rgw_truth.list_objects_v2(Bucket=store.bucket)["Contents"]
            assert [entry["Key"] for entry in left] == sorted(KEYS)[number + 1 :]
    assert rgw_truth.list_objects_v2(Bucket=store.bucket)["KeyCount"] == 0


async def test_our_objects_are_boto3s_to_the_letter(store: S3Store, rgw_truth: S3Client) -> None:
    for key in KEYS:
        assert await store.stat(key) is None
        await store.put(key, key.encode(), size=len(key.encode()), attributes=NONE)
    entries = rgw_truth.list_objects_v2(Bucket=store.bucket)["Contents"]
    assert [entry["Key"] for entry in entries] == sorted(KEYS)
    for key in KEYS:
        assert rgw_truth.get_object(Bucket=store.bucket, Key=key)["Body"].read() == key.encode()


async def test_every_key_can_end_a_page(rgw_server: RgwServer, rgw_bucket: str, rgw_truth: S3Client) -> None:
    """The token for the next page is the last key, in XML that may be none."""
    for key in KEYS:
        rgw_truth.put_object(Bucket=rgw_bucket, Key=key, Body=b"")
    for size in (1, 3):
        store = rgw_server.store(rgw_bucket, options=S3Options(page_size=size))
        await store.probe()
        assert await listed(store) == sorted(KEYS)
        await store.aclose()


async def test_every_key_can_begin_a_listing_and_be_a_prefix(store: S3Store, rgw_truth: S3Client) -> None:
    for key in KEYS:
        rgw_truth.put_object(Bucket=store.bucket, Key=key, Body=b"")
    for key in KEYS:
        assert await listed(store, "", key) == sorted(other for other in KEYS if other > key)
        assert await listed(store, key) == sorted(other for other in KEYS if other.startswith(key))


async def test_nul_is_cephs_limit_not_ours(store: S3Store, rgw_truth: S3Client) -> None:
    assert NUL_KEYS
    for key in NUL_KEYS:
        with pytest.raises(ClientError, match="400"):
            rgw_truth.put_object(Bucket=store.bucket, Key=key, Body=b"x")
        with pytest.raises(StoreError, match="400"):
            await store.put(key, b"x", size=1, attributes=NONE)


async def test_listings_and_looks_tell_the_same_time(store: S3Store) -> None:
    """Else every object would count as changed since it was listed."""
    async with anyio.create_task_group() as group:
        for number in range(150):
            group.start_soon(lambda key: store.put(key, b"x", size=1, attributes=NONE), f"k{number}")
    found = [info async for page in store.list() for info in page]
    assert len(found) == 150
    for info in found:
        seen = await store.stat(info.key)
        assert seen is not None
        assert (seen.etag, seen.size, seen.last_modified) == (info.etag, info.size, info.last_modified)


# --------------------------------------------------------------------------- what the probe says


@pytest.mark.parametrize("versioning", ["", "Enabled", "Suspended"])
async def test_a_probe_tells_the_truth_and_leaves_nothing(
    rgw_server: RgwServer, rgw_bucket: str, rgw_truth: S3Client, versioning: str
) -> None:
    if versioning:
        rgw_truth.put_bucket_versioning(Bucket=rgw_bucket, VersioningConfiguration={"Status": versioning})
    store = rgw_server.store(rgw_bucket)
    capabilities = await store.probe()
    await store.aclose()
    assert capabilities.versioning is Versioning(versioning.lower() or "never enabled")
    assert capabilities.keeps_versions is (versioning == "Enabled")
    assert capabilities.object_lock is False
    assert capabilities.read_after_write
    assert capabilities.list_order
    assert capabilities.clock_difference is not None
    assert abs(capabilities.clock_difference) < timedelta(seconds=5)
    assert capabilities.conditional_bulk_delete is honours_etags_in_bulk(rgw_truth, rgw_bucket)
    assert capabilities.conditional_delete is honours_if_match(rgw_truth, rgw_bucket)
    assert capabilities.conditional_put is honours_if_none_match(rgw_truth, rgw_bucket)
    if rgw_server.version.startswith("16."):
        assert capabilities.details["conditional_delete"] == "ignored"
        assert capabilities.details["conditional_bulk_delete"] == "ignored"
        assert capabilities.conditional_put is (versioning != "Enabled")
    left = rgw_truth.list_object_versions(Bucket=rgw_bucket, Prefix=RESERVED_PREFIX)
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")


async def test_a_probe_tells_that_objects_can_be_locked(rgw_server: RgwServer, rgw_truth: S3Client) -> None:
    bucket = f"s3gc-{uuid.uuid4().hex}"
    rgw_truth.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    store = rgw_server.store(bucket)
    capabilities = await store.probe()
    await store.aclose()
    assert capabilities.object_lock is True
    assert capabilities.versioning is Versioning.ENABLED


async def test_one_of_many_creates_an_object(store: S3Store) -> None:
    won: Counter[str] = Counter()

    async def create(key: str, body: bytes) -> None:
        try:
            await store.put(key, body, size=len(body), attributes=NONE, if_none_match=True)
        except PreconditionFailed:
            return
        won[key] += 1

    keys = [f"k{number}" for number in range(25)]
    for key in keys:
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(create, key, f"writer {number}".encode())
    assert won == dict.fromkeys(keys, 1)


async def test_wrong_credentials(rgw_server: RgwServer, rgw_bucket: str) -> None:
    store = rgw_server.store(rgw_bucket, secret_key="another")
    with pytest.raises(AccessDenied, match="SignatureDoesNotMatch"):
        await store.now()
    await store.aclose()


# --------------------------------------------------------------------------- attributes


async def test_attributes_of_others_come_back_through_us(rgw_server: RgwServer, store: S3Store) -> None:
    put = rgw_server.exchange("put_object", store.bucket, "k", headers=ODD_HEADERS, body=b"x")
    assert put.status == 200, put.body
    head = await store.head("k")
    assert head is not None
    assert head.attributes.tags == {"a": "1", "b": "x y", "ü": "日", "odd": "\x01\r"}
    await store.put("copy", b"x", size=1, attributes=head.attributes)
    assert shown(rgw_server, store.bucket, "copy") == shown(rgw_server, store.bucket, "k")
    copy = await store.head("copy")
    assert copy is not None
    assert copy.attributes == head.attributes


async def test_headers_that_are_not_utf8_are_unreadable(rgw_server: RgwServer, store: S3Store) -> None:
    headers = {"Content-Disposition": "attachment; filename=Ü".encode("latin-1")}
    rgw_server.exchange("put_object", store.bucket, "k", headers=headers, body=b"x")
    with pytest.raises(UnreadableObject, match="content_disposition"):
        await store.head("k")
    with pytest.raises(UnreadableObject, match="content_disposition"):
        await read(store, "k")


async def test_locked_objects_are_told(rgw_server: RgwServer, rgw_truth: S3Client) -> None:
    bucket = f"s3gc-{uuid.uuid4().hex}"
    rgw_truth.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    for key in ("free", "held", "kept"):
        rgw_truth.put_object(Bucket=bucket, Key=key, Body=b"x")
    rgw_truth.put_object_legal_hold(Bucket=bucket, Key="held", LegalHold={"Status": "ON"})
    until = datetime.now(UTC) + timedelta(days=1)
    rgw_truth.put_object_retention(
        Bucket=bucket, Key="kept", Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until}
    )
    store = rgw_server.store(bucket)
    locked = {}
    for key in ("free", "held", "kept"):
        async with store.get(key) as reader:
            locked[key] = reader.info.locked
    await store.aclose()
    assert locked["free"] is None
    assert locked["held"] == "a legal hold is on it"
    assert str(locked["kept"]).startswith(f"object lock GOVERNANCE until {until:%Y-%m-%dT%H:%M}")


# --------------------------------------------------------------------------- parts


async def test_parts(rgw_server: RgwServer, rgw_bucket: str, rgw_truth: S3Client) -> None:
    options = S3Options(single_put_most=6 * MIB, part_bytes=5 * MIB, spool_memory=64 * 1024)
    store = rgw_server.store(rgw_bucket, options=options)
    await store.probe()
    data = bytes(range(256)) * (4096 * 11)  # 11 MiB: two whole parts and a rest

    async def pieces(length: int) -> AsyncIterator[bytes]:
        for start in range(0, length, 700_001):
            yield data[start : min(start + 700_001, length)]

    attributes = ObjectAttributes(
        content_type="video/mp4",
        content_disposition='inline; filename="Ü.mp4"',
        metadata={"a": "größe"},
        tags={"t": "v", "ü": "é & <ü>"},
    )
    info = await store.put(
        "big", pieces(len(data)), size=len(data), attributes=attributes, if_none_match=True
    )
    assert info.etag.endswith("-3")
    head = await store.head("big")
    assert head is not None
    assert head.attributes == attributes
    tags = rgw_truth.get_object_tagging(Bucket=rgw_bucket, Key="big")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == attributes.tags
    assert hashlib.sha256(await read(store, "big")).digest() == hashlib.sha256(data).digest()
    with pytest.raises(PreconditionFailed):
        await store.put("big", pieces(len(data)), size=len(data), attributes=NONE, if_none_match=True)
    with pytest.raises(StoreError, match="announced"):
        await store.put("wrong", pieces(len(data) - 1), size=len(data), attributes=NONE)
    assert await listed(store) == ["big"]
    assert rgw_truth.list_multipart_uploads(Bucket=rgw_bucket).get("Uploads", []) == []
    assert await store.delete("big", if_match=info.etag) is DeleteOutcome.DELETED
    await store.aclose()


async def test_tags_that_ceph_lost_stop_nobody(store: S3Store, rgw_truth: S3Client) -> None:
    """Ceph 16 takes tags with an upload in parts, forgets them, and has no XML to say when asked for them."""
    upload_in_parts(rgw_truth, store.bucket, "k", [b"x"], Tagging="a=b")
    head = await store.head("k")
    assert head is not None
    assert await read(store, "k") == b"x"
