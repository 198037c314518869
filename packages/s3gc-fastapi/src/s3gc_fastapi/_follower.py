"""The follower of a process: keeps the registry at the changes between cycles, while the application runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import anyio
from structlog.typing import FilteringBoundLogger

from s3gc import Collector
from s3gc.clock import Clock
from s3gc.errors import ConfigError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two attempts after an error: twice as long each time."""


class Follower:
    """Runs ``Collector.follow``, and says how it is.

    Args:
        safe: an error's text without secrets.
    """

    def __init__(self, clock: Clock, log: FilteringBoundLogger, safe: Callable[[BaseException], str]) -> None:
        self._clock = clock
        self._log = log
        self._safe = safe
        self._state = "off"
        self._since: datetime | None = None
        self._why: str | None = None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        since = self._since.isoformat() if self._since else None
        return {"state": self._state, "since": since, "why": self._why}

    @property
    def well(self) -> bool | None:
        """Whether it follows, or leaves that to somebody else for now; None: it isn't asked for."""
        return None if self._state == "off" else self._state in ("following", "standing by")

    async def run(self, gc: Collector) -> None:
        """Follow until cancelled. Nothing that goes wrong here ends the application or its operations."""
        wait = FIRST_PAUSE
        try:
            while True:
                self._is("standing by", None)
                try:
                    await gc.follow()
                except ConfigError as error:
                    self._is("failed", self._safe(error))
                    self._log.error("admin_follower_useless", error=self._why)
                    await anyio.sleep_forever()
                except Exception as error:  # noqa: BLE001 - told, and tried again
                    self._is("failed", self._safe(error))
                    self._log.error("admin_follower_failed", error=self._why, again_in=wait)
                await anyio.sleep(wait)
                wait = min(2 * wait, LONGEST_PAUSE)
        finally:
            self._is("off", None)

    def told(self, event: str, data: Mapping[str, Any]) -> None:
        """Called with each event of the core."""
        if self._state != "off" and event in _STATES:
            source, reason = data.get("source"), data.get("reason")
            self._is(_STATES[event], ": ".join(str(each) for each in (source, reason) if each) or None)

    def _is(self, state: str, why: str | None) -> None:
        if state != self._state:
            self._since = self._clock.now()
        self._state, self._why = state, why


_STATES: Mapping[str, str] = {
    "follow_started": "following",
    "changes_followed": "following",
    "follow_paused": "standing by",
    "follow_waits": "waiting",
    "follow_lost": "waiting",
}
