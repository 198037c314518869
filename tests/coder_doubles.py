"""Codecs of whole objects for tests of the vault: in this process, quick, and able to do wrong."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Callable, Collection

from s3gc.abc import EncodedObject, ObjectCoder
from s3gc.errors import VaultCorrupt

NAME = "seed-1"
REQUIRES = {"libseed": "2.7"}
START = b"pic:"


def picture(seed: str, size: int = 5_000) -> bytes:
    """An object that only a :class:`SeedCoder` makes smaller."""
    block, out = seed.encode(), b""
    while len(out) < size:
        block = hashlib.sha256(block).digest()
        out += block
    return START + len(seed).to_bytes(1) + seed.encode() + out[:size]


class SeedCoder(ObjectCoder):
    """Stores pictures as their seeds.

    Args:
        mend: changes what ``encode`` gives.
        spoil: changes what ``decode`` gives.
    """

    def __init__(
        self,
        *,
        mend: Callable[[bytes], bytes] = lambda body: body,
        spoil: Callable[[bytes], bytes] = lambda data: data,
    ) -> None:
        self.mend, self.spoil = mend, spoil
        self.asked: list[str] = []
        self.closed = 0

    def takes(self, data: bytes) -> bool:
        return data.startswith(START)

    async def encode(self, data: bytes) -> EncodedObject | None:
        self.asked.append("encode")
        seed = data[5 : 5 + data[4]].decode("latin-1")
        size = len(data) - 5 - data[4]
        body = size.to_bytes(4) + seed.encode("latin-1") + b"." * 40
        return EncodedObject(NAME, self.mend(body), REQUIRES)

    async def decodes(self) -> Collection[str]:
        return {NAME}

    async def decode(self, codec: str, body: bytes, size: int) -> bytes:
        self.asked.append("decode")
        made = int.from_bytes(body[:4])
        if codec != NAME or made > size or not body.endswith(b"." * 40):
            raise VaultCorrupt(f"{codec}: this is no seed")
        return self.spoil(picture(body[4:].rstrip(b".").decode("latin-1"), made))

    async def aclose(self) -> None:
        self.closed += 1


class LzmaCoder(ObjectCoder):
    """Takes everything: for the contract of vaults."""

    def takes(self, data: bytes) -> bool:
        return True

    async def encode(self, data: bytes) -> EncodedObject | None:
        return EncodedObject("lzma-1", lzma.compress(data, lzma.FORMAT_ALONE), {})

    async def decodes(self) -> Collection[str]:
        return {"lzma-1"}

    async def decode(self, codec: str, body: bytes, size: int) -> bytes:
        try:
            return lzma.LZMADecompressor().decompress(body, size)
        except lzma.LZMAError as error:
            raise VaultCorrupt(f"lzma-1: {error}") from error
