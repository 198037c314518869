"""Put one object back, exactly, and prove it. Restores and resurrections consist of this."""

from __future__ import annotations

import hashlib
from contextlib import aclosing

from s3gc.errors import PreconditionFailed, StoreError
from s3gc.model import BackupRecord, ObjectInfo
from s3gc.parts import Parts


async def put_back(parts: Parts, record: BackupRecord, *, overwrite: bool = False) -> ObjectInfo:
    """Write the backed-up version with its bytes and attributes, then check what the store has.

    Raises:
        PreconditionFailed: the key exists and ``overwrite`` is false.
        VaultCorrupt: the vault can't give back the very bytes.
        StoreError: the write failed, or the store holds other bytes than were sent.
    """
    async with aclosing(parts.vault.read(record)) as chunks:  # type: ignore[type-var]
        written = await parts.store.put(
            record.key,
            chunks,
            size=record.size,
            attributes=record.attributes,
            if_none_match=not overwrite,
        )
    if written.etag != record.etag:
        # Multipart and encrypted objects get other ETags: compare the bytes themselves.
        await _compare(parts, record, written)
    return written


async def _compare(parts: Parts, record: BackupRecord, written: ObjectInfo) -> None:
    digest = hashlib.sha256()
    async with parts.store.get(record.key, if_match=written.etag) as reader:
        async for chunk in reader.chunks():
            digest.update(chunk)
    if digest.hexdigest() != record.sha256:
        raise StoreError(f"the store holds other bytes under {record.key!r} than were written: restore again")


async def put_back_if_missing(parts: Parts, record: BackupRecord) -> ObjectInfo | None:
    """As :func:`put_back`, but leave a live object alone. None when there is one."""
    try:
        return await put_back(parts, record)
    except PreconditionFailed:
        return None
