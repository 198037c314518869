"""Servers that fail, lie or contradict themselves: the store raises or retries, and never guesses."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3

from fixtures_s3 import (
    RESET,
    FakeS3,
    RawHandler,
    RawRequest,
    RawServer,
    S3Server,
    listing,
    raw_answer,
    raw_error,
    raw_server,
)
from s3gc.errors import AccessDenied, NoSuchBucket, PreconditionFailed, StoreError, UnreadableObject
from s3gc.model import DeleteOutcome, ObjectAttributes
from s3gc.stores.s3 import S3Options

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
NONE = ObjectAttributes()
HELLO = {"ETag": '"5d41402abc4b2a76b9719d911017c592"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def script(answers: Iterable[bytes]) -> RawHandler:
    """One answer after the other; the last one for ever."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def by_method(**answers: Iterable[bytes] | bytes) -> RawHandler:
    scripts = {m.upper(): script([a] if isinstance(a, bytes) else a) for m, a in answers.items()}
    return lambda request: scripts[request.method](request)


async def read(server: RawServer, **options: Any) -> bytes:
    store = server.store(**options)
    try:
        async with store.get("k") as reader:
            return b"".join([chunk async for chunk in reader.chunks()])
    finally:
        await store.aclose()


GOOD = raw_answer(200, b"hello", HELLO)
SHORT = raw_answer(200, b"he", HELLO, length=5)
NO_TAGS = raw_answer(200, b"<Tagging><TagSet/></Tagging>")


def get_then_tags(*answers: bytes) -> RawHandler:
    gets = script(answers)
    return lambda request: NO_TAGS if request.query == "tagging" else gets(request)


# --------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    "first",
    [
        RESET,
        SHORT,
        raw_error(503, "SlowDown"),
        raw_error(500, "InternalError"),
        raw_answer(502, b"<html>"),
        b"",
    ],
)
async def test_a_read_is_tried_again(raw_server: Start, first: bytes) -> None:
    server = raw_server(get_then_tags(first, GOOD))
    assert await read(server) == b"hello"
    assert len([r for r in server.requests if not r.query]) == 2


@pytest.mark.parametrize(
    "answer", [RESET, SHORT, raw_error(503, "SlowDown"), raw_error(500, "InternalError")]
)
async def test_retries_are_bounded(raw_server: Start, answer: bytes) -> None:
    server = raw_server(get_then_tags(answer))
    with pytest.raises(StoreError) as caught:
        await read(server)
    assert not caught.value.outcome_unknown
    assert len(server.requests) == 3


async def test_a_deadline_ends_retries(raw_server: Start) -> None:
    class Clock:
        def __init__(self) -> None:
            self.time = 0.0

        def now(self) -> datetime:
            return datetime.now(UTC)

        def monotonic(self) -> float:
            self.time += 100.0
            return self.time

    server = raw_server(get_then_tags(RESET))
    with pytest.raises(StoreError):
        await read(server, clock=Clock(), options=S3Options(attempts=50, backoff_first=0.001, deadline=150.0))
    assert len(server.requests) == 2


async def test_a_big_body_cut_short_is_an_error(raw_server: Start) -> None:
    headers = {"ETag": '"e"', "Last-Modified": HELLO["Last-Modified"]}
    server = raw_server(get_then_tags(raw_answer(200, b"x" * 5000, headers, length=9000)))
    with pytest.raises(StoreError, match="can't be read to its end"):
        await read(server, options=S3Options(first_read=1000, chunk=1000))


async def test_bytes_that_are_not_those_of_the_etag_are_an_error(raw_server: Start) -> None:
    flipped = raw_answer(200, b"hellO", HELLO)
    with pytest.raises(StoreError, match="ETag"):
        await read(raw_server(get_then_tags(flipped)))
    with pytest.raises(StoreError, match="ETag"):
        await read(raw_server(get_then_tags(flipped)), options=S3Options(first_read=2, chunk=2))
    assert await read(raw_server(get_then_tags(flipped)), options=S3Options(verify_md5=False)) == b"hellO"
    kms = raw_answer(200, b"hellO", HELLO | {"x-amz-server-side-encryption": "aws:kms"})
    assert await read(raw_server(get_then_tags(kms))) == b"hellO"
    parts = raw_answer(200, b"hellO", HELLO | {"ETag": '"5d41402abc4b2a76b9719d911017c592-2"'})
    assert await read(raw_server(get_then_tags(parts))) == b"hellO"


