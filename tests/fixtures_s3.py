"""S3 servers for tests on free loopback ports: moto with boto3 as the truth, and a raw one that misbehaves.

Import the fixtures into a test module: ``from fixtures_s3 import bucket, s3_server, truth  # noqa: F401``.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import boto3
import pytest
from attrs import Factory, define, frozen
from botocore.config import Config
from moto.server import ThreadedMotoServer

from s3gc.stores.s3 import S3Options, S3Store

S3Client = Any  # boto3 makes its clients at run time

REGION = "us-east-1"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "a-secret-that-must-never-be-shown"


@frozen
class S3Server:
    """Where a server listens, and how to talk to it."""

    endpoint_url: str

    def client(self) -> S3Client:
        """A boto3 client of this server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
        )

    def store(self, bucket: str, **options: Any) -> S3Store:
        """A store of ours on this server."""
        known: dict[str, Any] = {
            "region": REGION,
            "endpoint_url": self.endpoint_url,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
        }
        return S3Store(bucket, **(known | options))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server for the whole run; its buckets are apart by their names."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Server(f"http://{host}:{port}")
    server.stop()


@pytest.fixture
def truth(s3_server: S3Server) -> S3Client:
    """boto3: what it says is so."""
    return s3_server.client()


@pytest.fixture
def bucket(truth: S3Client) -> str:
    """An empty bucket of a name of its own."""
    name = f"s3gc-{uuid.uuid4().hex}"
    truth.create_bucket(Bucket=name)
    return name


# --------------------------------------------------------------------------- a raw server


@frozen
class RawRequest:
    """A request as its bytes came over the wire."""

    method: str
    target: str
    headers: dict[str, str]  # lower-case names, values as Latin-1
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


RESET = b"\0reset"
"""An answer that resets the connection."""

RawHandler = Callable[[RawRequest], bytes]


