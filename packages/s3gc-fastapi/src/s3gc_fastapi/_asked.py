"""What endpoints and pages are asked for: ids, keys, times, numbers, and what can't be meant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Path, Query

from s3gc_fastapi import _models as models
from s3gc_fastapi._errors import Refusal

LARGEST = 2**53 - 1
"""The largest whole number that every JSON parser keeps exactly."""

Id = Annotated[str, Path(pattern=models.ULID, description="An operation's id.")]
Key = Annotated[
    str, Query(min_length=1, max_length=1024, description="The object's key.", examples=["a/b.jpg"])
]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
After = Annotated[int, Query(ge=0, le=LARGEST, description="Go on after this number.")]


def key_of(text: str) -> str:
    """A key as it was sent.

    Raises:
        Refusal: no object can have it.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refusal(422, "invalid", "s3_key isn't valid Unicode") from None
    if size > 1024 or "\0" in text:
        raise Refusal(422, "invalid", "a key has at most 1,024 bytes in UTF-8, and no NUL")
    return text


def moment_of(at: datetime) -> datetime:
    """A time with its zone.

    Raises:
        Refusal: it has none, or lies outside of what a calendar holds.
    """
    if at.tzinfo is None:
        raise Refusal(422, "invalid", "at needs its time zone: 2026-11-22T18:00:00Z")
    if not 1970 <= at.year <= 9000:
        raise Refusal(422, "invalid", "at must lie between the years 1970 and 9000")
    return at


def read_moment(text: str) -> datetime:
    """A time in ISO 8601.

    Raises:
        Refusal: it isn't one.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(422, "invalid", "write the time as 2026-11-22T18:00:00Z") from None
