"""boto3 is the truth: what it put under an odd key, we list, read and delete, and nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import anyio
import pytest
from botocore.exceptions import ClientError

from fixtures_s3 import S3Client, S3Server, bucket, s3_server, truth  # noqa: F401
from s3gc.errors import NoSuchBucket, PreconditionFailed, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes, Versioning
from s3gc.stores.s3 import S3Options
from s3gc.testing.keys import ODD_KEYS

pytestmark = pytest.mark.anyio

LINE_FEEDS = tuple(key for key in ODD_KEYS if "\n" in key)
KEYS = tuple(key for key in ODD_KEYS if "\n" not in key)
MIB = 1024 * 1024


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _truth_keys(truth: S3Client, bucket: str) -> list[str]:
    pages = truth.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


async def test_objects_of_boto3_are_ours_to_the_letter(
    s3_server: S3Server,
    bucket: str,
    truth: S3Client,
) -> None:
    for key in KEYS:
        truth.put_object(Bucket=bucket, Key=key, Body=key.encode())
    store = s3_server.store(bucket)
    await store.probe()
    found = {info.key: info async for page in store.list() for info in page}
    assert list(found) == sorted(KEYS)
    left = set(KEYS)
    for key, info in found.items():
        async with store.get(key, if_match=info.etag) as reader:
            assert b"".join([chunk async for chunk in reader.chunks()]) == key.encode()
        assert await store.delete(key, if_match=info.etag) is DeleteOutcome.DELETED
        left.discard(key)
        if len(left) % 10 == 0:
            assert set(_truth_keys(truth, bucket)) == left
    assert _truth_keys(truth, bucket) == []
    await store.aclose()


async def test_our_objects_are_boto3s_to_the_letter(
    s3_server: S3Server,
    bucket: str,
    truth: S3Client,
) -> None:
    store = s3_server.store(bucket)
    for key in KEYS:
        await store.put(key, key.encode(), size=len(key.encode()), attributes=ObjectAttributes())
    assert sorted(_truth_keys(truth, bucket)) == sorted(KEYS)
    for key in KEYS:
        assert truth.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    await store.aclose()


async def test_a_line_feed_is_motos_limit_not_ours(
    s3_server: S3Server,
    bucket: str,
    truth: S3Client,
) -> None:
    store = s3_server.store(bucket)
    for key in LINE_FEEDS:
        with pytest.raises(ClientError, match="404"):
            truth.put_object(Bucket=bucket, Key=key, Body=b"x")
        with pytest.raises(StoreError, match=re.escape("404")):
            await store.put(key, b"x", size=1, attributes=ObjectAttributes())
    await store.aclose()


async def test_attributes_of_boto3_come_back_through_us(
    s3_server: S3Server,
    bucket: str,
    truth: S3Client,
) -> None:
    truth.put_object(
        Bucket=bucket,
        Key="k",
        Body=b"x",
        ContentType="image/png",
        ContentEncoding="gzip",
        ContentDisposition='inline; filename="a b.png"',
        CacheControl="no-store",
        Metadata={"Owner": "me", "note": "two words"},
        Tagging="a=1&b=x%20y",
        StorageClass="STANDARD_IA",
    )
    store = s3_server.store(bucket)
    head = await store.head("k")
    assert head is not None
    await store.put("copy", b"x", size=1, attributes=head.attributes)
    shown = [truth.get_object(Bucket=bucket, Key=key) for key in ("k", "copy")]
    for name in (
        "ContentType",
        "ContentEncoding",
        "ContentDisposition",
        "CacheControl",
        "Metadata",
        "StorageClass",
    ):
        assert shown[0].get(name) == shown[1].get(name), name
    tags = [truth.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] for key in ("k", "copy")]
    assert sorted(tags[0], key=str) == sorted(tags[1], key=str) != []
    await store.aclose()


async def test_a_versioned_bucket_is_told_and_left_clean(
    s3_server: S3Server,
    bucket: str,
    truth: S3Client,
) -> None:
    truth.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store = s3_server.store(bucket)
    capabilities = await store.probe()
    assert capabilities.versioning is Versioning.ENABLED
    assert capabilities.details["cleanup"] == "done"
    versions = truth.list_object_versions(Bucket=bucket)
    assert versions.get("Versions", []) == []
    assert versions.get("DeleteMarkers", []) == []
    await store.aclose()


async def test_parts(s3_server: S3Server, bucket: str, truth: S3Client) -> None:
    options = S3Options(single_put_most=6 * MIB, part_bytes=5 * MIB, spool_memory=64 * 1024)
    store = s3_server.store(bucket, options=options)
    data = bytes(range(256)) * (4096 * 11)  # 11 MiB: two whole parts and a rest
    attributes = ObjectAttributes(content_type="video/mp4", metadata={"a": "b"}, tags={"t": "v"})

    async def pieces(length: int) -> AsyncIterator[bytes]:
        longer = data + b"!"
        for start in range(0, length, 700_001):
            yield longer[start : min(start + 700_001, length)]

    info = await store.put(
        "big", pieces(len(data)), size=len(data), attributes=attributes, if_none_match=True
    )
    assert info.etag.endswith("-3")
    assert truth.get_object(Bucket=bucket, Key="big")["Body"].read() == data
    head = await store.head("big")
    assert head is not None
    assert head.attributes == attributes
    async with store.get("big", if_match=info.etag) as reader:
        chunks = [chunk async for chunk in reader.chunks()]
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= MIB
    with pytest.raises(PreconditionFailed):
        await store.put("big", pieces(len(data)), size=len(data), attributes=attributes, if_none_match=True)
    for wrong in (len(data) - 1, len(data) + 1):
        with pytest.raises(StoreError, match="announced"):
            await store.put("wrong", pieces(wrong), size=len(data), attributes=attributes)
        with pytest.raises(StoreError, match="announced"):
            await store.put("wrong", pieces(len(data)), size=wrong, attributes=attributes)
    assert _truth_keys(truth, bucket) == ["big"]
    assert truth.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    await store.aclose()


async def test_a_cancelled_upload_in_parts_is_aborted(
    s3_server: S3Server,
    bucket: str,
    truth: S3Client,
) -> None:
    store = s3_server.store(bucket, options=S3Options(single_put_most=0, part_bytes=5 * MIB))
    stuck = anyio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        yield b"x" * (6 * MIB)
        stuck.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: store.put("k", stalls(), size=20 * MIB, attributes=ObjectAttributes()))
        await stuck.wait()
        assert len(truth.list_multipart_uploads(Bucket=bucket).get("Uploads", [])) == 1
        group.cancel_scope.cancel()
    assert truth.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert _truth_keys(truth, bucket) == []
    await store.aclose()


async def test_pages_and_prefetch(s3_server: S3Server, bucket: str, truth: S3Client) -> None:
    keys = [f"k{number:03d}" for number in range(25)]
    for key in keys:
        truth.put_object(Bucket=bucket, Key=key, Body=b"")
    store = s3_server.store(bucket, options=S3Options(page_size=4))
    pages = [page async for page in store.list()]
    assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 4, 1]
    assert [info.key for page in pages for info in page] == keys
    assert [i.key async for page in store.list("k01", "k012") for i in page] == keys[13:20]
    async for _ in store.list():  # a caller that loses interest
        break
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await store.stat("k000")


async def test_wrong_bucket(s3_server: S3Server) -> None:
    store = s3_server.store("s3gc-there-is-none")
    for attempt in (store.now, store.probe, lambda: store.stat("k"), lambda: store.delete("k", if_match="x")):
        with pytest.raises(NoSuchBucket, match="s3gc-there-is-none"):
            await attempt()
    with pytest.raises(NoSuchBucket):
        async for _ in store.list():
            pass
    with pytest.raises(NoSuchBucket):
        async with store.get("k"):
            pass
    await store.aclose()
