"""What servers compress: MariaDB single events (``log_bin_compress``), MySQL whole transactions."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import zstandard

from s3gc_cdc_mysql._bytes import packed, packed_piece
from s3gc_cdc_mysql.events import Header

LARGEST: Final = 1 << 30
"""Bytes of the largest event that a server writes (``max_allowed_packet``)."""

_END, _SIZE, _KIND, _UNCOMPRESSED = range(4)
_ZSTD, _NONE = 0, 255


def inflate_maria(raw: bytes) -> bytes:
    """The end of a compressed event of MariaDB: how, how long (high byte first), and the bytes.

    Raises:
        ValueError: it isn't one.
    """
    head = raw[0]
    size = head & 7
    if head & 0xF0 != 0x80 or not 1 <= size <= 4:
        raise ValueError(f"compressed in the form {head:#x}, which isn't known")
    declared = int.from_bytes(raw[1 : 1 + size], "big")
    if declared > LARGEST:
        raise ValueError(f"it says that {declared} bytes are compressed")
    inflate = zlib.decompressobj()
    try:
        found = inflate.decompress(raw[1 + size :], declared + 1)
    except zlib.error as error:
        raise ValueError(f"what is compressed can't be read: {error}") from error
    if len(found) != declared or not inflate.eof or inflate.unused_data:
        raise ValueError(f"not the {declared} bytes that it says are compressed")
    return found


def payload_events(body: bytes, header_size: int) -> Iterator[bytes]:
    """The events in a TRANSACTION_PAYLOAD of MySQL, one after the other: its memory is that of one of them.

    Raises:
        ValueError: it isn't one, or was compressed in a way that isn't known.
    """
    size = kind = None
    uncompressed = None
    at = 0
    while True:
        field, at = packed(body, at)
        if field == _END:
            break
        value, at = packed_piece(body, at)
        if field == _SIZE:
            size, _ = packed(value, 0)
        elif field == _KIND:
            kind, _ = packed(value, 0)
        elif field == _UNCOMPRESSED:
            uncompressed, _ = packed(value, 0)
    if size is None or kind is None or at + size != len(body):
        raise ValueError("a compressed transaction whose head doesn't fit it")
    return _split(_Source(body[at:], kind), header_size, uncompressed)


class _Source:
    """Reads exactly so many bytes of what is compressed, or not."""

    def __init__(self, payload: bytes, kind: int) -> None:
        self._plain: bytes | None = None
        self._at = 0
        if kind == _NONE:
            self._plain = payload
        elif kind == _ZSTD:
            self._zstd = zstandard.ZstdDecompressor().stream_reader(payload, read_across_frames=True)
        else:
            raise ValueError(f"a transaction compressed by the method {kind}, which isn't known")

    def read(self, size: int) -> bytes:
        if self._plain is not None:
            found = self._plain[self._at : self._at + size]
            self._at += len(found)
            return found
        try:
            return self._zstd.read(size)
        except zstandard.ZstdError as error:
            raise ValueError(f"a compressed transaction can't be read: {error}") from error


def _split(source: _Source, header_size: int, uncompressed: int | None) -> Iterator[bytes]:
    total = 0
    while head := source.read(header_size):
        if len(head) != header_size:
            raise ValueError("a compressed transaction ends within an event")
        size = int.from_bytes(head[9:13], "little")
        if not header_size <= size <= LARGEST:
            raise ValueError(f"an event of {size} bytes in a compressed transaction")
        rest = source.read(size - header_size) if size > header_size else b""
        if len(rest) != size - header_size:
            raise ValueError("a compressed transaction ends within an event")
        total += size
        yield head + rest
    if uncompressed is not None and total != uncompressed:
        raise ValueError(f"a compressed transaction has {total} bytes where {uncompressed} were announced")


def inside(header: Header, payload: Header) -> Header:
    """The header of an event within a compressed transaction, with the transaction's place in the file."""
    return header._replace(next_position=payload.next_position)
