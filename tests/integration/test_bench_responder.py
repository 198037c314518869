"""The benchmarks' responder answers as S3 does; otherwise the benchmarks would measure a fiction."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from benchmarks.responder.content import Filler, key
from benchmarks.responder.process import Responder
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ResponseStreamingError

S3Client = Any  # the stubs of boto3 know no S3
SIZE = 4096
ODD_KEYS = [
    "dir/",
    "/lead",
    "a//b",
    "../up",
    "a b+c%2F",
    "é",
    "e\u0301",
    "😀",
    "x&<>\"'",
    "n\x01",
    "z" * 1024,
]


@pytest.fixture(scope="module")
def server() -> Iterator[Responder]:
    with Responder() as responder:
        yield responder


@pytest.fixture
def responder(server: Responder) -> Responder:
    server.wipe("b")
    server.clear_faults()
    server.latency(0)
    server.fill("b", 0, SIZE)
    server.reset()
    return server


@pytest.fixture
def s3(responder: Responder) -> Iterator[S3Client]:
    client = boto3.client(
        "s3",
        endpoint_url=responder.endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


def listed(s3: S3Client, **options: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="b", **options)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


# --------------------------------------------------------------------------- filled objects


def test_listing_gives_every_filled_object_in_order(responder: Responder, s3: S3Client) -> None:
    responder.fill("b", 2_500, SIZE, age_s=86_400)
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="b"))
    assert [page["KeyCount"] for page in pages] == [1000, 1000, 500]
    items = [item for page in pages for item in page["Contents"]]
    filler = Filler(SIZE)
    assert [item["Key"] for item in items] == sorted(key(index) for index in range(2_500))
    assert {item["ETag"].strip('"') for item in items} == {filler.etag(index) for index in range(2_500)}
    age = datetime.now(UTC) - items[0]["LastModified"]
    assert timedelta(hours=24) <= age < timedelta(hours=25)


def test_head_and_get_agree_with_the_listing(responder: Responder, s3: S3Client) -> None:
    responder.fill("b", 3, SIZE, age_s=1_000_000)
    item = s3.list_objects_v2(Bucket="b")["Contents"][0]
    head = s3.head_object(Bucket="b", Key=item["Key"])
    got = s3.get_object(Bucket="b", Key=item["Key"])
    assert (head["ETag"], head["LastModified"], head["ContentLength"]) == (
        item["ETag"],
        item["LastModified"],
        SIZE,
    )
    assert got["LastModified"] == item["LastModified"]
    assert hashlib.md5(got["Body"].read()).hexdigest() == item["ETag"].strip('"')


# --------------------------------------------------------------------------- listing


def test_prefix_start_after_and_delimiter(responder: Responder, s3: S3Client) -> None:
    names = ["a", "a/1", "a/2", "a/b/3", "ab", "b/1", "c"]
    for name in names:
        s3.put_object(Bucket="b", Key=name, Body=b"x")
    assert listed(s3) == names
    assert listed(s3, Prefix="a/") == ["a/1", "a/2", "a/b/3"]
    assert listed(s3, Prefix="a/", StartAfter="a/1") == ["a/2", "a/b/3"]
    assert listed(s3, StartAfter="ab") == ["b/1", "c"]
    assert listed(s3, Prefix="zzz") == []
    grouped: list[str] = []
    for page in s3.get_paginator("list_objects_v2").paginate(
        Bucket="b", Delimiter="/", PaginationConfig={"PageSize": 1}
    ):
        grouped += [item["Key"] for item in page.get("Contents", [])]
        grouped += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
    assert grouped == ["a", "a/", "ab", "b/", "c"]


def test_listing_with_a_prefix_ends_at_a_page_boundary(responder: Responder, s3: S3Client) -> None:
    for name in ("p/1", "p/2", "q"):
        s3.put_object(Bucket="b", Key=name, Body=b"")
    page = s3.list_objects_v2(Bucket="b", Prefix="p/", MaxKeys=2)
    assert not page["IsTruncated"]
    assert s3.list_objects_v2(Bucket="b", MaxKeys=2)["IsTruncated"]


@pytest.mark.parametrize("many", [1, 200])
def test_listing_follows_writes_and_deletes(responder: Responder, s3: S3Client, many: int) -> None:
    """Both ways of bringing the sorted keys up to date: key by key, and rebuilt."""
    responder.fill("b", 300, SIZE)
    before = listed(s3)
    changed = before[:many]
    old = {item["Key"]: item["ETag"] for item in s3.list_objects_v2(Bucket="b")["Contents"]}
    for name in changed:
        s3.put_object(Bucket="b", Key=name, Body=b"other")
    after = {item["Key"]: item["ETag"] for item in s3.list_objects_v2(Bucket="b")["Contents"]}
    assert list(after) == before
    assert [name for name in before if after[name] != old[name]] == changed
    for name in changed:
        s3.delete_object(Bucket="b", Key=name)
    assert listed(s3) == before[many:]


def test_odd_keys_come_back_exactly(responder: Responder, s3: S3Client) -> None:
    for name in ODD_KEYS:
        s3.put_object(Bucket="b", Key=name, Body=name.encode())
    assert listed(s3) == sorted(ODD_KEYS)
    for name in ODD_KEYS:
        assert s3.get_object(Bucket="b", Key=name)["Body"].read() == name.encode()
        s3.delete_object(Bucket="b", Key=name)
    assert responder.count("b") == 0


# --------------------------------------------------------------------------- conditions


def test_conditional_reads_writes_and_deletes(responder: Responder, s3: S3Client) -> None:
    etag = s3.put_object(Bucket="b", Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    for call, options, code in (
        (s3.put_object, {"Body": b"2", "IfNoneMatch": "*"}, "PreconditionFailed"),
        (s3.put_object, {"Body": b"2", "IfMatch": '"0"'}, "PreconditionFailed"),
        (s3.get_object, {"IfMatch": '"0"'}, "PreconditionFailed"),
        (s3.get_object, {"IfNoneMatch": etag}, "304"),
        (s3.delete_object, {"IfMatch": '"0"'}, "PreconditionFailed"),
    ):
        with pytest.raises(ClientError) as error:
            call(Bucket="b", Key="k", **options)
        assert code_of(error) == code
    assert s3.get_object(Bucket="b", Key="k", IfMatch=etag)["Body"].read() == b"1"
    s3.delete_object(Bucket="b", Key="k", IfMatch=etag)
    with pytest.raises(ClientError) as error:
        s3.delete_object(Bucket="b", Key="k", IfMatch=etag)
    assert code_of(error) == "NoSuchKey"
    s3.delete_object(Bucket="b", Key="k")  # without a condition a missing key is no error


def test_bulk_delete_checks_each_etag(responder: Responder, s3: S3Client) -> None:
    etag = s3.put_object(Bucket="b", Key="right", Body=b"1")["ETag"]
    s3.put_object(Bucket="b", Key="wrong", Body=b"2")
    s3.put_object(Bucket="b", Key="any & <odd>", Body=b"3")
    result = s3.delete_objects(
        Bucket="b",
        Delete={
            "Objects": [
                {"Key": "right", "ETag": etag},
                {"Key": "wrong", "ETag": etag},
                {"Key": "any & <odd>"},
            ]
        },
    )
    assert [item["Key"] for item in result["Deleted"]] == ["right", "any & <odd>"]
    assert [(item["Key"], item["Code"]) for item in result["Errors"]] == [("wrong", "PreconditionFailed")]
    assert listed(s3) == ["wrong"]


# --------------------------------------------------------------------------- attributes and bodies


def test_attributes_and_tags_are_kept(responder: Responder, s3: S3Client) -> None:
    s3.put_object(
        Bucket="b",
        Key="k",
        Body=b"1",
        ContentType="text/plain",
        ContentEncoding="gzip",
        CacheControl="no-store",
        Metadata={"owner": "me"},
        Tagging="a=1&b=two%20words",
    )
    head = s3.head_object(Bucket="b", Key="k")
    assert (head["ContentType"], head["ContentEncoding"], head["CacheControl"], head["Metadata"]) == (
        "text/plain",
        "gzip",
        "no-store",
        {"owner": "me"},
    )
    assert s3.get_object(Bucket="b", Key="k")["TagCount"] == 2
    assert s3.get_object_tagging(Bucket="b", Key="k")["TagSet"] == [
        {"Key": "a", "Value": "1"},
        {"Key": "b", "Value": "two words"},
    ]
    s3.put_object(Bucket="b", Key="k", Body=b"1")
    assert s3.get_object_tagging(Bucket="b", Key="k")["TagSet"] == []
    assert "TagCount" not in s3.get_object(Bucket="b", Key="k")


def test_ranges(responder: Responder, s3: S3Client) -> None:
    s3.put_object(Bucket="b", Key="k", Body=b"0123456789")
    for asked, wanted in (
        ("bytes=2-4", b"234"),
        ("bytes=7-", b"789"),
        ("bytes=-3", b"789"),
        ("bytes=0-99", b"0123456789"),
    ):
        got = s3.get_object(Bucket="b", Key="k", Range=asked)
        assert (got["Body"].read(), got["ResponseMetadata"]["HTTPStatusCode"]) == (wanted, 206)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="b", Key="k", Range="bytes=10-")
    assert code_of(error) == "InvalidRange"


def test_multipart(responder: Responder, s3: S3Client) -> None:
    parts = [b"a" * (5 << 20), b"b" * 100]
    upload = s3.create_multipart_upload(Bucket="b", Key="k", ContentType="image/png")["UploadId"]
    done = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(Bucket="b", Key="k", UploadId=upload, PartNumber=number, Body=part)[
                "ETag"
            ],
        }
        for number, part in enumerate(parts, 1)
    ]
    assert listed(s3) == []
    s3.complete_multipart_upload(Bucket="b", Key="k", UploadId=upload, MultipartUpload={"Parts": done})
    got = s3.get_object(Bucket="b", Key="k")
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    assert got["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-2"'
    assert (got["Body"].read(), got["ContentType"]) == (b"".join(parts), "image/png")
    with pytest.raises(ClientError) as error:
        s3.abort_multipart_upload(Bucket="b", Key="k", UploadId=upload)
    assert code_of(error) == "NoSuchUpload"


# --------------------------------------------------------------------------- buckets and errors


def test_buckets(responder: Responder, s3: S3Client) -> None:
    with pytest.raises(ClientError) as error:
        s3.list_objects_v2(Bucket="nowhere")
    assert code_of(error) == "NoSuchBucket"
    with pytest.raises(ClientError):
        s3.head_bucket(Bucket="nowhere")
    s3.create_bucket(Bucket="new")
    s3.head_bucket(Bucket="new")
    assert "Status" not in s3.get_bucket_versioning(Bucket="new")
    assert s3.get_bucket_location(Bucket="new")["LocationConstraint"] in (None, "")
    s3.delete_bucket(Bucket="new")


def test_what_is_not_built_says_so(responder: Responder, s3: S3Client) -> None:
    with pytest.raises(ClientError) as error:
        s3.get_bucket_acl(Bucket="b")
    assert code_of(error) == "NotImplemented"


# --------------------------------------------------------------------------- control


def test_census_sees_missing_changed_and_foreign_objects(responder: Responder, s3: S3Client) -> None:
    responder.fill("b", 10, SIZE)
    s3.delete_object(Bucket="b", Key=key(3))
    s3.put_object(Bucket="b", Key=key(4), Body=b"not what was filled")
    s3.put_object(Bucket="b", Key="foreign", Body=b"")
    census = responder.census("b", 10, SIZE)
    assert census.present == frozenset(range(10)) - {3, 4}
    assert (census.others, sorted(census.some_others)) == (2, sorted(["foreign", key(4)]))


def test_fill_takes_every_nth_number(responder: Responder) -> None:
    responder.fill("b", 10, SIZE, first=1, step=2)
    assert responder.census("b", 10, SIZE).present == frozenset((1, 3, 5, 7, 9))


def test_requests_are_counted_by_operation(responder: Responder, s3: S3Client) -> None:
    responder.reset(log=True)
    s3.put_object(Bucket="b", Key="a b", Body=b"12345")
    s3.get_object(Bucket="b", Key="a b")["Body"].read()
    listed(s3)
    requests = responder.requests()
    assert requests.counts == {"PutObject": 1, "GetObject": 1, "ListObjectsV2": 1}
    assert requests.bytes_in == 5
    assert requests.targets[1] == f"GET /b/{quote('a b')}"
    responder.reset()
    assert not responder.requests().counts


def test_latency_delays_every_request(responder: Responder, s3: S3Client) -> None:
    responder.latency(60)
    begin = time.monotonic()
    for _ in range(3):
        s3.head_bucket(Bucket="b")
    assert time.monotonic() - begin >= 0.17  # never sooner; how much later depends on the machine


def test_faults_hit_the_requests_that_they_name(responder: Responder, s3: S3Client) -> None:
    s3.put_object(Bucket="b", Key="k", Body=b"x" * 1000)
    responder.fault(kind="status", operation="GetObject", times=2)
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket="b", Key="k")
        assert code_of(error) == "SlowDown"
    s3.get_object(Bucket="b", Key="k")

    responder.fault(kind="truncate", operation="GetObject")
    with pytest.raises(ResponseStreamingError):
        s3.get_object(Bucket="b", Key="k")["Body"].read()

    responder.fault(kind="reset", operation="DeleteObject", contains="/k")
    with pytest.raises(ConnectionClosedError):
        s3.delete_object(Bucket="b", Key="k")
    assert responder.count("b") == 1
    responder.fault(kind="lost", operation="DeleteObject", contains="/k")
    with pytest.raises(ConnectionClosedError):
        s3.delete_object(Bucket="b", Key="k")
    assert responder.count("b") == 0


def test_a_wrong_command_is_refused_with_its_reason(responder: Responder) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        responder.fault(kind="nonsense")
    with pytest.raises(ValueError, match="nowhere"):
        responder.count("nowhere")


def test_it_ends_with_the_one_who_started_it() -> None:
    with Responder() as responder:
        process = responder._process
        assert process is not None
        assert process.poll() is None
    assert process.returncode == 0
