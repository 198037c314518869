"""What goes over the wire: the key to the letter, a signature that botocore would make, no secret."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import pytest
import structlog
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fixtures_s3 import (
    ACCESS_KEY,
    REGION,
    SECRET_KEY,
    FakeS3,
    RawHandler,
    RawRequest,
    RawServer,
    raw_answer,
    raw_error,
    raw_server,
)
from s3gc.errors import S3GCError
from s3gc.model import DeleteOutcome, ObjectAttributes
from s3gc.testing.keys import ODD_KEYS

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def botocore_authorization(request: RawRequest) -> str:
    """The Authorization header that botocore's own signer computes for what the server received."""
    signer = S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION)
    given = request.headers["authorization"]
    names = given.split("SignedHeaders=")[1].split(",")[0].split(";")
    url = f"http://{request.headers['host']}{request.target}"
    copy = AWSRequest(
        request.method, url, headers={n: request.headers[n].encode("latin-1").decode() for n in names}
    )
    copy.context["timestamp"] = request.headers["x-amz-date"]
    text = signer.string_to_sign(copy, signer.canonical_request(copy))
    return f"{given.split('Signature=')[0]}Signature={signer.signature(text, copy)}"


async def test_every_key_reaches_the_wire_untouched_and_signed(raw_server: Start) -> None:
    fake = FakeS3()
    server = raw_server(fake)
    store = server.store()
    for key in ODD_KEYS:
        data = key.encode()
        attributes = ObjectAttributes(content_type="text/plain", metadata={"a": "two  spaces é"})
        info = await store.put(key, data, size=len(data), attributes=attributes)
        async with store.get(key, if_match=info.etag) as reader:
            assert b"".join([chunk async for chunk in reader.chunks()]) == data
        assert list(fake.objects) == [key]
        assert await store.delete(key, if_match=info.etag) is DeleteOutcome.DELETED
        assert not fake.objects
        for request in server.requests:
            assert unquote_to_bytes(request.path) == b"/bkt/" + data
            assert request.path.isascii()
            assert request.headers["authorization"] == botocore_authorization(request)
        server.requests.clear()
    await store.aclose()


async def test_queries_are_signed_as_botocore_does(raw_server: Start) -> None:
    server = raw_server(FakeS3())
    store = server.store()
    async for _ in store.list("a b+c/é&=?", "a b+c/é&=?x"):
        pass
    await store.probe()
    assert {request.query.partition("=")[0] for request in server.requests} >= {
        "",
        "encoding-type",
        "versioning",
    }
    for request in server.requests:
        assert request.headers["authorization"] == botocore_authorization(request)
    await store.aclose()


async def test_a_token_is_sent_and_signed(raw_server: Start) -> None:
    server = raw_server(FakeS3(objects={"k": (b"x", {})}))
    store = server.store(session_token="a-token-that-must-never-be-shown")
    await store.stat("k")
    [request] = server.requests
    assert request.headers["x-amz-security-token"] == "a-token-that-must-never-be-shown"
    assert request.headers["authorization"] == botocore_authorization(request)
    await store.aclose()


async def test_no_secret_in_errors_reprs_or_logs(
    raw_server: Start,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = iter(
        [raw_error(403, "SignatureDoesNotMatch", "no"), raw_answer(204), raw_error(500, "InternalError")]
    )
    server = raw_server(lambda request: next(answers, raw_error(403, "AccessDenied")))
    store = server.store(session_token="a-token-that-must-never-be-shown")
    shown = [repr(store), str(store), store.url, repr(vars(store))]
    with structlog.testing.capture_logs() as logs:
        for attempt in (
            store.now,
            store.probe,
            lambda: store.stat("k"),
            lambda: store.delete("k", if_match="x"),
        ):
            with pytest.raises(S3GCError) as caught:
                await attempt()
            error: BaseException | None = caught.value
            while error is not None:
                shown += [repr(error), str(error)]
                error = error.__cause__ or error.__context__
    shown += [caplog.text, repr(logs)]
    signatures = [request.headers["authorization"].rpartition("=")[2] for request in server.requests]
    assert len(signatures) > 3
    for text in shown:
        for secret in (SECRET_KEY, "a-token-that-must-never-be-shown", *signatures):
            assert secret not in text
    await store.aclose()


async def test_small_objects_cost_one_request(raw_server: Start) -> None:
    fake = FakeS3()
    server = raw_server(fake)
    store = server.store()
    await store.probe()
    fake.objects["k"] = (b"x", {})
    server.requests.clear()
    async with store.get("k") as reader:
        assert [chunk async for chunk in reader.chunks()] == [b"x"]
        etag = reader.info.etag
    assert await store.delete("k", if_match=etag) is DeleteOutcome.DELETED
    assert [request.method for request in server.requests] == ["GET", "DELETE"]
    await store.aclose()
