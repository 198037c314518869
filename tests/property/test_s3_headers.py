"""Invariant: attributes that can be written are read back as they were, whatever they hold."""

from __future__ import annotations

from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st

from s3gc.errors import StoreError
from s3gc.model import ObjectAttributes
from s3gc.stores.s3._headers import read_attributes, write_attributes
from s3gc.stores.s3._transport import header_text

values = st.text(max_size=40)
names = st.text(min_size=1, max_size=10)
attributes = st.builds(
    ObjectAttributes,
    content_type=st.none() | values,
    content_disposition=st.none() | values,
    expires=st.none() | values,
    storage_class=st.none() | values,
    metadata=st.dictionaries(names, values, max_size=3),
    tags=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
        max_size=3,
    ),
)


@given(given_=attributes)
def test_headers_round_trip_or_are_refused(given_: ObjectAttributes) -> None:
    try:
        headers = write_attributes(given_)
    except StoreError:
        return
    tags = dict(parse_qsl(headers.pop("x-amz-tagging", ""), keep_blank_values=True, strict_parsing=False))
    # over the wire: UTF-8 bytes, which http.client reads as Latin-1
    wire = {name: header_text(value.encode().decode("latin-1")) for name, value in headers.items()}
    back = read_attributes(wire, "k", tags)
    lower = {name.lower(): value for name, value in given_.metadata.items()}
    assert back.metadata == lower
    assert back.tags == given_.tags
    for field in ("content_type", "content_disposition", "expires", "storage_class"):
        assert getattr(back, field) == getattr(given_, field)
    for value in headers.values():
        assert "\r" not in value
        assert "\n" not in value
