"""The resolver finds every key however it is written, and no key that isn't written."""

from __future__ import annotations

import html
import json
import unicodedata
import uuid
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3gc.resolver import Resolver

BUCKET = "my-bucket"
RESOLVER = Resolver(
    BUCKET,
    endpoint_hosts=["localhost:9000", "https://s3.example.org"],
    base_urls=["https://cdn.example.com/media/", "/files/"],
)

ODD = "aZ09._-~/ +%?#&=<>\"'\\()[]{},;:|@!$^`*éüß漢字🎉İ\u0301\u00a0\n\t"
odd_keys = st.text(st.sampled_from(ODD), min_size=1, max_size=24)
any_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=24)
plain_keys = st.from_regex(r"[a-z0-9]{1,6}(/[a-z0-9_-]{1,6}){0,3}(\.[a-z]{1,4})?", fullmatch=True)
keys = st.one_of(odd_keys, any_keys, plain_keys)


def _array(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'{{NULL,"{escaped}",x}}'


ENCODERS: dict[str, Callable[[str], object]] = {
    "raw": lambda k: k,
    "leading slash": lambda k: "/" + k,
    "s3": lambda k: f"s3://{BUCKET}/{k}",
    "s3a": lambda k: f"s3a://{BUCKET}/{k}",
    "s3n with user": lambda k: f"s3n://user@{BUCKET}/{quote(k)}",
    "arn": lambda k: f"arn:aws:s3:::{BUCKET}/{k}",
    "virtual host": lambda k: f"https://{BUCKET}.s3.amazonaws.com/{quote(k)}",
    "virtual host, raw": lambda k: f"https://{BUCKET}.s3.amazonaws.com/{k}",
    "region": lambda k: f"http://{BUCKET}.s3.eu-west-1.amazonaws.com/{quote(k)}",
    "old region": lambda k: f"http://{BUCKET}.s3-us-west-2.amazonaws.com/{quote(k)}",
    "dual stack": lambda k: f"https://{BUCKET}.s3.dualstack.us-gov-west-1.amazonaws.com/{quote(k)}",
    "accelerate": lambda k: f"https://{BUCKET}.s3-accelerate.amazonaws.com/{quote(k, safe='')}",
    "website": lambda k: f"http://{BUCKET}.s3-website-us-east-1.amazonaws.com/{quote(k)}",
    "website with dot": lambda k: f"http://{BUCKET}.s3-website.eu-central-1.amazonaws.com/{quote(k)}",
    "China": lambda k: f"https://{BUCKET}.s3.cn-north-1.amazonaws.com.cn/{quote(k)}",
    "path style": lambda k: f"https://s3.eu-west-1.amazonaws.com/{BUCKET}/{quote(k)}",
    "presigned": lambda k: (
        f"https://s3.amazonaws.com/{BUCKET}/{quote(k)}?X-Amz-Date=2&X-Amz-Signature=ab%2Fc#f"
    ),
    "raw with query": lambda k: f"https://s3.amazonaws.com/{BUCKET}/{k}?v=1#f",
    "endpoint": lambda k: f"http://localhost:9000/{BUCKET}/{quote(k)}",
    "endpoint host": lambda k: f"https://{BUCKET}.s3.example.org/{quote(k)}",
    "custom endpoint": lambda k: f"https://minio.internal:9000/{BUCKET}/{quote(k)}",
    "gateway": lambda k: f"https://gate.example/storage/v1/object/public/{BUCKET}/{quote(k)}",
    "cdn": lambda k: f"https://cdn.example.com/media/{quote(k)}",
    "cdn, query": lambda k: f"https://cdn.example.com/media/{quote(k)}?w=100#top",
    "other cdn": lambda k: f"https://img.other.example/{quote(k)}",
    "scheme-relative": lambda k: f"//img.other.example/{quote(k)}",
    "no scheme": lambda k: f"img.other.example/{quote(k)}",
    "base path": lambda k: f"/files/{quote(k)}",
    "percent": lambda k: quote(k),
    "percent all": lambda k: quote(k, safe=""),
    "plus": lambda k: quote_plus(k),
    "twice": lambda k: quote(quote(k, safe=""), safe=""),
    "whole URL encoded": lambda k: quote(f"https://img.other.example/{quote(k)}", safe=""),
    "in a query": lambda k: "/_next/image?w=64&url=" + quote("/files/" + quote(k), safe=""),
    "json string": lambda k: json.dumps(k),
    "json": lambda k: json.dumps({"a": [1, {"b": k}]}),
    "json unicode": lambda k: json.dumps({"a": [k]}, ensure_ascii=False),
    "json slashes": lambda k: json.dumps({"url": "/" + k}).replace("/", "\\/"),
    "json name": lambda k: json.dumps({k: 1}),
    "json in json": lambda k: json.dumps({"a": json.dumps([json.dumps({"x": k})])}),
    "list": lambda k: ["x", k],
    "dict": lambda k: {"x": {k: None}},
    "set": lambda k: {k, 1},
    "tuple in dict": lambda k: {"x": (("y", k),)},
    "bytes": lambda k: k.encode(),
    "memoryview": lambda k: memoryview(k.encode()),
    "array literal": _array,
    "hstore": lambda k: '"x"=>' + _array(k)[6:-3],
    "attribute": lambda k: f'<p class="x">text <img alt="an image" src="{html.escape(k)}"></p>',
    "attribute, URL": lambda k: f"<a href='https://cdn.example.com/media/{html.escape(quote(k))}'>it's</a>",
    "css": lambda k: f"body {{ background: url({quote(k, safe='')}) }}",
    "markdown image": lambda k: f"text ![an image](/{quote(k)}) text",
    "markdown link": lambda k: f'see [this](https://cdn.example.com/media/{quote(k, safe="")} "title").',
    "bare URL": lambda k: f"It is at https://img.other.example/{quote(k, safe='')}, isn't it?",
    "padded": lambda k: k + "   ",
    "BOM and NUL": lambda k: "\ufeff" + k + "\0",
}


@given(keys)
@example("\0")
@example("dir/")
@example("/lead")
@example("a//b")
@example("a/./b")
@example("../x")
@example("a%2Fb")
@example("a+b c")
@example("a?b#c")
@example("a&amp;b")
@example("é\u0301.jpg")
@settings(max_examples=300, deadline=None)
def test_every_encoding_of_a_key_is_read(key: str) -> None:
    missing = [name for name, encode in ENCODERS.items() if key not in RESOLVER.keys(encode(key))]
    # Padding can't be told from a key's own white space at its end, unless the key has none.
    assert [name for name in missing if name != "padded" or key.strip() == key] == []


@given(
    st.lists(plain_keys | odd_keys, min_size=1, max_size=5),
    st.sampled_from([",", ", ", " ", "\n", ";", "; ", "|", "\r\n"]),
)
@settings(max_examples=300, deadline=None)
def test_every_part_of_a_list_is_read(parts: list[str], separator: str) -> None:
    # Left out: parts that a split or a trim can't give back, and what makes the whole JSON or markup.
    parts = [p for p in parts if not set(separator) & set(p) and p.strip() == p and not set('<[{"') & set(p)]
    found = RESOLVER.keys(separator.join(parts))
    assert set(parts) <= found


@given(keys)
@settings(max_examples=200, deadline=None)
def test_both_unicode_forms_are_read(key: str) -> None:
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, key)
        assert other in RESOLVER.keys(key)
        assert key == other or other in RESOLVER.keys(f"https://x.example/{quote(key)}")


