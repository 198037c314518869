"""Every number of the S3 client, with its unit."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from attrs.validators import ge, gt, instance_of, le

KIB = 1024
MIB = 1024 * KIB

MAX_KEY_BYTES = 1024
"""Longest key, in bytes of UTF-8 (S3 user guide, "Naming Amazon S3 objects")."""

MAX_PARTS = 10_000
"""Most parts of a multipart upload (S3 user guide, "Multipart upload limits")."""

MIN_PART_BYTES = 5 * MIB
"""Smallest part but the last (same place)."""

MAX_SINGLE_PUT_BYTES = 5 * 1024 * MIB
"""Largest body of one PUT (S3 user guide, "Uploading objects")."""

MAX_LIST_KEYS = 1_000
"""Most keys of one listing page (S3 API reference, ListObjectsV2)."""

MAX_DELETE_KEYS = 1_000
"""Most keys of one DeleteObjects request (S3 API reference, DeleteObjects)."""

_seconds = gt(0.0)


def _whole(low: int, high: int) -> list[Any]:
    return [instance_of(int), ge(low), le(high)]


@frozen(kw_only=True)
class S3Options:
    """How the client behaves on the wire. The defaults suit AWS and gateways in the same region.

    Raises:
        ValueError, TypeError: a number is out of its range or has the wrong type.
    """

    connect_timeout: float = field(default=10.0, validator=_seconds)
    """Seconds to wait for a connection."""

    read_timeout: float = field(default=60.0, validator=_seconds)
    """Seconds without a byte from the server after which a request counts as lost."""

    attempts: int = field(default=5, validator=_whole(1, 100))
    """How often a request that may be repeated is sent, the first time included."""

    deadline: float = field(default=120.0, validator=_seconds)
    """Seconds after which no further attempt of a request is begun."""

    backoff_first: float = field(default=0.1, validator=_seconds)
    """Longest pause in seconds before the second attempt; it doubles with each one (full jitter)."""

    backoff_most: float = field(default=10.0, validator=_seconds)
    """Longest pause in seconds between two attempts."""

    bulk_delete: int = field(default=250, validator=_whole(1, MAX_DELETE_KEYS))
    """Keys of one DeleteObjects request, where the probe has proven that it honours an ETag for each key.

    Few enough that one request doesn't take long: nothing can call it back.
    """

    page_size: int = field(default=MAX_LIST_KEYS, validator=_whole(1, MAX_LIST_KEYS))
    """Keys asked for in one listing request."""

    listers: int = field(default=16, validator=_whole(1, 256))
    """Pages that a scan of the whole bucket asks for at the same time, each of another part of it.

    One is a listing from the first key to the last, for servers that know no ``start-after``. Two pages for
    each lister may wait in memory.
    """

    first_read: int = field(default=MIB, validator=_whole(1, 64 * MIB))
    """Bytes of a body that are read together with its headers; smaller objects cost one thread hop."""

    chunk: int = field(default=MIB, validator=_whole(1, 8 * MIB))
    """Bytes of one further piece of a body."""

    spool_memory: int = field(default=4 * MIB, validator=_whole(0, 64 * MIB))
    """Bytes of a body to be sent that are kept in memory; what is more goes to a temporary file."""

    single_put_most: int = field(default=64 * MIB, validator=_whole(0, MAX_SINGLE_PUT_BYTES))
    """Largest object in bytes that is sent with one PUT; a larger one is sent in parts."""

    part_bytes: int = field(default=16 * MIB, validator=_whole(MIN_PART_BYTES, 64 * MIB))
    """Bytes of a part of a multipart upload, unless :data:`MAX_PARTS` asks for larger ones."""

    verify_md5: bool = field(default=True, validator=instance_of(bool))
    """Compare a body with its ETag where the ETag is the body's MD5 (no parts, no KMS or customer key)."""

    trust_tag_count: bool = field(default=True, validator=instance_of(bool))
    """Skip the request for tags when the server has proven that it reports their number.

    Turn it off when the right to read tags differs within the bucket: without that right AWS reports
    no number.
    """
