"""The bytes of a frame, versions 1 and 2. ``docs/vault-format.md`` describes them; change neither alone.

::

    preamble   magic 8 · version u16 · reserved u16 (0) · header length u32 · offset in the pack u64
    digest     SHA-256 of preamble and header
    header     canonical JSON
    chunks     each: length u32 (1 to 1 MiB) · bytes; then a length of 0
    trailer    end magic 8 · original size u64 · SHA-256 of the original · stored size u64 · frame length u64
    digest     SHA-256 of all bytes of the frame before it

All numbers are big-endian.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import BackupRecord, ObjectAttributes, ObjectInfo, SameAs
from s3gc.vault.records import (
    attributes_from_json,
    attributes_to_json,
    canonical,
    quoted,
    same_as_from_json,
    same_as_to_json,
    time_from_text,
    time_to_text,
)

MAGIC = b"\x89S3GC\r\n\x1a"  # as PNG's: shows 7-bit and newline damage, stops `type`
END_MAGIC = b"S3GCEND\n"
VERSION = 1
"""Of a frame whose stored bytes a streaming codec reads."""

CODED_VERSION = 2
"""Of one whose header says more: what its codec requires, or whose bytes it shares."""

SAME = "same"
"""The codec of a frame without bytes: they are those of another one."""

PREAMBLE = struct.Struct(">8sHHIQ")
LENGTH = struct.Struct(">I")
TRAILER = struct.Struct(">8sQ32sQQ")
DIGEST_BYTES = 32
HEAD_BYTES = PREAMBLE.size + DIGEST_BYTES
TAIL_BYTES = TRAILER.size + DIGEST_BYTES

HEADER_MAX_BYTES = 1024 * 1024
"""A header is about 400 bytes; S3's limits on keys, metadata and tags keep it under 16 KiB."""

CHUNK_MAX_BYTES = 1024 * 1024
"""The largest chunk; so a reader needs no more memory than this, whatever the object's size."""

_HEADER_NAMES = frozenset(
    ("attributes", "bucket", "codec", "etag", "key", "last_modified", "operation", "size", "version_id")
)
SOLID_VERSION = 3
"""Of one that holds many small objects (``_solid.py``)."""

VERSIONS = (VERSION, CODED_VERSION, SOLID_VERSION)

_MORE_NAMES = {
    VERSION: (frozenset[str](),),
    CODED_VERSION: (frozenset(("requires",)), frozenset(("same_as",))),
}
"""What else a header of a version has: one of these."""


@frozen
class Header:
    """What a frame says of its object."""

    record: BackupRecord  # sha256, stored_size and location are empty: the trailer and the place tell them
    bucket: str
    operation_id: str
    requires: Mapping[str, str]
    """What its codec needs: library -> version. Empty for a streaming codec."""


@frozen
class HeaderText:
    """A header ready to be written, but for the codec."""

    before: bytes
    after: bytes
    end: bytes

    @property
    def length(self) -> int:
        """Bytes, without the codec."""
        return len(self.before) + len(self.after) + len(self.end)

    def with_codec(
        self, codec: str, requires: Mapping[str, str] | None = None, same_as: SameAs | None = None
    ) -> bytes:
        """The header of version 1, or with one of the others of CODED_VERSION."""
        more = b"" if requires is None else f',"requires":{canonical(dict(requires))}'.encode()
        if same_as is not None:
            more = f',"same_as":{canonical(same_as_to_json(same_as))}'.encode()
        return b"".join((self.before, quoted(codec).encode(), self.after, more, self.end))

    def around_operation(self, codec: str) -> tuple[bytes, bytes]:
        """The header of version 1 without the operation's id: what stands before it, and behind it.

        Only of a text that was made for an empty id.
        """
        return b"".join((self.before, quoted(codec).encode(), self.after[:-2])), self.end


