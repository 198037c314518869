"""A collector's process: it can be paused, cancelled and killed at every point where it touches the world.

A killed process changes nothing any more: all that it calls from then on raises :class:`Crashed`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from s3gc.errors import S3GCError, StoreError, VaultError
from s3gc.testing.simulator._bucket import REQUEST_LIFE
from s3gc.testing.simulator._eyes import Eyes
from s3gc.testing.simulator._vault import keep_log, lose_log

if TYPE_CHECKING:
    from s3gc.parts import Parts
    from s3gc.testing.simulator._host import Host
    from s3gc.testing.simulator._source import SimSource
    from s3gc.testing.simulator._vault import SimVault
    from s3gc.testing.simulator._world import World

T = TypeVar("T")

SLOW_ANSWERS = 0.3
"""How many answers take a while of their own: between them and their cause others may act."""

LATE = (0.0, 0.2, 3.0, 40.0)
"""Seconds after which a request that nobody waits for may arrive; less than ``lease_margin`` (A8)."""

LANDS = 0.5
"""How likely a request that was on its way still arrives after its process was killed."""


class Crashed(BaseException):
    """The process is no more."""


class Process:
    """One incarnation of a collector's process, and its clock."""

    def __init__(self, world: World, host: Host, name: str) -> None:
        self.world, self.host, self.name = world, host, name
        self.dead = False  # killed
        self.ended = False  # gone, in whatever way
        self.power_lost = False
        self.paused_until = 0.0
        self.renewed_at = 0.0  # when it last wrote its lease
        self.eyes = Eyes(world)
        self.scope: anyio.CancelScope | None = None  # of the operation at work
        self.cancelled = False
        self.vault_full_until = 0.0
        self.corrupts = False  # the next pack that is synced gets a wrong byte
        self.vault: SimVault | None = None
        self.parts: Parts | None = None
        self.sources: Sequence[str] = ()
        self.opened: Sequence[SimSource] = ()

    # ------------------------------------------------------------------ its clock

    def now(self) -> datetime:
        return self.world.loop.now()

    def monotonic(self) -> float:
        return self.world.loop.time()

    # ------------------------------------------------------------------ points

    def reach(self, point: str) -> str | None:
        """A point is reached: what the schedule has for it happens now.

        Points of an application's own process have another name, so that they are counted apart.

        Returns:
            The fault that the call is to suffer, if any.
        """
        if self.dead:
            raise Crashed
        fault = self.world.reached(self.host.prefix + point, self)
        if self.dead:
            raise Crashed
        return fault

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            await self.world.loop.pause(seconds)

    async def awake(self) -> None:
        """Wait while the process is paused."""
        while self.paused_until > self.world.loop.time() and not self.dead:
            await self._sleep(self.paused_until - self.world.loop.time())
        if self.dead:
            raise Crashed

    async def _answered(self) -> None:
        """An answer is on its way; mostly it is here at once, as the request has taken its time."""
        if self.world.noise.random() < SLOW_ANSWERS:
            await self._sleep(self.world.latency())
        await self.awake()

    async def store_call(self, what: str, effect: Callable[[], T], *, writes: bool = False) -> T:
        """One request to the store: on its way, done, its answer on its way."""
        world = self.world
        await self.awake()
        signed = world.loop.time()
        fault = self.reach(what + "<")
        await self.awake()

        def land() -> T:
            if timedelta(seconds=world.loop.time() - signed) > REQUEST_LIFE:
                raise StoreError("RequestTimeTooSkewed: the request was signed too long ago")
            return effect()

        try:
            await self._sleep(world.latency())
        except BaseException:  # cancelled or killed: a request that was sent isn't called back
            if writes and world.noise.random() < LANDS:
                if self.dead:
                    world.later(world.noise.choice(LATE), lambda: self._arrive_late(what, land))
                else:
                    land()
            raise
        if self.dead:
            raise Crashed
        self.eyes.troubled |= fault in ("fail", "vanish", "late", "lost")
        if fault == "fail":
            raise StoreError("503 Slow Down (simulated)")
        if fault == "vanish":
            raise StoreError("timed out; nothing had happened (simulated)", outcome_unknown=True)
        if fault == "late":
            world.later(world.noise.choice(LATE), lambda: self._arrive_late(what, land))
            raise StoreError("timed out; it is still on its way (simulated)", outcome_unknown=True)
        result = land()
        await self._answered()
        if fault == "lost":
            raise StoreError("the answer was lost (simulated)", outcome_unknown=True)
        self.reach(what + ">")
        return result

    def _arrive_late(self, what: str, land: Callable[[], object]) -> None:
        self.world.story.say("bucket", "a late {} of {} arrives", what, self.name)
        try:
            land()
        except S3GCError as error:
            self.world.story.say("bucket", "… and is refused: {}", error)

    async def source_call(self, what: str, effect: Callable[[], T]) -> T:
        """One question to a place of references."""
        await self.awake()
        fault = self.reach(what + "<")
        await self.awake()
        await self._sleep(self.world.latency())
        await self.awake()
        if fault == "fail":
            raise ConnectionError("connection reset by peer (simulated)")
        result = effect()
        await self._answered()
        self.reach(what + ">")
        return result

    async def lag(self, until: float) -> None:
        """Wait for what comes late."""
        await self._sleep(until - self.world.loop.time())
        await self.awake()

    async def blocking(self, work: Callable[[], Any]) -> Any:
        """Runs the core's blocking work, all at once."""
        await self.awake()
        self.reach("work<")
        await self.awake()
        self.world.at_work = self
        result = work()
        if self.world.noise.random() < 0.04:
            await self._sleep(self.world.latency())
            await self.awake()
        self.reach("work>")
        return result

    def require_disk(self) -> None:
        """Raises VaultError while the vault's disk is full."""
        if self.vault_full_until > self.world.loop.time():
            self.eyes.troubled = True
            raise VaultError("no space left on device (simulated)")

    # ------------------------------------------------------------------ what happens to it

    def kill(self, *, power: bool = False) -> None:
        """The end, at this very moment."""
        self.dead = True
        self.power_lost = power

    def pause(self, seconds: float) -> None:
        """Stop it for a while, as SIGSTOP or a suspended machine does."""
        self.paused_until = max(self.paused_until, self.world.loop.time() + seconds)
        self.eyes.troubled = True

    def cancel(self) -> bool:
        """The host shuts down in good order. False when nothing runs."""
        if self.scope is None:
            return False
        self.cancelled = True
        self.scope.cancel()
        return True

    def is_working(self, operation: str) -> bool:
        """Whether it is alive and at work on this operation."""
        return not self.dead and not self.ended and self.eyes.operation == operation

    def is_stale(self, lease: timedelta) -> bool:
        """Whether it didn't renew its lease for so long that another may take it."""
        return self.world.loop.time() - self.renewed_at >= lease.total_seconds()

    def reap(self, *, keep: Sequence[Path] = (), forget: Sequence[Path] = ()) -> None:
        """Close what it had open, as the operating system does.

        Args:
            keep: SQLite databases that keep their log: each commit is synced.
            forget: databases that lose their whole log.
        """
        saved = [(path, *keep_log(path)) for path in (*keep, *forget)] if self.parts is not None else []
        if self.vault is not None:
            self.vault.reap()
        if self.parts is not None:
            self.parts.registry._database._close()
        for path, data, log in saved:
            lose_log(path)
            path.write_bytes(data)
            if log and path in keep:
                path.with_name(path.name + "-wal").write_bytes(log)

    async def under_scope(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Run an operation so that it can be cancelled; None when it was."""
        with anyio.CancelScope() as self.scope:
            try:
                return await work()
            finally:
                self.scope = None
        return None
