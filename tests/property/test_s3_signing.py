"""Invariant: for every key, query and header our signature is the one that botocore's signer makes."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import example, given
from hypothesis import strategies as st

from s3gc.stores.s3._signing import EMPTY_SHA256, Credentials, Signer, encode_key, encode_query
from s3gc.testing.keys import ODD_KEYS

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60) | st.sampled_from(ODD_KEYS)
values = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30).map(str.strip)


@given(key=keys)
def test_a_key_is_encoded_once_and_comes_back(key: str) -> None:
    encoded = encode_key(key)
    assert encoded.isascii()
    assert unquote_to_bytes(encoded) == key.encode()
    assert encoded.count("/") == key.count("/")


@given(
    key=keys,
    query=st.dictionaries(st.sampled_from(["prefix", "tagging", "uploadId", "a b"]), st.none() | values),
    metadata=st.dictionaries(st.sampled_from(["x-amz-meta-a", "x-amz-meta-b", "if-match", "range"]), values),
    token=st.none() | st.just("token"),
    method=st.sampled_from(["GET", "PUT", "DELETE", "POST", "HEAD"]),
)
@example(key="../a//b/./c%2F", query={"tagging": None}, metadata={}, token=None, method="GET")
def test_signatures_are_botocores(
    key: str, query: dict[str, str | None], metadata: dict[str, str], token: str | None, method: str
) -> None:
    now = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    path = f"/bkt/{encode_key(key)}"
    wire, canonical = encode_query(query.items())
    headers = {"host": "example:9000", "user-agent": "x", **metadata}
    signed = Signer("eu-west-1").sign(
        method,
        path,
        canonical,
        headers,
        payload_sha256=EMPTY_SHA256,
        credentials=Credentials("AKID", "secret", token),
        now=now,
    )
    names = signed["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names)
    oracle = S3SigV4Auth(BotocoreCredentials("AKID", "secret", token), "s3", "eu-west-1")
    url = f"http://example:9000{path}" + (f"?{wire}" if wire else "")
    request = AWSRequest(method, url, headers={name: signed[name] for name in names})
    request.context["timestamp"] = "20260304T050607Z"
    text = oracle.string_to_sign(request, oracle.canonical_request(request))
    assert signed["authorization"].endswith(f"Signature={oracle.signature(text, request)}")


def test_a_lone_surrogate_is_no_key() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_key("\udcff")
