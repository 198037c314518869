"""A host: runs a collector's processes one after the other, as its script says, and starts them again."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pluggy

from s3gc import (
    Candidate,
    Collector,
    Config,
    Safety,
    _threads,
    create_config,
    create_plugin_manager,
    hookimpl,
)
from s3gc.errors import CycleHeld, S3GCError
from s3gc.testing.simulator._bucket import SimStore
from s3gc.testing.simulator._process import Process
from s3gc.testing.simulator._schedule import Settings, Step
from s3gc.testing.simulator._source import SimSource
from s3gc.testing.simulator._vault import SimVault

if TYPE_CHECKING:
    from s3gc.testing.simulator._world import World

CALM = 2_000.0
"""Seconds before the last start: whoever held the lease is gone for good."""

FOLLOWED = 8.0
"""Seconds for which the follower runs, when it does."""

LOOKS_EVERY = timedelta(seconds=1)

RESTARTS = 6
"""Processes of one host; a schedule that needs more than that goes on without it."""


class _Veto:
    @hookimpl
    def s3gc_veto(self, candidate: Candidate) -> str | None:
        return "this plugin keeps it" if candidate.object.key.startswith("veto/") else None


@functools.cache
def plugins() -> pluggy.PluginManager:
    """The core's own back ends and a plugin that vetoes."""
    manager = create_plugin_manager(entry_points=False)
    manager.register(_Veto())
    return manager


@functools.lru_cache(512)
def config_of(settings: Settings, vault_path: str) -> Config:
    """The configuration that a schedule's settings mean."""
    safety = Safety.none().but(
        grace=timedelta(hours=settings.grace_hours),
        min_observations=settings.observations,
        batch_objects=settings.batch_objects,
        max_deletes=settings.max_deletes,
        max_delete_share=settings.max_share,
        max_reference_drop=settings.max_drop,
        min_resolve_rate=settings.min_rate,
        allow_unconditional_delete=settings.unconditional_allowed,
        self_clearing=tuple(settings.self_clearing),
    )
    more: dict[str, Any] = {}
    if settings.owned:
        more["owned_prefixes"] = settings.owned
    if settings.derived:
        more["derived"] = {"thumbs/{key}_200.jpg": "{key}.jpg"}
    return create_config(
        bucket="sim://bucket",
        mode=settings.mode,  # type: ignore[arg-type]
        retention_days=settings.retention_hours / 24,
        exclude_prefixes=["keep/"],
        vault_path=vault_path,
        safety=safety,
        **more,
    )


