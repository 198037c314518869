"""Times as whole microseconds, as the registry keeps them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

_KEEP_MOMENTS = 4_096
"""Moments remembered: most candidates of a cycle share theirs."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@functools.lru_cache(_KEEP_MOMENTS)
def micros(moment: datetime) -> int:
    """Microseconds since 1970; exact."""
    return (moment - _EPOCH) // _MICROSECOND


def micros_each(moments: Iterable[datetime]) -> list[int]:
    """:func:`micros` of many that differ."""
    return [(moment - _EPOCH) // _MICROSECOND for moment in moments]


@functools.lru_cache(_KEEP_MOMENTS)
def moment(microseconds: int) -> datetime:
    """The inverse of :func:`micros`."""
    return _EPOCH + microseconds * _MICROSECOND
