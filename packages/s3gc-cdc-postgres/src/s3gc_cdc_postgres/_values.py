"""What a printed value is: the same Python value that the direct read gets, so that both resolve alike."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeAlias

from s3gc.errors import SourceError

Read: TypeAlias = Callable[[bytes], object]

_BYTEA, _UUID = 17, 2950
_TEXT_ARRAYS = (1009, 1015, 1014, 1003)  # of text, varchar, bpchar, name
_BYTEA_ARRAY, _UUID_ARRAY = 1001, 2951


def reader(type_oid: int) -> Read:
    """How the printed values of a type are read. Most are a text for the direct read, too."""
    return _READERS.get(type_oid, bytes.decode)


def _bytes(printed: bytes | str) -> bytes:
    text = printed if isinstance(printed, str) else printed.decode()
    if not text.startswith("\\x"):
        raise SourceError("a bytea isn't printed in hexadecimal: bytea_output was changed under us")
    return bytes.fromhex(text[2:])


def _uuid(printed: bytes) -> uuid.UUID:
    return uuid.UUID(printed.decode())


def array(text: str, element: Callable[[str], object]) -> list[object]:
    """An array as PostgreSQL prints it: nested lists, NULL as None.

    Raises:
        SourceError: it isn't one.
    """
    at = text.index("=") + 1 if text.startswith("[") else 0
    if text[at : at + 1] != "{":
        raise SourceError("an array isn't printed as one")
    stack: list[list[object]] = []
    size = len(text)
    while at < size:
        char = text[at]
        if char == "{":
            inner: list[object] = []
            if stack:
                stack[-1].append(inner)
            stack.append(inner)
            at += 1
        elif char == "}":
            whole = stack.pop()
            at += 1
            if not stack:
                if at != size:
                    break
                return whole
        elif char == ",":
            at += 1
        elif char == '"':
            pieces: list[str] = []
            at += 1
            while text[at] != '"':
                if text[at] == "\\":
                    at += 1
                pieces.append(text[at])
                at += 1
            at += 1
            stack[-1].append(element("".join(pieces)))
        else:
            start = at
            while text[at] not in ",}":
                at += 1
            word = text[start:at]
            stack[-1].append(None if word == "NULL" else element(word))
    raise SourceError("an array isn't printed as one")


def _array_of(element: Callable[[str], object]) -> Read:
    def read(printed: bytes) -> object:
        try:
            return array(printed.decode(), element)
        except IndexError:
            raise SourceError("an array isn't printed as one") from None

    return read


_READERS: dict[int, Read] = {
    _BYTEA: _bytes,
    _UUID: _uuid,
    **dict.fromkeys(_TEXT_ARRAYS, _array_of(str)),
    _BYTEA_ARRAY: _array_of(_bytes),
    _UUID_ARRAY: _array_of(uuid.UUID),
}
