"""s3gc's own get of the bucket's only object, its bytes dropped after they were checked."""

from __future__ import annotations

import anyio

from benchmarks.workers import arguments, report, timed
from s3gc.stores.s3 import S3Options, S3Store


async def main() -> None:
    """Read and count."""
    options = arguments("md5")
    store = S3Store(
        options.bucket, endpoint_url=options.endpoint, options=S3Options(verify_md5=options.md5 == "yes")
    )
    async for page in store.list():
        (listed,) = page
    size = 0
    with timed() as timer:
        async with store.get(listed.key, if_match=listed.etag) as reader:
            async for piece in reader.chunks():
                size += len(piece)
    await store.aclose()
    report(seconds=timer.seconds, cpu_seconds=timer.cpu_seconds, bytes=size)


if __name__ == "__main__":
    anyio.run(main)
