"""Tags of objects that are uploaded in parts, on a server that forgets them (Ceph 16 does)."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from urllib.parse import parse_qsl, unquote

import pytest
from attrs import Factory, define

from fixtures_s3 import RawHandler, RawRequest, RawServer, raw_answer, raw_error, raw_server
from s3gc.errors import AccessDenied, StoreError
from s3gc.model import ObjectAttributes
from s3gc.stores.s3 import S3Options

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
PARTS = S3Options(single_put_most=0)
TAGGED = ObjectAttributes(tags={"a": "1", "ü": "x & <y>"})
UPLOAD = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
DONE = b"<CompleteMultipartUploadResult/>"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@define
class Forgetful:
    """A server of one object, that takes tags with an upload in parts or forgets them."""

    forgets: bool = True
    keeps: bool = True  # what is written by itself
    overwritten: bool = False  # by somebody else, as soon as there are tags to write
    status: int = 200
    etag: str = "e-1"
    tags: dict[str, str] = Factory(dict)

    def __call__(self, request: RawRequest) -> bytes:
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        headers = {"ETag": f'"{self.etag}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if request.method == "HEAD":
            count = {"x-amz-tagging-count": str(len(self.tags))}
            return raw_answer(200, b"x", headers | count)
        if "uploads" in query:
            if not self.forgets:
                self.tags = dict(parse_qsl(request.headers["x-amz-tagging"]))
            return raw_answer(200, UPLOAD)
        if "tagging" in query:
            return self._written(request) if request.method == "PUT" else self._read()
        return raw_answer(200, DONE if request.method == "POST" else b"", headers)

    def _read(self) -> bytes:
        if not self.tags:
            return raw_answer(200)  # as Ceph does: no XML at all
        tags = "".join(
            f"<Tag><Key>{k}</Key><Value>{v.replace('&', '&amp;').replace('<', '&lt;')}</Value></Tag>"
            for k, v in self.tags.items()
        )
        return raw_answer(200, f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode())

    def _written(self, request: RawRequest) -> bytes:
        if self.status != 200:
            return raw_error(self.status, "AccessDenied")
        if self.overwritten:
            self.etag = "another"
        if self.keeps:
            found = re.findall("<Key>(.*?)</Key><Value>(.*?)</Value>", request.body.decode())
            self.tags = {unescape(name): unescape(value) for name, value in found}
        return raw_answer(200)


@pytest.mark.parametrize("forgets", [False, True])
async def test_tags_are_written_again_where_they_were_lost(raw_server: Start, forgets: bool) -> None:
    server = raw_server(fake := Forgetful(forgets=forgets))
    store = server.store(options=PARTS)
    await store.put("k", b"x", size=1, attributes=TAGGED)
    assert fake.tags == TAGGED.tags
    assert [r.query for r in server.sent("PUT")][1:] == (["tagging"] if forgets else [])
    head = await store.head("k")
    assert head is not None
    assert head.attributes.tags == TAGGED.tags
    await store.aclose()


async def test_without_tags_nobody_looks(raw_server: Start) -> None:
    server = raw_server(Forgetful())
    store = server.store(options=PARTS)
    await store.put("k", b"x", size=1, attributes=ObjectAttributes())
    assert [r for r in server.requests if "tagging" in r.query] == []
    head = await store.head("k")  # no tags, and the answer about them is no XML
    assert head is not None
    assert head.attributes.tags == {}
    await store.aclose()


async def test_tags_that_cannot_be_kept_are_told(raw_server: Start) -> None:
    store = raw_server(Forgetful(keeps=False)).store(options=PARTS)
    with pytest.raises(StoreError, match="doesn't keep its tags") as caught:
        await store.put("k", b"x", size=1, attributes=TAGGED)
    assert caught.value.outcome_unknown
    await store.aclose()


async def test_tags_that_may_not_be_written_are_told(raw_server: Start) -> None:
    store = raw_server(Forgetful(status=403)).store(options=PARTS)
    with pytest.raises(AccessDenied, match="s3:PutObjectTagging"):
        await store.put("k", b"x", size=1, attributes=TAGGED)
    await store.aclose()


async def test_an_object_overwritten_meanwhile_is_told(raw_server: Start) -> None:
    store = raw_server(Forgetful(overwritten=True)).store(options=PARTS)
    with pytest.raises(StoreError, match="someone else writes there") as caught:
        await store.put("k", b"x", size=1, attributes=TAGGED)
    assert caught.value.outcome_unknown
    await store.aclose()
