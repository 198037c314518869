"""The bucket's only object into a local vault: on the disk, synced, read back and compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

import anyio

from benchmarks.workers import arguments, report, timed
from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.stores.s3 import S3Options, S3Store
from s3gc.vault import LocalVault

_OPERATION = "01K00000000000000000000000"


async def main() -> None:
    """Back up, and prove what the vault gives back."""
    options = arguments("vault", "md5")
    store = S3Store(
        options.bucket, endpoint_url=options.endpoint, options=S3Options(verify_md5=options.md5 == "yes")
    )
    async for page in store.list():
        (listed,) = page
    vault = LocalVault(Path(options.vault), compressors=[ZstdCompressor()], clock=SystemClock())
    await vault.open(store.url)
    async with vault.session(_OPERATION) as session:
        with timed() as timer:
            async with store.get(listed.key, if_match=listed.etag) as reader:
                await session.add(listed, reader.attributes, reader.chunks())
            (record,) = await session.commit()
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    async for piece in vault.read(record):
        digest.update(piece)
        size += len(piece)
    await store.aclose()
    await vault.aclose()
    report(
        seconds=timer.seconds,
        cpu_seconds=timer.cpu_seconds,
        bytes=size,
        right=digest.hexdigest() == record.etag,
    )


if __name__ == "__main__":
    anyio.run(main)
