"""The IAM policy of the docs allows what s3gc asks for, call by call, and nothing else."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fixtures_s3 import S3Client, S3Server, bucket, s3_server, truth
from s3gc import Collector, Safety, create_config
from s3gc.errors import StoreError
from s3gc.model import ObjectAttributes
from s3gc.stores.s3 import S3Options
from s3gc.stores.s3._transport import Call, Transport
from s3gc.testing.fakes import FakeSource

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
BUCKET, OBJECTS, OURS = "bucket", "objects", "below .s3gc/"
MIB = 1024 * 1024

# Operation -> action: Amazon S3 user guide, "Required permissions for Amazon S3 API operations".
BY_QUERY = {
    "versioning": {"GET": ["s3:GetBucketVersioning"]},
    "object-lock": {"GET": ["s3:GetBucketObjectLockConfiguration"]},
    "tagging": {"GET": ["s3:GetObjectTagging"], "PUT": ["s3:PutObjectTagging"]},
    "acl": {"GET": ["s3:GetObjectAcl"], "PUT": ["s3:PutObjectAcl"]},
    "delete": {"POST": ["s3:DeleteObject"]},
    "uploads": {"POST": ["s3:PutObject"]},
    "uploadId": {"PUT": ["s3:PutObject"], "POST": ["s3:PutObject"], "DELETE": ["s3:AbortMultipartUpload"]},
    "versions": {"GET": ["s3:ListBucketVersions"]},
    "list-type": {"GET": ["s3:ListBucket"]},
}
PLAIN = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}


def needed(call: Call) -> set[tuple[str, str]]:
    """The actions that a request takes, each with the kind of thing that it is done to."""
    query = {name for name, _ in call.query}
    body = call.body.source if call.body else b""
    assert isinstance(body, bytes) or call.method == "PUT"
    known = [name for name in BY_QUERY if name in query]
    if known:
        actions = set(BY_QUERY[known[0]][call.method])
    elif call.key is None:
        assert call.method == "HEAD"
        actions = {"s3:ListBucket"}
    else:
        actions = {PLAIN[call.method]}
    if "x-amz-tagging" in call.headers:
        actions.add("s3:PutObjectTagging")
    if "versionId" in query or (known == ["delete"] and b"<VersionId>" in bytes(body)):  # type: ignore[arg-type]
        actions = {f"{action}Version" for action in actions}
    if call.method == "DELETE" and "if-match" in call.headers:
        actions.add("s3:GetObject")
    keys = (
        [call.key]
        if call.key
        else re.findall(r"<Key>(.*?)</Key>", body.decode())
        if known == ["delete"]
        else []
    )  # type: ignore[union-attr]
    places = {OURS if key.startswith(".s3gc/") else OBJECTS for key in keys} or {BUCKET}
    return {(action, place) for action in actions for place in places}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every request that is made from now on."""
    made: list[Call] = []
    signed = Transport.signed

    def noted(self: Transport, call: Call, *more: Any) -> Any:
        made.append(call)
        return signed(self, call, *more)

    monkeypatch.setattr(Transport, "signed", noted)
    return made


def allowed() -> dict[str, set[tuple[str, str]]]:
    """The statements of the page, by name."""
    text = PAGE.read_text(encoding="utf-8")
    (policy,) = re.findall(r"^```json\n(\{\s*\"Version\".*?)^```$", text, re.MULTILINE | re.DOTALL)
    places = {
        "arn:aws:s3:::BUCKET": BUCKET,
        "arn:aws:s3:::BUCKET/*": OBJECTS,
        "arn:aws:s3:::BUCKET/.s3gc/*": OURS,
    }
    statements: dict[str, set[tuple[str, str]]] = {}
    for statement in json.loads(policy)["Statement"]:
        assert statement["Effect"] == "Allow"
        place = places[statement["Resource"]]
        assert statement["Action"] == sorted(set(statement["Action"]))
        statements[statement["Sid"]] = {(action, place) for action in statement["Action"]}
    return statements


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_policy_of_the_page(
    s3_server: S3Server, truth: S3Client, tmp_path: Path, calls: list[Call]
) -> None:
    for versioned in (False, True):
        name = f"iam-{versioned}-{tmp_path.name}".lower().replace("_", "-")
        truth.create_bucket(Bucket=name)
        if versioned:
            truth.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        truth.put_object(Bucket=name, Key="live", Body=b"1")
        truth.put_object(Bucket=name, Key="tagged", Body=b"2" * (6 * MIB), Tagging="a=b")
        truth.put_object(Bucket=name, Key="old", Body=b"3", Tagging="a=b")
        config = create_config(
            f"s3://{name}",
            mode="execute",
            retention_days=0,
            vault_path=tmp_path / name,
            safety=Safety.none(),
        )
        store = s3_server.store(name, options=S3Options(single_put_most=5 * MIB))
        async with Collector.open(config, store=store, sources=[FakeSource(rows={"1": ["live"]})]) as gc:
            plan = await gc.plan()
            report = await gc.collect(plan)
            assert sorted(report.deleted) == ["old", "tagged"]
            restored = await gc.restore(prefix="", dry_run=False)
            assert sorted(restored.restored) == ["old", "tagged"]
            assert (await gc.explain("old")) is not None

    async def short() -> AsyncIterator[bytes]:
        yield b"x"

    store = s3_server.store(name, options=S3Options(single_put_most=0))
    with pytest.raises(StoreError):  # a restore that is cut off
        await store.put("k", short(), size=5, attributes=ObjectAttributes())
    await store.aclose()

    made = set().union(*map(needed, calls))
    policy = allowed()
    everywhere = policy["TheBucket"] | policy["ItsObjects"]
    # What is allowed for all objects is allowed below .s3gc/ too.
    inherited = {(action, OURS) for action, place in everywhere if place == OBJECTS}
    assert made - everywhere - inherited == policy["OursAlone"]
    assert {pair for pair in made if pair[1] != OURS} == everywhere


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_policy_for_acls(
    s3_server: S3Server, bucket: str, truth: S3Client, calls: list[Call]
) -> None:
    truth.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    store = s3_server.store(bucket, acl="keep")
    async with store.get("k") as reader:
        attributes = reader.attributes
    truth.delete_object(Bucket=bucket, Key="k")
    await store.put("k", b"x", size=1, attributes=attributes)
    await store.aclose()
    more = set().union(*map(needed, calls)) - allowed()["ItsObjects"]
    text = PAGE.read_text(encoding="utf-8")
    assert more == {("s3:GetObjectAcl", OBJECTS), ("s3:PutObjectAcl", OBJECTS)}
    assert all(f"`{action}`" in text for action, _ in more)
