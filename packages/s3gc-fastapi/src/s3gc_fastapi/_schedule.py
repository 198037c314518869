"""When the next cycle begins: a time of day or a cron expression, in a time zone, with some jitter."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import anyio
from attrs import Factory, define, frozen
from cronsim import CronSim, CronSimError

from s3gc.clock import Clock
from s3gc.errors import ConfigError

LONGEST_NAP = 60.0
"""Seconds. A clock that is set, or a machine that slept, is noticed after so long."""

TOO_LATE = timedelta(hours=1)
"""A run that could not begin for so long after its time is left out."""


@frozen
class Schedule:
    """The times at which cycles begin.

    Args:
        text: ``HH:MM``, or the five fields of a cron expression.
        zone: the time zone that both are meant in.
        jitter: each run begins up to so much later, by chance, so that many services don't all begin at once.

    Raises:
        ConfigError: one of them means nothing.
    """

    text: str
    zone: str = "UTC"
    jitter: timedelta = timedelta()

    def __attrs_post_init__(self) -> None:
        if self.jitter < timedelta() or self.jitter >= TOO_LATE:
            raise ConfigError(f"the schedule's jitter must be less than {TOO_LATE}, and not negative")
        try:
            self.after(datetime(2026, 1, 1, tzinfo=UTC))
        except ZoneInfoNotFoundError:
            raise ConfigError(f"there is no time zone {self.zone!r}: write Europe/Berlin, say") from None
        except (CronSimError, StopIteration) as error:
            raise ConfigError(f"schedule_cron {self.text!r} names no time ({error})") from None

    def after(self, moment: datetime) -> datetime:
        """The first time after ``moment``, without jitter; UTC."""
        local = moment.astimezone(UTC if self.zone == "UTC" else ZoneInfo(self.zone))
        return next(CronSim(self._expression, local)).astimezone(UTC)

    @property
    def _expression(self) -> str:
        hour, colon, minute = self.text.partition(":")
        return f"{int(minute)} {int(hour)} * * *" if colon else self.text


@define
class Timer:
    """Runs something at the times of a schedule, one run at a time.

    A run whose time comes while the one before is still going on is left out. So is one that can't begin
    within an hour of its time, because the machine slept, say. What came while the process didn't run is not
    made up.
    """

    schedule: Schedule
    clock: Clock
    run: Callable[[datetime], Awaitable[None]]
    missed: Callable[[datetime], None]
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    chance: random.Random = Factory(random.SystemRandom)
    next_run: datetime | None = None
    """With its jitter."""

    async def serve(self) -> None:
        """Never ends."""
        last = self.clock.now()
        while True:
            due = self.schedule.after(last)
            self.next_run = due + self.chance.random() * self.schedule.jitter
            while (rest := (self.next_run - self.clock.now()).total_seconds()) > 0:
                await self.sleep(min(rest, LONGEST_NAP))
            if self.clock.now() - self.next_run > TOO_LATE:
                self.missed(due)
            else:
                await self.run(due)
            last = max(due, self.clock.now())