class Host:
    """One machine, or one more process of it."""

    def __init__(
        self,
        world: World,
        name: str,
        script: Sequence[Step],
        *,
        vault: Path,
        folder: Path | None = None,
        prefix: str = "",
        staging: bool = False,
    ) -> None:
        self.world, self.name, self.vault, self.prefix = world, name, vault, prefix
        self.folder = folder or vault  # for its lock, registry and plans
        self._script = list(script)
        self._staging = staging  # wrongly configured: another database, the same bucket
        self._count = 0
        self._verified = False

    async def run(self) -> None:
        """The whole script, through crashes and restarts."""
        at = 0
        while at < len(self._script) and self._count < RESTARTS and self.world.broken is None:
            at = await self._live(at)
            if self.world.broken is None and at < len(self._script):
                await asyncio.sleep(self.world.noise.choice((1.0, 5.0, 300.0, 4_000.0)))

    async def settle(self) -> None:
        """All is calm: one more start must bring everything to an end, and find nothing wrong."""
        operations = self.world.oracle.vault_named(self.vault.name).operations.values()
        if self._verified and not any(one.is_open for one in operations):
            return
        self._script = [Step("verify")]
        await asyncio.sleep(CALM)
        await self._live(0)

    # ------------------------------------------------------------------ one process

    async def _live(self, at: int) -> int:
        """From a start to the process's end. Returns the step to go on with."""
        self._count += 1
        process = Process(self.world, self, f"{self.name}.{self._count}")
        self.world.processes.append(process)
        self.world.story.say(process.name, "starts")
        progress = [at]
        try:
            with _threads.run_by(process.blocking):
                await self._work(process, progress)
        except BaseException as error:
            if not self._forgivable(process, error):
                raise
        finally:
            self._reap(process)
        return progress[0]

    async def _work(self, process: Process, progress: list[int]) -> None:
        process.eyes.begin("start")
        process.vault = SimVault(self.vault, process)
        sources = [
            SimSource(process, link, self.world.staging[name] if self._staging else None)
            for name, link in self.world.links.items()
        ]
        process.opened = sources
        process.sources = [source.name for source in sources]
        async with Collector.open(
            config_of(self.world.settings, str(self.folder)),
            store=SimStore(process, self.world.bucket),
            sources=sources,
            vault=process.vault,
            clock=process,
            new_id=self.world.new_id,
            plugins=plugins(),
        ) as gc:
            process.parts = gc._parts
            while progress[0] < len(self._script):
                step = self._script[progress[0]]
                progress[0] += 1
                if not await self._step(gc, process, step):
                    return

    def _forgivable(self, process: Process, error: BaseException) -> bool:
        world = self.world
        if process.dead:
            world.oracle.ghost(process)
            world.story.say(process.name, "is dead")
            return True
        if isinstance(error, S3GCError):
            world.story.say(process.name, "can't start: {}", error)
            return True
        if isinstance(error, Exception):
            world.violate("error", f"{type(error).__name__}: {error}")
            world.failure = error
            return True
        return False

    def _reap(self, process: Process) -> None:
        """What the operating system does when a process has ended, and what a loss of power adds."""
        process.ended = True
        if not process.dead:
            return
        alone = all(other.ended for other in self.world.processes if other.host.vault == self.vault)
        if not process.power_lost or not alone or process.vault is None:
            process.reap()
            return
        forgets = process.vault.forgets_at_power_loss()
        registry, journal = self.folder / "registry.sqlite3", self.vault / "journal.sqlite3"
        process.reap(keep=(registry,), forget=(journal,) if forgets else ())
        self.world.oracle.registry(process).vague = True
        for told in self.world.disk.lose_power(self.vault):
            self.world.story.say("fate", told)

    # ------------------------------------------------------------------ steps

    async def _step(self, gc: Collector, process: Process, step: Step) -> bool:
        """One step of the script. False when the process ends in good order after it."""
        world = self.world
        if step.kind == "wait":
            await asyncio.sleep(step.seconds)
            return True
        if step.kind == "serve":
            await self._serve(gc, process)
            return True
        if self._staging and not world.owners():
            return True  # the first use is believed: it must not be this one
        process.eyes.begin(step.kind)
        world.story.say(process.name, "begins to {} {}", step.kind, step.key)
        if step.kind == "verify":
            await self._verify(gc)
            return True
        if step.kind == "follow":
            with anyio.move_on_after(FOLLOWED):
                await gc.follow(every=LOOKS_EVERY, chance=Random(step.number))
            return True
        if step.kind == "restart":
            return False
        if step.kind == "wrong database":
            self._staging = world.oracle.vault(process).pinned is not None  # else the first use is believed
            return False
        done = [False]

        async def work() -> None:
            await self._operation(gc, process, step)
            done[0] = True

        try:
            await process.under_scope(work)
        except CycleHeld as held:
            world.story.say(process.name, "held by {}", ", ".join(one.code for one in held.breakers))
            if not process.eyes.plan:
                world.story.count("held before the plan")
        except S3GCError as error:
            world.story.count(f"ended by {type(error).__name__}")
            world.story.say(process.name, "ended by {}: {}", type(error).__name__, error)
            world.oracle.ghost(process)
        else:
            if done[0]:
                world.oracle.ended_well(process)
            else:
                world.story.say(process.name, "was cancelled")
                world.oracle.cancelled(process)
                world.oracle.ghost(process)
        process.eyes.operation = ""
        return not process.cancelled

    async def _operation(self, gc: Collector, process: Process, step: Step) -> None:
        match step.kind:
            case "collect":
                report = await gc.collect()
                self.world.story.say(
                    process.name, "has deleted {} of {} planned", len(report.deleted), report.planned
                )
            case "plan_collect":
                plan = await gc.plan()
                await asyncio.sleep(step.seconds)
                process.eyes.begin("collect")
                process.eyes.executes = plan.operation_id
                await gc.collect(plan)
            case "misled_plan":  # its name leads to another server meanwhile
                plan = await gc.plan()
                process.eyes.begin("collect")
                process.eyes.executes = plan.operation_id
                for source in process.opened:
                    source.leads_to(self.world.staging[source.name])
                try:
                    await asyncio.sleep(step.seconds)
                    await gc.collect(plan)
                finally:
                    for source in process.opened:
                        source.leads_to(None)
            case "old_plan":
                plan = await gc.plan()
                process.eyes.begin("collect")
                try:
                    await gc.collect()
                except S3GCError as error:
                    self.world.story.say(process.name, "the first ended by {}", type(error).__name__)
                await asyncio.sleep(step.seconds)
                process.eyes.begin("collect")
                process.eyes.executes = plan.operation_id
                await gc.collect(plan)
            case "restore":
                before = self.world.oracle.vault(process).removed.get(step.key)
                report_ = await gc.restore(key=step.key, dry_run=False, overwrite=bool(step.number))
                self.world.story.say(
                    process.name,
                    "restored {}, skipped {}, failed {}",
                    list(report_.restored),
                    dict(report_.skipped),
                    sorted(report_.errors),
                )
                self.world.oracle.restored(process, step.key, report_.restored, before)
            case "restore_at":
                at = process.now() - timedelta(seconds=step.seconds * 10)
                await gc.restore(at=at, dry_run=False, overwrite=bool(step.number))
            case "acknowledge":
                for code, subject in sorted(self.world.oracle.vault(process).latched):
                    await gc.acknowledge(code, "the operator looked", subject=subject)
            case kind:
                raise ValueError(f"no step {kind}")

    async def _serve(self, gc: Collector, process: Process) -> None:
        """An application's process: it claims until the collectors have ended."""
        self.world.claimer = gc, process
        await self.world.finished.wait()
        self.world.claimer = None
        await asyncio.gather(*self.world.asking)

    async def _verify(self, gc: Collector) -> None:
        if not self.world.story.counts["deletions"]:
            self._verified = True  # nothing was taken that could be missed
            return
        journal, vault = await gc.verify()
        if not journal.ok:
            self.world.violate("P4", f"the journal isn't whole: {journal.problems}")
        if not vault.ok:
            self.world.violate("P2", f"the vault can't give back what it holds: {vault.problems}")
        self._verified = True
