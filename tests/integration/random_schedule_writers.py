"""The writers of test_random_schedule.py: each does one thing after the other, chosen by its own dice.

A row is written in the transaction in which the writer looked or uploaded, or in a later one. Some
transactions are held open for a while, some are prepared, some come to nothing.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import asyncpg
from attrs import define, field
from random_schedule_world import TABLES, Naming, Transaction, World

NARROW = ("batch_verified", "batch_backed_up", "batch_fenced")
PHASES = (
    *("listing_completed", "source_synced", "batch_completed", "gc_cycle_completed"),
    *NARROW,
    *NARROW,
)
"""Where a writer lies in wait for the collector; at the narrow places more often, and if a key gets a
row again there, then rather in a longer transaction."""

HELD = (0.03, 0.2)
"""Seconds that some transactions stay open: longer than a fence, a read and some deletes take."""

ACTS = 3
"""Most actions of a writer in one cycle: slow machines shall not have more work."""

ROWS = (10, 18)
"""A writer with fewer rows makes more, one with more forgets more."""

Action = Callable[[], Awaitable[bool]]


@define(eq=False)
class Writer:
    """One of several. Rows belong to the writer that made them, keys to all."""

    world: World
    number: int
    connection: asyncpg.Connection[Any]
    rows: list[Naming] = field(factory=list)
    _rng: random.Random = field(init=False)
    _doing: str = ""
    _met: str = ""  # the phase that the writer has just waited for
    _revives: bool = False  # the action is about a key without rows
    _cycle: int = -1
    _acts: int = 0
    _prepared: int = 0

    def __attrs_post_init__(self) -> None:
        self._rng = random.Random(f"{self.world.seed}/{self.number}")

    async def settle(self) -> None:
        """The rows and objects to begin with; one row of each table stays for good."""
        self._doing = "settle"
        for table in TABLES:
            tx = await self._begin()
            for _ in range(ROWS[0] // len(TABLES) + 1):
                key = self.world.new_key()
                await self.world.put(key, self.world.new_body(self._rng))
                await tx.insert(table, key)
            await tx.commit()
            self.rows += tx.made[1:]

    async def run(self) -> None:
        """Act until the world stops."""
        while not self.world.stopping:
            await self._moment()
            if self._cycle != self.world.cycle:
                self._cycle, self._acts = self.world.cycle, 0
            if self._acts < ACTS:
                self._acts += 1
                action = self._choose()
                self._doing, self._revives = action.__name__.strip("_"), False
                if await action():
                    self.world.count(self._doing)

    def _choose(self) -> Action:
        few, many = len(self.rows) < ROWS[0], len(self.rows) > ROWS[1]
        weights: dict[Action, int] = {
            self._publish: 12 + 24 * few,
            self._announce: 6 + 6 * few,
            self._move: 10,
            self._forget: 14 * (not few) + 30 * many,
            self._adopt: 16,
            self._undo: 14,
            self._overwrite: 8,
            self._refresh: 6,
            self._upload_again: 16,
            self._abandon: 14,
        }
        return self._rng.choices(list(weights), list(weights.values()))[0]

    # ------------------------------------------------------------------ actions; False: nothing to do

    async def _publish(self) -> bool:
        """Upload, then insert."""
        return await self._upload_and_insert(self.world.new_key(), upload_first=True)

    async def _announce(self) -> bool:
        """Insert, then upload."""
        return await self._upload_and_insert(self.world.new_key(), upload_first=False)

    async def _upload_again(self) -> bool:
        """A key without rows is uploaded again, with the same bytes or others, and gets a row."""
        key = self._freed()
        return bool(key) and await self._upload_and_insert(key, upload_first=self._maybe(0.7))

    async def _abandon(self) -> bool:
        """An upload that gets no row, of a new key or over one without rows."""
        key = (self._maybe(0.6) and self._freed()) or self.world.new_key()
        await self.world.put(key, self.world.new_body(self._rng))
        self.world.free(key)
        return True

    async def _overwrite(self) -> bool:
        """Other bytes under a key that has rows."""
        key = self._named()
        if key:
            await self.world.put(key, self.world.new_body(self._rng))
        return bool(key)

    async def _refresh(self) -> bool:
        """The same bytes under a key that has rows."""
        key = self._named()
        if key in self.world.latest:
            await self.world.put(key, self.world.latest[key])
        return key in self.world.latest

    async def _adopt(self) -> bool:
        """A row for a key without rows, if its object is seen to be there."""
        key = self._freed()
        if not key:
            return False
        tx = await self._begin() if self._maybe(0.5) else None
        if not await self.world.exists(key):
            if tx:
                await tx.rollback()
            return False
        tx = tx or await self._begin(wait=True)
        await tx.insert(self._table(), key)
        await self._finish(tx)
        return True

    async def _undo(self) -> bool:
        """A row for a key without rows, and not a look at the bucket."""
        key = self._freed()
        if not key:
            return False
        tx = await self._begin()
        await tx.insert(self._table(), key)
        await self._finish(tx)
        return True

    async def _move(self) -> bool:
        """A row names another key from now on: a new one, one that has rows, or one that has none."""
        key = self._rng.choice([self._named(), self._freed(), self.world.new_key()])
        if not key or not self.rows:
            return False
        if key not in self.world.namings:
            await self.world.put(key, self.world.new_body(self._rng))
        tx = await self._begin()
        await tx.move(self._rng.choice(self.rows), key)
        await self._finish(tx)
        return True

    async def _forget(self) -> bool:
        """Rows go."""
        chosen = self._rng.sample(self.rows, min(len(self.rows), self._rng.randint(1, 3)))
        if not chosen:
            return False
        tx = await self._begin()
        for naming in chosen:
            await tx.delete(naming)
        await self._finish(tx)
        return True

    # ------------------------------------------------------------------ what they consist of

    async def _upload_and_insert(self, key: str, *, upload_first: bool) -> bool:
        body = self.world.latest.get(key) if self._maybe(0.3) else None
        body = body or self.world.new_body(self._rng)
        tx = await self._begin() if self._maybe(0.5) else None
        if upload_first:
            await self.world.put(key, body)
        tx = tx or await self._begin(wait=True)
        await tx.insert(self._table(), key)
        await self._finish(tx)
        if not upload_first:
            await self._moment()
            await self.world.put(key, body)
            self.world.free(key)  # if the transaction came to nothing
        return True

    async def _begin(self, *, wait: bool = False) -> Transaction:
        """Open a transaction; with ``wait`` something may happen before."""
        if wait:
            await self._moment()
        tx = Transaction(self.world, self.connection, f"writer {self.number} ({self._doing})")
        await tx.begin()
        return tx

    async def _finish(self, tx: Transaction) -> None:
        """End a transaction, one way or another."""
        weights = [65, 20, 15] if self._met in NARROW and self._revives else [95, 3, 2]
        fate = self._rng.choices(["ended at once", "held", "prepared"], weights)[0]
        if fate == "prepared":
            self._prepared += 1
            await tx.prepare(f"writer-{self.number}-{self._prepared}")
        if fate != "ended at once":
            await anyio.sleep(self._rng.uniform(*HELD))
        self.world.count(fate)
        if self._maybe(0.15):
            await tx.rollback()
            self.world.count("rolled back")
        else:
            await tx.commit()
            self.rows = [naming for naming in self.rows if naming not in tx.removed] + tx.made

    async def _moment(self) -> None:
        """Some time passes, or the collector comes to a certain place. Not for within a transaction: the
        collector waits for its end."""
        self._met = ""
        if self._maybe(0.75):
            phase = self._rng.choice(PHASES)
            if await self.world.phases.wait(phase):
                self._met = phase
        await anyio.sleep(self._rng.choice([0, 0, self._rng.uniform(0, 0.03)]))

    def _maybe(self, chance: float) -> bool:
        return self._rng.random() < chance

    def _table(self) -> str:
        return self._rng.choice(list(TABLES))

    def _freed(self) -> str:
        """A key without rows, rather a recent one; empty if there is none."""
        freed, self._revives = self.world.freed, True
        return freed[-1 - int(len(freed) * self._rng.random() ** 3)] if freed else ""

    def _named(self) -> str:
        """A key with rows; empty if there is none."""
        named = [key for key in self.world.namings if self.world.is_named(key)]
        return self._rng.choice(named) if named else ""
