"""The quick way through a listing page: for pages whose entries all have the usual form and plain keys.

ElementTree takes most of a listing's time. Here one pattern reads the entries, and it counts only if nothing
stands between its matches; anything else is left to the XML parser (`_xml.parse_page`). What comes out are
columns: a tuple for each entry would be one more object for the garbage collector to look at.
"""

from __future__ import annotations

import re

from attrs import frozen

_ENTRY = re.compile(
    # A plain key is printable ASCII without & < > % +.
    r"<Contents><Key>([ !-$'-*,-;=?-~]*)</Key>"
    r"<LastModified>([0-9T:.Z-]*)</LastModified>"
    r"<ETag>(?:&quot;|\"|&#34;)([0-9a-fA-F-]*)(?:&quot;|\"|&#34;)</ETag>"
    r"(?:<Checksum(?:Algorithm|Type)>[A-Z0-9_]*</Checksum(?:Algorithm|Type)>)*"
    r"<Size>([0-9]+)</Size>"
    r"(?:<StorageClass>([A-Z_]*)</StorageClass>)?"
    r"(?:<Type>[A-Za-z]*</Type>)?</Contents>"  # RGW
)
_STEP = _ENTRY.groups + 1
_FIRST = b"<Contents>"
_LAST = b"</Contents>"


@frozen
class PlainPage:
    """The entries in columns, and the document without them."""

    rest: bytes
    keys: list[str]
    times: list[str]
    etags: list[str]
    sizes: list[str]
    storages: list[str | None]


def read_plain(document: bytes) -> PlainPage | None:
    """The page, or None if any byte of its entries has another form than the usual one."""
    start = document.find(_FIRST)
    end = document.rfind(_LAST)
    if start < 0 or end < start:
        return None
    end += len(_LAST)
    try:
        # Text of one byte a character: no part needs to be decoded by itself.
        body = document[start:end].decode("ascii")
    except UnicodeDecodeError:
        return None
    found = _ENTRY.split(body)  # what stands before an entry, its parts, what stands before the next …
    if any(found[::_STEP]):
        return None
    columns = (found[place::_STEP] for place in range(1, _STEP))
    return PlainPage(document[:start] + document[end:], *columns)
