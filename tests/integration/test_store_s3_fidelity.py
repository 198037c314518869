"""What an object carries comes back, or is named; its bytes are those that the store vouches for."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import base64
import hashlib
import sys
import types
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from fixtures_s3 import (
    GONE,
    HELLO,
    FakeS3,
    RawHandler,
    RawRequest,
    RawServer,
    S3Client,
    S3Server,
    bucket,
    by_method,
    get_then_tags,
    raw_answer,
    raw_error,
    raw_server,
    s3_server,
    truth,
)
from s3gc.errors import StoreError, UnreadableObject
from s3gc.model import ObjectAttributes
from s3gc.stores.s3 import S3Options

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
KMS = ObjectAttributes(encryption="aws:kms", kms_key_id=KEY, kms_bucket_key="true")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("options", [S3Options(), S3Options(single_put_most=0)])
async def test_encryption_and_storage_class_come_back(
    s3_server: S3Server, bucket: str, truth: S3Client, options: S3Options
) -> None:
    whole = options.single_put_most > 0  # moto forgets the bucket key of an upload in parts
    truth.put_object(
        Bucket=bucket,
        Key="kms",
        Body=b"hello",
        ContentType="text/plain",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId=KEY,
        BucketKeyEnabled=whole,
        StorageClass="STANDARD_IA",
        ContentDisposition="attachment; filename=ü.txt".encode().decode("latin-1"),
    )
    truth.put_object(Bucket=bucket, Key="s3", Body=b"hello", ServerSideEncryption="AES256")
    store = s3_server.store(bucket, options=options)
    for key in ("kms", "s3"):
        async with store.get(key) as reader:
            attributes = reader.attributes
        truth.delete_object(Bucket=bucket, Key=key)
        await store.put(key, b"hello", size=5, attributes=attributes)
        head = await store.head(key)
        assert head is not None
        assert attributes.otherwise_in(head.attributes) == ()
    kms = truth.head_object(Bucket=bucket, Key="kms")
    assert (kms["ServerSideEncryption"], kms["SSEKMSKeyId"]) == ("aws:kms", KEY)
    assert (kms.get("BucketKeyEnabled", False), kms["StorageClass"]) == (whole, "STANDARD_IA")
    assert truth.head_object(Bucket=bucket, Key="s3")["ServerSideEncryption"] == "AES256"
    await store.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        raw_error(400, "KMS.DisabledException", "it is disabled"),
        raw_error(400, "KMS.NotFoundException", "there is none"),
        raw_error(403, "AccessDenied", "not authorized to perform: kms:GenerateDataKey on resource"),
    ],
)
async def test_a_kms_key_that_can_not_be_used_any_more(raw_server: Start, answer: bytes) -> None:
    fake = FakeS3()

    def handler(request: RawRequest) -> bytes:
        return answer if "x-amz-server-side-encryption" in request.headers else fake(request)

    server = raw_server(handler)
    store = server.store()
    with pytest.raises(
        StoreError, match=r"1234abcd.*can't be used.*kms:GenerateDataKey.*encryption="
    ) as caught:
        await store.put("k", b"hello", size=5, attributes=KMS)
    assert not caught.value.outcome_unknown
    await store.aclose()
    store = server.store(encryption="bucket")
    await store.put("k", b"hello", size=5, attributes=KMS)
    assert fake.objects["k"][0] == b"hello"
    await store.aclose()


async def test_a_customer_key_is_unreadable_by_head_and_get(raw_server: Start) -> None:
    why = raw_error(400, "InvalidRequest", "The object was stored using a form of Server Side Encryption.")
    store = raw_server(by_method(HEAD=raw_answer(400), GET=why)).store()
    with pytest.raises(UnreadableObject, match="encrypted"):
        await store.head("k")
    with pytest.raises(UnreadableObject, match="encrypted"):
        async with store.get("k"):
            pass
    await store.aclose()


ALL = ObjectAttributes(
    content_type="text/plain", cache_control="no-cache", storage_class="STANDARD_IA", metadata={"A": "b"}
)
TOLD = {"Content-Type": "text/plain", "Cache-Control": "no-cache", "x-amz-meta-a": "b"}
TOLD |= {"x-amz-storage-class": "STANDARD_IA"}


@pytest.mark.parametrize(
    ("wanted", "change", "name"),
    [
        (ALL, {}, None),
        (ALL, {"Content-Type": "text/html"}, "content_type"),
        (ALL, {"Cache-Control": None}, "cache_control"),
        (ALL, {"x-amz-storage-class": None}, "storage_class"),
        (ALL, {"x-amz-meta-a": "c"}, "metadata"),
        (ALL, {"x-amz-meta-b": "c"}, "metadata"),
        (ALL, {"Content-Encoding": "gzip"}, "content_encoding"),
        (ALL, {"x-amz-server-side-encryption": "aws:kms"}, None),
        (evolve(ALL, content_type=None), {"Content-Type": "binary/octet-stream"}, None),
        (evolve(ALL, encryption="AES256"), {"x-amz-server-side-encryption": "aws:kms"}, "encryption"),
        (evolve(ALL, storage_class="STANDARD"), {"x-amz-storage-class": None}, None),
        (evolve(ALL, storage_class="OUTPOSTS"), {"x-amz-storage-class": None}, None),
    ],
)
async def test_attributes_are_compared_after_a_write(
    raw_server: Start, wanted: ObjectAttributes, change: dict[str, str | None], name: str | None
) -> None:
    told = {header: value for header, value in (TOLD | change).items() if value is not None}
    put = raw_answer(200, headers={"ETag": HELLO["ETag"]})
    server = raw_server(by_method(PUT=put, HEAD=raw_answer(200, b"hello", HELLO | told)))
    store = server.store()
    if name is None:
        await store.put("k", b"hello", size=5, attributes=wanted)
    else:
        with pytest.raises(StoreError, match=f"another {name} than it was told"):
            await store.put("k", b"hello", size=5, attributes=wanted)
    [sent] = server.sent("PUT")
    assert ("x-amz-storage-class" in sent.headers) == (wanted.storage_class != "OUTPOSTS")
    await store.aclose()


async def test_a_record_of_an_older_version_has_no_encryption(raw_server: Start) -> None:
    now = ObjectAttributes(content_type="text/plain", encryption="AES256", acl="READ uri=x")
    assert ObjectAttributes(content_type="text/plain").otherwise_in(now) == ()
    assert now.otherwise_in(ObjectAttributes(content_type="text/plain")) == ("encryption", "acl")


# --------------------------------------------------------------------------- checksums


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


GOOD_SUMS = {
    "crc32": b64(zlib.crc32(b"hello").to_bytes(4, "big")),
    "sha1": b64(hashlib.sha1(b"hello").digest()),
    "sha256": b64(hashlib.sha256(b"hello").digest()),
}


async def read(server: RawServer, **options: Any) -> bytes:
    store = server.store(**options)
    try:
        async with store.get("k") as reader:
            return b"".join([chunk async for chunk in reader.chunks()])
    finally:
        await store.aclose()


def vouched(**sums: str) -> bytes:
    headers = {f"x-amz-checksum-{name}": value for name, value in sums.items()}
    return raw_answer(200, b"hello", HELLO | {"ETag": '"parts-2"'} | headers)


@pytest.mark.parametrize("name", GOOD_SUMS)
@pytest.mark.parametrize("options", [S3Options(), S3Options(first_read=2, chunk=2, verify_md5=False)])
async def test_a_body_is_held_against_the_stores_checksum(
    raw_server: Start, name: str, options: S3Options
) -> None:
    server = raw_server(get_then_tags(vouched(**{name: GOOD_SUMS[name]})))
    assert await read(server, options=options) == b"hello"
    assert server.requests[0].headers["x-amz-checksum-mode"] == "ENABLED"
    wrong = b64(bytes(len(base64.b64decode(GOOD_SUMS[name]))))
    with pytest.raises(StoreError, match=f"not those of its x-amz-checksum-{name}"):
        await read(raw_server(get_then_tags(vouched(**{name: wrong}))), options=options)


async def test_a_checksum_of_parts_is_not_of_the_body(raw_server: Start) -> None:
    assert await read(raw_server(get_then_tags(vouched(crc32="AAAAAA==-2")))) == b"hello"
    composite = vouched(sha256=b64(bytes(32)), type="COMPOSITE")
    assert await read(raw_server(get_then_tags(composite))) == b"hello"
    whole = vouched(sha256=b64(bytes(32)), type="FULL_OBJECT")
    with pytest.raises(StoreError, match="sha256"):
        await read(raw_server(get_then_tags(whole)))


def reflected(polynomial: int, bits: int) -> Callable[[bytes, int], int]:
    """A CRC bit by bit (Koopman's catalogue: reflected, all ones before and after)."""
    ones = (1 << bits) - 1

    def step(data: bytes, value: int = 0) -> int:
        value ^= ones
        for byte in data:
            value ^= byte
            for _ in range(8):
                value = (value >> 1) ^ (polynomial if value & 1 else 0)
        return value ^ ones

    return step


CRC32C = reflected(0x82F63B78, 32)
CRC64NVME = reflected(0x9A6C9329AC4BC9B5, 64)


async def test_rarer_checksums_are_checked_where_awscrt_is(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CRC32C(b"123456789", 0) == 0xE3069283
    assert CRC64NVME(b"123456789", 0) == 0xAE8B14860A799888
    sums = {"crc32c": (CRC32C, 4), "crc64nvme": (CRC64NVME, 8)}
    options = S3Options(first_read=2, chunk=2)
    for name, (step, size) in sums.items():
        right = vouched(**{name: b64(step(b"hello", 0).to_bytes(size, "big"))})
        wrong = vouched(**{name: b64(bytes(size))})
        monkeypatch.setitem(sys.modules, "awscrt.checksums", None)  # as if it weren't installed
        assert await read(raw_server(get_then_tags(wrong)), options=options) == b"hello"
        module = types.ModuleType("awscrt.checksums")
        vars(module).update(crc32c=CRC32C, crc64nvme=CRC64NVME)
        monkeypatch.setitem(sys.modules, "awscrt", types.ModuleType("awscrt"))
        monkeypatch.setitem(sys.modules, "awscrt.checksums", module)
        assert await read(raw_server(get_then_tags(right)), options=options) == b"hello"
        with pytest.raises(StoreError, match=name):
            await read(raw_server(get_then_tags(wrong)), options=options)


async def test_a_checksum_of_boto3_on_moto(s3_server: S3Server, bucket: str, truth: S3Client) -> None:
    truth.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm="SHA256")
    store = s3_server.store(bucket)
    async with store.get("k") as reader:
        assert b"".join([chunk async for chunk in reader.chunks()]) == b"hello"
    await store.aclose()
