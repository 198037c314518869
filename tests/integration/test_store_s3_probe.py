"""What a probe finds out about servers that differ, and what the store does then."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from attrs import evolve

from fixtures_s3 import (
    RESET,
    FakeS3,
    RawHandler,
    RawRequest,
    RawServer,
    S3Client,
    S3Server,
    bucket,
    listing,
    raw_answer,
    raw_error,
    raw_server,
    s3_server,
    truth,
)
from s3gc import Collector, Safety, create_config
from s3gc.errors import AccessDenied, PreconditionFailed, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes, Versioning
from s3gc.stores.s3 import S3Options
from s3gc.stores.s3._client import Reply
from s3gc.stores.s3._traits import Traits
from s3gc.stores.s3._transport import Call
from s3gc.testing.fakes import FakeClock, FakeSource

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
NONE = ObjectAttributes()


def _versioning(status: str) -> bytes:
    text = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"
    return raw_answer(200, text.encode())


def _object_lock(inner: str) -> bytes:
    return raw_answer(200, f"<ObjectLockConfiguration>{inner}</ObjectLockConfiguration>".encode())


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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


async def test_sentinels_that_cannot_be_removed_are_told(raw_server: Start) -> None:
    fake = FakeS3()

    def handler(request: RawRequest) -> bytes:
        if request.method == "DELETE" and "if-match" not in request.headers:
            return raw_error(403, "AccessDenied")
        return fake(request)

    store = raw_server(handler).store()
    assert (await store.probe()).details["cleanup"] == "403 AccessDenied"
    assert fake.objects
    await store.aclose()


async def test_a_listing_that_lags_fails_the_probe(raw_server: Start) -> None:
    fake = FakeS3()
    store = raw_server(lambda r: raw_answer(200, listing([])) if "list-type" in r.query else fake(r)).store()
    with pytest.raises(StoreError, match="just written"):
        await store.probe()
    assert fake.objects == {}
    await store.aclose()


# --------------------------------------------------------------------------- many deletes in one request


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("honoured", "honoured"),
        ("ignored", "ignored"),
        ("refused", "not implemented"),
        ("unasked", "unknown (403 AccessDenied)"),
        ("lying", "unknown (it answered"),
    ],
)
async def test_a_probe_tells_what_becomes_of_etags_in_bulk(raw_server: Start, how: str, told: str) -> None:
    fake = FakeS3(bulk_condition=how)
    store = raw_server(fake).store()
    capabilities = await store.probe()
    assert capabilities.conditional_bulk_delete is (how == "honoured")
    assert capabilities.details["conditional_bulk_delete"].startswith(told)
    assert capabilities.conditional_delete  # one says nothing about the other
    assert fake.objects == {}
    await store.aclose()


async def test_a_bulk_delete_without_an_answer_is_unknown(raw_server: Start) -> None:
    fake = FakeS3()
    store = raw_server(lambda r: RESET if r.method == "POST" else fake(r)).store()
    capabilities = await store.probe()
    assert not capabilities.conditional_bulk_delete
    assert capabilities.details["conditional_bulk_delete"].startswith("unknown")
    await store.aclose()


async def test_moto_ignores_etags_in_bulk(s3_server: S3Server, bucket: str, truth: S3Client) -> None:
    store = s3_server.store(bucket)
    capabilities = await store.probe()
    await store.aclose()
    assert capabilities.conditional_delete
    assert not capabilities.conditional_bulk_delete
    assert capabilities.details["conditional_bulk_delete"] == "ignored"
    assert truth.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


# --------------------------------------------------------------------------- at once, and in order


async def test_an_object_that_is_deleted_late_fails_the_probe(raw_server: Start) -> None:
    fake = FakeS3()
    late: list[RawRequest] = []

    def handler(request: RawRequest) -> bytes:
        if (
            request.method == "DELETE"
            and "if-match" in request.headers
            and "000000" not in str(request.headers)
        ):
            late.append(request)
            return raw_answer(204)
        return fake(request)

    store = raw_server(handler).store()
    with pytest.raises(StoreError, match="read-after-write"):
        await store.probe()
    assert late
    assert fake.objects == {}
    await store.aclose()


async def test_a_listing_that_lacks_the_newest_fails_the_probe(raw_server: Start) -> None:
    fake = FakeS3()

    def handler(request: RawRequest) -> bytes:
        if "list-type" in request.query:
            return raw_answer(200, listing(sorted(fake.objects)[:-1]))
        return fake(request)

    store = raw_server(handler).store()
    with pytest.raises(StoreError, match="read-after-write"):
        await store.probe()
    assert fake.objects == {}
    await store.aclose()


async def test_a_listing_in_another_order_fails_the_probe(raw_server: Start) -> None:
    fake = FakeS3()

    def handler(request: RawRequest) -> bytes:
        if "list-type" in request.query:  # as stores do that compare UTF-16
            return raw_answer(200, listing(sorted(fake.objects, key=lambda key: key.encode("utf-16-be"))))
        return fake(request)

    store = raw_server(handler).store()
    with pytest.raises(StoreError, match="repeats or goes back"):
        await store.probe()
    assert fake.objects == {}
    await store.aclose()


async def test_keys_that_a_store_refuses_are_told(raw_server: Start) -> None:
    fake = FakeS3()

    def handler(request: RawRequest) -> bytes:
        refused = request.method == "PUT" and request.path.endswith("/a/b")
        return raw_error(400, "XMinioObjectExistsAsFile") if refused else fake(request)

    store = raw_server(handler).store()
    capabilities = await store.probe()
    assert capabilities.list_order
    assert capabilities.details["odd_keys"] == "1 of 10 refused"
    await store.aclose()


# --------------------------------------------------------------------------- the bucket's settings


@pytest.mark.parametrize(
    ("answer", "found", "keeps"),
    [
        (raw_answer(200, b"<VersioningConfiguration/>"), Versioning.NEVER, False),
        (_versioning("Enabled"), Versioning.ENABLED, True),
        (_versioning("Suspended"), Versioning.SUSPENDED, False),
        (_versioning("Sometimes"), Versioning.UNKNOWN, False),
        (raw_error(403, "AccessDenied"), Versioning.UNKNOWN, False),
        (raw_error(501, "NotImplemented"), Versioning.UNKNOWN, False),
    ],
)
async def test_only_versioning_that_is_on_is_a_way_back(
    raw_server: Start, answer: bytes, found: Versioning, keeps: bool
) -> None:
    store = raw_server(FakeS3(versioning=answer)).store()
    capabilities = await store.probe()
    assert capabilities.versioning is found
    assert capabilities.keeps_versions is keeps
    assert capabilities.details["versioning"].startswith(found.value)
    await store.aclose()


@pytest.mark.parametrize(
    ("answer", "found", "told"),
    [
        (raw_error(404, "ObjectLockConfigurationNotFoundError"), False, "off"),
        (_object_lock("<ObjectLockEnabled>Enabled</ObjectLockEnabled>"), True, "on"),
        (
            _object_lock(
                "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
                "<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule>"
            ),
            True,
            "on, new objects are kept (GOVERNANCE)",
        ),
        (raw_error(404, "NoSuchBucket"), None, "unknown (404 NoSuchBucket)"),
        (raw_error(403, "AccessDenied"), None, "unknown (403 AccessDenied)"),
        (raw_answer(200, b"<Other/>"), None, "unknown (could not read"),
    ],
)
async def test_object_lock_is_on_off_or_unknown(
    raw_server: Start, answer: bytes, found: bool | None, told: str
) -> None:
    store = raw_server(FakeS3(object_lock=answer)).store()
    capabilities = await store.probe()
    assert capabilities.object_lock is found
    assert capabilities.details["object_lock"].startswith(told)
    await store.aclose()


@pytest.mark.parametrize(
    ("date", "seconds"), [("Thu, 01 Jan 2026 00:02:00 GMT", 120.5), ("no date", None), (None, None)]
)
async def test_the_difference_of_the_clocks(
    raw_server: Start, date: str | None, seconds: float | None
) -> None:
    fake = FakeS3()

    def handler(request: RawRequest) -> bytes:
        head, _, body = fake(request).partition(b"\r\n")
        return head + b"\r\n" + (f"Date: {date}\r\n".encode() if date else b"") + body

    store = raw_server(handler).store(clock=FakeClock())  # it stands at the beginning of 2026
    found = (await store.probe()).clock_difference
    assert found == (None if seconds is None else timedelta(seconds=seconds))
    await store.aclose()


# --------------------------------------------------------------------------- what an earlier probe found


async def test_what_was_found_is_adopted_without_a_request(raw_server: Start) -> None:
    fake = FakeS3(counts_tags=True, plus_stays=True, etag=lambda body: hashlib.sha1(body).hexdigest()[:32])
    server = raw_server(fake)
    probed, other = server.store(), server.store()
    capabilities = await probed.probe()
    server.requests.clear()
    assert other.adopt(capabilities)
    assert server.requests == []
    assert other._traits == probed._traits
    old = await other.put("k", b"old", size=3, attributes=NONE)
    server.requests.clear()
    assert await other.delete("k", if_match=old.etag) is DeleteOutcome.DELETED
    assert [request.method for request in server.requests] == ["DELETE"]  # no look before
    await probed.aclose()
    await other.aclose()


@pytest.mark.parametrize(
    "change", [{"probe": "1"}, {"probe": ""}, {"conditional_put": "perhaps"}, {"md5_etags": "maybe"}, None]
)
async def test_what_another_probe_found_is_not_adopted(
    raw_server: Start, change: dict[str, str] | None
) -> None:
    server = raw_server(FakeS3())
    probed, other = server.store(), server.store()
    capabilities = await probed.probe()
    notes = {} if change is None else {**capabilities.notes, **change}
    assert not other.adopt(evolve(capabilities, notes=notes))
    assert other._traits == Traits()
    await probed.aclose()
    await other.aclose()


async def test_a_probe_that_fails_takes_back_what_one_before_found(raw_server: Start) -> None:
    fake = FakeS3()
    lags = False

    def handler(request: RawRequest) -> bytes:
        return raw_answer(200, listing([])) if lags and "list-type" in request.query else fake(request)

    store = raw_server(handler).store()
    await store.probe()
    assert store._traits.notes()["conditional_delete"] == "honoured"
    lags = True
    with pytest.raises(StoreError):
        await store.probe()
    assert store._traits.notes()["conditional_delete"] == "unknown"
    await store.aclose()


async def test_a_server_that_forgets_the_condition_gets_no_more_deletes(raw_server: Start) -> None:
    fake = FakeS3()
    server = raw_server(fake)
    store = server.store()
    await store.probe()
    assert store.contradiction() is None
    info = await store.put("k", b"x", size=1, attributes=NONE)
    fake.delete_condition = "refused"
    with pytest.raises(StoreError, match="501"):
        await store.delete("k", if_match=info.etag)
    assert "not implemented now" in str(store.contradiction())
    fake.delete_condition = "ignored"  # another machine behind the same name
    server.requests.clear()
    with pytest.raises(StoreError, match="nothing was sent"):
        await store.delete("k", if_match=info.etag)
    assert server.requests == []
    assert not (await store.probe()).conditional_delete
    assert store.contradiction() is None
    await store.aclose()


async def test_a_server_that_learns_the_condition_is_noticed(raw_server: Start) -> None:
    fake = FakeS3(delete_condition="ignored", put_condition="ignored")

    def handler(request: RawRequest) -> bytes:
        answer = fake(request)
        if request.method == "HEAD" and request.path.endswith("/late"):
            fake.objects["late"] = (b"written in between", {})
        return answer

    store = raw_server(handler).store()
    await store.probe()
    old = await store.put("late", b"x", size=1, attributes=NONE)
    fake.delete_condition = "honoured"
    fake.objects["late"] = (b"x", {})
    assert await store.delete("late", if_match=old.etag) is DeleteOutcome.CHANGED
    assert (
        store.contradiction()
        == "If-Match on DELETE was ignored when the store was probed, and is honoured now"
    )
    await store.aclose()


async def test_a_server_that_forgets_if_none_match_is_noticed(raw_server: Start) -> None:
    fake = FakeS3()
    store = raw_server(fake).store()
    await store.probe()
    fake.put_condition = "refused"
    with pytest.raises(StoreError, match="501"):
        await store.put("k", b"x", size=1, attributes=NONE, if_none_match=True)
    assert str(store.contradiction()).startswith("If-None-Match on PUT was honoured")
    await store.aclose()


async def test_versions_whose_answers_were_lost_are_removed(raw_server: Start) -> None:
    fake = FakeS3(versioning=_versioning("Enabled"))
    removed: list[str] = []

    def handler(request: RawRequest) -> bytes:
        if "versionId=" in request.query:
            removed.append(request.query.partition("versionId=")[2])
            return raw_answer(204)
        if "versions" in request.query.split("=")[-1] or request.query.endswith("versions="):
            main = quote(next(r.path for r in server.requests if r.method == "PUT"), safe="/%")
            key = main.removeprefix("/bkt/")
            return raw_answer(
                200,
                "<ListVersionsResult><EncodingType>url</EncodingType>"
                f"<Version><Key>{key}</Key><VersionId>lost</VersionId></Version>"
                "<Version><Key>not/ours</Key><VersionId>other</VersionId></Version>"
                "</ListVersionsResult>".encode(),
            )
        head, _, body = fake(request).partition(b"\r\n")
        return head + b"\r\nx-amz-version-id: known\r\n" + body

    server = raw_server(handler)
    store = server.store()
    await store.probe()
    assert "lost" in removed
    assert "known" in removed
    assert "other" not in removed
    await store.aclose()


async def test_a_second_process_sweeps_with_what_the_first_one_found(
    s3_server: S3Server, bucket: str, truth: S3Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("live", "free/1", "free/2"):
        truth.put_object(Bucket=bucket, Key=key, Body=b"x")
    config = create_config(
        bucket, mode="execute", retention_days=0, vault_path=tmp_path / "vault", safety=Safety.none()
    )

    async def sweep(orphan: str) -> tuple[list[str], list[str]]:
        """The methods of the requests for sentinels, and of those for the orphan."""
        store = s3_server.store(bucket)
        request, sent = store._client.request, []

        async def watched(call: Call, **options: bool) -> Reply:
            sent.append(call)
            return await request(call, **options)

        monkeypatch.setattr(store._client, "request", watched)
        source = FakeSource(rows={"1": ["live"], "2": ["free/2"] if orphan == "free/1" else []})
        async with Collector.open(config, store=store, sources=[source]) as gc:
            assert (await gc.collect()).deleted == [orphan]
        probing = [call.method for call in sent if (call.key or "").startswith(".s3gc/probe/")]
        return probing, [call.method for call in sent if call.key == orphan and call.method == "DELETE"]

    probing, deletes = await sweep("free/1")
    assert "PUT" in probing
    assert deletes == ["DELETE"]
    probing, deletes = await sweep("free/2")
    assert probing == []
    assert deletes == ["DELETE"]
    assert [one["Key"] for one in truth.list_objects_v2(Bucket=bucket, Prefix="live")["Contents"]] == ["live"]
