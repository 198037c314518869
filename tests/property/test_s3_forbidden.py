"""Characters that XML forbids stand in keys and tags, and are read to the letter."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3gc.errors import StoreError
from s3gc.stores.s3._plain_page import read_plain
from s3gc.stores.s3._xml import parse, parse_page, parse_tags, tagging_document

TEXTS = st.text(
    st.one_of(st.characters(max_codepoint=0x9F), st.characters(exclude_categories=["Cs"])), max_size=20
)
PAGE = (
    "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>{entries}"
    "<NextContinuationToken>{token}</NextContinuationToken><StartAfter>{token}</StartAfter></ListBucketResult>"
)
ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;0&quot;</ETag>"
    "<Size>1</Size><StorageClass>STANDARD</StorageClass><Type>Normal</Type></Contents>"
)


def as_ceph(text: str) -> str:
    """How RGW writes a text: control characters but tab and line feed as references, others as they are."""
    return "".join(
        f"&#x{ord(char):02x};" if (char < " " and char not in "\t\n") or char == "\x7f" else escape(char)
        for char in text
    )


@given(TEXTS)
@example("a\x01b")
@example("\x01\U000f0001\U000f0101\U0010ff01")
@example("\x00\ufffe\uffff\r\n\t\x7f\x80\x9f\U0010ffff")
def test_the_token_of_a_page_is_read_to_the_letter(token: str) -> None:
    document = PAGE.format(token=as_ceph(token), entries="").encode()
    if not token:
        with pytest.raises(StoreError, match="not how to get it"):
            parse_page(document, "")
    else:
        assert parse_page(document, "").token == token


@given(st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_tags_are_read_to_the_letter(tags: dict[str, str]) -> None:
    entries = "".join(
        f"<Tag><Key>{as_ceph(name)}</Key><Value>{as_ceph(value)}</Value></Tag>"
        for name, value in tags.items()
    )
    assert parse_tags(f"<Tagging><TagSet>{entries}</TagSet></Tagging>".encode()) == tags


LEGAL = st.text(
    st.one_of(
        st.sampled_from("\t\n\r&<>\"'"),
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
    )
)


@given(st.dictionaries(LEGAL, LEGAL, max_size=3))
def test_tags_are_written_to_the_letter(tags: dict[str, str]) -> None:
    assert parse_tags(tagging_document(tags)) == tags


PRIVATE = range(0xF0000, 0x110000, 0x80)
"""Code points that leave no stretch of 256 private characters free."""


@pytest.mark.parametrize("form", ["{}", "&#x{:x};", "&#{};"])
def test_what_cannot_be_told_apart_is_an_error(form: str) -> None:
    chars = [chr(code) if form == "{}" else form.format(code) for code in PRIVATE]
    with pytest.raises(ValueError, match="private"):
        parse(f"<a>\x01{''.join(chars)}</a>".encode())
    some = parse(f"<a>\x01{''.join(chars[100:])}</a>".encode()).text
    assert some is not None
    assert some == "\x01" + "".join(map(chr, PRIVATE[100:]))


@pytest.mark.parametrize("text", ["\x01&#xd800;", "\x01&#x110000;", "\x01&#99999999;"])
def test_references_to_no_character_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"half a character|chr"):
        parse(f"<a>{text}</a>".encode())


@pytest.mark.parametrize("document", [b"", b"<a>", b"<a>\x01</b>", b"<a>&nbsp;\x01</a>"])
def test_other_faults_stay_faults(document: bytes) -> None:
    with pytest.raises(ElementTree.ParseError):
        parse(document)


def test_what_is_not_utf8_is_an_error() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        parse(b"<a>\x01\xff</a>")


@pytest.mark.parametrize(
    ("twice", "key"),
    [("&amp;#x01;", "\x01"), ("&amp;#128;", "\x80"), ("&amp;#x80;", "\x80"), ("&amp;apos;", "'")],
)
def test_what_is_escaped_twice_in_a_key_is_no_html(twice: str, key: str) -> None:
    page = PAGE.format(token="t", entries=ENTRY.format(key=twice)).encode()
    assert [info.key for info in parse_page(page, "").objects] == [key]


def test_the_quick_way_takes_cephs_pages() -> None:
    page = PAGE.format(token="a&#x01;", entries=ENTRY.format(key="a/b.txt")).encode()
    assert read_plain(page) is not None
    assert [info.key for info in parse_page(page, "").objects] == ["a/b.txt"]