@given(plain_keys, st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_part_of_a_name_is_no_reference(key: str, more: str, folder: bool) -> None:
    longer = [more + ("/" if folder else "") + key, key + more]
    for value in longer:
        for form in (
            value,
            "/" + value,
            f"s3://{BUCKET}/{value}",
            f"https://x.example/{value}",
            json.dumps([value]),
        ):
            assert key not in RESOLVER.keys(form), form


OTHERS: list[Callable[[str], str]] = [
    lambda k: f"s3://other/{k}",
    lambda k: f"s3a://my-bucket2/{k}",
    lambda k: f"arn:aws:s3:::other/{k}",
    lambda k: f"https://other.s3.amazonaws.com/{k}",
    lambda k: f"https://xmy-bucket.s3.eu-west-1.amazonaws.com/{k}?v=1",
    lambda k: f"//s3.amazonaws.com/other/{k}",
    lambda k: f"s3.amazonaws.com/other/{k}",
    lambda k: f"http://localhost:9000/other/{k}",
    lambda k: f"https://other.s3.example.org/{k}",
]


@given(odd_keys | plain_keys, st.sampled_from(OTHERS))
@settings(max_examples=300, deadline=None)
def test_another_buckets_url_protects_nothing(key: str, url: Callable[[str], str]) -> None:
    value = url(quote(key))
    assert key == value or key not in RESOLVER.keys(value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.text("{}[]()\"'\\%u0dD&#;:/?=+,<>a.s3", max_size=60)
    | st.binary()
    | st.uuids()
    | st.decimals()
    | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(VALUES)
@settings(max_examples=500, deadline=None)
def test_never_raises_and_explains_itself(value: object) -> None:
    found = RESOLVER.keys(value)
    assert found == {reading.key for reading in RESOLVER.explain(value)}
    assert all(0 < len(key) <= 1024 for key in found)
    assert not isinstance(value, str) or not value or len(value) > 1024 or value in found


@given(st.uuids())
def test_a_uuid_is_read_in_each_spelling(value: uuid.UUID) -> None:
    spelled = {str(value), value.hex, str(value).upper(), value.hex.upper()}
    assert spelled <= RESOLVER.keys(value)
    assert spelled <= RESOLVER.keys(value.bytes)


PLAIN_MORE = st.text(st.sampled_from("ab/.-_\n:9"), min_size=0, max_size=8)
BEGINNINGS = st.sampled_from(["", "my-bucket/", "media/", "files/", "localhost/", "/", ".", "x" * 1020])
LINES = st.lists(st.builds(str.__add__, BEGINNINGS, PLAIN_MORE) | plain_keys | odd_keys, max_size=4)


@given(LINES)
@example(["a", ""])
@example(["a\nb"])
@example(["img.example/c"])
@example(["a//b"])
@example(["a/./b"])
@example(["./a"])
@example(["my-bucket/c", "a"])
@example(["x" * 1025])
@settings(max_examples=1_000, deadline=None)
def test_texts_that_mean_themselves_alone_are_told_together(values: list[str]) -> None:
    if RESOLVER.only_keys(values):
        assert [RESOLVER.keys(value) for value in values] == [frozenset((value,)) for value in values]


@given(
    st.lists(plain_keys.filter(lambda key: "." not in key.partition("/")[0] or "/" not in key), min_size=1)
)
def test_plain_texts_are_known_together(values: list[str]) -> None:
    assert RESOLVER.only_keys(values)


def test_values_below_a_prefix_never_mean_themselves_alone() -> None:
    assert not Resolver(BUCKET, key_prefixes=["media/"]).only_keys(["a.jpg"])
