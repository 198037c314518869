"""Bytes that look like files. The same seed makes the same bytes."""

from __future__ import annotations

import random
from pathlib import PurePosixPath

_NOISE = {  # kinds of files that are compressed already, by their first bytes
    ".jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    ".png": b"\x89PNG\r\n\x1a\n",
    ".webp": b"RIFF\x00\x00\x00\x00WEBP",
    ".gz": b"\x1f\x8b\x08\x00",
}
_WORDS = ("order", "invoice", "customer", "total", "shipped", "paid", "open", "north", "south", "blue")


def content(rng: random.Random, key: str) -> bytes:
    """A file's bytes: noise for pictures and the like, else text. Broken uploads may be empty."""
    kind = PurePosixPath(key).suffix
    if kind == ".part":
        return rng.randbytes(rng.choice((0, 1, 700)))
    if kind in _NOISE:
        return _NOISE[kind] + rng.randbytes(rng.randrange(400, 6_000))
    lines = (
        f"{rng.choice(_WORDS)} {rng.choice(_WORDS)} {rng.randrange(10_000)}"
        for _ in range(rng.randrange(100, 400))
    )
    return (b"%PDF-1.7\n" if kind == ".pdf" else b"") + "\n".join(lines).encode()
