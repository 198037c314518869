"""obstore's listing as Arrow batches: one lister, the fastest public way from Python."""

from __future__ import annotations

from obstore.store import S3Store

from benchmarks.workers import arguments, report, timed


def main() -> None:
    """List and count."""
    options = arguments()
    store = S3Store(
        options.bucket,
        endpoint=options.endpoint,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    objects = 0
    with timed() as timer:
        for batch in store.list(chunk_size=1000, return_arrow=True):
            objects += batch.num_rows
    report(seconds=timer.seconds, cpu_seconds=timer.cpu_seconds, objects=objects)


if __name__ == "__main__":
    main()
