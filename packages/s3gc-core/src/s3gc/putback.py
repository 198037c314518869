"""Put one object back, exactly, and prove it. Restores and resurrections consist of this."""

from __future__ import annotations

import hashlib
from contextlib import aclosing

from s3gc.abc import ObjectStore, Vault
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
    return await write(parts.store, record.key, parts.vault, record, overwrite=overwrite)


async def write(
    store: ObjectStore,
    key: str,
    vault: Vault,
    record: BackupRecord,
    *,
    data: bytes | None = None,
    overwrite: bool = False,
) -> ObjectInfo:
    """As :func:`put_back`, under any key of any store; ``data`` are the bytes, if they were read already."""
    if data is not None:
        written = await store.put(
            key, data, size=record.size, attributes=record.attributes, if_none_match=not overwrite
        )
    else:
        async with aclosing(vault.read(record)) as chunks:  # type: ignore[type-var]
            written = await store.put(
                key, chunks, size=record.size, attributes=record.attributes, if_none_match=not overwrite
            )
    # Multipart and encrypted objects get other ETags: compare the bytes themselves.
    if written.etag != record.etag and await digest_in(store, key, written.etag) != record.sha256:
        raise StoreError(f"the store holds other bytes under {key!r} than were written: restore again")
    return written


async def digest_of(parts: Parts, key: str, etag: str) -> str:
    """SHA-256 (hex) of the object's bytes as the bucket gives them now."""
    return await digest_in(parts.store, key, etag)


async def digest_in(store: ObjectStore, key: str, etag: str) -> str:
    """SHA-256 (hex) of an object's bytes as a store gives them now."""
    digest = hashlib.sha256()
    async with store.get(key, if_match=etag) as reader:
        async for chunk in reader.chunks():
            digest.update(chunk)
    return digest.hexdigest()


async def put_back_if_missing(parts: Parts, record: BackupRecord) -> ObjectInfo | None:
    """As :func:`put_back`, but leave a live object alone. None when there is one."""
    try:
        return await put_back(parts, record)
    except PreconditionFailed:
        return None
