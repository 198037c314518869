"""From any Python value to the texts that it holds."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import PurePath

_DIGEST = 64  # bytes of the longest digest in use (SHA-512, BLAKE2b); longer binaries aren't read as hex


def texts(value: object) -> Iterator[tuple[str, str]]:
    """Every text in a value, with the rule that found it. Walks containers of any depth; cycles end."""
    stack: list[object] = [value]
    walked: dict[int, object] = {}  # holds the containers, so that no id is used twice
    while stack:
        item = stack.pop()
        if item is None or isinstance(item, bool):
            continue
        if isinstance(item, (Mapping, Sequence, Set)) and not isinstance(
            item, (str, bytes, bytearray, memoryview)
        ):
            if id(item) not in walked:
                walked[id(item)] = item
                stack.extend(_members(item))
        else:
            yield from _leaf(item)


def _members(container: Mapping[object, object] | Sequence[object] | Set[object]) -> list[object]:
    # A value is data of an application: its iteration may fail in any way, and keys() is total.
    # What such an object prints is the best reading left.
    try:
        if isinstance(container, Mapping):
            return [part for pair in container.items() for part in pair]
        return list(container)
    except Exception:  # noqa: BLE001
        return [text for text, _ in _printed(container)]


def _leaf(item: object) -> Iterator[tuple[str, str]]:
    if isinstance(item, str):
        yield str.__str__(item), ""
    elif isinstance(item, (bytes, bytearray, memoryview)):
        yield from _binary(bytes(item))
    elif isinstance(item, uuid.UUID):
        yield from _uuid(item)
    elif isinstance(item, enum.Enum):
        yield item.name, "enum"
        yield from texts(item.value)
    elif isinstance(item, PurePath):
        yield item.as_posix(), "path object"
        yield str(item), "path object"
    else:
        yield from _printed(item)
        if isinstance(item, float) and item.is_integer():
            yield str(int(item)), "number"


def _printed(item: object) -> Iterator[tuple[str, str]]:
    try:
        yield str(item), "printed"
    except Exception:  # noqa: BLE001 - what can't be printed holds no text that anybody could have meant
        return


def _uuid(value: uuid.UUID) -> Iterator[tuple[str, str]]:
    for form in (str(value), value.hex):
        yield form, "UUID"
        yield form.upper(), "UUID"


def _binary(data: bytes) -> Iterator[tuple[str, str]]:
    try:
        yield data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        yield data.decode("latin-1"), "Latin-1"
        yield data.decode("utf-8", "replace").replace("\ufffd", "\n"), "UTF-8 parts"
    if b"\x00" in data:
        for codec in ("utf-16-le", "utf-16-be"):
            yield data.decode(codec, "ignore"), "UTF-16"
    if len(data) == 16:
        yield from _uuid(uuid.UUID(bytes=data))
    if 0 < len(data) <= _DIGEST:
        yield data.hex(), "hexadecimal"
        yield data.hex().upper(), "hexadecimal"
