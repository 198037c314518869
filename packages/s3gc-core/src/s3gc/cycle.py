"""One cycle on record: a plan or a collect from its first journal entry to its last, however it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import anyio

from s3gc import journal_events, owner
from s3gc.config import scrub
from s3gc.errors import AlreadyCollected, CycleHeld, LeaseLost, PlanError, S3GCError, StoreError
from s3gc.keylist import KeyCollector
from s3gc.model import JournalDraft, Mode, Report, TrippedBreaker
from s3gc.parts import Parts
from s3gc.plan import Plan
from s3gc.planning import belonging, make_plan, preflight, still_latched, unacknowledged
from s3gc.sweep import sweep
from s3gc.tally import Tally

WOULD_DELETE_BATCH = 1_000
"""Journal entries written at once in audit_only."""


def safe(parts: Parts, error: BaseException) -> str:
    """An error's text without secrets."""
    return scrub(f"{type(error).__name__}: {error}", parts.config)


async def journal(parts: Parts, operation_id: str, event: str, data: Mapping[str, Any]) -> None:
    """One entry about an operation as a whole."""
    await parts.vault.journal.append([JournalDraft(event, operation_id, data=data)])


async def plan(parts: Parts, own_id: str | None = None) -> Plan:
    """Make a plan, and tell how it began and ended.

    Args:
        own_id: the operation's id, if it has one already.
    """
    operation_id = own_id or parts.new_id()
    parts.emit("gc_cycle_started", operation_id=operation_id, kind="plan", mode=parts.config.mode.value)
    try:
        return await make_plan(parts, operation_id)
    except CycleHeld as held:
        await parts.tripped(operation_id, held.breakers)
        raise
    except S3GCError as error:
        parts.emit("gc_cycle_failed", operation_id=operation_id, error=safe(parts, error))
        raise


async def collect(parts: Parts, plan: Plan, own_id: str | None = None) -> Report:
    """Execute a plan as the mode says.

    Args:
        own_id: the operation's id, if it has one already.

    Raises:
        CycleHeld: with the report of what was done before.
        PlanError: the plan is too old, damaged, or of another bucket or configuration.
    """
    check(parts, plan)
    return await _Collect(parts, plan, own_id or parts.new_id()).run()


async def not_since(parts: Parts, moment: datetime) -> None:
    """Refuse a collect when one has begun since.

    Raises:
        AlreadyCollected: one has.
    """
    async for entry in parts.vault.journal.read(events={journal_events.OPERATION_STARTED}):
        if entry.data.get("kind") == "collect" and entry.at >= moment:
            raise AlreadyCollected(
                f"operation {entry.operation_id} has begun at {entry.at.isoformat()} already",
                operation_id=entry.operation_id,
            )


def check(parts: Parts, plan: Plan) -> None:
    """Refuse a plan that isn't for this bucket, this configuration and this day, or was changed."""
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


class _Collect:
    """One collect of one plan."""

    def __init__(self, parts: Parts, plan: Plan, own_id: str) -> None:
        self._parts = parts
        self._plan = plan
        self._id = own_id
        self._started = parts.clock.monotonic()
        self._tally = Tally(KeyCollector(parts.folder / "operations" / f"{self._id}.deleted"))
        self._tally.kept.update(plan.kept)

    async def run(self) -> Report:
        parts, plan, mode = self._parts, self._plan, self._parts.config.mode
        parts.emit("gc_cycle_started", operation_id=self._id, kind="collect", mode=mode.value)
        await journal(
            parts,
            self._id,
            journal_events.OPERATION_STARTED,
            {
                "kind": "collect",
                "mode": mode.value,
                "plan": plan.operation_id,
                "plan_sha256": plan.digest,
                "config": parts.config.digest,
            },
        )
        held_by_plan = bool(plan.held_by)
        try:
            if held_by_plan:
                raise CycleHeld(plan.held_by)
            if waiting := await still_latched(parts):
                raise CycleHeld(waiting)
            if mode is not Mode.DRY_RUN:
                await self._belongs()
            if mode is Mode.AUDIT_ONLY:
                await self._audit()
            elif mode is Mode.EXECUTE:
                await owner.bind(parts)
                await sweep(parts, plan, self._id, self._tally)
        except CycleHeld as held:
            if not held_by_plan:
                await parts.tripped(self._id, held.breakers)
            await self._fail(held)
            raise CycleHeld(held.breakers, self._report(held.breakers)) from held
        except BaseException as error:
            await self._fail(error)
            raise
        done = self._report()
        await self._end(done)
        return done

    async def _belongs(self) -> None:
        """The plan may be hours old, or another process's: the world must be the one that it was made in."""
        parts = self._parts
        sources = await preflight(parts)
        try:
            tripped = await belonging(parts, sources)
        except StoreError as error:
            raise CycleHeld([TrippedBreaker("store_failed", "", str(error))]) from error
        if held := await unacknowledged(parts, tripped):
            raise CycleHeld(held)

    def _report(self, held_by: Sequence[TrippedBreaker] = ()) -> Report:
        parts, plan, tally = self._parts, self._plan, self._tally
        return Report(
            operation_id=self._id,
            mode=parts.config.mode,
            scanned=plan.scanned,
            candidates=plan.candidates,
            deleted=tally.deleted.keys(),
            backed_up=tally.backed_up,
            kept={code: count for code, count in sorted(tally.kept.items()) if count},
            errors=tuple(tally.errors),
            duration=timedelta(seconds=parts.clock.monotonic() - self._started),
            planned=len(plan),
            bytes_deleted=tally.bytes_deleted,
            resurrected=tuple(tally.resurrected),
            late_window=timedelta(seconds=tally.late_window),
            held_by=tuple(held_by),
        )

    async def _audit(self) -> None:
        drafts: list[JournalDraft] = []
        for entry in self._plan:
            drafts.append(
                JournalDraft(
                    journal_events.WOULD_DELETE,
                    self._id,
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

    async def _fail(self, error: BaseException) -> None:
        if self._tally.open or isinstance(error, LeaseLost):
            # No end in the journal: the next start, or who has the lease now, settles what isn't confirmed.
            self._parts.emit("gc_cycle_failed", operation_id=self._id, error=safe(self._parts, error))
        else:
            await self._end(self._report(), error=safe(self._parts, error))

    async def _end(self, report: Report, error: str | None = None) -> None:
        with anyio.CancelScope(shield=True):  # an end that was cancelled is an end, too
            await self._write_end(report, error)

    async def _write_end(self, report: Report, error: str | None) -> None:
        parts = self._parts
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
            "late_window": report.late_window.total_seconds(),
            "bytes_deleted": report.bytes_deleted,
            "kept": dict(report.kept),
            "errors": list(report.errors)[:100],
            "seconds": seconds,
        }
        if error is None:
            await journal(parts, self._id, journal_events.OPERATION_COMPLETED, data)
            parts.emit(
                "gc_cycle_completed",
                operation_id=self._id,
                mode=report.mode.value,
                deleted=len(report.deleted),
                duration=seconds,
            )
        else:
            await journal(parts, self._id, journal_events.OPERATION_FAILED, {**data, "error": error})
            parts.emit("gc_cycle_failed", operation_id=self._id, error=error)
