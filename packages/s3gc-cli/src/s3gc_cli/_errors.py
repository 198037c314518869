"""From an error to what a person, a script and the shell are told."""

from __future__ import annotations

from typing import Any

DONE = 0
FAILED = 1
USAGE = 2
HELD = 3
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


class UsageProblem(Exception):
    """The command line or the configuration asks for something that can't be meant."""


class Interrupted(Exception):
    """A signal ended the command. The text says what is left."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.exit_code = 128 + number


def exit_code(error: BaseException) -> int:
    """The exit code for an error that ends a command."""
    from s3gc.errors import ConfigError, CycleHeld

    if isinstance(error, UsageProblem | ConfigError):
        return USAGE
    if isinstance(error, CycleHeld):
        return HELD
    return error.exit_code if isinstance(error, Interrupted) else FAILED


def message(error: BaseException) -> str:
    """One line. An error that s3gc didn't raise on purpose is named as what it is."""
    from s3gc.errors import CycleHeld, S3GCError

    if isinstance(error, CycleHeld):
        return "held, nothing more is deleted: " + ", ".join(breaker.code for breaker in error.breakers)
    if isinstance(error, S3GCError | UsageProblem | Interrupted):
        text = str(error) or type(error).__name__
    else:
        text = f"unexpected {type(error).__name__}: {error} (--debug shows where; please report it)"
    return " ".join(text.split("\n"))


def document(error: BaseException, text: str) -> dict[str, Any]:
    """``{"error": …}`` for ``--json``; a held cycle brings its breakers and what was done before."""
    from s3gc.errors import CycleHeld
    from s3gc_cli import _documents

    kind = "usage" if isinstance(error, UsageProblem) else type(error).__name__
    found: dict[str, Any] = {"error": {"type": kind, "message": text, "exit_code": exit_code(error)}}
    if isinstance(error, CycleHeld):
        found["error"]["held_by"] = [_documents.breaker(breaker) for breaker in error.breakers]
        if error.report is not None:
            found["report"] = _documents.report(error.report)
    return found