async def test_a_server_that_ignores_if_match_on_get_is_noticed(raw_server: Start) -> None:
    store = raw_server(get_then_tags(GOOD)).store()
    with pytest.raises(PreconditionFailed):
        async with store.get("k", if_match="another"):
            pass
    await store.aclose()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (raw_error(404, "NoSuchKey"), PreconditionFailed, "no object"),
        (raw_error(412, "PreconditionFailed"), PreconditionFailed, "no longer"),
        (raw_error(404, "NoSuchBucket"), NoSuchBucket, "bkt"),
        (raw_error(403, "AccessDenied"), AccessDenied, "s3:GetObject"),
        (raw_error(403, "InvalidObjectState"), UnreadableObject, "archived"),
        (
            raw_error(400, "InvalidRequest", "The object was stored using a form of Server Side Encryption."),
            UnreadableObject,
            "encrypted",
        ),
        (raw_error(400, "KMS.DisabledException"), UnreadableObject, "KMS"),
        (raw_error(403, "InvalidAccessKeyId"), AccessDenied, "not accepted"),
        (raw_error(403, "RequestTimeTooSkewed"), StoreError, "clock"),
        (
            raw_answer(
                301, b"<Error><Code>PermanentRedirect</Code></Error>", {"x-amz-bucket-region": "eu-west-3"}
            ),
            StoreError,
            "'eu-west-3'",
        ),
        (
            raw_error(400, "AuthorizationHeaderMalformed", "", "<Region>eu-west-3</Region>"),
            StoreError,
            "'eu-west-3'",
        ),
        (raw_answer(404, b"<html>not S3</html>"), StoreError, "404"),
        (raw_answer(200, b"hello", {"Last-Modified": HELLO["Last-Modified"]}), StoreError, "ETag"),
        (raw_answer(200, b"hello", {"ETag": '"e"'}), StoreError, "last-modified"),
        (raw_answer(200, b"hello", HELLO | {"x-amz-missing-meta": "1"}), UnreadableObject, "metadata"),
        (raw_answer(200, b"hello", HELLO | {"Content-Disposition": "\xe9"}), UnreadableObject, "UTF-8"),
    ],
)
async def test_what_an_answer_means(
    raw_server: Start,
    answer: bytes,
    error: type[StoreError],
    text: str,
) -> None:
    store = raw_server(get_then_tags(answer)).store()
    with pytest.raises(StoreError, match=text) as caught:
        async with store.get("k"):
            pass
    assert type(caught.value) is error
    await store.aclose()


async def test_tags_that_change_or_are_forbidden(raw_server: Start) -> None:
    counted = raw_answer(200, b"hello", HELLO | {"x-amz-tagging-count": "2"})
    with pytest.raises(StoreError, match="tags"):
        await read(raw_server(get_then_tags(counted)))
    denied = raw_server(lambda r: raw_error(403, "AccessDenied") if r.query else GOOD)
    with pytest.raises(AccessDenied, match="s3:GetObjectTagging"):
        await read(denied)
    without = raw_server(lambda r: raw_error(501, "NotImplemented") if r.query else GOOD)
    assert await read(without) == b"hello"
    body_for_tags = raw_server(lambda r: GOOD)
    with pytest.raises(StoreError, match="tags"):
        await read(body_for_tags)


async def test_no_one_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = S3Options(attempts=2, backoff_first=0.001)
    store = S3Server(f"http://127.0.0.1:{port}").store("bkt", options=options)
    for attempt in (store.now, lambda: store.put("k", b"x", size=1, attributes=NONE)):
        with pytest.raises(StoreError, match=r"no answer from 127\.0\.0\.1") as caught:
            await attempt()
        assert not caught.value.outcome_unknown  # nothing was sent
    await store.aclose()


async def test_a_bucket_that_is_gone_is_not_an_object_that_is_gone(raw_server: Start) -> None:
    store = raw_server(lambda request: raw_error(404, "NoSuchBucket")).store()
    for attempt in (
        lambda: store.stat("k"),
        lambda: store.head("k"),
        lambda: store.delete("k", if_match="x"),
    ):
        with pytest.raises(NoSuchBucket):
            await attempt()
    await store.aclose()


# --------------------------------------------------------------------------- listing


