"""Small pieces of the log: lengths and texts."""

from __future__ import annotations

from struct import Struct

U16, U32, U64 = Struct("<H"), Struct("<I"), Struct("<Q")


def packed(data: bytes, at: int) -> tuple[int, int]:
    """A "packed integer" of one, three, four or nine bytes, and where it ends.

    Raises:
        ValueError: it is the mark of NULL or of an error, which no length is, or is cut short.
    """
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    size = _SIZES.get(first, 0)
    end = at + 1 + size
    if not size or end > len(data):
        raise ValueError(f"{first:#x} begins no length here")
    return int.from_bytes(data[at + 1 : end], "little"), end


_SIZES = {0xFC: 2, 0xFD: 3, 0xFE: 8}


def piece(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    """So many bytes, all of them, and where they end.

    Raises:
        ValueError: there are fewer.
    """
    end = at + size
    if end > len(data):
        raise ValueError(f"{size} bytes were announced and {len(data) - at} are there")
    return data[at:end], end


def packed_piece(data: bytes, at: int) -> tuple[bytes, int]:
    """Bytes with their length as a packed integer before them."""
    size, at = packed(data, at)
    return piece(data, at, size)


def bits(data: bytes, count: int) -> int:
    """A bitmap whose first column is the lowest bit of the first byte.

    Raises:
        ValueError: it is too short.
    """
    if len(data) != (count + 7) // 8:
        raise ValueError(f"a bitmap of {len(data)} bytes for {count} columns")
    return int.from_bytes(data, "little")
