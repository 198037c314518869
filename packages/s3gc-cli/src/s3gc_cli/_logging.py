"""Logs: configured here and nowhere else, on stderr, readable or as JSON lines, without secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import MutableMapping
from typing import Any

import structlog

from s3gc_cli._output import Output

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def configure(output: Output) -> None:
    """Send structlog's and the standard library's logs to ``output``, at the level that -v asks for."""
    settings = output.settings
    level = _LEVELS[min(settings.verbose, 2)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _json_line if settings.log_json else _readable_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Sink(output),
        cache_logger_on_first_use=False,
    )
    # Libraries below us (botocore, urllib3) write headers with signatures at DEBUG: INFO is the most we show.
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Bridge)]
    root.addHandler(_Bridge(output))
    root.setLevel(logging.INFO if settings.debug else logging.WARNING)


class _Sink:
    """What structlog calls with a finished line."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def msg(self, line: str) -> None:
        self._output.log(line)

    debug = info = warning = error = critical = exception = msg


class _Bridge(logging.Handler):
    """The standard library's records, in the same form."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        event: dict[str, Any] = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "", event)
        if record.exc_info:
            event["exception"] = logging.Formatter().formatException(record.exc_info)
        render = _json_line if self._output.settings.log_json else _readable_line
        try:
            self._output.log(render(None, "", event))
        except (OSError, ValueError):  # a closed stream must not stop whoever logs
            self.handleError(record)


def _json_line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    return json.dumps(event, default=repr)


def _readable_line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """``2026-11-23T10:00:00Z info    plan_made objects=12``; ``repr`` escapes what can't be seen."""
    time, level, name = event.pop("timestamp", ""), event.pop("level", ""), event.pop("event", "")
    trace = event.pop("exception", "")
    values = "".join(f" {key}={value!r}" for key, value in event.items())
    return f"{time} {level:<7} {name}{values}" + (f"\n{trace}" if trace else "")
