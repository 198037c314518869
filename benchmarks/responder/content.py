"""The objects that a fill makes: a pure function of a number, so that both sides know what must be there."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

_BLOCK_BYTES = 1 << 20
_VARIANTS = 256  # different beginnings, so that neighbours in a pack have little in common
_STEP = 1009  # bytes between the beginnings of two variants in the block
_DATES_FROM = datetime(2024, 3, 1)
_DATES_EVERY_S = 150  # 100,000 objects are half a year
_TAIL_BYTES = 16  # makes each body, and so each ETag, unique


def key(index: int) -> str:
    """The key of object ``index``: spread evenly over 65,536 folders, 53 bytes long."""
    digest = _digest(index).hex()
    return f"uploads/{digest[:2]}/{digest[2:4]}/{digest}.bin"


def _counter(index: int) -> str:
    return f"obj/{index:010d}.bin"


def _date(index: int) -> str:
    when = _DATES_FROM + timedelta(seconds=_DATES_EVERY_S * index)
    return f"logs/{when:%Y/%m/%d}/{when:%H%M%S}-{_digest(index).hex()[:8]}.gz"


SHAPES: Mapping[str, Callable[[int], str]] = {"spread": key, "counter": _counter, "date": _date}
"""Keys as applications make them: random, numbered, by the day."""


def _digest(index: int) -> bytes:
    return hashlib.blake2b(index.to_bytes(8, "big"), digest_size=_TAIL_BYTES).digest()


class Filler:
    """Bodies of one size: incompressible, each different, with their MD5 at the cost of 16 bytes' hashing."""

    def __init__(self, size: int) -> None:
        """Prepare bodies of ``size`` bytes.

        Raises:
            ValueError: a negative size.
        """
        if size < 0:
            raise ValueError(f"an object's size can't be negative, got {size}")
        self.size = size
        self._tail_bytes = min(size, _TAIL_BYTES)
        self._block = random.Random(20_261_123).randbytes(_BLOCK_BYTES)
        self._heads: dict[int, tuple[bytes, _Hash]] = {}

    def body(self, index: int) -> bytes:
        """The bytes of object ``index``."""
        return self._head(index)[0] + _digest(index)[: self._tail_bytes]

    def etag(self, index: int) -> str:
        """The MD5 of :meth:`body`, hex: what S3 gives as ETag to an object put in one part."""
        md5 = self._head(index)[1].copy()
        md5.update(_digest(index)[: self._tail_bytes])
        return md5.hexdigest()

    def _head(self, index: int) -> tuple[bytes, _Hash]:
        # Large bodies share one beginning: 256 of them would fill the memory.
        variant = index % _VARIANTS if self.size <= _BLOCK_BYTES else 0
        found = self._heads.get(variant)
        if found is None:
            length = self.size - self._tail_bytes
            start = variant * _STEP
            head = (self._block[start:] + self._block * (length // _BLOCK_BYTES + 1))[:length]
            found = self._heads[variant] = (head, hashlib.md5(head))
        return found
