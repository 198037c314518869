"""An object's attributes as HTTP headers, both ways, to the letter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from attrs import evolve

from s3gc.errors import ConfigError, StoreError, UnreadableObject
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.stores.s3._xml import bare_etag

_META = "x-amz-meta-"
_FIELDS = {
    "content_type": "content-type",
    "content_encoding": "content-encoding",
    "content_language": "content-language",
    "content_disposition": "content-disposition",
    "cache_control": "cache-control",
    "expires": "expires",
    "website_redirect": "x-amz-website-redirect-location",
    "storage_class": "x-amz-storage-class",
    "encryption": "x-amz-server-side-encryption",
    "kms_key_id": "x-amz-server-side-encryption-aws-kms-key-id",
    "kms_bucket_key": "x-amz-server-side-encryption-bucket-key-enabled",
}
_ENCRYPTION = ("encryption", "kms_key_id", "kms_bucket_key")
_BUCKETS_OWN_CLASSES = frozenset({"EXPRESS_ONEZONE", "FSX_OPENZFS", "FSX_ONTAP", "OUTPOSTS", "SNOW"})
"""Storage classes that come with the kind of bucket and can't be asked for (S3 API reference, PutObject)."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MD5 = re.compile(r"[0-9a-f]{32}")


def read_attributes(headers: Mapping[str, str], key: str, tags: Mapping[str, str]) -> ObjectAttributes:
    """The attributes that an answer's headers tell of.

    RFC 2047 words in metadata are kept as the store writes them: it decodes them again when they are put back
    (Amazon S3 user guide, "Working with object metadata").

    Raises:
        UnreadableObject: some can't be told exactly, so they couldn't be put back.
    """
    if headers.get("x-amz-missing-meta", "0") != "0":
        raise UnreadableObject(
            f"{key!r} has metadata that the store can't put into headers: it can't be backed up exactly"
        )
    metadata = {name[len(_META) :]: value for name, value in headers.items() if name.startswith(_META)}
    fields = {field: headers.get(name) for field, name in _FIELDS.items()}
    for name, value in [*fields.items(), *metadata.items()]:
        if value is None or (value.isascii() and name.isascii()):
            continue
        if _SURROGATE.search(value + name):
            raise UnreadableObject(
                f"the attribute {name!a} of {key!r} is not UTF-8: it can't be backed up exactly"
            )
    return ObjectAttributes(**fields, metadata=metadata, tags=dict(tags))


def writable(attributes: ObjectAttributes, *, encryption: bool = True) -> ObjectAttributes:
    """Those attributes that can be asked for when an object is written.

    Args:
        encryption: false leaves it to the bucket how the object is encrypted.

    Raises:
        StoreError: two metadata names differ by case alone.
    """
    changes: dict[str, Any] = {"metadata": {name.lower(): it for name, it in attributes.metadata.items()}}
    if len(changes["metadata"]) != len(attributes.metadata):
        raise StoreError("two metadata names differ by case alone: a header's name has none")
    if attributes.storage_class in _BUCKETS_OWN_CLASSES:
        changes["storage_class"] = None
    if not encryption:
        changes |= dict.fromkeys(_ENCRYPTION)
    return evolve(attributes, **changes)


def write_attributes(attributes: ObjectAttributes) -> dict[str, str]:
    """The headers that give an object these attributes. An ACL is no header.

    Raises:
        StoreError: a name or a value can't stand in a header unchanged.
    """
    headers: dict[str, str] = {}
    for field, name in _FIELDS.items():
        value = getattr(attributes, field)
        if value is not None:
            headers[name] = value
    for name, value in attributes.metadata.items():
        if not _TOKEN.fullmatch(name):
            raise StoreError(
                f"the metadata name {name!r} can't stand in a header: use letters, digits and '-'"
            )
        if f"{_META}{name.lower()}" in headers:
            raise StoreError(f"the metadata name {name!r} is there twice: names don't differ by case")
        headers[f"{_META}{name.lower()}"] = value
    for name, value in headers.items():
        if _CONTROL.search(value) or _SURROGATE.search(value) or value != value.strip():
            raise StoreError(f"the value of {name} can't stand in a header unchanged: {value!r}")
    if attributes.tags:
        headers["x-amz-tagging"] = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in attributes.tags.items()
        )
    return headers


def every_header(request_payer: str | None, expected_bucket_owner: str | None) -> dict[str, str]:
    """What goes with every request (S3 user guide, "Requester Pays buckets", "Verifying bucket ownership").

    Raises:
        ConfigError: a value that isn't one.
    """
    headers: dict[str, str] = {}
    if request_payer is not None:
        if request_payer != "requester":
            raise ConfigError(f"request_payer must be 'requester' or left out, not {request_payer!r}")
        headers["x-amz-request-payer"] = request_payer
    if expected_bucket_owner is not None:
        if not re.fullmatch(r"[0-9]{12}", expected_bucket_owner):
            raise ConfigError("expected_bucket_owner must be an account's number, 12 digits")
        headers["x-amz-expected-bucket-owner"] = expected_bucket_owner
    return headers


def read_date(headers: Mapping[str, str], name: str, doing: str) -> datetime:
    """A date in a header.

    Raises:
        StoreError: it isn't there or can't be read.
    """
    text = headers.get(name, "")
    try:
        return _date(text)
    except ValueError:
        raise StoreError(f"could not {doing}: the answer's {name} is {text!r}, not a date") from None


@lru_cache(1024)  # objects that were uploaded together are listed and read together
def _date(text: str) -> datetime:
    when = parsedate_to_datetime(text)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def read_info(headers: Mapping[str, str], key: str) -> ObjectInfo:
    """The object that an answer to HEAD or GET tells of.

    Raises:
        StoreError: size, ETag or last-modified are missing or garbled.
    """
    doing = f"read what {key!r} is"
    etag, size = bare_etag(headers.get("etag", "")), headers.get("content-length", "")
    if not etag or not (size.isascii() and size.isdecimal()):
        raise StoreError(f"could not {doing}: the answer has no ETag or no Content-Length")
    return ObjectInfo(
        key=key,
        size=int(size),
        etag=etag,
        last_modified=read_date(headers, "last-modified", doing),
        version_id=headers.get("x-amz-version-id"),
        storage_class=headers.get("x-amz-storage-class"),
        locked=read_lock(headers),
    )


def read_lock(headers: Mapping[str, str]) -> str | None:
    """Why the object is locked (Amazon S3 API reference, "GetObject": object lock headers), or None.

    A retention counts also after its end: S3 sends it as long as it was set, and to keep is safe.
    """
    if headers.get("x-amz-object-lock-legal-hold", "OFF").upper() != "OFF":
        return "a legal hold is on it"
    mode = headers.get("x-amz-object-lock-mode")
    if mode is None:
        return None
    return f"object lock {mode} until {headers.get('x-amz-object-lock-retain-until-date', 'an unknown day')}"


def quoted_etag(etag: str) -> str:
    """An ETag as If-Match wants it."""
    return etag if etag.startswith('W/"') else f'"{etag}"'


def md5_of(headers: Mapping[str, str]) -> str | None:
    """The MD5 of the body, hex, if the ETag is one (S3 API reference, "Object": ETag); else None."""
    if headers.get("x-amz-server-side-encryption", "AES256") != "AES256":
        return None
    if "x-amz-server-side-encryption-customer-algorithm" in headers:
        return None
    etag = bare_etag(headers.get("etag", ""))
    return etag if _MD5.fullmatch(etag) else None
