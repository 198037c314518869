"""Faults on demand: which requests go wrong, how, and how often."""

from __future__ import annotations

import enum
from typing import Any

from attrs import define, field

from benchmarks.responder.http import Request


class Kind(enum.StrEnum):
    """What goes wrong."""

    STATUS = "status"  # an error instead of the operation
    RESET = "reset"  # the connection closes; the operation did not happen
    LOST = "lost"  # the operation happens; the connection closes instead of the answer
    TRUNCATE = "truncate"  # half of the body, then the connection closes
    DELAY = "delay"  # the right answer, late


@define(kw_only=True)
class Fault:
    """One kind of fault for the next ``times`` requests that match."""

    kind: Kind = field(converter=Kind)
    operation: str = ""  # as in the request counts, e.g. GetObject; empty: any
    contains: str = ""  # part of the request's path; empty: any
    times: int = 1
    status: int = 503
    code: str = "SlowDown"
    seconds: float = 0.0  # of a delay

    def matches(self, operation: str, request: Request) -> bool:
        """Whether this fault is meant for this request."""
        return self.operation in ("", operation) and self.contains in request.path


@define
class Faults:
    """The faults still to come, in the order in which they were asked for."""

    _waiting: list[Fault] = field(factory=list, init=False)

    def add(self, options: dict[str, Any]) -> None:
        """Ask for a fault.

        Raises:
            TypeError, ValueError: an option or a kind that doesn't exist.
        """
        self._waiting.append(Fault(**options))

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

    def take(self, operation: str, request: Request) -> Fault | None:
        """The fault of this request, counted down."""
        for fault in self._waiting:
            if fault.matches(operation, request):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None
