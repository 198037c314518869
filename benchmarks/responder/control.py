"""The control endpoint: ``POST /_control/<command>`` with a JSON object, answered with a JSON object.

No bucket can be called ``_control``: an underscore isn't allowed in a bucket's name.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from attrs import define, field

from benchmarks.responder.faults import Faults
from benchmarks.responder.http import Request, Response
from benchmarks.responder.memory import Bucket
from benchmarks.responder.s3 import S3

PREFIX = "/_control/"
_LOG_LIMIT = 100_000  # requests


@define(eq=False)
class RequestLog:
    """What the clients asked for since the last reset."""

    counts: Counter[str] = field(factory=Counter)
    bytes_in: int = 0  # of bodies
    bytes_out: int = 0
    open_requests: int = 0
    most_open: int = 0  # requests under way at once
    targets: list[str] | None = None  # kept only when asked for

    def begin(self, operation: str, request: Request) -> None:
        """A request has arrived."""
        self.counts[operation] += 1
        self.bytes_in += len(request.body)
        self.open_requests += 1
        self.most_open = max(self.most_open, self.open_requests)
        if self.targets is not None and len(self.targets) < _LOG_LIMIT:
            self.targets.append(f"{request.method} {request.target}")

    def end(self, response: Response | None) -> None:
        """It was answered, or not."""
        self.open_requests -= 1
        if response is not None:
            self.bytes_out += len(response.body)

    def reset(self, *, log: bool) -> None:
        """Count from nothing. With ``log`` each request's method and target are kept too."""
        self.counts.clear()
        self.bytes_in = self.bytes_out = 0
        self.most_open = self.open_requests
        self.targets = [] if log else None


@define(eq=False)
class Control:
    """Everything about the responder that can be set or asked."""

    s3: S3 = field(factory=S3)
    faults: Faults = field(factory=Faults)
    log: RequestLog = field(factory=RequestLog)
    latency: float = 0.0  # seconds before a request is handled
    _commands: dict[str, Callable[..., dict[str, Any]]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._commands = {
            "latency": self._latency,
            "fill": self._fill,
            "wipe": self._wipe,
            "count": self._count,
            "census": self._census,
            "requests": self._requests,
            "reset": self._reset,
            "fault": self._fault,
            "clear_faults": self._clear_faults,
        }

    def handle(self, request: Request) -> Response:
        """Do one command. A wrong command or option is answered with 400 and the reason."""
        name = request.path.removeprefix(PREFIX)
        try:
            if name not in self._commands:
                raise ValueError(f"no such command: {name}; there are {', '.join(self._commands)}")
            result, status = self._commands[name](**json.loads(request.body or b"{}")), 200
        except (TypeError, ValueError, KeyError) as error:
            result, status = {"error": f"{type(error).__name__}: {error}"}, 400
        return Response(status, {"content-type": "application/json"}, json.dumps(result).encode())

    def _latency(self, *, ms: float) -> dict[str, Any]:
        self.latency = ms / 1000
        return {}

    def _fill(
        self,
        *,
        bucket: str,
        objects: int,
        size: int,
        age_s: int = 0,
        first: int = 0,
        step: int = 1,
        shape: str = "spread",
    ) -> dict[str, Any]:
        """Put the objects first, first + step, … below ``objects``, ``age_s`` seconds old."""
        target = self.s3.buckets.setdefault(bucket, Bucket())
        target.fill(range(first, objects, step), size, int(time.time()) - age_s, shape)
        return {"objects": len(target.objects)}

    def _wipe(self, *, bucket: str) -> dict[str, Any]:
        self.s3.buckets.pop(bucket, None)
        return {}

    def _count(self, *, bucket: str) -> dict[str, Any]:
        objects = self.s3.buckets[bucket].objects
        return {"objects": len(objects), "bytes": sum(item.size for item in objects.values())}

    def _census(self, *, bucket: str, objects: int, size: int) -> dict[str, Any]:
        """Which filled objects are there unchanged (bit i of ``present``), and which keys besides."""
        present, others = self.s3.buckets[bucket].census(objects, size)
        return {"present": f"{present:x}", "others": len(others), "some_others": others[:20]}

    def _requests(self) -> dict[str, Any]:
        return {
            "counts": dict(self.log.counts),
            "bytes_in": self.log.bytes_in,
            "bytes_out": self.log.bytes_out,
            "most_open": self.log.most_open,
            "targets": self.log.targets or [],
        }

    def _reset(self, *, log: bool = False) -> dict[str, Any]:
        self.log.reset(log=log)
        return {}

    def _fault(self, **options: Any) -> dict[str, Any]:
        self.faults.add(options)
        return {}

    def _clear_faults(self) -> dict[str, Any]:
        self.faults.clear()
        return {}
