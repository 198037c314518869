"""Many deletes in one request: each key on its own condition, and each end told as it was."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from benchmarks.responder.process import Responder

from fixtures_s3 import RESET, RawHandler, RawServer, raw_answer, raw_error, raw_server
from s3gc.abc import ObjectStore
from s3gc.errors import AccessDenied, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes
from s3gc.stores.s3 import S3Options, S3Store
from s3gc.stores.s3._bulk import in_bulk
from s3gc.stores.s3._traits import Condition
from s3gc.testing.store_contract import StoreContract

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
NONE = ObjectAttributes()
ASKED = {"a": "e1", "b": "e2"}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server() -> Iterator[Responder]:
    with Responder() as responder:
        yield responder


def open_store(server: Responder, **options: Any) -> S3Store:
    return S3Store(
        "b",
        endpoint_url=server.endpoint,
        region="us-east-1",
        access_key="k",
        secret_key="s",
        options=S3Options(**options),
    )


@pytest.fixture
async def store(server: Responder) -> AsyncIterator[S3Store]:
    server.wipe("b")
    server.fill("b", 0, 0)
    store = open_store(server, bulk_delete=7)
    yield store
    await store.aclose()


class TestContract(StoreContract):
    """The contract once more, on a server whose DeleteObjects honours each key's ETag."""


async def test_one_request_deletes_many(store: S3Store, server: Responder) -> None:
    await store.probe()
    assert store.delete_most == 7
    keys = [f"k/{number}" for number in range(7)]
    wanted = {key: (await store.put(key, b"x", size=1, attributes=NONE)).etag for key in keys}
    server.reset()
    assert await store.delete_many(wanted) == dict.fromkeys(keys, DeleteOutcome.DELETED)
    assert server.requests().counts == {"DeleteObjects": 1}


async def test_without_proof_each_is_deleted_by_a_request_of_its_own(
    store: S3Store, server: Responder
) -> None:
    await store.probe()
    wanted = {key: (await store.put(key, b"x", size=1, attributes=NONE)).etag for key in "ab"}
    for doubt in ({"conditional_bulk_delete": Condition.IGNORED}, {"contradiction": "another server"}):
        for name, value in doubt.items():
            setattr(store._traits, name, value)
        assert store.delete_most == 1
        server.reset()
        await store.delete_many(wanted)
        assert "DeleteObjects" not in server.requests().counts


def test_keys_that_xml_changes_go_alone() -> None:
    assert all(in_bulk(key) for key in ("a b", "<&>'\"", "é", "\U0001f600", "%2F+", "SlowDown", " ", "//"))
    odd = ("\x00", "\x01", "\t", "\n", "\r", "\x7f", "\x85", "\ufffe", "\uffff")
    assert not any(in_bulk(f"a{char}b") for char in odd)


# --------------------------------------------------------------------------- servers that fail or lie


def result(*entries: str) -> bytes:
    return raw_answer(200, f"<DeleteResult>{''.join(entries)}</DeleteResult>".encode())


def gone(key: str) -> str:
    return f"<Deleted><Key>{key}</Key></Deleted>"


def refused(key: str, code: str) -> str:
    return f"<Error><Key>{key}</Key><Code>{code}</Code><Message>m</Message></Error>"


async def bulk(raw_server: Start, answer: bytes) -> tuple[dict[str, Any], RawServer]:
    server = raw_server(lambda request: answer)
    store = server.store()
    store._traits.conditional_bulk_delete = Condition.HONOURED
    try:
        return dict(await store.delete_many(ASKED)), server
    finally:
        await store.aclose()


def unknown(ended: Any) -> bool:
    assert isinstance(ended, StoreError)
    return ended.outcome_unknown


@pytest.mark.parametrize(
    "answer",
    [
        RESET,
        raw_error(500, "InternalError"),
        raw_answer(502, b"<html>"),
        raw_answer(200, b"<Error><Code>InternalError</Code></Error>"),
        raw_answer(200, b"<DeleteResult>"),
        result(gone("a")),
        result(gone("a"), gone("b"), gone("b")),
        result(gone("a"), gone("b"), refused("b", "PreconditionFailed")),
        result(gone("a"), gone("c")),
        result(refused("a", "InternalError"), refused("b", "Whatever")),
        result(refused("a", ""), refused("b", "ServiceUnavailable")),
    ],
)
async def test_no_clear_answer_is_an_unknown_outcome_and_nothing_is_sent_again(
    raw_server: Start, answer: bytes
) -> None:
    ended, server = await bulk(raw_server, answer)
    assert [unknown(ended[key]) for key in ASKED] == [True, True]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        raw_error(503, "SlowDown"),
        raw_error(403, "AccessDenied"),
        raw_error(400, "MalformedXML"),
        raw_error(501, "NotImplemented"),
        result(refused("a", "AccessDenied"), refused("b", "NotImplemented")),
        result(refused("a", "SlowDown"), refused("b", "AccessDenied")),
    ],
)
async def test_a_clear_refusal_deleted_nothing(raw_server: Start, answer: bytes) -> None:
    ended, _ = await bulk(raw_server, answer)
    assert [unknown(ended[key]) for key in ASKED] == [False, False]


async def test_each_key_ends_on_its_own(raw_server: Start) -> None:
    ended, _ = await bulk(raw_server, result(gone("a"), refused("b", "PreconditionFailed")))
    assert ended == {"a": DeleteOutcome.DELETED, "b": DeleteOutcome.CHANGED}
    ended, _ = await bulk(
        raw_server, result(refused("a", "ConditionalRequestConflict"), refused("b", "NoSuchKey"))
    )
    assert ended == {"a": DeleteOutcome.CHANGED, "b": DeleteOutcome.MISSING}
    ended, _ = await bulk(raw_server, result(refused("a", "AccessDenied"), gone("b")))
    assert isinstance(ended["a"], AccessDenied)
    assert ended["b"] is DeleteOutcome.DELETED


async def test_a_server_that_no_longer_knows_the_condition_is_not_asked_again(raw_server: Start) -> None:
    for answer in (raw_error(501, "NotImplemented"), result(gone("a"), refused("b", "NotImplemented"))):
        server = raw_server(lambda request, answer=answer: answer)  # type: ignore[misc]
        store: ObjectStore = server.store()
        store._traits.conditional_bulk_delete = Condition.HONOURED  # type: ignore[attr-defined]
        assert store.delete_most > 1
        await store.delete_many(ASKED)
        assert store.delete_most == 1
        await store.aclose()
