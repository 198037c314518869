"""Deletes and uploads whose answer is lost, refused or odd: never guessed."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fixtures_s3 import (
    GONE,
    GOOD,
    HELLO,
    RESET,
    SHORT,
    FakeS3,
    RawHandler,
    RawRequest,
    RawServer,
    by_method,
    get_then_tags,
    raw_answer,
    raw_error,
    raw_server,
)
from s3gc.errors import AccessDenied, NoSuchBucket, PreconditionFailed, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes
from s3gc.stores.s3 import S3Options

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
NONE = ObjectAttributes()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def delete(server: RawServer, *, probed: bool = True) -> DeleteOutcome:
    store = server.store()
    if probed:
        real, server.handler = server.handler, FakeS3()
        assert (await store.probe()).conditional_delete
        server.handler = real
        server.requests.clear()
    try:
        return await store.delete("k", if_match="5d41402abc4b2a76b9719d911017c592")
    finally:
        await store.aclose()


SLOW = raw_error(503, "SlowDown")


async def test_a_rejected_delete_is_sent_again(raw_server: Start) -> None:
    server = raw_server(by_method(DELETE=[SLOW, raw_answer(204)]))
    assert await delete(server) is DeleteOutcome.DELETED
    assert len(server.sent("DELETE")) == 2
    server = raw_server(by_method(DELETE=[SLOW]))
    with pytest.raises(StoreError) as caught:
        await delete(server)
    assert not caught.value.outcome_unknown
    assert len(server.sent("DELETE")) == 3


LOST = [
    RESET,
    b"",
    raw_error(500, "InternalError"),
    raw_answer(502),
    raw_answer(503, b"<html>"),
    raw_answer(504),
]


@pytest.mark.parametrize("answer", LOST)
async def test_a_lost_answer_to_a_delete_is_never_repeated(raw_server: Start, answer: bytes) -> None:
    server = raw_server(by_method(DELETE=answer, GET=GONE))
    assert await delete(server) is DeleteOutcome.DELETED  # gone, and ours was on its way
    assert len(server.sent("DELETE")) == 1
    for there in (GOOD, raw_error(403, "AccessDenied"), raw_error(404, "NoSuchBucket"), RESET):
        server = raw_server(by_method(DELETE=answer, GET=there))
        with pytest.raises(StoreError) as caught:
            await delete(server)
        assert caught.value.outcome_unknown
        assert len(server.sent("DELETE")) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (raw_answer(204), DeleteOutcome.DELETED),
        (raw_answer(200), DeleteOutcome.DELETED),
        (GONE, DeleteOutcome.MISSING),
        (raw_error(412, "PreconditionFailed"), DeleteOutcome.CHANGED),
        (raw_error(409, "ConditionalRequestConflict"), DeleteOutcome.CHANGED),
    ],
)
async def test_outcomes(raw_server: Start, answer: bytes, outcome: DeleteOutcome) -> None:
    server = raw_server(by_method(DELETE=answer))
    assert await delete(server) is outcome
    [request] = server.requests
    assert request.headers["if-match"] == '"5d41402abc4b2a76b9719d911017c592"'


@pytest.mark.parametrize("answer", [raw_error(403, "AccessDenied"), raw_error(501, "NotImplemented")])
async def test_a_refused_delete_is_an_error(raw_server: Start, answer: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        await delete(raw_server(by_method(DELETE=answer)))
    assert not caught.value.outcome_unknown


async def test_before_a_probe_a_delete_looks_first(raw_server: Start) -> None:
    other = raw_answer(200, b"", {**HELLO, "ETag": '"other"'})
    server = raw_server(by_method(HEAD=other, DELETE=raw_answer(204)))
    assert await delete(server, probed=False) is DeleteOutcome.CHANGED
    assert server.sent("DELETE") == []
    server = raw_server(by_method(HEAD=raw_answer(404), GET=GONE, DELETE=raw_answer(204)))
    assert await delete(server, probed=False) is DeleteOutcome.MISSING
    assert server.sent("DELETE") == []


async def test_an_upload_whose_answer_is_lost(raw_server: Start) -> None:
    fake = FakeS3()

    def loses_first(request: RawRequest) -> bytes:
        answer = fake(request)
        return RESET if request.method == "PUT" and len(server.sent("PUT")) == 1 else answer

    server = raw_server(loses_first)
    store = server.store()
    assert (await store.put("k", b"hello", size=5, attributes=NONE)).size == 5  # repeating it does no harm
    await store.aclose()
    server.requests.clear()
    fake.objects.clear()
    store = server.store()
    with pytest.raises(StoreError) as caught:  # the second attempt finds what may be our own first
        await store.put("k", b"hello", size=5, attributes=NONE, if_none_match=True)
    assert caught.value.outcome_unknown
    await store.aclose()


@pytest.mark.parametrize(
    "then", [raw_answer(200, b"", {**HELLO, "ETag": '"other"'}), raw_answer(200, b"", HELLO, length=4), GONE]
)
async def test_what_was_written_is_looked_at(raw_server: Start, then: bytes) -> None:
    put = raw_answer(200, headers={"ETag": HELLO["ETag"]})
    store = raw_server(by_method(PUT=put, HEAD=then, GET=GONE)).store()
    with pytest.raises(StoreError, match="someone else") as caught:
        await store.put("k", b"hello", size=5, attributes=NONE)
    assert caught.value.outcome_unknown
    await store.aclose()


async def test_a_body_that_does_not_end(raw_server: Start) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"more"

    server = raw_server(lambda request: raw_answer(200))
    store = server.store()
    with pytest.raises(StoreError, match="more bytes"):
        await store.put("k", endless(), size=10, attributes=NONE)
    assert server.requests == []
    await store.aclose()


@pytest.mark.parametrize("answer", [RESET, raw_error(500, "InternalError")])
async def test_an_upload_that_keeps_failing(raw_server: Start, answer: bytes) -> None:
    store = raw_server(lambda request: answer).store()
    with pytest.raises(StoreError) as caught:
        await store.put("k", b"x", size=1, attributes=NONE)
    assert caught.value.outcome_unknown
    await store.aclose()


async def test_a_wrong_size_sends_nothing(raw_server: Start) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"four"

    server = raw_server(lambda request: raw_answer(200))
    store = server.store()
    for size in (3, 5):
        for body in (b"four", pieces()):
            with pytest.raises(StoreError, match="announced"):
                await store.put("k", body, size=size, attributes=NONE)
    assert server.requests == []
    await store.aclose()


async def test_uploads_carry_their_md5_and_are_spooled(raw_server: Start) -> None:
    data = bytes(range(256)) * 4096

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 10_000):
            yield data[start : start + 10_000]

    server = raw_server(FakeS3())
    store = server.store(options=S3Options(spool_memory=1000))
    await store.put("k", pieces(), size=len(data), attributes=NONE)
    [request] = server.sent("PUT")
    assert request.body == data
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(data).hexdigest()
    assert request.headers["content-md5"]
    await store.aclose()


async def test_an_error_inside_a_good_answer_is_an_error(raw_server: Start) -> None:
    def handler(request: RawRequest) -> bytes:
        if request.query == "uploads":
            xml = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            return raw_answer(200, xml)
        if request.method == "POST":
            return raw_answer(200, b"<Error><Code>InternalError</Code></Error>")
        return raw_answer(204 if request.method == "DELETE" else 200, headers={"ETag": '"e"'})

    server = raw_server(handler)
    store = server.store(options=S3Options(single_put_most=0))
    with pytest.raises(StoreError, match="InternalError") as caught:
        await store.put("k", b"hello", size=5, attributes=NONE)
    assert caught.value.outcome_unknown
    assert [request.query for request in server.sent("DELETE")] == ["uploadId=u"]
    await store.aclose()


@pytest.mark.parametrize(
    "attributes",
    [
        ObjectAttributes(content_type="a\r\nx-evil: 1"),
        ObjectAttributes(content_type=" padded "),
        ObjectAttributes(metadata={"bad name": "x"}),
        ObjectAttributes(metadata={"a": "x", "A": "y"}),
        ObjectAttributes(metadata={"a": "\ud800"}),
    ],
)
async def test_attributes_that_would_change_are_refused(
    raw_server: Start, attributes: ObjectAttributes
) -> None:
    server = raw_server(FakeS3())
    store = server.store()
    with pytest.raises(StoreError):
        await store.put("k", b"x", size=1, attributes=attributes)
    assert server.requests == []
    await store.aclose()