def pages_of(*pages: bytes) -> RawHandler:
    return script(pages)


async def list_all(server: RawServer, prefix: str = "", start_after: str = "") -> list[str]:
    store = server.store()
    try:
        return [info.key async for page in store.list(prefix, start_after) for info in page]
    finally:
        await store.aclose()


@pytest.mark.parametrize(
    ("pages", "text"),
    [
        ([listing(["a", "b"], token="t"), listing(["a", "b"])], "repeats or goes back"),
        ([listing(["a", "b"], token="t"), listing(["b", "c"])], "repeats or goes back"),
        ([listing(["b", "a"])], "repeats or goes back"),
        ([listing(["a", "a"])], "repeats or goes back"),
        ([listing(["a"], truncated="true")], "more"),
        ([listing(["a"], truncated="")], "whether it is the last"),
        ([listing(["a"], truncated="maybe")], "whether it is the last"),
        ([listing(["a"], token="t"), raw_error(400, "InvalidArgument")[-60:]], "XML|not <ListBucketResult>"),
        ([listing([], token="t")], "held no key"),
        ([b"<ListBucketResult><IsTruncated>false</IsTruncated>"], "not XML"),
        ([b"<html><body>welcome</body></html>"], "<html>"),
        ([b""], "not XML"),
        ([b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult>&a;</ListBucketResult>'], "DOCTYPE"),
        ([listing(["a"]).replace(b"<Size>1</Size>", b"")], "Size"),
        ([listing(["a"]).replace(b"<Size>1</Size>", b"<Size>many</Size>")], "many"),
        ([listing(["a"]).replace(b".000Z", b"")], "zone"),
    ],
)
async def test_a_listing_that_is_not_one(raw_server: Start, pages: list[bytes], text: str) -> None:
    with pytest.raises(StoreError, match=text):
        await list_all(raw_server(pages_of(*(raw_answer(200, page) for page in pages))))


async def test_a_listing_of_something_else_is_refused(raw_server: Start) -> None:
    with pytest.raises(StoreError, match="not below"):
        await list_all(raw_server(pages_of(raw_answer(200, listing(["other/x"])))), prefix="mine/")
    with pytest.raises(StoreError, match="goes back"):
        await list_all(raw_server(pages_of(raw_answer(200, listing(["a", "b"])))), start_after="a")


async def test_a_listing_survives_faults(raw_server: Start) -> None:
    first, second = raw_answer(200, listing(["a", "b"], token="t")), raw_answer(200, listing(["c"]))
    cut = raw_answer(200, listing(["c"])[:-40], length=len(listing(["c"])))
    server = raw_server(script([raw_error(503, "SlowDown"), first, RESET, cut, second]))
    assert await list_all(server) == ["a", "b", "c"]
    assert [r.query.count("continuation-token=t") for r in server.requests] == [0, 0, 1, 1, 1]


async def test_a_listing_that_keeps_failing_ends_in_an_error(raw_server: Start) -> None:
    first = raw_answer(200, listing(["a", "b"], token="t"))
    seen: list[str] = []
    store = raw_server(script([first, RESET])).store()
    with pytest.raises(StoreError, match="no answer"):  # noqa: PT012
        async for page in store.list():
            seen += [info.key for info in page]
    assert seen == ["a", "b"]
    await store.aclose()
    with pytest.raises(AccessDenied, match="s3:ListBucket"):
        await list_all(raw_server(script([first, raw_error(403, "AccessDenied")])))


async def test_keys_that_could_be_two_things_are_ambiguous(raw_server: Start) -> None:
    async def ambiguous(page: bytes) -> list[tuple[str, bool]]:
        store = raw_server(pages_of(raw_answer(200, page))).store()
        found = [(info.key, info.ambiguous) async for infos in store.list() for info in infos]
        await store.aclose()
        return found

    plain = listing(["a%20b", "a&amp;b"], encoded=False, quote=str)
    assert await ambiguous(plain) == [("a%20b", True), ("a&b", False)]
    assert await ambiguous(listing(["a%FFb", "c"], quote=str)) == [("a\\xffb", True), ("c", False)]
    twice = listing(["it&amp;apos;s"], quote=str)  # as RGW writes it
    assert await ambiguous(twice) == [("it's", False)]


# --------------------------------------------------------------------------- deleting


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
GONE = raw_error(404, "NoSuchKey")


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


# --------------------------------------------------------------------------- writing


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


async def test_a_short_body_is_noticed_without_urllib3(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = urllib3.HTTPConnectionPool.urlopen

    def lax(self: Any, *args: Any, **options: Any) -> Any:
        return real(self, *args, **options, enforce_content_length=False)  # the default of urllib3 1.26

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", lax)
    server = raw_server(get_then_tags(SHORT, GOOD))
    assert await read(server, options=S3Options(backoff_first=0.001, verify_md5=False)) == b"hello"


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


# --------------------------------------------------------------------------- probing


@pytest.mark.parametrize("how", ["honoured", "ignored", "refused"])
async def test_a_probe_tells_what_the_server_does(raw_server: Start, how: str) -> None:
    fake = FakeS3(delete_condition=how, put_condition=how)
    server = raw_server(fake)
    store = server.store()
    capabilities = await store.probe()
    assert capabilities.conditional_delete is (how == "honoured")
    assert capabilities.conditional_put is (how == "honoured")
    assert fake.objects == {}
    old = await store.put("k", b"old", size=3, attributes=NONE)
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"other", size=5, attributes=NONE, if_none_match=True)
    new = await store.put("k", b"new", size=3, attributes=NONE)
    assert await store.delete("k", if_match=old.etag) is DeleteOutcome.CHANGED
    assert await store.delete("k", if_match=new.etag) is DeleteOutcome.DELETED
    assert await store.delete("k", if_match=new.etag) is DeleteOutcome.MISSING
    await store.aclose()


@pytest.mark.parametrize("counts", [True, False])
async def test_tags_are_asked_for_unless_their_number_is_told(raw_server: Start, counts: bool) -> None:
    fake = FakeS3(counts_tags=counts, objects={"k": (b"x", {})})
    server = raw_server(fake)

    async def requests(options: S3Options, probed: bool) -> int:
        store = server.store(options=options)
        if probed:
            await store.probe()
        fake.objects["tagged"] = (b"x", {"x-amz-tagging": "a=b"})
        async with store.get("tagged") as reader:
            assert reader.attributes.tags == {"a": "b"}
        server.requests.clear()
        async with store.get("k") as reader:
            assert reader.attributes.tags == {}
        await store.aclose()
        return len(server.requests)

    assert await requests(S3Options(), probed=False) == 2
    assert await requests(S3Options(), probed=True) == (1 if counts else 2)
    assert await requests(S3Options(trust_tag_count=False), probed=True) == 2


async def test_a_probe_learns_how_listings_write_a_plus(raw_server: Start) -> None:
    store = raw_server(FakeS3(plus_stays=True, objects={"a b": (b"x", {}), "a+b": (b"x", {})})).store()
    await store.probe()
    assert [info.key async for page in store.list() for info in page] == ["a b", "a+b"]
    await store.aclose()


async def test_a_probe_learns_that_etags_are_not_md5(raw_server: Start) -> None:
    fake = FakeS3(etag=lambda body: hashlib.sha256(body).hexdigest()[:32], objects={"k": (b"hello", {})})
    store = raw_server(fake).store()
    with pytest.raises(StoreError, match="ETag"):
        async with store.get("k") as reader:
            [chunk async for chunk in reader.chunks()]
    assert (await store.probe()).details["etag_is_md5"] == "no"
    async with store.get("k") as reader:
        assert [chunk async for chunk in reader.chunks()] == [b"hello"]
    await store.aclose()


@pytest.mark.parametrize("fails", ["GET", "HEAD", "DELETE"])
async def test_a_probe_that_fails_cleans_up(raw_server: Start, fails: str) -> None:
    fake = FakeS3()

    def handler(request: RawRequest) -> bytes:
        if request.method == fails and (fails != "DELETE" or "if-match" in request.headers):
            return raw_error(403, "AccessDenied")
        return fake(request)

    store = raw_server(handler).store()
    with pytest.raises(AccessDenied):
        await store.probe()
    assert fake.objects == {}
    await store.aclose()


async def test_a_listing_that_lags_fails_the_probe(raw_server: Start) -> None:
    fake = FakeS3()
    store = raw_server(lambda r: raw_answer(200, listing([])) if "list-type" in r.query else fake(r)).store()
    with pytest.raises(StoreError, match="just written"):
        await store.probe()
    assert fake.objects == {}
    await store.aclose()
