"""One operation that runs here: what it does at this moment, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

import anyio
from attrs import Factory, define

HEARTBEAT = 15.0
"""Seconds without news after which listeners get a sign of life."""

LONGEST = 60.0
"""Seconds after which a listener is sent away, to come again: a server that stops waits for connections."""

PACE = 0.25
"""Seconds between two pieces of news to a listener, at least."""


@define(eq=False)
class Running:
    """An operation, from when somebody asked for it to its end."""

    operation_id: str
    kind: str  # plan, collect, restore, missing, verify, drill
    started_at: datetime
    started_by: str
    stage: str = "starting"
    listed: int = 0
    references: int = 0
    planned: int | None = None
    backed_up: int = 0
    deleted: int = 0
    resurrected: int = 0
    restored: int = 0
    state: str = "running"  # then: completed, held, failed, refused
    message: str | None = None  # how it ended, if not well
    ended_at: datetime | None = None
    error: Exception | None = None
    outcome: Any = None  # a restore's report, until it was answered
    result: Mapping[str, Any] | None = None  # what a check found, as JSON; never long
    begun: anyio.Event = Factory(anyio.Event)
    finished: anyio.Event = Factory(anyio.Event)
    _news: anyio.Event = Factory(anyio.Event)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "operation_id": self.operation_id,
            "kind": self.kind,
            "state": self.state,
            "stage": self.stage,
            "started_at": self.started_at.isoformat(),
            "started_by": self.started_by,
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            "message": self.message,
            "listed": self.listed,
            "references": self.references,
            "planned": self.planned,
            "backed_up": self.backed_up,
            "deleted": self.deleted,
            "resurrected": self.resurrected,
            "restored": self.restored,
            "result": self.result,
        }

    def told(self, event: str, data: Mapping[str, Any]) -> None:
        """Called by the core with each event: must be quick, and never fails."""
        handler = _HANDLERS.get(event)
        if handler is not None:
            handler(self, data)
            self.begun.set()
            self._tell()

    def end(self, state: str, message: str | None, at: datetime) -> None:
        """It is over."""
        self.state, self.message, self.ended_at, self.stage = state, message, at, "ended"
        self.begun.set()
        self.finished.set()
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    async def follow(self) -> AsyncIterator[dict[str, Any] | None]:
        """Its document now, after each change, and at its end; None now and then when nothing happens.

        After LONGEST seconds it stops.
        """
        last = anyio.current_time() + LONGEST
        while True:
            news = self._news
            over = self.finished.is_set()
            yield self.document()
            if over or anyio.current_time() >= last:
                return
            while not news.is_set():
                with anyio.move_on_after(HEARTBEAT):
                    await news.wait()
                if anyio.current_time() >= last:
                    return
                if not news.is_set():
                    yield None
            await anyio.sleep(PACE)


# what each event means here


def _started(running: Running, data: Mapping[str, Any]) -> None:
    running.stage = "listing the bucket" if data["kind"] == "plan" else "executing the plan"


def _listing(running: Running, data: Mapping[str, Any]) -> None:
    running.listed = data["listed"]


def _listed(running: Running, data: Mapping[str, Any]) -> None:
    running.listed, running.stage = data["objects"], "reading the references"


def _synced(running: Running, data: Mapping[str, Any]) -> None:
    running.references += data["references"]


def _planned(running: Running, data: Mapping[str, Any]) -> None:
    running.planned, running.stage = data["objects"], "the plan is made"


def _verified(running: Running, _data: Mapping[str, Any]) -> None:
    running.stage = "backing up"


def _backed_up(running: Running, data: Mapping[str, Any]) -> None:
    running.backed_up += data["objects"]
    running.stage = "reading the references once more"


def _fenced(running: Running, _data: Mapping[str, Any]) -> None:
    running.stage = "deleting"


def _deleted(running: Running, _data: Mapping[str, Any]) -> None:
    running.deleted += 1


def _resurrected(running: Running, _data: Mapping[str, Any]) -> None:
    running.resurrected += 1


def _restoring(running: Running, data: Mapping[str, Any]) -> None:
    running.planned, running.stage = data["objects"], "restoring"


def _restored(running: Running, _data: Mapping[str, Any]) -> None:
    running.restored += 1


_HANDLERS: Mapping[str, Callable[[Running, Mapping[str, Any]], None]] = {
    "gc_cycle_started": _started,
    "listing_progress": _listing,
    "listing_completed": _listed,
    "source_synced": _synced,
    "plan_made": _planned,
    "batch_verified": _verified,
    "batch_backed_up": _backed_up,
    "batch_fenced": _fenced,
    "object_backed_up_and_deleted": _deleted,
    "object_resurrected": _resurrected,
    "restore_started": _restoring,
    "object_restored": _restored,
}