def header_text(info: ObjectInfo, attributes: ObjectAttributes, bucket: str, operation_id: str) -> HeaderText:
    """The header of an object.

    Raises:
        VaultError: something in it can't be written as UTF-8, or it is too long.
    """
    # The names are sorted, as canonical JSON asks: attributes, bucket, codec, etag …
    try:
        attached = canonical(attributes_to_json(attributes))
        before = f'{{"attributes":{attached},"bucket":{quoted(bucket)},"codec":'
        version = "null" if info.version_id is None else quoted(info.version_id)
        after = (
            f',"etag":{quoted(info.etag)},"key":{quoted(info.key)},'
            f'"last_modified":{quoted(time_to_text(info.last_modified))},'
            f'"operation":{quoted(operation_id)}'
        )
        end = f',"size":{info.size:d},"version_id":{version}}}'
        made = HeaderText(before.encode(), after.encode(), end.encode())
    except UnicodeEncodeError as error:
        raise VaultError(f"{info.key!r} or its attributes hold a lone surrogate, which isn't text") from error
    if len(made.before) + len(made.after) + len(made.end) > HEADER_MAX_BYTES - 16_384:
        raise VaultError(f"the attributes of {info.key!r} are longer than {HEADER_MAX_BYTES} bytes")
    return made


def parse_header(data: bytes, version: int = VERSION) -> Header:
    """A header whose digest was found right.

    Raises:
        VaultCorrupt: it isn't a header.
        VaultError: it has fields that this version doesn't know.
    """
    try:
        fields: Any = json.loads(data)
    except ValueError as error:
        raise VaultCorrupt(f"the header is not JSON: {error}") from error
    if version == SOLID_VERSION:
        raise VaultCorrupt("the frame is that of a block, not of one object")
    forms = [_HEADER_NAMES | more for more in _MORE_NAMES[version]]
    if not isinstance(fields, dict) or not any(fields.keys() >= form for form in forms):
        raise VaultCorrupt("the header lacks fields")
    names = next(form for form in forms if fields.keys() >= form)
    if fields.keys() != names:
        unknown = ", ".join(sorted(fields.keys() - names))
        raise VaultError(f"the header has fields of a newer s3gc ({unknown}): update s3gc")
    texts = (fields[n] for n in ("bucket", "codec", "etag", "key", "last_modified", "operation"))
    size, version_id = fields["size"], fields["version_id"]
    if not all(isinstance(t, str) for t in texts) or not isinstance(version_id, str | None):
        raise VaultCorrupt("the header has a field that should be text")
    if type(size) is not int or size < 0:
        raise VaultCorrupt(f"the header's size is {size!r}")
    requires = fields.get("requires", {})
    if not isinstance(requires, dict) or not all(isinstance(value, str) for value in requires.values()):
        raise VaultCorrupt("the header's requires are not versions by name")
    record = BackupRecord(
        key=fields["key"],
        etag=fields["etag"],
        size=size,
        sha256="",
        last_modified=time_from_text(fields["last_modified"]),
        version_id=version_id,
        attributes=attributes_from_json(fields["attributes"]),
        codec=fields["codec"],
        stored_size=0,
        location="",
        same_as=same_as_from_json(fields["same_as"]) if "same_as" in fields else None,
    )
    if (record.same_as is None) != (record.codec != SAME):
        raise VaultCorrupt("the header contradicts itself about whose bytes these are")
    return Header(record, fields["bucket"], fields["operation"], requires)


class FrameBuilder:
    """Makes the bytes of one frame, in order; keeps only digests and counts.

    Args:
        offset: where in its pack the frame begins, in bytes.
        header: canonical JSON.
        version: the header's.
    """

    def __init__(self, offset: int, header: bytes, version: int = VERSION) -> None:
        preamble = PREAMBLE.pack(MAGIC, version, 0, len(header), offset)
        head = hashlib.sha256(preamble)
        head.update(header)
        self.start = b"".join((preamble, head.digest(), header))
        self.length = len(self.start)
        self.stored = 0
        self.digest = b""
        self._sha = hashlib.sha256(self.start)

    def chunks(self, data: bytes) -> list[bytes]:
        """``data`` (any length) as chunks."""
        made: list[bytes] = []
        for begin in range(0, len(data), CHUNK_MAX_BYTES):
            piece = data if len(data) <= CHUNK_MAX_BYTES else data[begin : begin + CHUNK_MAX_BYTES]
            made += (LENGTH.pack(len(piece)), piece)
            self._sha.update(made[-2])
            self._sha.update(piece)
            self.stored += len(piece)
            self.length += LENGTH.size + len(piece)
        return made

    def end(self, size: int, sha256: bytes) -> bytes:
        """The end of the chunks, the trailer, the digest."""
        self.length += LENGTH.size + TAIL_BYTES
        last = LENGTH.pack(0) + TRAILER.pack(END_MAGIC, size, sha256, self.stored, self.length)
        self._sha.update(last)
        self.digest = self._sha.digest()
        return last + self.digest
