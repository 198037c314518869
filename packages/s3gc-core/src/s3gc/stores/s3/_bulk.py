"""DeleteObjects as XML: many keys in one request, each with its ETag."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

from attrs import frozen

from s3gc.errors import StoreError
from s3gc.stores.s3._headers import quoted_etag
from s3gc.stores.s3._xml import parse_answer

_QUOTE = {'"': "&quot;"}
_LINES = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}  # a parser would change them


_ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
"""Characters that don't come through XML, or not with every server."""


def in_bulk(key: str) -> bool:
    """Whether the key can be trusted to an XML document, there and back."""
    return _ODD.search(key) is None


@frozen
class Deleted:
    """What the server says that it did, by key."""

    deleted: Mapping[str, str | None]  # with the version id of what was made: a delete marker's, or None
    refused: Mapping[str, str]  # with the error's code


def delete_document(objects: Iterable[tuple[str, str]]) -> bytes:
    """The request that deletes these keys, each only while its ETag is this one (without quotes)."""
    entries = "".join(
        f"<Object><Key>{escape(key, _LINES)}</Key><ETag>{escape(quoted_etag(etag), _QUOTE)}</ETag></Object>"
        for key, etag in objects
    )
    return f"<Delete>{entries}</Delete>".encode()


def parse_deleted(document: bytes, asked: Sequence[str]) -> Deleted:
    """The answer to :func:`delete_document`.

    Raises:
        StoreError: it is something else, or it doesn't speak exactly once of each key that was asked for.
    """
    doing = "delete objects"
    root = parse_answer(document, ("DeleteResult",), doing)
    deleted = {
        entry.findtext("Key", ""): entry.findtext("DeleteMarkerVersionId") or entry.findtext("VersionId")
        for entry in root.iterfind("Deleted")
    }
    refused = {entry.findtext("Key", ""): entry.findtext("Code", "") for entry in root.iterfind("Error")}
    told = [entry.findtext("Key", "") for entry in root if entry.tag in ("Deleted", "Error")]
    if sorted(told) != sorted(asked):
        raise StoreError(
            f"could not {doing}: the answer doesn't speak once of each of the {len(asked)} keys",
            outcome_unknown=True,
        )
    return Deleted(deleted, refused)
