"""What pool and worker say to each other: frames of counted bytes. Nothing is unpickled on either side.

A job: op, seconds, size, then the length and bytes of names and of data. An answer: status, length and
bytes of a name, length and bytes of a body.
"""

from __future__ import annotations

import struct
from typing import Final

ENCODE, DECODE = 1, 2
READY, NOTHING, DONE, CORRUPT = 10, 11, 12, 13

JOB: Final = struct.Struct(">BIQHQ")  # op, seconds until the worker is ended, size, len(names), len(data)
ANSWER: Final = struct.Struct(">BHQ")  # status, len(name), len(body)

MAX_NAME: Final = 4096


def job(op: int, seconds: int, size: int, names: str, data: bytes) -> tuple[bytes, bytes]:
    """Head and data, to be sent one after the other."""
    text = names.encode()
    return JOB.pack(op, seconds, size, len(text), len(data)) + text, data


def answer(status: int, name: str, body: bytes) -> bytes:
    text = name.encode()[:MAX_NAME]
    return ANSWER.pack(status, len(text), len(body)) + text + body
