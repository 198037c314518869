"""How a key stands in the registry."""

from __future__ import annotations

from hashlib import blake2b


def key_hash(key: str) -> int:
    """64 bits of BLAKE2b, signed for SQLite. Two keys with one hash protect each other: safe."""
    return int.from_bytes(
        blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True
    )
