"""The one way out of every codec here: decoded and compared, or refused."""

from __future__ import annotations

import abc

from s3gc.abc import ObjectCodec
from s3gc.errors import VaultCorrupt
from s3gc_codecs._limits import MAX_OBJECT_BYTES


def refused(error: BaseException) -> str:
    """What went wrong, for people, if it came out of the data; anything else is raised again.

    Native decoders raise all sorts: a panic of a Rust library is no ``Exception``, and means no more than
    that the data is not what it seems to be.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error
    return f"{type(error).__name__}: {str(error)[:200]}"


class ExactCodec(ObjectCodec):
    """A codec whose ``encode`` decodes what it made, and gives it out only when the very bytes come back."""

    @abc.abstractmethod
    def make(self, data: bytes) -> bytes | None:
        """A body, unproven; may raise anything. Fast callers that compare themselves may use it."""

    @abc.abstractmethod
    def restore(self, body: bytes, size: int) -> bytes:
        """What ``body`` was made from; may raise anything."""

    def encode(self, data: bytes) -> bytes | None:
        if not 0 < len(data) <= MAX_OBJECT_BYTES:
            return None
        try:
            body = self.make(data)
            if body is None or len(body) >= len(data) or self.restore(body, len(data)) != data:
                return None
        except BaseException as error:  # noqa: BLE001 - what a file makes a decoder do is a refusal
            refused(error)
            return None
        return body

    def decode(self, body: bytes, size: int) -> bytes:
        if not 0 <= size <= MAX_OBJECT_BYTES:
            raise VaultCorrupt(f"{self.name}: no body is of an object of {size} bytes")
        try:
            data = self.restore(body, size)
        except VaultCorrupt:
            raise
        except BaseException as error:
            raise VaultCorrupt(f"{self.name} can't decode this: {refused(error)}") from error
        if len(data) != size:
            raise VaultCorrupt(f"{self.name}: {len(data)} bytes come out of a body of {size}")
        return data
