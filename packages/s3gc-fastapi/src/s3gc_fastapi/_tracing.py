"""A span for each operation, where the host application has OpenTelemetry. Nothing without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from s3gc_fastapi._running import Running

try:
    from opentelemetry import trace
except ModuleNotFoundError:
    _HAVE = False
else:
    _HAVE = True


@contextmanager
def span(running: Running, bucket: str, mode: str) -> Iterator[Callable[[], None]]:
    """While an operation runs; call what it gives when the operation has ended, to note how.

    Its parent is the span of the request that began it, if there is one.
    """
    if not _HAVE:
        yield lambda: None
        return
    attributes = {"s3gc.operation_id": running.operation_id, "s3gc.bucket": bucket, "s3gc.mode": mode}
    with trace.get_tracer("s3gc").start_as_current_span(
        f"s3gc {running.kind}", attributes=attributes
    ) as made:

        def ended() -> None:
            made.set_attributes(
                {
                    "s3gc.state": running.state,
                    "s3gc.deleted": running.deleted,
                    "s3gc.backed_up": running.backed_up,
                    "s3gc.restored": running.restored,
                }
            )
            if running.state in ("failed", "held"):
                made.set_status(trace.StatusCode.ERROR, running.message or running.state)

        yield ended
