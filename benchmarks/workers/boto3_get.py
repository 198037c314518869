"""boto3's get of the bucket's only object, its bytes dropped."""

from __future__ import annotations

import boto3

from benchmarks.workers import arguments, report, timed

_PIECE_BYTES = 1 << 20


def main() -> None:
    """Read and count."""
    options = arguments()
    client = boto3.client("s3", endpoint_url=options.endpoint)
    (listed,) = client.list_objects_v2(Bucket=options.bucket)["Contents"]
    size = 0
    with timed() as timer:
        body = client.get_object(Bucket=options.bucket, Key=listed["Key"])["Body"]
        for piece in body.iter_chunks(_PIECE_BYTES):
            size += len(piece)
    report(seconds=timer.seconds, cpu_seconds=timer.cpu_seconds, bytes=size)


if __name__ == "__main__":
    main()
