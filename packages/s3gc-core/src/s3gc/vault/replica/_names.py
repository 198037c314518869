"""The names of a replica's objects, and arithmetic on the stretches that they hold.

Names are ours and plain, so any store can address them. Numbers have twelve digits or more, so that a
listing is in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

IDENTITY = "replica.json"

_PIECE = re.compile(r"packs/([0-9A-HJKMNP-TV-Z]{26})/([0-9]{12,18})-([0-9]{12,18})\.part", re.ASCII)
_SEGMENT = re.compile(r"journal/([0-9]{12,18})-([0-9]{12,18})\.jsonl\.zst", re.ASCII)

Span = tuple[int, int]
"""From the first to the one behind the last: bytes of a pack, or entries counted from 0."""


def piece_name(pack: str, span: Span) -> str:
    """``packs/<ULID>/<offset>-<length>.part``."""
    return f"packs/{pack}/{span[0]:012d}-{span[1] - span[0]:012d}.part"


def parse_piece(name: str) -> tuple[str, Span] | None:
    """The inverse; None for any other name."""
    found = _PIECE.fullmatch(name)
    if not found:
        return None
    offset, length = int(found[2]), int(found[3])
    made = (found[1], (offset, offset + length))
    return made if length and piece_name(*made) == name else None


def segment_name(span: Span) -> str:
    """``journal/<first>-<last>.jsonl.zst``: numbers of entries, both included."""
    return f"journal/{span[0] + 1:012d}-{span[1]:012d}.jsonl.zst"


def parse_segment(name: str) -> Span | None:
    """The inverse; None for any other name."""
    found = _SEGMENT.fullmatch(name)
    if not found:
        return None
    span = (int(found[1]) - 1, int(found[2]))
    return span if 0 <= span[0] < span[1] and segment_name(span) == name else None


def missing(have: Iterable[Span], wanted: Span) -> list[Span]:
    """The stretches of ``wanted`` that ``have`` lacks, in order."""
    found: list[Span] = []
    at, end = wanted
    for begin, stop in sorted(have):
        if begin >= end:
            break
        if begin > at:
            found.append((at, begin))
        at = max(at, stop)
        if at >= end:
            break
    if at < end:
        found.append((at, end))
    return found


def reach(have: Iterable[Span]) -> int:
    """Up to where ``have`` goes from 0 on without a gap."""
    at = 0
    for begin, stop in sorted(have):
        if begin > at:
            break
        at = max(at, stop)
    return at


def cut(spans: Iterable[Span], most: int) -> Iterator[Span]:
    """The same stretches in pieces of at most ``most``; none for one that ends before it begins."""
    for begin, end in spans:
        for at in range(begin, end, most):
            yield at, min(at + most, end)
