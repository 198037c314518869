"""Objects for tests on a Ceph gateway, made and looked at by boto3 and by bare requests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from fixtures_s3 import S3Client
from s3gc.testing.keys import ODD_KEYS

if TYPE_CHECKING:  # a plugin must not be imported before pytest does it
    from fixtures_rgw import RgwServer

CEPHS_OWN = (
    "_",
    "__",
    "_x",
    "__x",
    "_multipart_a.2~b.meta",
    "_shadow_a",
    "_ns_a",
    "_:",
    ".bucket.meta.a",
    "a_",
)
"""Ceph's own objects are told from the bucket's by such names; a client may use them all the same."""

MIB = 1024 * 1024

KEYS = (*(key for key in ODD_KEYS if "\0" not in key), *CEPHS_OWN)

ODD_HEADERS = {
    "Content-Type": b"text/html; charset=utf-8",
    "Content-Disposition": 'attachment; filename="Über 日.html"'.encode(),
    "Content-Language": b"de, en",
    "Content-Encoding": b"gzip",
    "Cache-Control": b"max-age=60",
    "Expires": b"Thu, 01 Dec 2033 16:00:00 GMT",
    "x-amz-meta-utf8": "größe 日".encode(),
    "x-amz-meta-latin1": "größe".encode("latin-1"),  # shown as an RFC 2047 word
    "x-amz-meta-word": b"=?UTF-8?B?w6k=?=",
    "x-amz-tagging": b"a=1&b=x%20y&%C3%BC=%E6%97%A5&odd=%01%0D",
}


NOT_THE_OBJECTS = ("date", "x-amz-request-id", "connection", "last-modified", "etag", "x-amz-tagging-count")
"""Headers that tell of the answer or the upload. Hash and tags are compared themselves."""


def shown(server: RgwServer, bucket: str, key: str) -> tuple[str, dict[str, bytes], list[bytes]]:
    """An object's hash, and to the byte its headers and tags."""
    reply = server.exchange("get_object", bucket, key)
    tags = server.exchange("get_object_tagging", bucket, key)  # no XML at all: Ceph lost them
    assert (reply.status, tags.status) == (200, 200)
    headers = {name: value for name, value in reply.headers.items() if name not in NOT_THE_OBJECTS}
    found = re.findall(rb"<Tag>.*?</Tag>", tags.body, re.DOTALL)
    return hashlib.sha256(reply.body).hexdigest(), headers, sorted(found)


def upload_in_parts(truth: S3Client, bucket: str, key: str, parts: Sequence[bytes], **options: Any) -> None:
    upload = truth.create_multipart_upload(Bucket=bucket, Key=key, **options)["UploadId"]
    where = {"Bucket": bucket, "Key": key, "UploadId": upload}
    done = [
        {"PartNumber": number, "ETag": truth.upload_part(**where, PartNumber=number, Body=part)["ETag"]}
        for number, part in enumerate(parts, 1)
    ]
    truth.complete_multipart_upload(**where, MultipartUpload={"Parts": done})


def refused(call: Callable[..., Any], **options: Any) -> bool:
    """Whether the gateway answers 412, as boto3 sees it."""
    try:
        call(**options)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
            raise
        return True
    return False


def honours_if_match(truth: S3Client, bucket: str) -> bool:
    """Whether an object stays when its ETag isn't the one that a DELETE names."""
    where = {"Bucket": bucket, "Key": "condition"}
    truth.put_object(**where, Body=b"x")
    honoured = refused(truth.delete_object, **where, IfMatch=f'"{"0" * 32}"')
    truth.delete_object(**where)
    return honoured


def honours_etags_in_bulk(truth: S3Client, bucket: str) -> bool:
    """Whether an object stays when its ETag isn't the one that DeleteObjects names for it."""
    where = {"Bucket": bucket, "Key": "condition"}
    truth.put_object(**where, Body=b"x")
    entry = {"Key": "condition", "ETag": f'"{"0" * 32}"'}
    truth.delete_objects(Bucket=bucket, Delete={"Objects": [entry]})
    honoured = bool(truth.list_objects(Bucket=bucket, Prefix="condition").get("Contents"))
    truth.delete_object(**where)
    return honoured


def honours_if_none_match(truth: S3Client, bucket: str) -> bool:
    """Whether an object that exists stays when a PUT is for new ones only."""
    where = {"Bucket": bucket, "Key": "condition"}
    truth.put_object(**where, Body=b"x")
    honoured = refused(truth.put_object, **where, Body=b"y", IfNoneMatch="*")
    truth.delete_object(**where)
    return honoured
