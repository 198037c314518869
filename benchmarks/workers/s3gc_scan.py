"""s3gc's scan of a whole bucket, twice: the second knows from the first where the bucket can be split."""

from __future__ import annotations

from itertools import pairwise

import anyio

from benchmarks.workers import Timer, arguments, report, timed
from s3gc.stores.s3 import S3Options, S3Store


class Overlap(Exception):
    """Two pages hold the same part of the bucket."""


async def _scan(store: S3Store) -> tuple[Timer, int]:
    """Scan and count; prove afterwards that no key came twice."""
    objects = 0
    spans: list[tuple[str, str]] = []
    with timed() as timer:
        async for page in store.scan():
            objects += len(page)
            spans.append((page[0].key, page[-1].key))
    for one, other in pairwise(sorted(spans)):
        if other[0] <= one[1]:
            raise Overlap(f"{one} and {other}")
    return timer, objects


async def main() -> None:
    """Scan twice and say what each took."""
    options = arguments("listers")
    store = S3Store(
        options.bucket, endpoint_url=options.endpoint, options=S3Options(listers=int(options.listers))
    )
    try:
        first, objects = await _scan(store)
        again, objects_again = await _scan(store)
    finally:
        await store.aclose()
    report(
        seconds=first.seconds,
        cpu_seconds=first.cpu_seconds,
        objects=objects,
        again_seconds=again.seconds,
        again_cpu_seconds=again.cpu_seconds,
        again_objects=objects_again,
    )


if __name__ == "__main__":
    anyio.run(main)
