"""The one object that applications and faces talk to. The cycle, from top to bottom.

plan      preflight → list → sync up to a fence → candidates → gates → the plan
collect   plan → sweep (verify → back up → fence → delete → confirm, by batches) → report
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pluggy
from attrs import evolve
from ulid import ULID

from s3gc import _threads, capabilities, claims, cycle, following, latch, lease
from s3gc.abc import Gate, ObjectStore, ReferenceSource, Vault
from s3gc.backtest import Backtest, Policy, backtest
from s3gc.capabilities import StoreState
from s3gc.choosing import Selection
from s3gc.clock import Clock, SystemClock
from s3gc.config import Config
from s3gc.copies import catch_up
from s3gc.difference import Difference, differences
from s3gc.discovery import Lead, leads
from s3gc.drill import drill
from s3gc.elsewhere import Origin
from s3gc.errors import CycleHeld, LeaseHeld, S3GCError
from s3gc.explain import explain
from s3gc.health import Health, health
from s3gc.holder import holder_of
from s3gc.hooks import plugin_manager
from s3gc.metrics import metrics
from s3gc.missing import Missing, missing
from s3gc.model import (
    AuditResult,
    DrillReport,
    Explanation,
    JournalEntry,
    Mode,
    Report,
    RestoreReport,
    ScrubReport,
    TrippedBreaker,
    VaultCheck,
    VaultStats,
)
from s3gc.opening import open_parts
from s3gc.operations import Operation, operations
from s3gc.parts import Observer, Parts
from s3gc.plan import Plan, newest_plan
from s3gc.recovery import open_operations, recover
from s3gc.registry import Claim
from s3gc.restore import counts, on_record, restore
from s3gc.turns import operation_turn
from s3gc.vault.scrub import next_share, scrub


class Collector:
    """One bucket's collector: ``async with Collector.open(config) as gc``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: Config,
        *,
        sources: Sequence[ReferenceSource] = (),
        store: ObjectStore | None = None,
        vault: Vault | None = None,
        gates: Sequence[Gate] = (),
        plugins: pluggy.PluginManager | None = None,
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> AsyncIterator[Collector]:
        """Open the bucket, its sources, vault and registry, and settle what a crash left open.

        Args:
            sources: places of references besides those of the configuration.
            store, vault: instead of those that the configuration names.
            gates: more reasons to keep an object.
            plugins: instead of the process's own, e.g. ``create_plugin_manager(entry_points=False)``.
            clock, new_id: where time and operation ids come from.

        Raises:
            ConfigError: no plugin opens what the configuration names.
            VaultMismatch: the vault belongs to another bucket.
            VaultError, S3GCError: vault or registry can't be used.
        """
        clock = clock or SystemClock()
        async with open_parts(
            config,
            store=store,
            sources=sources,
            vault=vault,
            gates=gates,
            plugins=plugins or plugin_manager(),
            clock=clock,
            new_id=new_id or (lambda: str(ULID.from_datetime(clock.now()))),
        ) as parts:
            collector = cls(parts)
            await collector._settle_at_start()
            yield collector

    @property
    def config(self) -> Config:
        """The configuration that it was opened with."""
        return self._parts.config

    # ------------------------------------------------------------------ the cycle

    async def plan(self, *, own_id: str | None = None) -> Plan:
        """Look, and write down what a cycle would delete. Touches nothing in the bucket.

        Args:
            own_id: a ULID for the operation, if somebody must know it before it begins.

        Raises:
            CycleHeld: something can't be read. Breakers that forbid only to execute are in ``plan.held_by``.
            LeaseHeld: another collector is at work.
        """
        async with self._operation(writes=False, own_id=own_id) as parts:
            return await cycle.plan(parts, own_id)

    async def collect(
        self, plan: Plan | None = None, *, own_id: str | None = None, not_since: datetime | None = None
    ) -> Report:
        """Execute a plan as the mode says: dry_run reports, audit_only journals, execute deletes.

        Args:
            own_id: a ULID for the operation, if somebody must know it before it begins.
            not_since: only if no other collect with this vault has begun since then. So of several schedulers
                one collects.

        Raises:
            AlreadyCollected: one has begun since ``not_since``.
            CycleHeld: a breaker tripped; ``report`` says what was done before.
            PlanError: the plan is too old, damaged, or of another bucket or configuration.
            LeaseHeld: another collector is at work.
            LeaseLost: another host took over while this one was paused; it settles what is open.
        """
        mode = self._parts.config.mode
        try:
            async with self._operation(writes=mode is Mode.EXECUTE, own_id=own_id) as parts:
                if not_since is not None:
                    await cycle.not_since(parts, not_since)
                made = await cycle.plan(parts) if plan is None else plan
                report = await cycle.collect(parts, made, own_id)
        except CycleHeld as held:
            if held.report is not None and held.report.backed_up:
                await catch_up(self._parts, held.report.operation_id)  # what the batches before did
            raise
        if mode is Mode.DRY_RUN:
            return report
        problems = await catch_up(self._parts, report.operation_id)  # without the lease: nobody waits for it
        return evolve(report, errors=(*report.errors, *problems))

    async def differences(self, before: Plan, after: Plan) -> AsyncIterator[Difference]:
        """What differs between a plan and the one that this collector made last, in key order, and why.

        Raises:
            PlanError: they are of two buckets, or one of the files was changed.
            StoreError, S3GCError: the store's clock or the registry can't be read.
        """
        async for one in differences(self._parts, before, after):
            yield one

    async def follow(self, *, every: timedelta = following.EVERY, chance: Random | None = None) -> None:
        """Keep the registry at the changes of every source that follows them, until cancelled.

        Run it beside anything: it gives way to each operation of this and of other processes, and goes on
        afterwards. Of several followers one works, the others stand by. What it can't read is tried again,
        later each time; what is lost is left to the next cycle, which reads anew and holds. It deletes
        nothing and makes no decision.

        Args:
            every: how long to wait from one look to the next.

        Raises:
            ConfigError: no source follows changes.
            VaultError: the vault's folder can't be written.
        """
        await following.follow(self._parts, every=every, chance=chance or SystemRandom())

    async def latest_plan(self) -> Path | None:
        """The file of the newest plan made with this vault, for ``Plan.load``; None if there is none."""
        return await _threads.run(lambda: newest_plan(self._parts.folder))

    # ------------------------------------------------------------------ restore

    async def restore(
        self,
        *,
        key: str | None = None,
        operation_id: str | None = None,
        prefix: str | None = None,
        at: datetime | None = None,
        into: str | None = None,
        dry_run: bool = True,
        overwrite: bool = False,
        own_id: str | None = None,
    ) -> RestoreReport:
        """Bring back what s3gc removed: a key, an operation, a prefix, or all that was there ``at`` a time.

        A live object is never overwritten unless ``overwrite`` is true; then it is backed up first.

        Args:
            into: another bucket or folder, as of :meth:`s3gc.archive.Archive.restore`; nobody backs up what
                is overwritten there.
            own_id: a ULID for this restore, if somebody must know it before it begins.

        Raises:
            ValueError: nothing was chosen, or ``at`` has no time zone.
            ConfigError: ``into`` is no such place, or lies in the bucket or in the vault.
            LeaseHeld: another collector is at work (not with ``dry_run``).
        """
        selection = Selection.of(key, prefix, operation_id, at)
        if into is not None:
            return await self._origin().restore(
                into, own_id or self._parts.new_id(), selection, dry_run=dry_run, overwrite=overwrite
            )
        if dry_run:
            return await restore(
                self._parts, own_id or self._parts.new_id(), selection, dry_run=True, overwrite=overwrite
            )
        async with self._operation(writes=True, reads=False, own_id=own_id) as parts:
            report = await self._restore(parts, own_id or parts.new_id(), selection, overwrite=overwrite)
        await catch_up(self._parts, report.operation_id)
        return report

    def _origin(self) -> Origin:
        parts = self._parts
        return Origin(
            parts.config, parts.hook, parts.clock, parts.vault, parts.store.url, parts.folder, parts.emit
        )

    async def _restore(
        self, parts: Parts, own_id: str, selection: Selection, *, overwrite: bool
    ) -> RestoreReport:
        report = await on_record(
            parts.vault.journal,
            own_id,
            {**selection.facts(), "overwrite": overwrite},
            lambda: restore(parts, own_id, selection, dry_run=False, overwrite=overwrite),
            lambda error: cycle.safe(parts, error),
        )
        parts.emit("restore_completed", operation_id=own_id, dry_run=False, **counts(report))
        return report

    # ------------------------------------------------------------------ claims

    async def claim(self, key: str, ttl: timedelta) -> bool:
        """Ask before a row refers to an object that is there already (dedupe, content addressing).

        True: the object exists, and won't be collected before the claim ends. Commit the row before that. If
        it was deleted a moment ago, it is restored first. False: there is no such object; upload it.

        Works from any process that has this collector's registry and vault, also while another one collects.

        Args:
            ttl: how long the claim lasts; at most ``Safety.max_claim``.

        Raises:
            ValueError: ``ttl`` isn't positive, or too long.
            StoreError, VaultError: nobody can say; the claim isn't held.
        """
        return await claims.claim(self._parts, key, ttl)

    async def release(self, key: str) -> bool:
        """End a claim of this collector's before its time. Returns whether there was one."""
        return await claims.release(self._parts, key)

    async def claims(self) -> Sequence[Claim]:
        """The claims of all processes that still run, by key.

        Raises:
            S3GCError: the registry can't be read.
        """
        return await self._parts.registry.claims.all(self._parts.clock.now())

    async def end_claims(self, key: str, reason: str, *, id: str | None = None) -> Sequence[Claim]:
        """End claims on a key that other processes left behind. Stands in the journal with the reason.

        Only when no row will refer to the object any more on the strength of the claim.

        Args:
            id: only this claim; None means all on the key.

        Returns:
            Those that were ended, with the end that they had; empty: none runs.

        Raises:
            ValueError: the reason is empty.
            S3GCError: registry or journal can't be used; the claims run on.
        """
        return await claims.end(self._parts, key, reason, id)

    # ------------------------------------------------------------------ the store

    async def capabilities(self, *, probe: bool = False) -> StoreState | None:
        """What the last probe of the store found, when, and what of it would hold a sweep.

        None: it was never probed. A sweep probes by itself when it has to.

        Args:
            probe: do it now. That writes a few objects below ``.s3gc/probe/`` and removes them.

        Raises:
            StoreError: the store can't be probed, or isn't read-after-write consistent.
        """
        return await (capabilities.probe(self._parts) if probe else capabilities.last_probe(self._parts))

    # ------------------------------------------------------------------ breakers

    async def breakers(self) -> Sequence[TrippedBreaker]:
        """Those that wait for an acknowledgement, each with the time since when."""
        return await latch.latched(self._parts)

    async def acknowledge(self, code: str, reason: str, *, subject: str = "") -> None:
        """Let a tripped breaker go. Stands in the journal with the reason.

        One of :data:`s3gc.breakers.ACKNOWLEDGEABLE` passes as long as its cause lasts, too. Any other trips
        again in the next cycle unless its cause is cured.

        Raises:
            ValueError: no such breaker waits, or the reason is empty.
        """
        await latch.acknowledge(self._parts, code, reason, subject)

    # ------------------------------------------------------------------ questions

    async def explain(self, key: str, *, at: datetime | None = None) -> Explanation:
        """Why this key is still there, or why it went; with ``at``, as the journal knew it at that time.

        Raises:
            ValueError: ``at`` has no time zone.
        """
        if at is not None and at.tzinfo is None:
            raise ValueError("at must have a time zone, e.g. datetime.now(timezone.utc)")
        return await explain(self._parts, key, at)

    async def missing(self) -> AsyncIterator[Missing]:
        """References to objects that don't exist: the reverse of garbage. Lists the bucket, reads all rows.

        Raises:
            CycleHeld: bucket or sources can't be read.
            LeaseHeld: another collector is at work.
        """
        async with self._operation(writes=False) as parts:
            async for one in missing(parts):
                yield one

    async def health(self) -> Health:
        """Whether vault, store and sources answer, and what waits for a person. Touches nothing, never raises
        for what it finds."""
        return await health(self._parts)

    async def vault_stats(self) -> VaultStats:
        """The vault in numbers. It goes through all of its backups' records.

        Raises:
            VaultError: the vault can't be read.
        """
        return await self._parts.vault.stats()

    @contextmanager
    def watching(self, observer: Observer) -> Iterator[None]:
        """Tell ``observer`` this collector's events, as a plugin's ``s3gc_event`` would be told them."""
        self._parts.observers.append(observer)
        try:
            yield
        finally:
            self._parts.observers.remove(observer)

    async def discover(self) -> AsyncIterator[Lead]:
        """Columns that aren't tracked and have values, each tried against the bucket.

        Raises:
            SourceError: a schema can't be looked through.
            StoreError: the bucket can't be asked.
        """
        async for lead in leads(self._parts):
            yield lead

    async def backtest(self, policy: Policy | None = None) -> Backtest:
        """How long references were gone before they came back, and what a policy would have done.

        Reads the registry and the journal, neither bucket nor sources.

        Args:
            policy: None means the one in force.

        Raises:
            S3GCError: the registry or the journal can't be read.
        """
        return await backtest(self._parts, policy)

    async def metrics(self) -> Mapping[str, Any]:
        """Totals over the bucket's whole history; they survive restarts."""
        return await metrics(self._parts)

    async def verify(self) -> tuple[AuditResult, VaultCheck]:
        """Check every link of the journal, and read and decode every backup."""
        return await self._parts.vault.journal.verify(), await self._parts.vault.verify()

    async def verify_backups(self, *, share_of: int | None = None, own_id: str | None = None) -> ScrubReport:
        """Read and decode all backups, or with ``share_of`` the next share; the journal notes the result.

        With ``share_of=30`` everything has been read after 30 runs to the end, whenever they are.

        Raises:
            ValueError: ``share_of`` is less than 1.
        """
        parts = self._parts
        share = None if share_of is None else await next_share(parts.vault, share_of)
        return await scrub(parts.vault, parts.clock, own_id or parts.new_id(), share)

    async def drill(
        self, objects: int = 10, *, chance: Random | None = None, own_id: str | None = None
    ) -> DrillReport:
        """Restore some backups, chosen by chance, below ``.s3gc/drill/``; compare them; remove them again.

        Raises:
            VaultError, StoreError: it can't be tried. What went wrong with an object is in the report.
        """
        return await drill(self._parts, own_id or self._parts.new_id(), objects, chance or SystemRandom())

    def history(self, **filters: Any) -> AsyncIterator[JournalEntry]:
        """Journal entries, oldest first. Filters as of :meth:`s3gc.abc.Journal.read`."""
        return self._parts.vault.journal.read(**filters)

    def operations(
        self, *, kinds: Collection[str] = (), newest: int | None = None
    ) -> AsyncIterator[Operation]:
        """What was done so far, newest first; see :func:`s3gc.operations.operations`."""
        return operations(self._parts.vault.journal, kinds=kinds, newest=newest)

    # ------------------------------------------------------------------ under the lease

    @asynccontextmanager
    async def _operation(
        self, *, writes: bool, reads: bool = True, own_id: str | None = None
    ) -> AsyncIterator[Parts]:
        """One operation at a time, and none before what a crash left open is settled.

        Args:
            writes: it may write to the bucket, so it needs the bucket's lease.
            reads: it may read changes, so the follower gives way.
            own_id: the operation's id, if it has one already.
        """
        parts = self._parts
        async with lease.hold(parts.folder / "collector.lock", own_id), AsyncExitStack() as stack:
            if reads and any(source.follows_changes for source in parts.sources):
                await stack.enter_async_context(operation_turn(parts.folder))
                stack.push_async_callback(following.let_go, parts)
            unsettled = bool(await open_operations(parts))
            try:
                if writes or unsettled:
                    parts = evolve(parts, lease=await stack.enter_async_context(self._lease()))
                await recover(parts)
            except LeaseHeld:
                raise
            except S3GCError as error:
                code = "recovery_pending" if unsettled else "store_failed"
                held = TrippedBreaker(code, "", cycle.safe(parts, error))
                await parts.tripped(parts.new_id(), [held])
                raise CycleHeld([held]) from error
            yield parts

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[lease.Lease]:
        parts = self._parts
        async with lease.bucket_lease(
            parts.store,
            parts.clock,
            parts.config.safety,
            holder=await holder_of(parts.folder, parts.new_id()),
            new_id=parts.new_id,
        ) as held:
            yield held

    async def _settle_at_start(self) -> None:
        parts = self._parts
        if not await open_operations(parts):
            return
        try:
            async with lease.hold(parts.folder / "collector.lock"), self._lease() as held:
                await recover(evolve(parts, lease=held))
        except LeaseHeld:
            pass  # it isn't open, it is running
        except S3GCError as error:
            # The host must be able to start while a database is down; no operation runs before it is settled.
            parts.log.warning("recovery_pending", error=cycle.safe(parts, error))
