"""The one object that applications and faces talk to. The cycle, from top to bottom.

plan      preflight → list → sync up to a fence → candidates → gates → the plan
collect   plan → sweep (verify → back up → fence → delete → confirm, by batches) → report
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import anyio
import pluggy
from ulid import ULID

from s3gc import breakers, journal_events, lease
from s3gc.abc import Gate, ObjectStore, ReferenceSource, Vault
from s3gc.clock import Clock, SystemClock
from s3gc.config import Config, scrub
from s3gc.errors import CycleHeld, LeaseHeld, PlanError, S3GCError
from s3gc.explain import explain
from s3gc.hooks import plugin_manager
from s3gc.keylist import KeyCollector
from s3gc.metrics import metrics
from s3gc.model import (
    AuditResult,
    Explanation,
    JournalDraft,
    JournalEntry,
    Mode,
    Report,
    RestoreReport,
    TrippedBreaker,
    VaultCheck,
)
from s3gc.opening import open_parts
from s3gc.parts import Parts
from s3gc.plan import Plan
from s3gc.planning import make_plan, preflight
from s3gc.recovery import open_operations, recover
from s3gc.restore import Selection, restore
from s3gc.sweep import Tally, sweep

WOULD_DELETE_BATCH = 1_000
"""Journal entries written at once in audit_only."""


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

    # ------------------------------------------------------------------ the cycle

    async def plan(self) -> Plan:
        """Look, and write down what a cycle would delete. Touches nothing in the bucket.

        Raises:
            CycleHeld: something can't be read. Breakers that forbid only to execute are in ``plan.held_by``.
            LeaseHeld: another collector is at work.
        """
        async with self._operation():
            return await self._plan()

    async def collect(self, plan: Plan | None = None) -> Report:
        """Execute a plan as the mode says: dry_run reports, audit_only journals, execute deletes.

        Raises:
            CycleHeld: a breaker tripped; ``report`` says what was done before.
            PlanError: the plan is too old, damaged, or of another bucket or configuration.
            LeaseHeld: another collector is at work.
        """
        async with self._operation():
            plan = await self._plan() if plan is None else plan
            return await self._collect(plan)

    async def _plan(self) -> Plan:
        parts = self._parts
        operation_id = parts.new_id()
        parts.emit("gc_cycle_started", operation_id=operation_id, kind="plan", mode=parts.config.mode.value)
        try:
            return await make_plan(parts, operation_id)
        except CycleHeld as held:
            await parts.tripped(operation_id, held.breakers)
            raise
        except S3GCError as error:
            parts.emit("gc_cycle_failed", operation_id=operation_id, error=self._safe(error))
            raise

    async def _collect(self, plan: Plan) -> Report:
        parts = self._parts
        mode = parts.config.mode
        self._check(plan)
        operation_id = parts.new_id()
        started = parts.clock.monotonic()
        tally = Tally(KeyCollector(parts.folder / "operations" / f"{operation_id}.deleted"))
        tally.kept.update(plan.kept)
        parts.emit("gc_cycle_started", operation_id=operation_id, kind="collect", mode=mode.value)
        await self._journal(
            operation_id,
            journal_events.OPERATION_STARTED,
            {
                "kind": "collect",
                "mode": mode.value,
                "plan": plan.operation_id,
                "plan_sha256": plan.digest,
                "config": parts.config.digest,
            },
        )

        def report(held_by: Sequence[TrippedBreaker] = ()) -> Report:
            return Report(
                operation_id=operation_id,
                mode=mode,
                scanned=plan.scanned,
                candidates=plan.candidates,
                deleted=tally.deleted.keys(),
                backed_up=tally.backed_up,
                kept={code: count for code, count in sorted(tally.kept.items()) if count},
                errors=tuple(tally.errors),
                duration=timedelta(seconds=parts.clock.monotonic() - started),
                planned=len(plan),
                bytes_deleted=tally.bytes_deleted,
                resurrected=tuple(tally.resurrected),
                held_by=tuple(held_by),
            )

        try:
            if plan.held_by:
                raise CycleHeld(plan.held_by)
            if mode is Mode.AUDIT_ONLY:
                await self._audit(plan, operation_id)
            elif mode is Mode.EXECUTE:
                await preflight(parts)
                await sweep(parts, plan, operation_id, tally)
        except CycleHeld as held:
            if not plan.held_by:
                await parts.tripped(operation_id, held.breakers)
            await self._fail(operation_id, report(), tally, held)
            raise CycleHeld(held.breakers, report(held.breakers)) from held
        except BaseException as error:
            await self._fail(operation_id, report(), tally, error)
            raise
        done = report()
        await self._end(operation_id, done)
        return done

    def _check(self, plan: Plan) -> None:
        parts = self._parts
        if plan.header.store_url != parts.store.url:
            raise PlanError(f"the plan is for {plan.header.store_url}, this collector for {parts.store.url}")
        if plan.header.config_digest != parts.config.digest:
            raise PlanError("the plan was made under another configuration: make a new one")
        age = parts.clock.now() - plan.header.created_at
        if age > parts.config.safety.max_plan_age:
            raise PlanError(
                f"the plan is {age} old, {parts.config.safety.max_plan_age} is allowed: make a new one"
            )
        Plan.load(plan.path)  # whole and unchanged

    async def _audit(self, plan: Plan, operation_id: str) -> None:
        drafts: list[JournalDraft] = []
        for entry in plan:
            drafts.append(
                JournalDraft(
                    journal_events.WOULD_DELETE,
                    operation_id,
                    entry.object.key,
                    {
                        "etag": entry.object.etag,
                        "size": entry.object.size,
                        "last_modified": entry.object.last_modified.isoformat(),
                        "reason": entry.reason,
                    },
                )
            )
            if len(drafts) == WOULD_DELETE_BATCH:
                await self._parts.vault.journal.append(drafts)
                drafts = []
        await self._parts.vault.journal.append(drafts)

    async def _fail(self, operation_id: str, report: Report, tally: Tally, error: BaseException) -> None:
        if tally.open:
            # No end in the journal: the next start settles what isn't confirmed.
            self._parts.emit("gc_cycle_failed", operation_id=operation_id, error=self._safe(error))
        else:
            await self._end(operation_id, report, error=self._safe(error))

    async def _end(self, operation_id: str, report: Report, error: str | None = None) -> None:
        with anyio.CancelScope(shield=True):  # an end that was cancelled is an end, too
            await self._write_end(operation_id, report, error)

    async def _write_end(self, operation_id: str, report: Report, error: str | None) -> None:
        seconds = report.duration.total_seconds()
        data = {
            "kind": "collect",
            "mode": report.mode.value,
            "scanned": report.scanned,
            "candidates": report.candidates,
            "planned": report.planned,
            "deleted": len(report.deleted),
            "backed_up": report.backed_up,
            "resurrected": len(report.resurrected),
            "bytes_deleted": report.bytes_deleted,
            "kept": dict(report.kept),
            "errors": list(report.errors)[:100],
            "seconds": seconds,
        }
        if error is None:
            await self._journal(operation_id, journal_events.OPERATION_COMPLETED, data)
            self._parts.emit(
                "gc_cycle_completed",
                operation_id=operation_id,
                mode=report.mode.value,
                deleted=len(report.deleted),
                duration=seconds,
            )
        else:
            await self._journal(operation_id, journal_events.OPERATION_FAILED, {**data, "error": error})
            self._parts.emit("gc_cycle_failed", operation_id=operation_id, error=error)

    # ------------------------------------------------------------------ restore

    async def restore(
        self,
        *,
        key: str | None = None,
        operation_id: str | None = None,
        prefix: str | None = None,
        at: datetime | None = None,
        dry_run: bool = True,
        overwrite: bool = False,
    ) -> RestoreReport:
        """Bring back what s3gc removed: a key, an operation, a prefix, or all that was there ``at`` a time.

        A live object is never overwritten unless ``overwrite`` is true; then it is backed up first.

        Raises:
            ValueError: nothing was chosen, or ``at`` has no time zone.
            LeaseHeld: another collector is at work (not with ``dry_run``).
        """
        if key is None and operation_id is None and prefix is None and at is None:
            raise ValueError("say what to restore: key, operation_id, prefix or at (prefix='' is everything)")
        if at is not None and at.tzinfo is None:
            raise ValueError("at must have a time zone, e.g. datetime.now(timezone.utc)")
        selection = Selection(key, prefix, operation_id, at)
        if dry_run:
            return await restore(
                self._parts, self._parts.new_id(), selection, dry_run=True, overwrite=overwrite
            )
        async with self._operation():
            return await self._restore(selection, overwrite=overwrite)

    async def _restore(self, selection: Selection, *, overwrite: bool) -> RestoreReport:
        parts = self._parts
        own_id = parts.new_id()
        filters = {
            "key": selection.key,
            "prefix": selection.prefix,
            "operation_id": selection.operation_id,
            "at": selection.at.isoformat() if selection.at else None,
            "overwrite": overwrite,
        }
        await self._journal(own_id, journal_events.OPERATION_STARTED, {"kind": "restore", **filters})
        try:
            report = await restore(parts, own_id, selection, dry_run=False, overwrite=overwrite)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._journal(
                    own_id, journal_events.OPERATION_FAILED, {"kind": "restore", "error": self._safe(error)}
                )
            raise
        counts = {
            "restored": len(report.restored),
            "skipped": len(report.skipped),
            "errors": len(report.errors),
        }
        await self._journal(own_id, journal_events.OPERATION_COMPLETED, {"kind": "restore", **counts})
        parts.emit("restore_completed", operation_id=own_id, dry_run=False, **counts)
        return report

    # ------------------------------------------------------------------ questions

    async def explain(self, key: str) -> Explanation:
        """Why this key is still there, or why it went."""
        return await explain(self._parts, key)

    async def metrics(self) -> Mapping[str, Any]:
        """Totals over the bucket's whole history; they survive restarts."""
        return await metrics(self._parts)

    async def verify(self) -> tuple[AuditResult, VaultCheck]:
        """Check every link of the journal, and read and decode every backup."""
        return await self._parts.vault.journal.verify(), await self._parts.vault.verify()

    def history(self, **filters: Any) -> AsyncIterator[JournalEntry]:
        """Journal entries, oldest first. Filters as of :meth:`s3gc.abc.Journal.read`."""
        return self._parts.vault.journal.read(**filters)

    async def acknowledge(self, code: str, reason: str, *, subject: str = "") -> None:
        """Let a tripped breaker pass for as long as its cause lasts. Stands in the journal with the reason.

        Raises:
            ValueError: this breaker can only be cured, not acknowledged; or the reason is empty.
        """
        if code not in breakers.ACKNOWLEDGEABLE:
            raise ValueError(
                f"{code} can't be acknowledged, only cured; these can: "
                + ", ".join(sorted(breakers.ACKNOWLEDGEABLE))
            )
        if not reason.strip():
            raise ValueError("give the reason: it stands in the journal")
        data = {"code": code, "subject": subject, "reason": reason}
        await self._journal(self._parts.new_id(), journal_events.BREAKER_ACKNOWLEDGED, data)
        await self._parts.registry.acknowledge(code, subject, reason, self._parts.clock.now())
        self._parts.emit("breaker_acknowledged", **data)

    # ------------------------------------------------------------------ under the lease

    @asynccontextmanager
    async def _operation(self) -> AsyncIterator[None]:
        """One operation at a time, and none before what a crash left open is settled."""
        async with lease.hold(self._parts.folder / "collector.lock"):
            try:
                await recover(self._parts)
            except S3GCError as error:
                raise CycleHeld([TrippedBreaker("recovery_pending", "", self._safe(error))]) from error
            yield

    async def _settle_at_start(self) -> None:
        if not await open_operations(self._parts):
            return
        try:
            async with lease.hold(self._parts.folder / "collector.lock"):
                await recover(self._parts)
        except LeaseHeld:
            pass  # it isn't open, it is running
        except S3GCError as error:
            # The host must be able to start while a database is down; no operation runs before it is settled.
            self._parts.log.warning("recovery_pending", error=self._safe(error))

    async def _journal(self, operation_id: str, event: str, data: Mapping[str, Any]) -> None:
        await self._parts.vault.journal.append([JournalDraft(event, operation_id, data=data)])

    def _safe(self, error: BaseException) -> str:
        return scrub(f"{type(error).__name__}: {error}", self._parts.config)
