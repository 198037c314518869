"""JPEG by Lepton (``lepton_jpeg_python``)."""

from __future__ import annotations

import lepton_jpeg_python

from s3gc.errors import VaultCorrupt
from s3gc_codecs._container import Jpeg
from s3gc_codecs._exact import refused

_LAST = 16
"""Bytes at the end that may differ: Lepton changes the last two of a JPEG without an end marker (FACTS 5)."""

_MAGIC = b"\xcf\x84"


def squeeze(jpeg: bytes, *, compare: bool) -> Jpeg | None:
    """The JPEG as a piece; None when Lepton refuses it, or is seen to give back something else.

    Args:
        compare: decode it now, so that one bad picture among others is found. What has no end marker is
            compared in any case, to keep apart the bytes that Lepton changes.
    """
    try:
        lepton = bytes(lepton_jpeg_python.compress_bytes(jpeg))
        if not compare and jpeg.endswith(b"\xff\xd9"):
            return Jpeg(lepton, b"")
        back = bytes(lepton_jpeg_python.decompress_bytes(lepton))
    except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
        refused(error)
        return None
    if back == jpeg:
        return Jpeg(lepton, b"")
    if len(back) == len(jpeg) and back[:-_LAST] == jpeg[:-_LAST]:
        return Jpeg(lepton, jpeg[-_LAST:])
    return None


def expand(lepton: bytes, most: int) -> bytes:
    """The JPEG; asked for its size before anything is decoded.

    Raises:
        VaultCorrupt: it isn't Lepton's, or holds more than ``most`` bytes.
    """
    # Lepton's header: magic, version, kind of scan, threads, 12 bytes of the writer's, size of the JPEG.
    if lepton[:2] != _MAGIC or len(lepton) < 28 or int.from_bytes(lepton[20:24], "little") > most:
        raise VaultCorrupt("Lepton's header isn't that of this object")
    return bytes(lepton_jpeg_python.decompress_bytes(lepton))


def find_end(data: memoryview) -> int | None:
    """Where the JPEG that begins here ends: behind its end marker, by its structure (ITU T.81, B.1).

    None: it has none, or isn't a JPEG.
    """
    at, size = 2, len(data)
    while at + 4 <= size:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == 0xD9:
            return at + 2
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            length = data[at + 2] << 8 | data[at + 3]
            if length < 2:
                return None
            at += 2 + length
            if marker == 0xDA:
                at = _next_marker(data, at)
    return at + 2 if at + 2 == size and bytes(data[at : at + 2]) == b"\xff\xd9" else None


def _next_marker(data: memoryview, at: int) -> int:
    """Past entropy-coded data: the next marker that isn't a stuffed zero or a restart."""
    step = 64 * 1024
    while at < len(data):
        piece = bytes(data[at : at + step + 1])
        found = piece.find(b"\xff")
        while 0 <= found < len(piece) - 1:
            following = piece[found + 1]
            if following and not 0xD0 <= following <= 0xD7:
                return at + found
            found = piece.find(b"\xff", found + (2 if following != 0xFF else 1))
        at += step
    return len(data)
