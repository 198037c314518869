"""Readings of the resolver, one by one, and the amount of work it does."""

from __future__ import annotations

import enum
import html
import json
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from s3gc.errors import ConfigError
from s3gc.resolver import Resolver
from s3gc.resolver._urls import TokenReader


class Kind(enum.Enum):
    PHOTO = "a.jpg"


RESOLVER = Resolver(
    "my-bucket",
    endpoint_hosts=["localhost:9000", "s3.example.org"],
    base_urls=["https://cdn.example.com/media", "/files/"],
)


@pytest.mark.parametrize("value", ["a.jpg", "a/b/c.jpg", "0", "dir/", "2024/01/x-y_z.tar.gz", "a/b.c/d.e"])
def test_a_plain_key_means_itself_alone(value: str) -> None:
    assert RESOLVER.keys(value) == {value}


@pytest.mark.parametrize("value", [None, True, False, "", b"", [], {}, [None]])
def test_nothing_means_nothing(value: object) -> None:
    assert RESOLVER.keys(value) == frozenset()


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("/a.jpg", {"a.jpg", "/a.jpg"}),
        ("//a.jpg", {"a.jpg", "/a.jpg", "//a.jpg"}),
        ("./a.jpg", {"a.jpg", "./a.jpg"}),
        ("../x/../a.jpg", {"a.jpg"}),
        ("/media//a.jpg", {"media/a.jpg", "media//a.jpg", "/a.jpg"}),
        ("my-bucket/a.jpg", {"a.jpg", "my-bucket/a.jpg"}),
        ("remote:my-bucket/a.jpg", {"a.jpg"}),
        ("/my-bucket/a.jpg", {"a.jpg", "my-bucket/a.jpg"}),
        ("files/a.jpg", {"a.jpg", "files/a.jpg"}),
        ("cdn.example.com/media/a.jpg", {"a.jpg", "media/a.jpg"}),
        ("localhost/a.jpg", {"a.jpg"}),
        ("10.0.0.1:8000/a.jpg", {"a.jpg"}),
        ("HTTPS://CDN.Example.COM/media/A.jpg", {"A.jpg"}),
        ("https://user:pw@cdn.example.com:8443/media/a.jpg", {"a.jpg"}),
        ("https://my-bucket.s3.amazonaws.com./a.jpg", {"a.jpg"}),
        ("https://bucket.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com/my-bucket/a.jpg", {"a.jpg"}),
        ("https://point-123.s3-accesspoint.us-east-1.amazonaws.com/a.jpg", {"a.jpg"}),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/point/object/a.jpg", {"a.jpg"}),
        ("s3://arn:aws:s3:us-east-1:123456789012:accesspoint/point/a.jpg", {"a.jpg"}),
        ("arn:aws-cn:s3:::my-bucket/a.jpg", {"a.jpg"}),
        ("http://s3.example.org/tenant:my-bucket/a.jpg", {"a.jpg"}),
        ("http://localhost:8000/other/a.jpg", {"other/a.jpg"}),  # another port: the application, not S3
        ("file:///srv/a.jpg", {"srv/a.jpg"}),
        ("C:\\media\\a.jpg", {"media/a.jpg"}),
        ("media\\a.jpg", {"media/a.jpg", "media\\a.jpg"}),
        ("https://proxy.example/s:300/plain/s3://my-bucket/a.jpg", {"a.jpg"}),
        ("https://web.archive.example/2024/https://cdn.example.com/media/a.jpg", {"a.jpg"}),
        ("%2Fa%20b.jpg", {"a b.jpg"}),
        ("caf%E9.jpg", {"café.jpg"}),
        ("https://x.example/get.php?file=sub/a.jpg&x=1", {"sub/a.jpg"}),
        ("a.jpg|b.jpg", {"a.jpg", "b.jpg"}),
        ('{a.jpg,NULL,{"b c.jpg"}}', {"a.jpg", "b c.jpg"}),
        ('(1,"a ""b"".jpg",)', {'a "b".jpg'}),
        ('"k"=>"a b.jpg", "l"=>NULL', {"a b.jpg"}),
        ('{"a": "x.jpg", "a": "y.jpg"}', {"x.jpg", "y.jpg"}),  # equal names: none hides the other
        ('{"n": 12345678901234567890123}', {"12345678901234567890123"}),
        ('{"u": "a b.jpg"}\n{"u": "c d.jpg"}', {"a b.jpg", "c d.jpg"}),
        ('a:1:{s:3:"img";s:9:"a b/c.jpg";}', {"a b/c.jpg"}),
        ("['a b.jpg', 'c.jpg']", {"a b.jpg", "c.jpg"}),
        (html.escape('{"url": "/a b.jpg"}'), {"a b.jpg"}),
        ("<img srcset='/a.jpg 1x, /b.jpg 2x'>", {"a.jpg", "b.jpg"}),
        ("<img src=deadbeef>", {"deadbeef"}),
        ('<img src="deadbeef"> words', {"deadbeef"}),
        ("<p style=\"background:url('/a.jpg')\">", {"a.jpg"}),
        ("<p>see /a.jpg.</p>", {"a.jpg"}),
        ("![x](a_(1).jpg)", {"a_(1).jpg"}),
        ("[x](<a b.jpg>)", {"a b.jpg"}),
        (r"\x612e6a7067", {"a.jpg"}),
        (b"caf\xe9.jpg", {"café.jpg"}),
        ("ab".encode("utf-16"), {"ab"}),
        (bytearray(b"a.jpg"), {"a.jpg"}),
        (b"\xde\xad\xbe\xef", {"deadbeef"}),
        (5, {"5"}),
        (5.0, {"5", "5.0"}),
        (PurePosixPath("a/b.jpg"), {"a/b.jpg"}),
        (PureWindowsPath("a\\b.jpg"), {"a/b.jpg"}),
        (Kind.PHOTO, {"a.jpg"}),
    ],
)
def test_reading(value: object, keys: set[str]) -> None:
    assert keys <= RESOLVER.keys(value)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("11.jpg", "1.jpg"),
        ("b/a/1.jpg", "a/1.jpg"),
        ("/b/a/1.jpg", "a/1.jpg"),
        ("https://x.example/b/a/1.jpg", "a/1.jpg"),
        ("s3://my-bucket/b/a/1.jpg", "a/1.jpg"),
        ("https://my-bucket.s3.amazonaws.com/media/a.jpg", "a.jpg"),
        ("mediafiles/a.jpg", "a.jpg"),
        ("a.jpg.bak", "a.jpg"),
        ("s3://my-bucket2/a.jpg", "a.jpg"),
        ("https://my-bucket.evil.s3.amazonaws.com/a.jpg", "a.jpg"),
        ("http://localhost:9000/other/a.jpg?x=/b/c.jpg", "b/c.jpg"),
        ("<p>hello big world</p>", "hello"),
    ],
)
def test_no_reading(value: str, key: str) -> None:
    assert key not in RESOLVER.keys(value)


