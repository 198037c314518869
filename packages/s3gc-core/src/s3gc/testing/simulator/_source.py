"""A database as a source: one process's connection to it, with all that can go wrong there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import anyio
from attrs import define

from s3gc.abc import ReferenceSource, Wanted
from s3gc.errors import PositionLost, SourceError
from s3gc.model import (
    ChangeBatch,
    Column,
    ColumnCount,
    Position,
    Reference,
    RowChange,
    ScanBatch,
    SourceIdentity,
    UntrackedColumn,
)
from s3gc.testing.simulator._database import FOLDER, UNTRACKED, Commit, Database, RowEvent, Values
from s3gc.testing.simulator._eyes import Fence, Found
from s3gc.testing.simulator._loop import EPOCH

if TYPE_CHECKING:
    from s3gc.testing.simulator._process import Process

T = TypeVar("T")

CHUNK = 3
"""Rows of a batch of a scan."""


@define(eq=False)
class Link:
    """The way to a database, shared by all processes, and what is wrong with it. Times in seconds."""

    name: str
    database: Database
    follows: bool = False
    down_until: float = 0.0
    replica_until: float = 0.0
    garbled_until: float = 0.0  # values don't lead to the bucket's keys: another base URL, say
    slot_lost: bool = False
    purged_to: int = 0  # changes up to this LSN are gone
    lags_until: float = 0.0  # no change is told before
    repeats: bool = False  # the first batch tells the last commit again
    applied: int = 0  # LSN up to which changes were released

    def state(self, now: float) -> str | None:
        """Why it can't be read now."""
        if now < self.down_until:
            return "connection refused (simulated)"
        if now < self.replica_until:
            return "this server is a replica (simulated)"
        return None


