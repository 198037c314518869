"""Points in time on the command line."""

from __future__ import annotations

from datetime import datetime

from s3gc_cli._errors import UsageProblem


def read_moment(option: str, text: str) -> datetime:
    """A point in time with its zone.

    Raises:
        UsageProblem: it isn't ISO 8601, or says no zone: an hour too late is another answer.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageProblem(
            f"{option} {text!r} is not a time in ISO 8601: write 2026-11-22T18:00:00Z"
        ) from None
    if moment.tzinfo is None:
        raise UsageProblem(f"{option} {text!r} has no time zone: write 2026-11-22T18:00:00Z, or +01:00 for Z")
    return moment
