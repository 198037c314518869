"""``s3gc watch``: what goes on, from the journal that every collector writes, wherever it runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
from attrs import Factory, define
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from s3gc import Collector, journal_events
from s3gc.health import Health
from s3gc.model import JournalEntry
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD
from s3gc_cli._keys import show_key, show_text
from s3gc_cli._output import Output
from s3gc_cli._render.history import in_one_line
from s3gc_cli._run import Session
from s3gc_cli._text import size, span

LINES = 8
"""Journal entries shown below."""

_BEFORE = 50
"""Entries before the first operation of interest: a breaker that held its plan stands there."""

HEALTH_EVERY = timedelta(seconds=30)
"""Vault, store and sources are asked no more often than this."""

NOTEWORTHY = frozenset(
    {
        journal_events.OPERATION_STARTED,
        journal_events.OPERATION_COMPLETED,
        journal_events.OPERATION_FAILED,
        journal_events.OPERATION_RECOVERED,
        journal_events.PLAN_MADE,
        journal_events.BATCH_CONFIRMED,
        journal_events.RESURRECTED,
        journal_events.BREAKER_TRIPPED,
        journal_events.BREAKER_ACKNOWLEDGED,
        journal_events.CLAIM_ENDED,
        journal_events.DAMAGE_FOUND,
        journal_events.VAULT_VERIFIED,
    }
)
"""Entries that are told one by one; the others are counted."""

_ENDS = frozenset(
    {
        journal_events.OPERATION_COMPLETED,
        journal_events.OPERATION_FAILED,
        journal_events.OPERATION_RECOVERED,
    }
)


@define
class Running:
    """An operation that has begun and not ended."""

    kind: str
    mode: str
    began: datetime
    backed_up: int = 0
    bytes: int = 0
    deleted: int = 0
    restored: int = 0
    put_back: int = 0

    def told(self, now: datetime) -> str:
        """What it has done, and how fast."""
        took = max((now - self.began).total_seconds(), 0.001)
        done = self.deleted + self.restored
        parts = [
            f"{self.kind} {self.mode}".strip(),
            f"{self.backed_up:,} backed up ({size(self.bytes)})",
            f"{self.deleted:,} deleted",
        ]
        if self.restored:
            parts.append(f"{self.restored:,} restored")
        if self.put_back:
            parts.append(f"{self.put_back:,} put back")
        return f"{', '.join(parts)} in {span(timedelta(seconds=round(took, 1)))}, {done / took:,.0f} a second"


@define
class Seen:
    """What the journal has told so far."""

    seq: int = 0
    running: dict[str, Running] = Factory(dict)
    newest: deque[JournalEntry] = Factory(lambda: deque(maxlen=LINES))

    def take(self, entry: JournalEntry) -> None:
        """Count one entry."""
        self.seq = entry.seq
        if entry.event == journal_events.OPERATION_STARTED:
            data = entry.data
            self.running[entry.operation_id] = Running(
                str(data.get("kind", "")), str(data.get("mode") or ""), entry.at
            )
        elif entry.event in _ENDS:
            self.running.pop(entry.operation_id, None)
        elif (now := self.running.get(entry.operation_id)) is not None:
            _count(now, entry)
        if entry.event in NOTEWORTHY:
            self.newest.append(entry)


def _count(running: Running, entry: JournalEntry) -> None:
    if entry.event == journal_events.BACKED_UP:
        running.backed_up += 1
        running.bytes += int(entry.data["backup"]["size"])
    elif entry.event == journal_events.DELETED:
        running.deleted += 1
    elif entry.event == journal_events.RESTORED:
        running.restored += 1
    elif entry.event == journal_events.RESURRECTED:
        running.put_back += 1


async def watch(session: Session, *, interval: float, once: bool) -> int:
    """Look again and again until a signal ends it; with ``once`` 3 when something isn't well or waits."""
    output = session.output
    output.lines = not once
    config, _ = session.config()
    async with session.collector(config) as gc:
        assert session.watcher is not None
        session.watcher.only_looks = True
        seen = Seen(await _begin(gc))
        async for entry in gc.history(after_seq=seen.seq):
            seen.take(entry)
        health = await gc.health()
        if once:
            session.answer(
                _document(output, seen, health),
                _line(output, seen, health),
                lambda console: console.print(_view(output, seen, health)),
            )
            return DONE if health.ok else HELD
        session.watcher.display.stop()
        if output.out.is_terminal and output.for_people:
            await _live(output, gc, seen, health, interval)
        else:
            await _lines(output, gc, seen, health, interval)
    return DONE  # only a signal ends it


