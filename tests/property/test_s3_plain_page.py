"""The quick way through a listing page says what the XML parser says, or steps aside."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.errors import StoreError
from s3gc.stores.s3 import _xml
from s3gc.stores.s3._plain_page import read_plain
from s3gc.stores.s3._xml import Page, parse_page

PLAIN = st.text("abcXYZ019/._-~", min_size=1, max_size=20)
ODD = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
KEYS = st.lists(st.one_of(PLAIN, ODD), max_size=8, unique=True)
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
EXTRAS = ["", "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"]
OWNERS = ["", "<Owner><ID>7</ID><DisplayName>me</DisplayName></Owner>"]


def document(
    keys: list[str], encoded: bool, quoted: str, extra: str, owner: str, storage: str, more: bool
) -> bytes:
    entries = "".join(
        f"<Contents><Key>{quote(key, safe='/') if encoded else escape(key)}</Key>"
        f"<LastModified>2026-01-0{1 + index % 9}T10:00:00.{index:03}Z</LastModified>"
        f"<ETag>{quoted}{index:032x}{quoted}</ETag>{extra}<Size>{index}</Size>{storage}{owner}</Contents>"
        for index, key in enumerate(keys)
    )
    end = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    return (
        f"{HEAD}<Name>b</Name><Prefix></Prefix>{'<EncodingType>url</EncodingType>' if encoded else ''}"
        f"{entries}{end if more else '<IsTruncated>false</IsTruncated>'}</ListBucketResult>"
    ).encode()


def slowly(page: bytes, after: str, prefix: str) -> Page:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_xml, "read_plain", lambda _: None)
        return parse_page(page, after, prefix=prefix)


@given(
    KEYS,
    st.booleans(),
    st.booleans(),
    st.sampled_from(["&quot;", '"']),
    st.sampled_from(EXTRAS),
    st.sampled_from(OWNERS),
    st.sampled_from(["", "<StorageClass>STANDARD</StorageClass>"]),
    st.booleans(),
    st.sampled_from(["", "a"]),
)
def test_both_ways_agree(
    keys: list[str],
    ordered: bool,
    encoded: bool,
    quoted: str,
    extra: str,
    owner: str,
    storage: str,
    more: bool,
    prefix: str,
) -> None:
    page = document(sorted(keys) if ordered else keys, encoded, quoted, extra, owner, storage, more)
    outcomes: list[Page | str] = []
    for way in (lambda: parse_page(page, "", prefix=prefix), lambda: slowly(page, "", prefix)):
        try:
            outcomes.append(way())
        except StoreError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@given(st.lists(PLAIN, min_size=1, max_size=8, unique=True), st.data())
def test_a_changed_byte_never_drops_an_entry(keys: list[str], data: st.DataObject) -> None:
    """Whatever a byte becomes, both ways agree, or the page is refused."""
    whole = bytearray(document(sorted(keys), True, "&quot;", "", "", "", False))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] = data.draw(st.integers(0, 255))
    page = bytes(whole)
    plain = read_plain(page)
    if plain is None:
        return
    try:
        quick = parse_page(page, "")
    except StoreError:
        return
    assert quick == slowly(page, "", "")


def test_usual_pages_go_the_quick_way() -> None:
    page = document(
        ["a", "b/c.jpg"], True, "&quot;", EXTRAS[1], "", "<StorageClass>STANDARD</StorageClass>", False
    )
    assert read_plain(page) is not None
    assert [found.key for found in parse_page(page, "").objects] == ["a", "b/c.jpg"]
    assert parse_page(page, "").objects[0].last_modified == datetime(2026, 1, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("key", ["a%20b", "a+b", "a&amp;b", "a&lt;b", "a\nb", "a\rb"])
def test_odd_keys_go_the_slow_way(key: str) -> None:
    page = document(["x"], True, "&quot;", "", "", "", False).replace(b">x<", f">{key}<".encode())
    assert read_plain(page) is None