class SimSource(ReferenceSource):
    """The contract's view of a link. Everything that it tells is noted in the process's eyes."""

    def __init__(self, process: Process, link: Link, database: Database | None = None) -> None:
        self.name = link.name
        self.follows_changes = link.follows
        self._process = process
        self._link = link
        self._given = database or link.database
        self._database = self._given

    def leads_to(self, database: Database | None) -> None:
        """From now on the name leads to another server; None: to the right one again."""
        self._database = database or self._given

    async def _call(self, what: str, effect: Callable[[], T]) -> T:
        def checked() -> T:
            why = self._link.state(self._process.world.loop.time())
            if why is not None:
                raise SourceError(f"{self.name}: {why}")
            return effect()

        try:
            return await self._process.source_call(what, checked)
        except Exception as error:
            self._process.eyes.spoil(f"{self.name}: {what} failed: {error}")
            self._process.eyes.troubled = True
            raise

    # ------------------------------------------------------------------ what it is

    async def references(self) -> AsyncIterator[Reference]:
        async for batch in self.scan():
            for reference in batch.references:
                yield reference

    def columns(self) -> Sequence[Column]:
        return [Column(table, column) for table, column in self._database.columns]

    async def check(self) -> SourceIdentity:
        def effect() -> SourceIdentity:
            found = self._database
            self._process.eyes.identities[self.name] = found.system
            return SourceIdentity(
                self.name, "simulated", {"system_identifier": found.system, "database": found.name}
            )

        return await self._call("check", effect)

    async def fence(self, timeout: timedelta) -> Position:
        world, database = self._process.world, self._database

        def begin() -> tuple[Fence, list[str]]:
            fence = Fence(world.tick())
            self._process.eyes.fences.setdefault(self.name, []).append(fence)
            return fence, list(database.open)

        fence, waiting = await self._call("fence", begin)
        deadline = world.loop.time() + timeout.total_seconds()
        while any(name in database.open for name in waiting):
            left = deadline - world.loop.time()
            if left <= 0:
                self._process.eyes.spoil(f"{self.name}: a fence timed out")
                self._process.eyes.troubled = True
                world.story.say(self._process.name, "a fence at {} timed out", self.name)
                raise SourceError(f"{self.name}: a transaction is open for longer than {timeout}")
            with anyio.move_on_after(left):
                await database.ended.wait()
            await self._process.awake()
        fence.ended = world.tick()
        await self._call("fenced", lambda: None)
        world.oracle.fenced(self._process, self.name, database.lsn)
        return self._position()

    def _position(self) -> Position:
        found = self._database
        return Position(self.name, f"{found.timeline}/{found.lsn}", found.lsn)

    # ------------------------------------------------------------------ reading

    def _read(self) -> list[tuple[str, str, Values]]:
        """All rows that are committed at this moment."""
        return sorted(
            ((table, row, found.values) for (table, row), found in self._database.rows.items()),
            key=lambda one: one[:2],
        )

    def _references_of(self, table: str, row: str, values: Values) -> Iterable[Reference]:
        garbled = self._process.world.loop.time() < self._link.garbled_until
        self._process.eyes.garbled |= garbled
        for column, value in values.items():
            if (table, column) in self._database.columns:
                found = f"elsewhere/{value}" if garbled else value
                yield Reference(found, table, row, column, prefix=(table, column) == FOLDER)

    async def scan(self) -> AsyncIterator[ScanBatch]:
        rows = await self._call("scan", self._read)
        served: list[Reference] = []
        for start in range(0, len(rows), CHUNK):
            if start:
                await self._call("page", lambda: None)
            chunk = rows[start : start + CHUNK]
            if self._link.follows:  # no consistent view: later changes may show
                chunk = [
                    (table, row, self._database.rows[table, row].values)
                    for table, row, _ in chunk
                    if (table, row) in self._database.rows
                ]
            references = [one for row in chunk for one in self._references_of(*row)]
            served += references
            yield ScanBatch(references, self._counts(chunk))
        garbled = any(one.key.startswith("elsewhere/") for one in served)
        self._process.world.story.say(
            self._process.name,
            "has read {}: {} references{}",
            self.name,
            len(served),
            ", garbled" if garbled else "",
        )
        self._process.world.oracle.scanned(self._process, self.name, served)

    def _counts(self, rows: Sequence[tuple[str, str, Values]]) -> Mapping[Column, ColumnCount]:
        found = {}
        for table, column in self._database.columns:
            here = [values for in_table, _, values in rows if in_table == table]
            if here:
                found[Column(table, column)] = ColumnCount(len(here), sum(column in one for one in here))
        return found

    async def find(self, keys: Collection[str]) -> AsyncIterator[Reference]:
        world, eyes = self._process.world, self._process.eyes
        wanted = Wanted(keys)
        began = world.tick()

        def effect() -> list[Reference]:
            references = [one for row in self._read() for one in self._references_of(*row)]
            return [one for one in references if wanted.by(one)]

        found = await self._call("find", effect)
        named = frozenset(
            key for key in wanted.keys for one in found if Wanted([key]).by(one)
        )  # a set: its order is never used
        eyes.finds.setdefault(self.name, []).append(Found(began, world.tick(), wanted.keys, named))
        eyes.pending_resets += sorted(named)
        for reference in found:
            yield reference

    # ------------------------------------------------------------------ following

    async def begin(self) -> Position:
        def effect() -> Position:
            self._link.slot_lost = False
            self._link.purged_to = 0
            self._process.eyes.begun_at[self.name] = self._database.lsn
            return self._position()

        return await self._call("begin", effect)

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        def effect() -> list[Commit]:
            timeline, _, lsn = after.value.partition("/")
            found = self._database
            why = ""
            if self._link.slot_lost or int(lsn) < self._link.purged_to:
                why = "the slot is lost"
            elif int(timeline) != found.timeline or int(lsn) > found.lsn:
                why = f"{after.value} is not in this history"
            if why:
                self._process.world.oracle.lost_position(self._process, self.name)
                raise PositionLost(f"{self.name}: {why}")
            known = [one for one in found.log if one.lsn == int(lsn) and not one.silent]
            news = [one for one in found.log if int(lsn) < one.lsn <= end and not one.silent]
            return [*(known if self._link.repeats else ()), *news]

        world = self._process.world
        end, begin = int(until.value.partition("/")[2]), int(after.value.partition("/")[2])
        await self._process.lag(self._link.lags_until)
        for commit in await self._call("changes", effect):
            await self._call("change", lambda: None)
            again = commit.lsn <= begin
            changes = [self._change(event) for event in commit.events]
            if self._process.eyes.doing == "follow":
                world.story.count("changes to a follower")
            world.oracle.told_change(self._process, self.name, commit, changes, again=again)
            position = Position(self.name, f"{self._database.timeline}/{commit.lsn}", commit.lsn)
            yield ChangeBatch(changes, position, EPOCH + timedelta(seconds=commit.at), again=again)
        world.oracle.caught_up(self._process, self.name, end)
        yield ChangeBatch([], until)

    def _change(self, event: RowEvent) -> RowChange:
        references = tuple(self._references_of(event.table, event.row, event.after or {}))
        before = self._references_of(event.table, event.row, event.before or {})
        named = [one.key for one in before if not one.prefix]
        return RowChange(event.table, event.row, references, named=named)

    async def applied(self, position: Position) -> None:
        def effect() -> None:
            self._link.applied = int(position.value.partition("/")[2])

        await self._call("applied", effect)

    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        def effect() -> list[str]:
            return [values[UNTRACKED[1]] for _, _, values in self._read() if UNTRACKED[1] in values]

        values = await self._call("untracked", effect)
        self._process.eyes.untracked[self.name] = values
        if values:
            yield UntrackedColumn(*UNTRACKED, "text", frozenset(values), len(values))