async def _begin(gc: Collector) -> int:
    """A little before what is of interest: the first operation that is open, else the newest one."""
    newest = [one async for one in gc.operations(newest=20)]
    still_open = [one.seq for one in newest if one.state == "open"]
    first = min(still_open or [one.seq for one in newest[:1]] or [0])
    return max(first - _BEFORE, 0)


async def _news(gc: Collector, seen: Seen) -> list[JournalEntry]:
    """What the journal was told since the last look."""
    told = []
    async for entry in gc.history(after_seq=seen.seq):
        seen.take(entry)
        if entry.event in NOTEWORTHY:
            told.append(entry)
    return told


class _Asked:
    """Health, asked now and then."""

    def __init__(self, gc: Collector, health: Health) -> None:
        self._gc, self.health, self._at = gc, health, time.monotonic()

    async def again(self) -> bool:
        """Whether it was asked, and is another one than before."""
        if time.monotonic() - self._at < HEALTH_EVERY.total_seconds():
            return False
        before = in_one_line(self.health)
        self.health, self._at = await self._gc.health(), time.monotonic()
        return in_one_line(self.health) != before


async def _live(output: Output, gc: Collector, seen: Seen, health: Health, interval: float) -> None:
    asked = _Asked(gc, health)
    with Live(_view(output, seen, health), console=output.out, auto_refresh=False, transient=False) as shown:
        while True:
            await anyio.sleep(interval)
            await _news(gc, seen)
            await asked.again()
            shown.update(_view(output, seen, asked.health), refresh=True)


async def _lines(output: Output, gc: Collector, seen: Seen, health: Health, interval: float) -> None:
    """No terminal: a line at the beginning, and one for each thing that happens."""
    asked = _Asked(gc, health)
    _say(output, _document(output, seen, health), _line(output, seen, health))
    while True:
        await anyio.sleep(interval)
        for entry in await _news(gc, seen):
            document = output.secrets.scrub_all(_documents.value(entry))
            _say(output, document, _entry(output, entry))
        if await asked.again():
            _say(output, _document(output, seen, asked.health), _line(output, seen, asked.health))


def _say(output: Output, document: Mapping[str, Any], line: str) -> None:
    if output.settings.json:
        output.line(document)
    else:
        output.out.print(Text(line), soft_wrap=True)
        output.out.file.flush()


def _document(output: Output, seen: Seen, health: Health) -> dict[str, Any]:
    document = {
        "at": datetime.now(UTC).isoformat(),
        "health": _documents.value(health),
        "running": {name: _documents.value(one) for name, one in seen.running.items()},
        "newest": [_documents.value(entry) for entry in seen.newest],
    }
    found: dict[str, Any] = output.secrets.scrub_all(document)
    return found


def _line(output: Output, seen: Seen, health: Health) -> str:
    now = datetime.now(UTC)
    running = "; ".join(f"running: {one.told(now)}" for one in seen.running.values())
    return show_text(output.secrets.scrub(f"{in_one_line(health)}; {running or 'nothing runs'}"))


def _view(output: Output, seen: Seen, health: Health) -> RenderableType:
    now = datetime.now(UTC)
    scrub = output.secrets.scrub
    well = Text(show_text(scrub(in_one_line(health))), style="green" if health.ok else "bold yellow")
    lines: list[RenderableType] = [
        Text.assemble((now.isoformat(sep=" ", timespec="seconds"), "dim"), "  ", well)
    ]
    for breaker in health.waiting:
        about = f" ({breaker.subject})" if breaker.subject else ""
        lines.append(
            Text(show_text(scrub(f"  waits: {breaker.code}{about}: {breaker.reason}")), style="yellow")
        )
    if not seen.running:
        lines.append(Text("nothing runs", style="dim"))
    for name, one in seen.running.items():
        lines.append(Text.assemble((f"{name} ", "dim"), (one.told(now), "bold")))
    if seen.newest:
        lines.append(Text(""))
    lines += [Text(_entry(output, entry), style="dim") for entry in seen.newest]
    return Group(*lines)


def _entry(output: Output, entry: JournalEntry) -> str:
    data = entry.data
    told = [entry.at.isoformat(sep=" ", timespec="seconds"), entry.event]
    if entry.key is not None:
        told.append(show_key(entry.key))
    for name in ("kind", "mode", "code", "subject", "reason", "why", "error"):
        if data.get(name):
            told.append(f"{name} {data[name]}")
    for name, noun in (("deleted", "deleted"), ("resurrected", "put back"), ("objects", "planned")):
        if isinstance(number := data.get(name), int) and number:
            told.append(f"{number:,} {noun}")
    return show_text(output.secrets.scrub("  ".join(told)))
