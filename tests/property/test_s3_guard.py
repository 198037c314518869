"""Invariant of the guard: obstore shows a key that passes the rule unchanged, and no other reaches it."""

from __future__ import annotations

import obstore
from hypothesis import example, given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from s3gc.stores.obstore._rules import fits_a_folder, round_trips
from s3gc.testing.keys import ODD_KEYS

pieces = st.sampled_from(["/", ".", "..", "a", "%2F", "\x00", "\x7f", "\n", "#1", " ", "é", "\ufffe", "\\"])
keys = st.text(max_size=30) | st.lists(pieces, max_size=6).map("".join) | st.sampled_from(ODD_KEYS)


@given(key=keys)
@example("dir/")
@example("/lead")
@example("")
def test_the_rule_is_what_obstore_does(key: str) -> None:
    store = MemoryStore()
    try:
        obstore.put(store, key, b"x")
        exact = [meta["path"] for page in obstore.list(store) for meta in page] == [key]
    except (ValueError, UnicodeEncodeError):
        exact = False
    if round_trips(key):
        assert exact
    elif exact:
        assert key == ""  # obstore's root; not a key of S3
    if fits_a_folder(key):
        assert round_trips(key)
