"""From an error to an answer: one form for all of them, and no secret in any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from attrs import frozen
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from s3gc.config import Config, scrub
from s3gc.errors import (
    CycleHeld,
    LeaseHeld,
    PlanError,
    S3GCError,
)


class Refusal(Exception):
    """An answer that isn't the one that was asked for. The text is for people and holds no secret."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        operation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.operation_id = operation_id
        self.headers = dict(headers or {})
        self.details = list(details)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON answer."""
        return {
            "error": {
                "type": self.kind,
                "message": self.message,
                "operation_id": self.operation_id,
                "details": self.details,
            }
        }


@frozen
class _Kind:
    status: int
    name: str


_KINDS: Sequence[tuple[type[S3GCError], _Kind]] = (
    (LeaseHeld, _Kind(409, "busy")),
    (CycleHeld, _Kind(409, "held")),
    (PlanError, _Kind(409, "plan_unusable")),
    (S3GCError, _Kind(503, "unavailable")),
)


def refusal_of(error: Exception, config: Config) -> Refusal | None:
    """The answer for an error that was raised on purpose; None for any other: that is the host's business."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        return Refusal(error.status_code, f"http_{error.status_code}", str(error.detail), headers=headers)
    for kind, answer in _KINDS:
        if isinstance(error, kind):
            return Refusal(
                answer.status,
                answer.name,
                scrub(str(error), config),
                operation_id=getattr(error, "operation_id", None),
                details=[
                    {
                        "code": breaker.code,
                        "subject": breaker.subject,
                        "reason": scrub(breaker.reason, config),
                    }
                    for breaker in getattr(error, "breakers", ())
                ],
            )
    return None


def raised(error: Exception, config: Config) -> NoReturn:
    """Raise the answer for the error that an operation ended with, whatever it is.

    Raises:
        Refusal: always.
    """
    refusal = refusal_of(error, config)
    if refusal is None:
        refusal = Refusal(503, "failed", scrub(f"{type(error).__name__}: {error}", config))
    raise refusal


def _invalid(error: RequestValidationError) -> Refusal:
    """Where it is wrong and why; never what was sent, which may be a secret."""
    details = [
        {"where": ".".join(str(part) for part in problem["loc"]), "problem": str(problem["msg"])}
        for problem in error.errors()
    ]
    told = "; ".join(f"{each['where']}: {each['problem']}" for each in details[:5])
    return Refusal(422, "invalid", told or "the request is invalid", details=details)
