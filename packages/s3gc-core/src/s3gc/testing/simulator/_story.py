"""What happened, told so that a person can follow it; and the error that a broken promise raises."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from attrs import Factory, define, frozen

logging.getLogger("s3gc").addHandler(logging.NullHandler())  # a simulation's warnings are its story's matter

_ULID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")


class _Time(Protocol):
    def time(self) -> float: ...


@frozen
class _Line:
    at: float  # seconds since the simulation's start
    actor: str
    text: str
    values: tuple[object, ...]


@define
class Story:
    """Lines are kept as they come and put into words only when somebody reads them."""

    time: _Time
    counts: Counter[str] = Factory(Counter)
    muted: bool = False
    secrets: list[str] = Factory(list)  # texts that differ from run to run: paths
    _lines: list[_Line] = Factory(list)

    def say(self, actor: str, text: str, *values: object) -> None:
        """Add a line; ``text`` is a template of :meth:`str.format` for ``values``."""
        if not self.muted:
            self._lines.append(_Line(self.time.time(), actor, text, values))

    def count(self, what: str, by: int = 1) -> None:
        """For the totals of a run."""
        self.counts[what] += by

    def lines(self) -> Sequence[str]:
        """The story so far; the same for the same schedule in every process."""
        return [self._told(line) for line in self._lines]

    def _told(self, line: _Line) -> str:
        text = line.text.format(*line.values) if line.values else line.text
        return f"{clock_text(line.at)}  {line.actor:<10} {self.scrubbed(text)}"

    def scrubbed(self, text: str) -> str:
        """Without what differs from run to run."""
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return _ULID.sub("<ulid>", text)


def clock_text(seconds: float) -> str:
    """``2d 03:04:05.006``."""
    milliseconds = round(seconds * 1000)
    days, rest = divmod(milliseconds, 86_400_000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{days:>3}d {hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"


class Violation(Exception):
    """A promise was broken.

    Attributes:
        invariant: which one, e.g. ``P1``.
        text: how, in one sentence.
        seed: what makes it happen again; None when the choices weren't made by a seed.
        world: in which world.
        story: all that happened until then.
    """

    def __init__(self, invariant: str, text: str, seed: int | None, world: str, story: Sequence[str]) -> None:
        self.invariant, self.text, self.seed, self.world, self.story = invariant, text, seed, world, story
        super().__init__(invariant, text, seed, world, story)

    def __str__(self) -> str:
        head = f"{self.invariant} broken in world {self.world}, seed {self.seed}: {self.text}"
        return "\n".join([head, *self.story])
