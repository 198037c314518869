"""The S3 operations that the benchmarks' clients use, by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from urllib.parse import parse_qsl
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from attrs import define, field

from benchmarks.responder.http import Request, Response
from benchmarks.responder.memory import Bucket, Page, StoredObject, encode_key, stored

_XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_PROLOG = '<?xml version="1.0" encoding="UTF-8"?>\n'
_KEPT_HEADERS = frozenset(
    (
        "cache-control",
        "content-disposition",
        "content-language",
        "expires",
        "x-amz-storage-class",
        "x-amz-website-redirect-location",
    )
)
_MAX_KEYS = 1000


class S3Error(Exception):
    """An error that S3 answers with."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code

    def response(self, *, with_body: bool = True) -> Response:
        """As S3 sends it; HEAD gets no body."""
        body = f"{_PROLOG}<Error><Code>{self.code}</Code><Message>{escape(str(self))}</Message></Error>"
        if not with_body or self.status == 304:
            return Response(self.status, {"content-length": "0"})
        return Response(self.status, {"content-type": "application/xml"}, body.encode())


@define(eq=False)
class _Upload:
    """A multipart upload under way."""

    request: Request
    parts: dict[int, bytes] = field(factory=dict)


@define(eq=False)
class S3:
    """All buckets, and the operations on them. A request is answered at once, in memory."""

    buckets: dict[str, Bucket] = field(factory=dict)
    _uploads: dict[str, _Upload] = field(factory=dict, init=False)
    _operations: dict[str, Callable[[Request], Response]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._operations = {
            "ListBuckets": self._list_buckets,
            "CreateBucket": self._create_bucket,
            "DeleteBucket": self._delete_bucket,
            "HeadBucket": self._head_bucket,
            "GetBucketLocation": self._location,
            "GetBucketVersioning": self._versioning,
            "GetObjectLockConfiguration": self._object_lock,
            "ListObjectsV2": self._list_objects,
            "DeleteObjects": self._delete_objects,
            "GetObject": self._get_object,
            "HeadObject": self._head_object,
            "PutObject": self._put_object,
            "DeleteObject": self._delete_object,
            "GetObjectTagging": self._tagging,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": self._upload_part,
            "CompleteMultipartUpload": self._complete_upload,
            "AbortMultipartUpload": self._abort_upload,
        }

    def handle(self, operation: str, request: Request) -> Response:
        """Do what is asked. Errors of S3 become answers."""
        try:
            found = self._operations.get(operation)
            if found is None:
                raise S3Error(501, "NotImplemented", f"{request.method} {request.target}")
            return found(request)
        except S3Error as error:
            return error.response(with_body=request.method != "HEAD")

    # ------------------------------------------------------------------ buckets

    def _bucket(self, request: Request) -> Bucket:
        name = request.path[1:].partition("/")[0]
        try:
            return self.buckets[name]
        except KeyError:
            raise S3Error(404, "NoSuchBucket", f"there is no bucket {name}") from None

    def _list_buckets(self, _: Request) -> Response:
        names = "".join(f"<Bucket><Name>{name}</Name></Bucket>" for name in sorted(self.buckets))
        return _xml(f"<ListAllMyBucketsResult {_XMLNS}><Buckets>{names}</Buckets></ListAllMyBucketsResult>")

    def _create_bucket(self, request: Request) -> Response:
        if request.query:
            raise S3Error(501, "NotImplemented", f"{request.method} {request.target}")
        self.buckets.setdefault(request.path.strip("/"), Bucket())
        return Response(200, {"location": request.path})

    def _delete_bucket(self, request: Request) -> Response:
        if self._bucket(request).objects:
            raise S3Error(409, "BucketNotEmpty")
        del self.buckets[request.path.strip("/")]
        return Response(204)

    def _head_bucket(self, request: Request) -> Response:
        self._bucket(request)
        return Response(200, {"x-amz-bucket-region": "us-east-1"})

    def _location(self, request: Request) -> Response:
        self._bucket(request)
        return _xml(f"<LocationConstraint {_XMLNS}></LocationConstraint>")

    def _versioning(self, request: Request) -> Response:
        self._bucket(request)
        return _xml(f"<VersioningConfiguration {_XMLNS}></VersioningConfiguration>")

    def _object_lock(self, request: Request) -> Response:
        self._bucket(request)
        raise S3Error(404, "ObjectLockConfigurationNotFoundError")

    # ------------------------------------------------------------------ listing

    def _list_objects(self, request: Request) -> Response:
        bucket, query = self._bucket(request), request.query
        url = query.get("encoding-type") == "url"
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("start-after", "")
        if token := query.get("continuation-token"):
            try:
                after = bytes.fromhex(token).decode()
            except ValueError:
                raise S3Error(400, "InvalidArgument", "the continuation token is not one of ours") from None
        limit = query.get("max-keys", "") or str(_MAX_KEYS)
        if not limit.isdigit():
            raise S3Error(400, "InvalidArgument", f"max-keys is no number: {limit!r}")
        count = min(int(limit), _MAX_KEYS)
        if delimiter:
            page = bucket.grouped_page(prefix=prefix, after=after, limit=count, url=url, delimiter=delimiter)
        else:
            page = bucket.page(prefix=prefix, after=after, limit=count, url=url)
        name = request.path.strip("/")
        return Response(
            200,
            {"content-type": "application/xml", "x-amz-bucket-region": "us-east-1"},
            _listing(name, query.get("prefix", ""), delimiter, count, page, url),
        )

    # ------------------------------------------------------------------ objects

    def _object(self, request: Request) -> StoredObject:
        item = self._bucket(request).objects.get(_key(request))
        if item is None:
            raise S3Error(404, "NoSuchKey", "the key does not exist")
        return item

    def _get_object(self, request: Request) -> Response:
        item = self._object(request)
        headers = _object_headers(request, item)
        body = item.body()
        asked = request.headers.get("range")
        if asked is None:
            return Response(200, headers, body)
        first, last = _range(asked, len(body))
        headers["content-range"] = f"bytes {first}-{last}/{len(body)}"
        return Response(206, headers, memoryview(body)[first : last + 1])

    def _head_object(self, request: Request) -> Response:
        item = self._object(request)
        return Response(200, {**_object_headers(request, item), "content-length": str(item.size)})

    def _put_object(self, request: Request) -> Response:
        if "x-amz-copy-source" in request.headers:
            raise S3Error(501, "NotImplemented", "CopyObject")
        bucket, key = self._bucket(request), _key(request)
        _check_write(request, bucket.objects.get(key))
        item = stored(request.body, _kept_headers(request), request.headers.get("x-amz-tagging", ""))
        bucket.put(key, item)
        return Response(200, {"etag": f'"{item.etag}"'})

    def _delete_object(self, request: Request) -> Response:
        bucket, key = self._bucket(request), _key(request)
        if (wanted := request.headers.get("if-match")) is not None:
            _check_delete(wanted, bucket.objects.get(key))
        bucket.remove(key)
        return Response(204)

    def _delete_objects(self, request: Request) -> Response:
        """Each key on its own, as S3 does: an ``<ETag>`` makes its deletion conditional."""
        bucket = self._bucket(request)
        try:
            root = ElementTree.fromstring(request.body)
        except ElementTree.ParseError as error:
            raise S3Error(400, "MalformedXML", str(error)) from error
        quiet = root.findtext("{*}Quiet") == "true"
        results = []
        for entry in root.iterfind("{*}Object"):
            key, wanted = entry.findtext("{*}Key") or "", entry.findtext("{*}ETag")
            try:
                if wanted is not None:
                    _check_delete(wanted, bucket.objects.get(key))
                bucket.remove(key)
            except S3Error as error:
                results.append(
                    f"<Error><Key>{escape(key)}</Key><Code>{error.code}</Code>"
                    f"<Message>{escape(str(error))}</Message></Error>"
                )
            else:
                if not quiet:
                    results.append(f"<Deleted><Key>{escape(key)}</Key></Deleted>")
        return _xml(f"<DeleteResult {_XMLNS}>{''.join(results)}</DeleteResult>")

    def _tagging(self, request: Request) -> Response:
        tags = "".join(
            f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>"
            for name, value in parse_qsl(self._object(request).tags, keep_blank_values=True)
        )
        return _xml(f"<Tagging {_XMLNS}><TagSet>{tags}</TagSet></Tagging>")

    # ------------------------------------------------------------------ multipart

    def _create_upload(self, request: Request) -> Response:
        self._bucket(request)
        identifier = os.urandom(12).hex()
        self._uploads[identifier] = _Upload(request)
        return _xml(
            f"<InitiateMultipartUploadResult {_XMLNS}><UploadId>{identifier}</UploadId>"
            "</InitiateMultipartUploadResult>"
        )

    def _upload(self, request: Request) -> _Upload:
        try:
            return self._uploads[request.query["uploadId"]]
        except KeyError:
            raise S3Error(404, "NoSuchUpload") from None

    def _upload_part(self, request: Request) -> Response:
        number = request.query.get("partNumber", "")
        if not number.isdigit():
            raise S3Error(400, "InvalidArgument", f"partNumber is no number: {number!r}")
        self._upload(request).parts[int(number)] = request.body
        return Response(200, {"etag": f'"{hashlib.md5(request.body).hexdigest()}"'})

    def _complete_upload(self, request: Request) -> Response:
        upload, bucket, key = self._upload(request), self._bucket(request), _key(request)
        _check_write(request, bucket.objects.get(key))
        parts = [upload.parts[number] for number in sorted(upload.parts)]
        digests = b"".join(hashlib.md5(part).digest() for part in parts)
        item = stored(
            b"".join(parts),
            _kept_headers(upload.request),
            upload.request.headers.get("x-amz-tagging", ""),
            f"{hashlib.md5(digests).hexdigest()}-{len(parts)}",
        )
        bucket.put(key, item)
        del self._uploads[request.query["uploadId"]]
        return _xml(
            f"<CompleteMultipartUploadResult {_XMLNS}><Key>{escape(key)}</Key>"
            f"<ETag>&quot;{item.etag}&quot;</ETag></CompleteMultipartUploadResult>"
        )

    def _abort_upload(self, request: Request) -> Response:
        self._upload(request)
        del self._uploads[request.query["uploadId"]]
        return Response(204)


def _key(request: Request) -> str:
    return request.path[1:].partition("/")[2]


def _xml(text: str) -> Response:
    return Response(200, {"content-type": "application/xml"}, (_PROLOG + text).encode())


def _listing(name: str, prefix: str, delimiter: str, limit: int, page: Page, url: bool) -> bytes:
    token = f"<NextContinuationToken>{page.last.encode().hex()}</NextContinuationToken>"
    top = (
        f"{_PROLOG}<ListBucketResult {_XMLNS}><Name>{name}</Name>"
        f"<Prefix>{encode_key(prefix, url)}</Prefix><Delimiter>{encode_key(delimiter, url)}</Delimiter>"
        f"<KeyCount>{page.count}</KeyCount><MaxKeys>{limit}</MaxKeys>"
        f"{'<EncodingType>url</EncodingType>' if url else ''}"
        f"<IsTruncated>{'true' if page.truncated else 'false'}</IsTruncated>"
        f"{token if page.truncated else ''}"
    )
    return b"".join((top.encode(), page.entries, b"</ListBucketResult>"))


def _kept_headers(request: Request) -> dict[str, str]:
    kept = {
        name: value
        for name, value in request.headers.items()
        if name in _KEPT_HEADERS or name.startswith("x-amz-meta-")
    }
    kept["content-type"] = request.headers.get("content-type") or "binary/octet-stream"
    encodings = [part.strip() for part in request.headers.get("content-encoding", "").split(",")]
    if encoding := ",".join(part for part in encodings if part and part != "aws-chunked"):
        kept["content-encoding"] = encoding
    return kept


def _object_headers(request: Request, item: StoredObject) -> dict[str, str]:
    """Headers of a read, once its conditions hold."""
    wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
    if wanted is not None and not _matches(wanted, item):
        raise S3Error(412, "PreconditionFailed", "the ETag is another one")
    if unwanted is not None and _matches(unwanted, item):
        raise S3Error(304, "NotModified")
    headers = {
        "etag": f'"{item.etag}"',
        "last-modified": item.http_date,
        "accept-ranges": "bytes",
        **item.headers,
    }
    if item.tags:
        headers["x-amz-tagging-count"] = str(len(parse_qsl(item.tags, keep_blank_values=True)))
    return headers


def _matches(etag: str, item: StoredObject) -> bool:
    return etag.strip('"') in ("*", item.etag)


def _check_write(request: Request, current: StoredObject | None) -> None:
    if request.headers.get("if-none-match") == "*" and current is not None:
        raise S3Error(412, "PreconditionFailed", "the key exists")
    if (wanted := request.headers.get("if-match")) is not None:
        _check_delete(wanted, current)


def _check_delete(wanted: str, current: StoredObject | None) -> None:
    if current is None:
        raise S3Error(404, "NoSuchKey", "the key does not exist")
    if not _matches(wanted, current):
        raise S3Error(412, "PreconditionFailed", "the ETag is another one")


def _range(asked: str, size: int) -> tuple[int, int]:
    """First and last byte of a ``Range`` header."""
    first, dash, last = asked.removeprefix("bytes=").partition("-")
    try:
        if not dash:
            raise ValueError
        start = int(first) if first else max(0, size - int(last))
        stop = min(int(last), size - 1) if first and last else size - 1
    except ValueError:
        raise S3Error(400, "InvalidArgument", f"not a range: {asked!r}") from None
    if start > stop:
        raise S3Error(416, "InvalidRange", f"{asked} of {size} bytes")
    return start, stop
