"""Progress on stderr, from the events of a cycle: a live line on a terminal, else a line for each stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from s3gc.hooks import hookimpl
from s3gc_cli._output import Output
from s3gc_cli._text import count, size, span


class Display(Protocol):
    """What progress is shown on."""

    def stage(self, text: str, total: int | None = None) -> None:
        """Something new begins; ``total`` when its end is known."""

    def at(self, done: int, text: str = "") -> None:
        """So much of the stage is done; ``text`` replaces what it is called."""

    def note(self, text: str) -> None:
        """A line that stays."""

    def stop(self) -> None:
        """Nothing to show for now."""


class Silent:
    """``--quiet``."""

    def stage(self, text: str, total: int | None = None) -> None: ...
    def at(self, done: int, text: str = "") -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


SECONDS_BETWEEN = 10.0
"""Without a terminal: a stage that lasts tells how far it is no more often than this."""


def pace(done: int, total: int | None, seconds: float) -> str:
    """How fast, and how long it will take at that: ``1,200 a second, 3 min 5 s to go``; empty at first."""
    if seconds < 1 or not done:
        return ""
    rate = done / seconds
    said = f"{rate:,.0f} a second" if rate >= 10 else f"{rate:.1f} a second"
    if total is not None and total > done:
        said += f", {span(timedelta(seconds=round((total - done) / rate)))} to go"
    return said


class Lines(Silent):
    """No terminal: the lines that stay, and now and then how far a long stage is."""

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self._output, self._clock = output, clock
        self._text = ""
        self._total: int | None = None
        self._began = self._told = clock()

    def stage(self, text: str, total: int | None = None) -> None:
        self._text, self._total = text, total
        self._began = self._told = self._clock()

    def at(self, done: int, text: str = "") -> None:
        self._text = text or self._text
        now = self._clock()
        if done and now - self._told >= SECONDS_BETWEEN:
            self._told = now
            of = "" if self._total is None else f": {done:,} of {self._total:,}"
            self._output.note(f"{self._text}{of}, {pace(done, self._total, now - self._began)}")

    def note(self, text: str) -> None:
        self._output.note(text)


class _Pace(ProgressColumn):
    """Rate and remaining time of a stage that takes longer than a second."""

    def render(self, task: Task) -> Text:
        total = None if task.total is None else int(task.total)
        return Text(pace(int(task.completed), total, task.elapsed or 0.0), style="dim")


class Live:
    """A terminal: one line that moves, and goes away."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._progress: Progress | None = None

    def stage(self, text: str, total: int | None = None) -> None:
        self.stop()
        columns = [SpinnerColumn(), TextColumn("{task.description}")]
        known = [BarColumn(), MofNCompleteColumn()] if total else []
        self._progress = Progress(
            *columns, *known, TimeElapsedColumn(), _Pace(), console=self._output.err, transient=True
        )
        self._progress.add_task(text, total=total)
        self._progress.start()

    def at(self, done: int, text: str = "") -> None:
        if self._progress is not None:
            task = self._progress.tasks[0]
            self._progress.update(task.id, completed=done, description=text or task.description)

    def note(self, text: str) -> None:
        self._output.note(text, style="dim")

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def display_for(output: Output) -> Display:
    """The display that fits this run."""
    if output.settings.quiet:
        return Silent()
    return Live(output) if output.err.is_terminal else Lines(output)


