"""Codecs that do what a hostile file makes a decoder do. Workers import them by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence

from s3gc.abc import ObjectCodec


class Double(ObjectCodec):
    """Half of the data, and what the data's first word says."""

    name = "xz-1"
    requires: Mapping[str, str] = {}

    def encode(self, data: bytes) -> bytes | None:
        self._obey(data)
        return data[: len(data) // 2]

    def decode(self, body: bytes, size: int) -> bytes:
        self._obey(body)
        if body.startswith(b"lossy"):
            return bytes(size)
        if body.startswith(b"long"):
            return (body * 3)[: size + 1]
        return (body * 2)[:size]

    def _obey(self, data: bytes) -> None:
        match data.split(b" ", 1)[0]:
            case b"crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case b"hang":
                time.sleep(3600)
            case b"eat":
                bytearray(8 << 30)
            case b"exit":
                sys.exit(3)
            case b"print":
                print("a library speaks" * 100, flush=True)
            case b"raise":
                raise BaseExceptionGroup("a panic", [KeyError("x")])
            case b"pid":
                raise ValueError(str(os.getpid()))


def doubles() -> Sequence[ObjectCodec]:
    return [Double()]
