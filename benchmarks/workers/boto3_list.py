"""boto3's plain list_objects_v2 paginator."""

from __future__ import annotations

import boto3

from benchmarks.workers import arguments, report, timed


def main() -> None:
    """List and count."""
    options = arguments()
    client = boto3.client("s3", endpoint_url=options.endpoint)
    objects = 0
    with timed() as timer:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=options.bucket):
            objects += len(page.get("Contents", []))
    report(seconds=timer.seconds, cpu_seconds=timer.cpu_seconds, objects=objects)


if __name__ == "__main__":
    main()