def raw_answer(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, length: int | None = None
) -> bytes:
    """An HTTP answer; ``length`` is what Content-Length says, if not the truth."""
    lines = {"Content-Length": str(len(body) if length is None else length), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode("latin-1") + body


def raw_error(status: int, code: str, message: str = "", extra: str = "") -> bytes:
    """An error as S3 tells it."""
    return raw_answer(
        status, f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>".encode()
    )


class RawServer:
    """Serves what ``handler`` says and keeps every request. A body that is too short is the last."""

    def __init__(self, handler: RawHandler) -> None:
        self.handler = handler
        self.requests: list[RawRequest] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def store(self, bucket: str = "bkt", **options: Any) -> S3Store:
        """A store of ours on this server that doesn't wait long."""
        quick = S3Options(attempts=3, backoff_first=0.001, backoff_most=0.002, read_timeout=20)
        return S3Server(self.endpoint_url).store(bucket, **({"options": quick} | options))

    def sent(self, method: str) -> list[RawRequest]:
        return [request for request in self.requests if request.method == method]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends accept(), which would take one more
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while request := self._read(stream):
                self.requests.append(request)
                answer = self.handler(request)
                if answer == RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                head, _, body = answer.partition(b"\r\n\r\n")
                if request.method == "HEAD":
                    connection.sendall(head + b"\r\n\r\n")
                    continue
                connection.sendall(answer)
                if f"content-length: {len(body)}".encode() not in head.lower():
                    return

    @staticmethod
    def _read(stream: BinaryIO) -> RawRequest | None:
        first = stream.readline().decode("latin-1").split(" ")
        if len(first) != 3:
            return None
        headers: dict[str, str] = {}
        while (line := stream.readline().decode("latin-1").rstrip("\r\n")) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", "0")))
        return RawRequest(first[0], first[1], headers, body)


HELLO = {"ETag": '"5d41402abc4b2a76b9719d911017c592"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
"""Headers of an object whose bytes are b"hello"."""


def script(answers: Iterable[bytes]) -> RawHandler:
    """One answer after the other; the last one for ever."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def by_method(**answers: Iterable[bytes] | bytes) -> RawHandler:
    scripts = {m.upper(): script([a] if isinstance(a, bytes) else a) for m, a in answers.items()}
    return lambda request: scripts[request.method](request)


GONE = raw_error(404, "NoSuchKey")
GOOD = raw_answer(200, b"hello", HELLO)
SHORT = raw_answer(200, b"he", HELLO, length=5)
NO_TAGS = raw_answer(200, b"<Tagging><TagSet/></Tagging>")


def get_then_tags(*answers: bytes) -> RawHandler:
    gets = script(answers)
    return lambda request: NO_TAGS if request.query == "tagging" else gets(request)


@pytest.fixture
def raw_server() -> Iterator[Callable[[RawHandler], RawServer]]:
    """Start raw servers; all are closed after the test."""
    servers: list[RawServer] = []

    def start(handler: RawHandler) -> RawServer:
        servers.append(RawServer(handler))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@define
class FakeS3:
    """A handler that keeps objects in a dict, with the odd ways of real servers to switch on."""

    delete_condition: str = "honoured"  # honoured, ignored or refused
    put_condition: str = "honoured"
    bulk_condition: str = "honoured"  # or ignored, refused, unasked (no key may be deleted), lying
    versioning: bytes = raw_answer(200, b"<VersioningConfiguration/>")
    object_lock: bytes = raw_error(404, "ObjectLockConfigurationNotFoundError")
    counts_tags: bool = True
    plus_stays: bool = False  # listings leave a plus as it is, and write a space as %20
    etag: Callable[[bytes], str] = lambda body: hashlib.md5(body).hexdigest()
    objects: dict[str, tuple[bytes, dict[str, str]]] = Factory(dict)

    def __call__(self, request: RawRequest) -> bytes:
        key = unquote(request.path.removeprefix("/bkt/"))
        if not key:
            return self._bucket(request)
        if "tagging" in request.query.split("&"):
            return self._tags(key)
        methods = {"GET": self._get, "HEAD": self._get, "PUT": self._put, "DELETE": self._delete}
        return methods[request.method](key, request)

    def _bucket(self, request: RawRequest) -> bytes:
        if request.query.rstrip("=") == "versioning":
            return self.versioning
        if request.query.rstrip("=") == "object-lock":
            return self.object_lock
        if request.method == "POST":
            return self._bulk(request)
        prefix = next((unquote(p[7:]) for p in request.query.split("&") if p.startswith("prefix=")), "")
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        return raw_answer(
            200, listing(keys, quote=lambda key: quote(key, safe="/+" if self.plus_stays else "/"))
        )

    def _bulk(self, request: RawRequest) -> bytes:
        if self.bulk_condition == "refused":
            return raw_error(501, "NotImplemented")
        if self.bulk_condition == "unasked":
            return raw_error(403, "AccessDenied")
        told = ""
        for entry in ElementTree.fromstring(request.body):
            key, etag = entry.findtext("Key", ""), entry.findtext("ETag", "")
            here = key in self.objects and etag == f'"{self.etag(self.objects[key][0])}"'
            if self.bulk_condition == "lying" or (self.bulk_condition == "honoured" and not here):
                code = "InternalError" if self.bulk_condition == "lying" else "PreconditionFailed"
                told += f"<Error><Key>{escape(key)}</Key><Code>{code}</Code></Error>"
            else:
                self.objects.pop(key, None)
                told += f"<Deleted><Key>{escape(key)}</Key></Deleted>"
        return raw_answer(200, f"<DeleteResult>{told}</DeleteResult>".encode())

    def _headers(self, key: str) -> dict[str, str]:
        body, headers = self.objects[key]
        known = {name: value for name, value in headers.items() if name in ("content-type", "cache-control")}
        known |= {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
        if self.counts_tags and "x-amz-tagging" in headers:
            known["x-amz-tagging-count"] = str(headers["x-amz-tagging"].count("="))
        return known | {"ETag": f'"{self.etag(body)}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}

    def _tags(self, key: str) -> bytes:
        pairs = [pair.split("=") for pair in self.objects[key][1].get("x-amz-tagging", "").split("&") if pair]
        tags = "".join(f"<Tag><Key>{unquote(k)}</Key><Value>{unquote(v)}</Value></Tag>" for k, v in pairs)
        return raw_answer(200, f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode())

    def _get(self, key: str, request: RawRequest) -> bytes:
        if key not in self.objects:
            return raw_error(404, "NoSuchKey")
        return raw_answer(200, self.objects[key][0], self._headers(key))

    def _put(self, key: str, request: RawRequest) -> bytes:
        if "if-none-match" in request.headers:
            if self.put_condition == "refused":
                return raw_error(501, "NotImplemented")
            if self.put_condition == "honoured" and key in self.objects:
                return raw_error(412, "PreconditionFailed")
        self.objects[key] = (request.body, request.headers)
        return raw_answer(200, headers={"ETag": f'"{self.etag(request.body)}"'})

    def _delete(self, key: str, request: RawRequest) -> bytes:
        condition = request.headers.get("if-match")
        if condition and self.delete_condition == "refused":
            return raw_error(501, "NotImplemented")
        if condition and self.delete_condition == "honoured":
            if key not in self.objects:
                return raw_error(404, "NoSuchKey")
            if condition != f'"{self.etag(self.objects[key][0])}"':
                return raw_error(412, "PreconditionFailed")
        self.objects.pop(key, None)
        return raw_answer(204)


def listing(
    keys: Iterable[str],
    *,
    token: str | None = None,
    truncated: str | None = None,
    encoded: bool = True,
    quote: Callable[[str], str] = quote,
) -> bytes:
    """A page of ListObjectsV2."""
    entries = "".join(
        f"<Contents><Key>{quote(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        "<ETag>&quot;0&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    )
    more = truncated if truncated is not None else ("true" if token else "false")
    parts = (
        "<EncodingType>url</EncodingType>" if encoded else "",
        f"<IsTruncated>{more}</IsTruncated>" if more else "",
        f"<NextContinuationToken>{token}</NextContinuationToken>" if token else "",
    )
    name = 'ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f'<?xml version="1.0"?>\n<{name}>{"".join(parts)}{entries}</ListBucketResult>'.encode()
