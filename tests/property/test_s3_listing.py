"""Invariants of a listing page: keys come back exactly, order is enforced, garbage is an error."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_s3 import listing
from s3gc.errors import StoreError
from s3gc.stores.s3._xml import parse_page
from s3gc.testing.keys import ODD_KEYS

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40) | st.sampled_from(ODD_KEYS)


@given(keys=st.sets(text, max_size=20))
def test_every_key_comes_back(keys: set[str]) -> None:
    ordered = sorted(keys)
    assert ordered == sorted(keys, key=str.encode)  # code points and UTF-8 bytes sort alike
    for page in (
        listing(ordered),
        listing(ordered, quote=lambda key: quote_plus(key, safe="/")),
        listing(ordered, quote=lambda key: quote(key, safe="/").replace("%27", "&amp;apos;")),
    ):
        found = parse_page(page, "").objects
        assert [info.key for info in found] == ordered
        assert not any(info.ambiguous for info in found)
    plain = parse_page(listing(ordered, quote=lambda key: quote(key, safe="/+")), "", plus_is_space=False)
    assert [info.key for info in plain.objects] == ordered


@given(keys=st.lists(text, min_size=2, max_size=10))
def test_any_other_order_is_an_error(keys: list[str]) -> None:
    if keys == sorted(set(keys)):
        assert len(parse_page(listing(keys), "").objects) == len(keys)
    else:
        with pytest.raises(StoreError):
            parse_page(listing(keys), "")


@given(keys=st.sets(text, min_size=1, max_size=5), after=text)
def test_a_page_begins_after_the_one_before(keys: set[str], after: str) -> None:
    ordered = sorted(keys)
    if ordered[0] > after:
        parse_page(listing(ordered), after)
    else:
        with pytest.raises(StoreError):
            parse_page(listing(ordered), after)


@given(cut=st.integers(min_value=0))
def test_a_page_cut_anywhere_is_an_error(cut: int) -> None:
    page = listing(["a", "b&<é"])
    with pytest.raises(StoreError):
        parse_page(page[: cut % len(page)], "")


@given(garbage=st.binary(max_size=200))
def test_garbage_is_an_error(garbage: bytes) -> None:
    with pytest.raises(StoreError):
        parse_page(garbage, "")
