"""The bucket's only object into a local vault: streamed, then synced, read back and compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

import anyio

from benchmarks.workers import arguments, report, timed
from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.stores.s3 import S3Store
from s3gc.vault import LocalVault

_OPERATION = "01K00000000000000000000000"


async def main() -> None:
    """Back up, and prove what the vault gives back."""
    options = arguments("vault")
    store = S3Store(options.bucket, endpoint_url=options.endpoint)
    async for page in store.list():
        (listed,) = page
    vault = LocalVault(Path(options.vault), compressors=[ZstdCompressor()], clock=SystemClock())
    await vault.open(store.url)
    async with vault.session(_OPERATION) as session:
        with timed() as adding:
            async with store.get(listed.key, if_match=listed.etag) as reader:
                await session.add(listed, reader.attributes, reader.chunks())
        with timed() as committing:
            (record,) = await session.commit()
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    async for piece in vault.read(record):
        digest.update(piece)
        size += len(piece)
    await store.aclose()
    await vault.aclose()
    report(
        seconds=adding.seconds,
        cpu_seconds=adding.cpu_seconds,
        commit_seconds=committing.seconds,
        commit_cpu_seconds=committing.cpu_seconds,
        bytes=size,
        right=digest.hexdigest() == record.etag,
    )


if __name__ == "__main__":
    anyio.run(main)
