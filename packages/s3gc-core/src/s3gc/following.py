"""The follower: between two cycles the registry is kept at the changes of every source that tells them.

It decides nothing. It applies changes as a cycle does, by the same code, each batch with its position in one
transaction. What it can't follow it leaves to the next cycle, which reads anew and tells by a breaker. It
waits for no open transaction, as a fence does: each cycle, and each batch of a sweep, takes fences of its
own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

import anyio
import anyio.abc
from attrs import define, evolve, field

from s3gc.abc import ReferenceSource
from s3gc.config import scrub
from s3gc.errors import ConfigError, PositionLost, Reconfigured, S3GCError, SourceError, StoreError
from s3gc.model import Position
from s3gc.parts import Parts, source_name
from s3gc.reading import follow_to, not_back, reading_from
from s3gc.turns import FollowerTurn, follower_turn

EVERY = timedelta(seconds=0.5)
"""How long to wait from one look at a source to the next."""

LOOK_SECONDS = 0.1
"""How often the follower looks whether an operation wants its turn."""

STAND_BY_SECONDS = 1.0
"""How often to ask for the turn while somebody else has it."""

FIRST_PAUSE, LAST_PAUSE = 0.5, 60.0
"""Seconds to wait after an error: twice as long each time, and less by chance."""

TIME_LASTS = timedelta(seconds=30)
"""The store's clock is read so often; and so often a source without changes is noted as up to date."""


async def follow(parts: Parts, *, every: timedelta, chance: Random) -> None:
    """Follow until cancelled, in turns with operations of this and of other processes.

    Raises:
        ConfigError: no source follows changes.
        VaultError: the folder beside the registry can't be written.
    """
    sources = [source for source in parts.sources if source.follows_changes]
    if not sources:
        raise ConfigError("no source of this configuration follows changes: there is nothing to keep up with")
    waits = False
    while True:
        with follower_turn(parts.folder) as turn:
            if turn is not None:
                waits = False
                await _turn(parts, sources, turn, every, chance)
        if not waits:
            waits = True
            parts.emit("follow_paused", reason="an operation or another follower reads the changes")
        await anyio.sleep(STAND_BY_SECONDS * _some(chance))


async def _turn(
    parts: Parts, sources: list[ReferenceSource], turn: FollowerTurn, every: timedelta, chance: Random
) -> None:
    """Follow all sources until an operation wants its turn."""
    failed: list[Exception] = []
    parts.emit("follow_started", sources=[source_name(source) for source in sources])

    async def keep(source: ReferenceSource) -> None:
        try:
            await _Follower(parts, source, every, chance).run()
        except Exception as error:  # noqa: BLE001 - raised again below, as it was
            failed.append(error)
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for source in sources:
                group.start_soon(keep, source)
            while not turn.wanted:  # noqa: ASYNC110 - a lock of another process has no event
                await anyio.sleep(LOOK_SECONDS)
            group.cancel_scope.cancel()
    finally:
        await let_go(parts)
    if failed:
        raise failed[0]


async def let_go(parts: Parts) -> None:
    """Nobody reads changes any more: another process may. Errors are logged: their connections are closed."""
    with anyio.CancelScope(shield=True):
        for source in parts.sources:
            if source.follows_changes:
                try:
                    async with reading_from(parts, source):
                        await source.let_go()
                except SourceError as error:
                    parts.log.warning("changes_not_let_go", source=source_name(source), error=str(error))


@define
class _Follower:
    """One source, as long as the turn lasts."""

    _parts: Parts
    _source: ReferenceSource
    _every: timedelta
    _chance: Random
    _time: datetime | None = None  # by the store's clock, a while ago
    _read: float = 0.0  # when that was, monotonic seconds
    _noted: float = field(default=float("-inf"))  # when the registry was last told that all is applied
    _trouble: str | None = None

    async def run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                waits = await self._step()
            except S3GCError as error:
                await self._failed(error)
                await anyio.sleep(pause * _some(self._chance))
                pause = min(2 * pause, LAST_PAUSE)
            else:
                pause = FIRST_PAUSE
                self._tell(waits)
                await anyio.sleep(self._every.total_seconds())

    def _tell(self, trouble: str | None) -> None:
        """Once for each trouble, not again and again."""
        if trouble is not None and trouble != self._trouble:
            self._parts.emit("follow_waits", source=source_name(self._source), reason=trouble)
        self._trouble = trouble

    async def _step(self) -> str | None:
        """Bring the registry to where the source stands now. Returns what it waits for, if it can't."""
        parts, source, name = self._parts, self._source, source_name(self._source)
        state = await parts.registry.references.state(name)
        if state is None or not state.followed:
            return "its rows have to be read first, which the next cycle does"
        reached = Position(name, state.position, state.ordinal)
        synced = await self._store_time()  # before the position
        try:
            async with reading_from(parts, source):
                tip = await source.tip(reached, parts.config.safety.max_transaction_age)
                if tip is not None:
                    tip = evolve(tip, source=name)
                    await not_back(parts, tip)
                    count = await follow_to(parts, source, tip, synced)
        except Reconfigured:
            # Another process with another configuration may have read it: who is right only a cycle decides.
            return (
                "the last cycle read it by another configuration than the follower's: if that is the new "
                "one, start the follower anew"
            )
        except PositionLost as error:
            await parts.registry.references.lose_position(name, str(error))
            parts.emit("follow_lost", source=name, reason=str(error))
            return "its changes were lost, so the next cycle reads its rows anew"
        if tip is None:
            await self._up_to_date(synced)
        elif count:
            parts.emit("changes_followed", source=name, changes=count, position=tip.value)
        return None

    async def _up_to_date(self, synced: datetime | None) -> None:
        now = self._parts.clock.monotonic()
        if synced is not None and now - self._noted >= TIME_LASTS.total_seconds():
            await self._parts.registry.references.caught_up(source_name(self._source), synced)
            self._noted = now

    async def _store_time(self) -> datetime | None:
        """A moment before now, by the store's clock; None if it doesn't tell.

        An old one is as true as a new one: positions are noted as taken at or after it.
        """
        now = self._parts.clock.monotonic()
        if self._time is None or not 0 <= now - self._read < TIME_LASTS.total_seconds():
            try:
                self._time, self._read = await self._parts.store.now(), now
            except StoreError:
                return self._time
        return self._time

    async def _failed(self, error: S3GCError) -> None:
        text = scrub(f"{type(error).__name__}: {error}", self._parts.config)
        self._tell(text)
        # What was read half is read again from where the registry is, by new connections.
        try:
            async with reading_from(self._parts, self._source):
                await self._source.let_go()
        except SourceError as second:
            self._parts.log.warning("changes_not_let_go", source=source_name(self._source), error=str(second))


def _some(chance: Random) -> float:
    """From half of it to all of it: followers of many processes don't come back at one moment."""
    return 0.5 + chance.random() / 2
