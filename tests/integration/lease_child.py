"""Holds a bucket's lease; for each line of input it looks and tells whether it would delete. Run by
test_lease_s3.py: endpoint, bucket, keys, seconds of ttl and margin.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import anyio

from s3gc.clock import SystemClock
from s3gc.errors import LeaseLost, StoreError
from s3gc.lease import bucket_lease
from s3gc.safety import Safety
from s3gc.stores.s3 import S3Store


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(endpoint: str, bucket: str, access: str, secret: str, ttl: str, margin: str) -> None:
    store = S3Store(bucket, region="us-east-1", endpoint_url=endpoint, access_key=access, secret_key=secret)
    safety = Safety.none().but(
        lease_ttl=timedelta(seconds=float(ttl)), lease_margin=timedelta(seconds=float(margin))
    )
    ids = iter(f"{os.getpid()} {number}" for number in range(1_000))
    async with bucket_lease(store, SystemClock(), safety, holder="child", new_id=ids.__next__) as held:
        tell(str(held.token))
        for _ in sys.stdin:
            try:
                await held.before_delete()
                tell("may delete")
            except (LeaseLost, StoreError) as error:
                tell(type(error).__name__)
    await store.aclose()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
