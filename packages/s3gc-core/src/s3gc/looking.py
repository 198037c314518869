"""A second look at many objects in few requests: by listing where they lie close, else one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import aclosing

from s3gc._pool import each
from s3gc.abc import ObjectStore
from s3gc.model import ObjectInfo

WORTH_A_PAGE = 20
"""Keys that a page of the listing (1,000 entries) must tell of, to be cheaper than as many single requests.

A page costs about as much as 10 to 20 HEADs in processor time, and far less than as many in requests.
"""

LISTERS = 4
"""Parts of the keys that are followed at once: one listing waits for the store between its pages."""

KEYS_OF_A_LISTER = 1_000
"""Fewer keys are not split: each part reads a page in vain at its end."""


async def look_again(store: ObjectStore, keys: Sequence[str]) -> dict[str, ObjectInfo | None]:
    """What the store holds now under each of ``keys`` (sorted, each once); None where there is nothing.

    Raises:
        StoreError: the store doesn't answer.
    """
    found: dict[str, ObjectInfo | None] = {}
    single: list[str] = []

    async def follow(some: Sequence[str]) -> None:
        done = await _by_listing(store, some, found) if len(some) >= WORTH_A_PAGE else 0
        single.extend(some[done:])

    async def look(key: str) -> None:
        found[key] = await store.stat(key)

    share = max(KEYS_OF_A_LISTER, -(-len(keys) // LISTERS))
    await each([keys[start : start + share] for start in range(0, len(keys), share)], follow)
    await each(single, look)
    return found


_PLAIN = re.compile(r"[A-Za-z0-9/._-]*")


def _before(key: str) -> str:
    """A text that sorts before the key: a strict prefix, of plain characters.

    Servers echo start-after in their answers, and not all escape it well (moto doesn't).
    """
    plain = _PLAIN.match(key[:-1])
    return plain[0] if plain else ""


async def _by_listing(store: ObjectStore, keys: Sequence[str], found: dict[str, ObjectInfo | None]) -> int:
    """Follow the listing as long as its pages are worth it. Returns how many keys it answered."""
    done = 0
    async with aclosing(store.list(start_after=_before(keys[0]))) as pages:  # type: ignore[type-var]
        async for page in pages:
            there = {info.key: info for info in page}
            before = done
            while done < len(keys) and keys[done] <= page[-1].key:
                found[keys[done]] = there.get(keys[done])
                done += 1
            if done == len(keys) or done - before < WORTH_A_PAGE:
                return done
    return done  # beyond the listing's end single looks answer
