"""The quick way through a listing page: for pages whose entries all have the usual form and plain keys.

ElementTree takes most of a listing's time. Here one pattern reads the entries, and it counts only if its
matches cover the entries to the last byte; anything else is left to the XML parser (`_xml.parse_page`).
"""

from __future__ import annotations

import re

from attrs import frozen

_ENTRY = re.compile(
    # The whole entry, then its parts. A plain key is printable ASCII without & < > % +.
    rb"(<Contents><Key>([ !-$'-*,-;=?-~]*)</Key>"
    rb"<LastModified>([0-9T:.Z-]*)</LastModified>"
    rb"<ETag>(?:&quot;|\"|&#34;)([0-9a-fA-F-]*)(?:&quot;|\"|&#34;)</ETag>"
    rb"(?:<Checksum(?:Algorithm|Type)>[A-Z0-9_]*</Checksum(?:Algorithm|Type)>)*"
    rb"<Size>([0-9]+)</Size>"
    rb"(?:<StorageClass>([A-Z_]*)</StorageClass>)?"
    rb"(?:<Type>[A-Za-z]*</Type>)?</Contents>)"  # RGW
)
_FIRST = b"<Contents>"
_LAST = b"</Contents>"


@frozen
class PlainPage:
    """The entries as (key, last-modified, ETag, size, storage class), and the document without them."""

    rest: bytes
    entries: list[tuple[str, str, str, int, str | None]]


def read_plain(document: bytes) -> PlainPage | None:
    """The page, or None if any byte of its entries has another form than the usual one."""
    start = document.find(_FIRST)
    end = document.rfind(_LAST)
    if start < 0 or end < start:
        return None
    end += len(_LAST)
    found = _ENTRY.findall(document, start, end)
    if sum(len(entry[0]) for entry in found) != end - start:
        return None
    entries = [
        (key.decode(), modified.decode(), etag.decode(), int(size), storage.decode() or None)
        for _, key, modified, etag, size, storage in found
    ]
    return PlainPage(document[:start] + document[end:], entries)
