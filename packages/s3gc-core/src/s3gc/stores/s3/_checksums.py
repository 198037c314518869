"""What a body must come to: its MD5 where the ETag is one, and the checksums that the store keeps itself."""

from __future__ import annotations

import base64
import hashlib
import importlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

CHECKSUM_MODE = {"x-amz-checksum-mode": "ENABLED"}
"""Asks GET for the object's checksums (S3 API reference, GetObject). Servers that don't know it ignore it."""

_PREFIX = "x-amz-checksum-"


class _Sum(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A CRC that goes on from its last value, as zlib's does."""

    def __init__(self, step: Callable[[bytes, int], int], size: int) -> None:
        self._step = step
        self._size = size
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def _from_awscrt(name: str, size: int) -> _Sum | None:
    """CRC-32C and CRC-64/NVME are only in AWS's own library; without it they are left unchecked."""
    try:
        library: Any = importlib.import_module("awscrt.checksums")
    except ImportError:
        return None
    step = getattr(library, name, None)
    return None if step is None else _Crc(step, size)


_SUMS: Mapping[str, Callable[[], _Sum | None]] = {
    "sha256": hashlib.sha256,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "crc32": lambda: _Crc(zlib.crc32, 4),
    "crc32c": lambda: _from_awscrt("crc32c", 4),
    "crc64nvme": lambda: _from_awscrt("crc64nvme", 8),
}


class Checks:
    """Hashes a body while it is read, and says at its end what doesn't match."""

    def __init__(self, headers: Mapping[str, str], md5: str | None) -> None:
        self._sums: list[tuple[str, _Sum, bytes | str]] = []
        if md5 is not None:
            self._sums.append(("ETag", hashlib.md5(usedforsecurity=False), bytes.fromhex(md5)))
        # COMPOSITE: one of the parts' checksums, marked by -N (user guide, "Checking object integrity").
        if headers.get(f"{_PREFIX}type", "").upper() == "COMPOSITE":
            return
        for name, make in _SUMS.items():
            told = headers.get(_PREFIX + name, "")
            if told and "-" not in told and (sum_ := make()) is not None:
                self._sums.append((f"{_PREFIX}{name}", sum_, told))

    def __bool__(self) -> bool:
        return bool(self._sums)

    def update(self, data: bytes) -> None:
        for _, sum_, _ in self._sums:
            sum_.update(data)

    def failed(self) -> str | None:
        """The name of the first that the bytes don't come to, or None."""
        for name, sum_, told in self._sums:
            digest = sum_.digest()
            if told != (digest if isinstance(told, bytes) else base64.b64encode(digest).decode()):
                return name
        return None
