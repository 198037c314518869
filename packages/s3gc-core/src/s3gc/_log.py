"""Where log lines go: to the host's structlog if it configured one, else to the standard library."""

from __future__ import annotations

import logging

import structlog
from structlog.typing import FilteringBoundLogger


def get_logger(name: str = "s3gc") -> FilteringBoundLogger:
    """A logger that never prints by itself: an unconfigured structlog would write to stdout."""
    if structlog.is_configured():
        configured: FilteringBoundLogger = structlog.get_logger(name)
        return configured
    wrapped: FilteringBoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return wrapped