class Watcher:
    """A plugin that follows one run: shows progress, and can say at any moment what is left."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.planned: int | None = None
        self.deleted = 0
        self.restored = 0
        self.only_looks = False
        """Whether the command can't have changed anything."""
        self.followed = 0
        self._seen = 0  # objects of finished batches
        self._batch = 0

    @hookimpl
    def s3gc_event(self, event: str, data: Mapping[str, Any]) -> None:
        """Called by the core, between its steps."""
        handler = _HANDLERS.get(event)
        if handler is not None:
            handler(self, data)

    def left(self) -> str:
        """One sentence on what an interrupted command has done."""
        if self.only_looks:
            return "it only looked"
        done = []
        if self.planned is not None:
            done.append(
                f"{self.deleted:,} of {count(self.planned, 'planned object')} deleted, each backed up first"
            )
        if self.restored:
            done.append(f"{count(self.restored, 'object')} restored")
        said = "; ".join(done) or "nothing was deleted or restored"
        return f"{said}. The rest is as it was; the next run settles what is open"

    # what each event means here

    def _started(self, data: Mapping[str, Any]) -> None:
        if data["kind"] == "plan":
            self.display.stage("listing the bucket")

    def _listing(self, data: Mapping[str, Any]) -> None:
        self.display.at(data["listed"], f"listing the bucket: {count(data['listed'], 'object')}")

    def _listed(self, data: Mapping[str, Any]) -> None:
        self.display.note(f"listed {count(data['objects'], 'object')}")
        self.display.stage("reading the references")

    def _scanning(self, data: Mapping[str, Any]) -> None:
        of = f" of about {data['expected']:,}" if data["expected"] else ""
        self.display.at(0, f"reading the references: {data['rows']:,}{of} rows")

    def _scan_resumed(self, data: Mapping[str, Any]) -> None:
        self.display.note(f"goes on reading {data['source']} behind {count(data['rows'], 'row')}")

    def _synced(self, data: Mapping[str, Any]) -> None:
        self.display.note(f"read {count(data['references'], 'reference')} from {data['source']}")

    def _planned(self, data: Mapping[str, Any]) -> None:
        self.display.stop()

    def _verified(self, data: Mapping[str, Any]) -> None:
        self._batch = data["objects"] + data["referenced"]
        self.display.at(self._seen, f"backing up {count(data['objects'], 'object')}")

    def _backed_up(self, data: Mapping[str, Any]) -> None:
        self.display.note(
            f"backed up and read back {count(data['objects'], 'object')} ({size(data['bytes'])})"
        )
        self.display.at(self._seen, "reading the references once more")

    def _fenced(self, data: Mapping[str, Any]) -> None:
        self.display.at(self._seen, f"deleting {count(data['objects'], 'object')}")

    def _deleted(self, data: Mapping[str, Any]) -> None:
        self.deleted += 1

    def _batch_done(self, data: Mapping[str, Any]) -> None:
        self._seen += self._batch
        self.display.at(self._seen, "sweeping")
        back = f", {count(data['resurrected'], 'object')} put back" if data["resurrected"] else ""
        self.display.note(f"deleted and confirmed {count(data['deleted'], 'object')}{back}")

    def _restoring(self, data: Mapping[str, Any]) -> None:
        if not data["dry_run"]:
            self.display.stage("restoring", total=data["objects"] or None)

    def _restored(self, data: Mapping[str, Any]) -> None:
        self.restored += 1
        self.display.at(self.restored, "restoring")

    def _recovered(self, data: Mapping[str, Any]) -> None:
        self.display.note(
            f"settled what operation {data['operation_id']} had left open: "
            f"{count(data['deleted'], 'deletion')}, {data['resurrected']:,} put back"
        )

    def _follows(self, data: Mapping[str, Any]) -> None:
        self.display.note(f"following {', '.join(data['sources'])}")
        self.display.stage("following changes")

    def _followed(self, data: Mapping[str, Any]) -> None:
        self.followed += data["changes"]
        self.display.at(0, f"following changes: {count(self.followed, 'change')} applied")

    def _follow_waits(self, data: Mapping[str, Any]) -> None:
        self.display.note(f"{data['source']} can't be followed at this moment: {data['reason']}")

    def _follow_lost(self, data: Mapping[str, Any]) -> None:
        self.display.note(f"changes of {data['source']} are lost: {data['reason']}")

    def _follow_paused(self, data: Mapping[str, Any]) -> None:
        self.display.note(f"waiting: {data['reason']}")
        self.display.stage("waiting for its turn")

    def _replica(self, data: Mapping[str, Any]) -> None:
        lag = "" if data["lag"] is None else f", since {span(timedelta(seconds=data['lag']))}"
        why = f": {data['problem']}" if data["problem"] else ""
        self.display.note(
            f"the replica {data['replica']} is "
            f"{count(data['entries'], 'journal entry', 'journal entries')} and {size(data['bytes'])} "
            f"behind{lag}{why}"
        )


_HANDLERS: Mapping[str, Callable[[Watcher, Mapping[str, Any]], None]] = {
    "gc_cycle_started": Watcher._started,
    "listing_progress": Watcher._listing,
    "listing_completed": Watcher._listed,
    "scan_progress": Watcher._scanning,
    "scan_resumed": Watcher._scan_resumed,
    "source_synced": Watcher._synced,
    "plan_made": Watcher._planned,
    "batch_verified": Watcher._verified,
    "batch_backed_up": Watcher._backed_up,
    "batch_fenced": Watcher._fenced,
    "object_backed_up_and_deleted": Watcher._deleted,
    "batch_completed": Watcher._batch_done,
    "restore_started": Watcher._restoring,
    "object_restored": Watcher._restored,
    "operation_recovered": Watcher._recovered,
    "replica_behind": Watcher._replica,
    "follow_started": Watcher._follows,
    "changes_followed": Watcher._followed,
    "follow_waits": Watcher._follow_waits,
    "follow_lost": Watcher._follow_lost,
    "follow_paused": Watcher._follow_paused,
}
