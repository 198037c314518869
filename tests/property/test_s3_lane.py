"""Invariant: the quick way to read sends and understands what the careful way does, or gives up."""

from __future__ import annotations

import http.client
import io
from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from s3gc.stores.s3._lane import read_head
from s3gc.stores.s3._quick import QuickReads
from s3gc.stores.s3._signing import EMPTY_SHA256, Credentials, Signer, encode_key
from s3gc.stores.s3._transport import header_text
from s3gc.testing.keys import ODD_KEYS

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60) | st.sampled_from(ODD_KEYS)
etags = st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF), max_size=40)
secrets = st.sampled_from(["one", "two"])
tokens = st.none() | st.sampled_from(["token", "another token"])
seconds = st.integers(0, 3)


class Server:
    """What a clock and the credentials' source say next."""

    second = 0
    credentials = Credentials("AKID", "secret")

    def now(self) -> datetime:
        return datetime(2026, 3, 4, 23, 59, 57, 250_000, UTC).replace(second=56 + self.second)


@given(
    reads=st.lists(st.tuples(keys, etags, seconds, secrets, tokens), min_size=1, max_size=6),
    every=st.dictionaries(st.sampled_from(["x-amz-request-payer", "user-agent", "x-amz-a"]), st.just("b  c")),
)
@example(reads=[("a/b", 'x"\r\nx: y', 0, "one", None)], every={})
@example(reads=[("a/b", "x", 0, "one", None), ("a/b", "x", 0, "two", "token")], every={})
def test_quick_requests_are_the_careful_ones(
    reads: list[tuple[str, str, int, str, str | None]], every: dict[str, str]
) -> None:
    server = Server()
    signer = Signer("eu-west-1")
    common = {"host": "h:9000", **every}
    quick = QuickReads("/bkt", signer, common, lambda: server.credentials, server.now)
    for key, etag, second, secret, token in reads:
        server.second, server.credentials = second, Credentials("AKID", secret, token)
        made = quick.request(key, f'"{etag}"')
        odd = any(not "!" <= char <= "~" or char == '"' for char in etag)
        assert (made is None) is (odd or not etag)
        if made is None:
            continue
        path = f"/bkt/{encode_key(key)}"
        wanted = signer.sign(
            "GET",
            path,
            "",
            {**common, "if-match": f'"{etag}"'},
            payload_sha256=EMPTY_SHA256,
            credentials=server.credentials,
            now=server.now(),
        )
        first, *lines, end, nothing = made.decode().split("\r\n")
        assert (end, nothing) == ("", "")
        assert first == f"GET {path} HTTP/1.1"
        assert sorted(lines) == sorted(f"{name}: {value}" for name, value in wanted.items())


names = st.text("abcXYZ-_0é: \t", min_size=1, max_size=8) | st.sampled_from(["ETag", "x-amz-meta-a", "date"])
values = st.binary(max_size=12) | st.sampled_from([b"a, b", b"\xc3\xa9", b" x ", b"1\r\n 2", b"\xff"])


@given(st.lists(st.tuples(names, values), max_size=6))
@example([("A", b"1"), ("a", b"2")])
@example([("a", b"1\n b: 2")])
@example([("a", b"1\r b: 2")])
def test_heads_are_read_as_http_client_reads_them(lines: list[tuple[str, bytes]]) -> None:
    head = b"HTTP/1.1 200 OK" + b"".join(b"\r\n" + n.encode() + b": " + v for n, v in lines)
    ours = read_head(head)
    if ours is None or b"\r\n\r\n" in head:
        return
    assert ours == (200, _by_http_client(head))


def _by_http_client(head: bytes) -> dict[str, str]:
    message: Any = http.client.parse_headers(io.BytesIO(head.partition(b"\r\n")[2] + b"\r\n\r\n"))
    found: dict[str, str] = {}
    for name, value in message.items():
        name, value = name.lower(), header_text(value)
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def test_what_is_plain_is_understood() -> None:
    head = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 5\r\nx-amz-meta-a: \xc3\xa9\r\nX-Amz-Meta-A:\xff'
    assert read_head(head) == (200, {"etag": '"e"', "content-length": "5", "x-amz-meta-a": "é, \udcff"})


def test_what_is_odd_is_not() -> None:
    good = b"HTTP/1.1 200 OK\r\na: b"
    assert read_head(good) is not None
    assert read_head(b"HTTP/1.1 404\r\na: b") == (404, {"a": "b"})
    for odd in (
        b"HTTP/1.0 200 OK\r\na: b",
        b"HTTP/1.1 20 OK\r\na: b",
        b"HTTP/1.1 2000\r\na: b",
        good + b"\r\n continued",
        good + b"\nc: d",
        good + b"\rc: d",
        good + b"\0",
        good + b"\r\nno colon",
        good + b"\r\nc : d",
        good + b"\r\n: d",
        "HTTP/1.1 ２00 OK\r\na: b".encode(),
    ):
        assert read_head(odd) is None, odd
