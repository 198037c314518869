"""Whose bucket this is: each vault that deletes here leaves a mark in the bucket, with the prefixes it owns.

Pins in the journal notice another database. They can't notice another *vault*: a staging configuration that
points at the production bucket brings an empty journal of its own. The mark in the bucket does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from contextlib import aclosing

from attrs import frozen

from s3gc.abc import RESERVED_PREFIX
from s3gc.errors import PreconditionFailed, StoreError
from s3gc.gates import prefix_start
from s3gc.model import Mode, ObjectAttributes, ObjectInfo
from s3gc.parts import Parts

FOLDER = f"{RESERVED_PREFIX}owner/"
MOST_BYTES = 1024 * 1024
"""A mark is small; anything larger isn't one."""


@frozen
class Mark:
    """One vault's claim on the bucket, or on a part of it."""

    info: ObjectInfo
    vault: str
    prefixes: Sequence[str]  # as keys begin; empty: the whole bucket

    def overlaps(self, prefixes: Sequence[str]) -> bool:
        """Whether a key could belong to both."""
        if not self.prefixes or not prefixes:
            return True
        return any(a.startswith(b) or b.startswith(a) for a in self.prefixes for b in prefixes)


def own_prefixes(parts: Parts) -> list[str]:
    """How the keys begin that this configuration owns; empty: all."""
    return sorted(prefix_start(prefix) for prefix in parts.config.owned_prefixes)


async def problem(parts: Parts) -> str | None:
    """What another vault's mark says against this one, or None.

    Raises:
        StoreError: the marks can't be read.
    """
    for mark in await _marks(parts):
        if _foreign(parts, mark):
            part = f"its part {', '.join(mark.prefixes)}" if mark.prefixes else "it"
            return f"{parts.store.url} belongs to another vault ({mark.vault}), which has collected {part}"
    return None


async def bind(parts: Parts) -> None:
    """Leave this vault's mark, in place of older ones of its own and of those that a person has acknowledged.

    Only where we delete.
    """
    if parts.config.mode is not Mode.EXECUTE:
        return
    prefixes = own_prefixes(parts)
    name = FOLDER + hashlib.sha256("\n".join([parts.vault.id, *prefixes]).encode()).hexdigest()[:32]
    marks = await _marks(parts)
    for mark in marks:
        if _foreign(parts, mark) or (mark.vault == parts.vault.id and mark.info.key != name):
            await parts.store.delete(mark.info.key, if_match=mark.info.etag)
    if any(mark.info.key == name for mark in marks):
        return
    body = json.dumps({"vault": parts.vault.id, "prefixes": prefixes}).encode()
    # A cycle whose answer was lost may have left it already.
    with contextlib.suppress(PreconditionFailed):
        await parts.store.put(
            name,
            body,
            size=len(body),
            attributes=ObjectAttributes(),
            if_none_match=True,
        )


def _foreign(parts: Parts, mark: Mark) -> bool:
    return mark.vault != parts.vault.id and mark.overlaps(own_prefixes(parts))


async def _marks(parts: Parts) -> list[Mark]:
    """Every vault's mark. There are as many as configurations that delete here: a handful."""
    found = []
    async with aclosing(parts.store.list(prefix=FOLDER)) as pages:  # type: ignore[type-var]
        async for page in pages:
            for info in page:
                mark = await _read(parts, info)
                if mark is not None:
                    found.append(mark)
    return found


async def _read(parts: Parts, info: ObjectInfo) -> Mark | None:
    """A mark; None when it went meanwhile. One that can't be read owns everything: nobody knows what."""
    if info.size > MOST_BYTES:
        return Mark(info, f"unknown: {info.key} is no mark of s3gc", ())
    try:
        async with parts.store.get(info.key, if_match=info.etag) as reader:
            body = b"".join([chunk async for chunk in reader.chunks()])
    except PreconditionFailed:
        if await parts.store.stat(info.key) is None:
            return None
        raise StoreError(f"{info.key} was written again while it was read: try again") from None
    try:
        told = json.loads(body)
        vault, prefixes = told["vault"], told["prefixes"]
        if not isinstance(vault, str) or not isinstance(prefixes, list):
            raise TypeError
        if not all(isinstance(prefix, str) for prefix in prefixes):
            raise TypeError
        return Mark(info, vault, prefixes)
    except (ValueError, TypeError, KeyError, RecursionError):
        return Mark(info, f"unknown: {info.key} can't be read", ())
