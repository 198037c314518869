"""ACLs, only if asked for: read with the object, put back with it, never guessed."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

from collections.abc import Callable

import pytest
import structlog

from fixtures_s3 import (
    FakeS3,
    RawHandler,
    RawRequest,
    RawServer,
    S3Client,
    S3Server,
    bucket,
    raw_answer,
    raw_error,
    raw_server,
    s3_server,
    truth,
)
from s3gc.errors import AccessDenied, ConfigError, StoreError
from s3gc.model import ObjectAttributes
from s3gc.stores.s3 import S3Store
from s3gc.stores.s3._acl import grant_headers

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
EVERYBODY = "READ uri=http://acs.amazonaws.com/groups/global/AllUsers"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_an_acl_comes_back_where_it_is_kept(s3_server: S3Server, bucket: str, truth: S3Client) -> None:
    truth.put_object(Bucket=bucket, Key="public", Body=b"x", ACL="public-read")
    truth.put_object(Bucket=bucket, Key="private", Body=b"x")
    before = truth.get_object_acl(Bucket=bucket, Key="public")["Grants"]
    store = s3_server.store(bucket, acl="keep")
    await store.probe()  # or each answer is asked about its tags anyway
    infos = [info async for page in store.list() for info in page]
    small = {one.listed.key: one async for group in store.get_small(infos) for one in group}
    for key in ("public", "private"):
        async with store.get(key) as reader:
            attributes = reader.attributes
        assert small[key].attributes == attributes
        assert (attributes.acl is None) == (key == "private")
        truth.delete_object(Bucket=bucket, Key=key)
        await store.put(key, b"x", size=1, attributes=attributes)
        head = await store.head(key)
        assert head is not None
        assert head.attributes == attributes
    assert truth.get_object_acl(Bucket=bucket, Key="public")["Grants"] == before
    await store.aclose()
    store = s3_server.store(bucket)
    head = await store.head("public")
    assert head is not None
    assert head.attributes.acl is None
    await store.aclose()


def with_acl(fake: FakeS3, answers: Callable[[RawRequest], bytes]) -> RawHandler:
    return lambda request: answers(request) if request.query == "acl" else fake(request)


OWN = (
    b"<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList><Grant><Grantee><ID>me</ID></Grantee>"
    b"<Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>"
)
PUBLIC = ObjectAttributes(acl=f"FULL_CONTROL id=me\n{EVERYBODY}")


async def test_without_being_asked_nothing_is_said_of_acls(raw_server: Start) -> None:
    server = raw_server(FakeS3())
    store = server.store()
    with structlog.testing.capture_logs() as logs:
        await store.put("k", b"x", size=1, attributes=PUBLIC)
    assert [(log["event"], log["key"]) for log in logs] == [("acl_not_put_back", "k")]
    assert await store.head("k") is not None
    assert all("acl" not in request.query for request in server.requests)
    await store.aclose()


async def test_a_bucket_without_acls_is_fine(raw_server: Start) -> None:
    def answers(request: RawRequest) -> bytes:
        return (
            raw_answer(200, OWN)
            if request.method == "GET"
            else raw_error(400, "AccessControlListNotSupported")
        )

    store = raw_server(with_acl(FakeS3(), answers)).store(acl="keep")
    with structlog.testing.capture_logs() as logs:
        await store.put("k", b"x", size=1, attributes=PUBLIC)
    assert [log["event"] for log in logs] == ["acl_not_put_back"]
    head = await store.head("k")
    assert head is not None
    assert head.attributes.acl is None
    await store.aclose()


async def test_an_acl_that_is_not_kept_is_an_error(raw_server: Start) -> None:
    forgets = raw_server(
        with_acl(FakeS3(), lambda request: raw_answer(200, OWN if request.method == "GET" else b""))
    )
    store = forgets.store(acl="keep")
    with pytest.raises(StoreError, match="doesn't keep its ACL"):
        await store.put("k", b"x", size=1, attributes=PUBLIC)
    await store.aclose()


@pytest.mark.parametrize(("method", "right"), [("GET", "s3:GetObjectAcl"), ("PUT", "s3:PutObjectAcl")])
async def test_a_missing_right_is_named(raw_server: Start, method: str, right: str) -> None:
    def answers(request: RawRequest) -> bytes:
        return raw_error(403, "AccessDenied") if request.method == method else raw_answer(200, OWN)

    store = raw_server(with_acl(FakeS3(), answers)).store(acl="keep")
    with pytest.raises(AccessDenied, match=right):
        await store.put("k", b"x", size=1, attributes=PUBLIC)
    await store.aclose()


async def test_an_acl_that_could_not_be_put_back_is_not_taken(raw_server: Start) -> None:
    strange = OWN.replace(b"<ID>me</ID></Grantee>", b"<EmailAddress>a@b</EmailAddress></Grantee>")
    fake = FakeS3(objects={"k": (b"x", {})})
    for answer in (strange, OWN.replace(b"<ID>me</ID></Owner>", b"</Owner>"), b"<Error/>"):
        store = raw_server(with_acl(fake, lambda request, answer=answer: raw_answer(200, answer))).store(
            acl="keep"
        )  # type: ignore[misc]
        with pytest.raises(StoreError, match="read the ACL"):
            async with store.get("k"):
                pass
        await store.aclose()


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="acl"):
        S3Store("bkt", region="x", access_key="a", secret_key="b", acl="yes")  # type: ignore[arg-type]


def test_grants_as_headers() -> None:
    headers = grant_headers(frozenset({"FULL_CONTROL id=me", "READ id=you", EVERYBODY}))
    assert headers == {
        "x-amz-grant-full-control": 'id="me"',
        "x-amz-grant-read": 'id="you", uri="http://acs.amazonaws.com/groups/global/AllUsers"',
    }
    for wrong in (
        "READ",
        "READ id=",
        "LIKE id=me",
        'READ id=me", id="you',
        "READ id=a\r\nx: y",
        "READ mail=a@b",
    ):
        with pytest.raises(StoreError, match="no grant"):
            grant_headers(frozenset({wrong}))