def test_a_gateway_below_a_path_never_speaks_of_another_bucket() -> None:
    resolver = Resolver("my-bucket", endpoint_hosts=["https://x.example.co/storage/v1/s3"])
    assert "a.jpg" in resolver.keys("https://x.example.co/storage/v1/object/public/my-bucket/a.jpg")
    assert "other/a.jpg" in resolver.keys("https://x.example.co/other/a.jpg")


def test_values_that_fail_are_read_as_far_as_they_go() -> None:
    class Broken(list[str]):
        def __iter__(self) -> Iterator[str]:
            raise RuntimeError("no")

        def __str__(self) -> str:
            return "a.jpg"

    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert RESOLVER.keys([Broken(), Mute(), "b.jpg"]) == {"a.jpg", "b.jpg"}


def test_containers_may_be_deep_and_cyclic() -> None:
    value: list[object] = ["a.jpg"]
    for _ in range(5 * sys.getrecursionlimit()):
        value = [value]
    loop: list[object] = ["b.jpg", value]
    loop.append(loop)
    assert RESOLVER.keys(loop) == {"a.jpg", "b.jpg"}


def test_json_deeper_than_the_parser_goes_is_read_by_its_quotes() -> None:
    assert "a b.jpg" in RESOLVER.keys("[" * 100_000 + '"a b.jpg"' + "]" * 100_000)


def test_explain_names_the_rule() -> None:
    rules = {r.key: r.rule for r in RESOLVER.explain("https://cdn.example.com/media/a%20b.jpg?v=1")}
    assert rules["a b.jpg"] == "path of a URL, without query, percent-decoded, below a base URL"
    assert {r.key: r.rule for r in RESOLVER.explain("a.jpg")} == {"a.jpg": "raw"}


@pytest.mark.parametrize("bucket", ["", "/", "a/b", "s3://bucket", None])
def test_a_malformed_bucket_is_refused(bucket: str) -> None:
    with pytest.raises(ConfigError, match="bare name"):
        Resolver(bucket)


def test_malformed_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="list of strings"):
        Resolver("b-b", endpoint_hosts="localhost:9000")
    with pytest.raises(ConfigError, match="host name"):
        Resolver("b-b", endpoint_hosts=["a host"])
    with pytest.raises(ConfigError, match="base URL"):
        Resolver("b-b", base_urls=[" "])


# Each makes some pattern or loop quadratic if it is written carelessly.
HOSTILE = {
    "quotes": '"' * 8,
    "escaped quotes": '{\\"',
    "apostrophes": "'\\",
    "doubled": '""a',
    "open brackets": "[](",
    "balanced": "](a(b))",
    "tags": "<a ",
    "angle": "<a<b ",
    "entities": "&amp",
    "amp": "&amp;amp;",
    "percent": "%25",
    "plus": "+%2B",
    "queries": "?a=b/c&d#",
    "urls": "https://x/?u=",
    "bucket": "/my-bucket",
    "hosts": "a.b.",
    "s3": ".s3-us-east-1",
    "slashes": "/../",
    "backslashes": "\\\\",
    "hex": "\\u00",
    "marks": "e\u0323\u0301",
    "words": "word x1 ",
    "array": '{a,"b',
    "json": '["a",',
    "arn": "arn:aws:s3:::",
    "digits": "1",
    "spaces": " \t",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_work_grows_linearly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in characters read as tokens; a quadratic pattern would outlast the time limit."""
    work = 0
    read = TokenReader.read

    def counting(self: TokenReader, token: str, *args: object, **more: object) -> None:
        nonlocal work
        work += len(token) + 1
        read(self, token, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(TokenReader, "read", counting)

    def cost(size: int) -> int:
        nonlocal work
        work = 0
        RESOLVER.keys(HOSTILE[name] * (size // len(HOSTILE[name])))
        return work

    small, large = cost(20_000), cost(400_000)
    assert large <= 25 * small + 20_000
    assert large <= 200 * 400_000


def test_megabytes_are_read_to_the_end() -> None:
    body = json.dumps([{"html": f'<img src="/img/{i} x.jpg">'} for i in range(40_000)])
    assert len(body) > 1_000_000
    found = RESOLVER.keys(body)
    assert "img/0 x.jpg" in found
    assert "img/39999 x.jpg" in found
