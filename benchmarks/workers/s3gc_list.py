"""s3gc's own listing, alone."""

from __future__ import annotations

import anyio

from benchmarks.workers import arguments, report, timed
from s3gc.stores.s3 import S3Store


async def main() -> None:
    """List and count."""
    options = arguments()
    store = S3Store(options.bucket, endpoint_url=options.endpoint)
    objects = 0
    try:
        with timed() as timer:
            async for page in store.list():
                objects += len(page)
    finally:
        await store.aclose()
    report(seconds=timer.seconds, cpu_seconds=timer.cpu_seconds, objects=objects)


if __name__ == "__main__":
    anyio.run(main)
