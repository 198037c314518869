"""A second look by listing says what single looks say, whatever lies between the keys."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc import looking
from s3gc.clock import SystemClock
from s3gc.looking import look_again
from s3gc.testing.fakes import FakeStore

KEYS = st.text("ab/\u00e9\x01", min_size=1, max_size=4)


@given(
    st.sets(KEYS, max_size=40),
    st.sets(KEYS, min_size=1, max_size=30),
    st.integers(1, 7),
    st.integers(1, 6),
    st.integers(1, 30),
)
def test_both_ways_agree(
    there: set[str], asked: set[str], page_size: int, worth: int, of_a_lister: int
) -> None:
    store = FakeStore(SystemClock())
    store.page_size = page_size
    for key in there:
        store.upload(key, key.encode())
    keys = sorted(asked)

    async def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(looking, "WORTH_A_PAGE", worth)
            patch.setattr(looking, "KEYS_OF_A_LISTER", of_a_lister)
            found = await look_again(store, keys)
        assert found == {key: await store.stat(key) for key in keys}

    anyio.run(run)
