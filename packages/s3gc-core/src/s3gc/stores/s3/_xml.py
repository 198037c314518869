"""The XML that S3 speaks: listing pages, tags, multipart uploads."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice, repeat
from operator import lt
from urllib.parse import unquote, unquote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from attrs import frozen

from s3gc._columns import ObjectColumns
from s3gc.errors import StoreError
from s3gc.model import ObjectInfo
from s3gc.stores.s3._forbidden import character, parse_forbidden
from s3gc.stores.s3._plain_page import PlainPage, read_plain

_DECLARATION = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)
_NAMESPACE = re.compile(rb"""(\s*(?:<\?xml[^>]*\?>)?\s*<\w+)\sxmlns=(["'])[^"']*\2""")
_LEFTOVER = re.compile(r"&(?:#x([0-9A-Fa-f]{1,8})|#([0-9]{1,8})|(apos|quot|amp|lt|gt));")
_NAMED = {"apos": "'", "quot": '"', "amp": "&", "lt": "<", "gt": ">"}


def parse(document: bytes) -> ElementTree.Element:
    """Parse a document without the default namespace that servers differ in.

    Characters that XML forbids are read as they are meant: they stand in keys and tags.

    Raises:
        ValueError: it declares entities (S3 never does; they are a way to exhaust memory) or an encoding that
            nobody knows, or holds references to what is no character.
        xml.etree.ElementTree.ParseError: it isn't XML.
    """
    if _DECLARATION.search(document):
        raise ValueError("the document declares a DOCTYPE or entities")
    start = _NAMESPACE.match(document)
    bare = start[1] + document[start.end() :] if start else document
    try:
        return ElementTree.fromstring(bare)
    except LookupError as error:
        raise ValueError(f"its encoding is unknown: {error}") from error
    except ElementTree.ParseError:
        root = parse_forbidden(bare)
        if root is None:
            raise
        return root


def parse_answer(document: bytes, roots: tuple[str, ...], doing: str) -> ElementTree.Element:
    """Parse an answer whose root must be one of ``roots``.

    Raises:
        StoreError: it is something else.
    """
    try:
        found = parse(document)
    except (ElementTree.ParseError, ValueError) as error:
        raise StoreError(f"could not {doing}: the answer is not XML that can be read ({error})") from error
    if found.tag not in roots:
        raise StoreError(f"could not {doing}: the answer is <{found.tag}>, not <{roots[0]}>")
    return found


# --------------------------------------------------------------------------- listing


@frozen
class Page:
    """One page of a listing. ``token`` asks for the next one; None means that this was the last."""

    objects: Sequence[ObjectInfo]
    token: str | None


def parse_time(text: str) -> datetime:
    """A listing's timestamp, cut to whole seconds: HEAD and GET give no more, and they must compare equal."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(f"the time {text!r} has no zone")
    if when.tzinfo is not UTC:
        when = when.astimezone(UTC)
    return when.replace(microsecond=0) if when.microsecond else when


def bare_etag(text: str) -> str:
    """An ETag without its quotes."""
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def parse_page(document: bytes, after: str, *, prefix: str = "", plus_is_space: bool = True) -> Page:
    """Read a page of ListObjectsV2 whose keys must come after ``after``, strictly increasing.

    Args:
        plus_is_space: how the server encodes a space in a key. AWS writes ``+`` (and ``%2B`` for a plus), and
            every client reads it so; a server that leaves a plus as it is shows that in the probe.

    Raises:
        StoreError: the page is malformed, goes back or repeats, lists keys that weren't asked for, or says
            that there is more without saying how to get it.
    """
    doing = "list the bucket"
    plain_page = read_plain(document)
    root = parse_answer(plain_page.rest if plain_page else document, ("ListBucketResult",), doing)
    if plain_page:
        return Page(_plain_objects(plain_page, after, prefix, doing), _next_token(root, doing))
    encoded = root.findtext("EncodingType", "") == "url"
    decode = unquote_plus if plus_is_space else unquote
    objects: list[ObjectInfo] = []
    last = after
    try:
        for entry in root.iterfind("Contents"):
            field = {child.tag: child.text or "" for child in entry}
            raw = field["Key"]
            if "&" in raw and encoded:
                raw = _LEFTOVER.sub(_unescaped, raw)  # RGW escapes twice
            # We asked for encoded keys. A plain one may be encoded all the same, and XML turns CR into LF.
            ambiguous = not encoded and ("%" in raw or "\n" in raw)
            try:
                plain = not encoded or ("%" not in raw and "+" not in raw)
                key = raw if plain else decode(raw, errors="strict")
            except UnicodeDecodeError:
                key, ambiguous = decode(raw, errors="backslashreplace"), True
            if not key.startswith(prefix) and not ambiguous:
                raise _not_asked_for(doing, key, prefix)
            if not ambiguous:
                if key <= last:
                    raise _goes_back(doing, key, last)
                last = key
            objects.append(
                ObjectInfo(
                    key,
                    int(field["Size"]),
                    bare_etag(field["ETag"]),
                    parse_time(field["LastModified"]),
                    None,
                    field.get("StorageClass") or None,
                    ambiguous,
                )
            )
    except (KeyError, ValueError) as error:
        raise StoreError(f"could not {doing}: an entry lacks or garbles {error}") from error
    return Page(objects, _next_token(root, doing))


def _unescaped(found: re.Match[str]) -> str:
    return _NAMED[found[3]] if found[3] else character(found)


def _plain_objects(page: PlainPage, after: str, prefix: str, doing: str) -> Sequence[ObjectInfo]:
    """Entries whose keys mean the same in every encoding: the same checks, less to undo."""
    keys, times = page.keys, page.times
    rising = after < keys[0] and all(map(lt, keys, islice(keys, 1, None)))
    if rising and (not prefix or all(map(str.startswith, keys, repeat(prefix)))):
        with contextlib.suppress(ValueError):  # the loop below tells which entry
            # S3 has whole seconds, and writes them so: nothing is to be cut off.
            whole = all(map(str.endswith, times, repeat(".000Z")))
            moments = list(map(datetime.fromisoformat if whole else parse_time, times))
            classes = [storage or None for storage in page.storages]
            return ObjectColumns(keys, list(map(int, page.sizes)), page.etags, moments, classes)
    objects: list[ObjectInfo] = []
    last = after
    try:
        for key, modified, etag, size, storage in zip(
            keys, times, page.etags, page.sizes, page.storages, strict=True
        ):
            if not key.startswith(prefix):
                raise _not_asked_for(doing, key, prefix)
            if key <= last:
                raise _goes_back(doing, key, last)
            last = key
            objects.append(
                ObjectInfo(key, int(size), etag, parse_time(modified), None, storage or None, False)
            )
    except ValueError as error:
        raise StoreError(f"could not {doing}: an entry lacks or garbles {error}") from error
    return objects


class GoesBack(StoreError):
    """A listing whose keys don't strictly increase."""


def _goes_back(doing: str, key: str, last: str) -> StoreError:
    return GoesBack(f"could not {doing}: the listing repeats or goes back, {key!r} after {last!r}")


def _not_asked_for(doing: str, key: str, prefix: str) -> StoreError:
    return StoreError(f"could not {doing}: it listed {key!r}, which is not below {prefix!r}")


def _next_token(root: ElementTree.Element, doing: str) -> str | None:
    truncated = root.findtext("IsTruncated", "")
    token = root.findtext("NextContinuationToken", "")
    if truncated == "false":
        return None
    if truncated != "true":
        raise StoreError(f"could not {doing}: the page doesn't say whether it is the last")
    if not token:
        raise StoreError(f"could not {doing}: the page says that there is more, and not how to get it")
    return token


# --------------------------------------------------------------------------- tags, versioning, parts


def parse_tags(document: bytes) -> dict[str, str]:
    """The tags of GetObjectTagging.

    Raises:
        StoreError: it is something else.
    """
    root = parse_answer(document, ("Tagging",), "read the tags")
    tags: dict[str, str] = {}
    for tag in root.iterfind("TagSet/Tag"):
        name = tag.findtext("Key")
        if name is None or name in tags:
            raise StoreError("could not read the tags: one has no name, or the name of another")
        tags[name] = tag.findtext("Value", "")
    return tags


def tagging_document(tags: Mapping[str, str]) -> bytes:
    """The request that gives an object these tags and no others."""
    lines = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}  # a parser would change them
    entries = "".join(
        f"<Tag><Key>{escape(name, lines)}</Key><Value>{escape(value, lines)}</Value></Tag>"
        for name, value in tags.items()
    )
    return f"<Tagging><TagSet>{entries}</TagSet></Tagging>".encode()


def parse_versioning(document: bytes) -> str:
    """``Enabled``, ``Suspended``, or an empty text.

    Raises:
        StoreError: it is something else.
    """
    doing = "read the versioning status"
    # moto names the root after the operation.
    root = parse_answer(document, ("VersioningConfiguration", "GetBucketVersioningResponse"), doing)
    status = root.findtext("Status", "")
    if status not in ("", "Enabled", "Suspended"):
        raise StoreError(f"could not {doing}: {status!r} is none")
    return status


def parse_upload_id(document: bytes) -> str:
    """The id of a multipart upload that was begun.

    Raises:
        StoreError: there is none.
    """
    doing = "begin a multipart upload"
    found = parse_answer(document, ("InitiateMultipartUploadResult",), doing).findtext("UploadId", "")
    if not found:
        raise StoreError(f"could not {doing}: the answer holds no upload id")
    return found


def complete_document(etags: Mapping[int, str]) -> bytes:
    """The request that puts parts together."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{escape(etag)}&quot;</ETag></Part>"
        for number, etag in sorted(etags.items())
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
