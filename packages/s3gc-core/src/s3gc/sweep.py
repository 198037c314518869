"""The sweep: a plan executed by batches. It deletes nothing that isn't in the plan, and may only shrink it.

Each batch: verify → back up → fence → gates again → delete → confirm. An unexpected error before the
deletes ends the batch; after the first delete nothing but the confirmation ends it. Before a batch is fenced
the next one is verified, and that is backed up beside what follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

import anyio
from attrs import Factory, define, frozen

from s3gc import _threads, capabilities, gates
from s3gc.abc import BackupSession
from s3gc.backup import back_up, same_object
from s3gc.breakers import registry_disagrees
from s3gc.confirm import confirm, confirm_operation
from s3gc.deletion import Doomed, delete, intents
from s3gc.errors import (
    CycleHeld,
    LeaseLost,
    PositionLost,
    S3GCError,
    SourceError,
    StoreError,
    Unsettled,
    VaultError,
)
from s3gc.gates import first_objection
from s3gc.looking import look_again
from s3gc.model import (
    BackupRecord,
    Candidate,
    Moment,
    PlanEntry,
    Position,
    TrippedBreaker,
)
from s3gc.parts import Parts
from s3gc.plan import Plan
from s3gc.reading import Witness, fences, referenced_among, sync_again
from s3gc.tally import Tally

FAILED_BATCHES = 3
"""The sweep ends after so many failed batches in a row: the store is down, not one object."""


@frozen
class _Fence:
    """The last one before the deletes."""

    at: datetime  # when it began
    began: float  # the same, monotonic seconds
    positions: Sequence[Position]


async def sweep(parts: Parts, plan: Plan, operation_id: str, tally: Tally) -> None:
    """Execute a plan. ``tally`` is right at every moment, also when this raises."""
    await capabilities.ready(parts, operation_id)
    try:
        await _execute(parts, plan, operation_id, tally)
    except BaseException as error:
        # What the batches before deleted gets its last confirmation all the same, now or at the next start.
        if tally.batches and not tally.open and not isinstance(error, LeaseLost):
            try:
                await _confirm_all(parts, operation_id, tally)
            except Unsettled as unsettled:
                parts.log.warning("recovery_pending", operation_id=operation_id, error=str(unsettled))
        raise
    if tally.batches and tally.begun > 1:  # also when the later ones deleted nothing: they took their time
        await _confirm_all(parts, operation_id, tally)


async def _execute(parts: Parts, plan: Plan, operation_id: str, tally: Tally) -> None:
    safety = parts.config.safety
    batches = _batches(plan.entries(), safety.batch_objects, safety.batch_bytes)
    async with parts.vault.session(operation_id) as session:
        await _Belt(parts, session, operation_id, tally).run(batches)


@define
class _Batch:
    """Entries of the plan on their way. What must stay is taken out of ``entries``."""

    entries: dict[str, PlanEntry]
    records: dict[str, BackupRecord] = Factory(dict)  # of what was copied


@define
class _Belt:
    """While a batch is fenced, deleted and confirmed, the next one is copied.

    Only the copying runs beside. The sources are read for one batch at a time, so the time from a last fence
    to its confirmation grows by no other batch's reading.
    """

    _parts: Parts
    _session: BackupSession
    _operation_id: str
    _tally: Tally
    _failed: int = 0  # batches in a row
    _copied: _Batch | None = None  # the one whose turn is next

    async def run(self, batches: Iterator[list[PlanEntry]]) -> None:
        try:
            while True:
                # Read in a thread: parsing thousands of lines would stall the host's loop.
                entries = await _threads.run(lambda: next(batches, []))
                if not entries and self._copied is None:
                    return
                await self._step(await self._verified(entries) if entries else None)
                await capabilities.reconsider(self._parts, self._operation_id)
        finally:
            if self._copied is not None:  # the sweep ended before its turn
                self._tally.kept[gates.BATCH_FAILED] += len(self._copied.entries)

    async def _verified(self, entries: Sequence[PlanEntry]) -> _Batch | None:
        """A new batch, or None when it failed."""
        self._tally.begun += 1
        batch = _Batch({entry.object.key: entry for entry in entries})
        try:
            with _kept_on_error(batch, self._tally):
                await _verify(self._parts, batch, self._operation_id, self._tally)
        except S3GCError as error:
            self._judge(error, batch)
            return None
        return batch

    async def _step(self, fresh: _Batch | None) -> None:
        """Finish the batch whose turn it is, while the fresh one is copied."""
        ready, self._copied = self._copied, None
        finished: list[BaseException] = []
        copied: list[BaseException] = []

        async def copy(batch: _Batch, scope: anyio.CancelScope) -> None:
            try:
                with _kept_on_error(batch, self._tally):
                    await _copy(self._parts, self._session, batch, self._operation_id, self._tally)
                self._copied = batch
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below, as it was
                copied.append(error)
                if not isinstance(error, Exception):
                    scope.cancel()  # the other batch's end is waited for, but not when we are being killed

        async with anyio.create_task_group() as group:
            if fresh is not None:
                group.start_soon(copy, fresh, group.cancel_scope)
            if ready is not None:
                try:
                    await _finish(self._parts, ready, self._operation_id, self._tally)
                except anyio.get_cancelled_exc_class():
                    raise
                except BaseException as error:  # noqa: BLE001 - raised again below, as it was
                    finished.append(error)
                    if not isinstance(error, StoreError):
                        group.cancel_scope.cancel()
        if ready is not None:
            if finished:
                self._judge(finished[0], ready)
            else:
                self._failed = 0
        if fresh is not None and copied:
            self._judge(copied[0], fresh)

    def _judge(self, error: BaseException, batch: _Batch) -> None:
        """A store that fails costs the batch, and the sweep only when it goes on failing.

        Raises:
            CycleHeld: evidence or the way back is missing: that concerns every batch, not this one.
            BaseException: the error itself, if it is none of the store's.
        """
        if isinstance(error, SourceError | VaultError):
            raise CycleHeld([TrippedBreaker(_code(error), "", str(error))]) from error
        if not isinstance(error, StoreError):
            raise error
        self._failed += 1
        self._tally.errors.append(f"batch of {len(batch.entries)} objects kept: {error}")
        self._parts.emit("batch_failed", operation_id=self._operation_id, error=str(error))
        if self._failed == FAILED_BATCHES:
            raise S3GCError(
                f"{self._failed} batches in a row failed, the sweep ended; the last error: {error}"
            ) from error


@contextmanager
def _kept_on_error(batch: _Batch, tally: Tally) -> Iterator[None]:
    try:
        yield
    except BaseException:
        tally.kept[gates.BATCH_FAILED] += len(batch.entries)
        raise


def _code(error: SourceError | VaultError) -> str:
    if isinstance(error, PositionLost):
        return "position_lost"
    return "source_failed" if isinstance(error, SourceError) else "vault_unusable"


async def _confirm_all(parts: Parts, operation_id: str, tally: Tally) -> None:
    """A row may have named a key of an early batch during a late one: back before we end (P3)."""
    tally.open = True
    with anyio.CancelScope(shield=True):
        try:
            back = await confirm_operation(parts, operation_id, deleted=tally.deleted.keys())
        except S3GCError as error:
            raise Unsettled(f"{error} (the next start settles it)") from error
    tally.open = False
    tally.deleted.remove(back)
    tally.resurrected.extend(back)
    for key in back:
        parts.emit("object_resurrected", operation_id=operation_id, s3_key=key)


def _batches(entries: Iterator[PlanEntry], most: int, most_bytes: int) -> Iterator[list[PlanEntry]]:
    batch: list[PlanEntry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.object.size
        if len(batch) >= most or size >= most_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _verify(parts: Parts, batch: _Batch, operation_id: str, tally: Tally) -> None:
    """The database itself, past the registry."""
    whole = len(batch.entries)
    await parts.lease.keep()
    await _drop_referenced(parts, batch.entries, tally)
    parts.emit(
        "batch_verified",
        operation_id=operation_id,
        objects=len(batch.entries),
        referenced=whole - len(batch.entries),
    )


async def _copy(parts: Parts, session: BackupSession, batch: _Batch, operation_id: str, tally: Tally) -> None:
    """Back up, and take out what can't be."""
    objects = [entry.object for entry in batch.entries.values()]
    records, kept = await back_up(parts, session, objects, operation_id)
    for key, (code, _) in kept.items():
        del batch.entries[key]
        tally.kept[code] += 1
    batch.records = records
    tally.backed_up += len(records)
    parts.emit(
        "batch_backed_up",
        operation_id=operation_id,
        objects=len(records),
        bytes=sum(record.size for record in records.values()),
    )


async def _finish(parts: Parts, batch: _Batch, operation_id: str, tally: Tally) -> None:
    with _kept_on_error(batch, tally):
        doomed, fence = await _fenced(parts, batch, operation_id, tally)
        await parts.lease.confirm()
    if not doomed:
        return

    # From the intent to the confirmation nothing may stop us half way: a cancel waits for the batch's end.
    tally.open = True
    with anyio.CancelScope(shield=True):
        doomed = await _drop_claimed(parts, doomed, fence, operation_id, tally)
        await parts.vault.journal.append(intents(doomed, fence.positions, operation_id))
        try:
            deleted = await delete(parts, doomed, operation_id, tally)
            confirmed = await confirm(parts, deleted, operation_id, since=fence.began)
            await parts.registry.claims.spare(operation_id)
        except LeaseLost:
            raise  # who has the lease now settles what is open, and we touch nothing more
        except S3GCError as error:
            raise Unsettled(
                f"{error} (the journal has all that is open; the next start settles it)"
            ) from error
    tally.open = False
    back = confirmed.back
    tally.late_window = max(tally.late_window, parts.clock.monotonic() - fence.began)
    gone = [one.entry.object for one in doomed if one.record.key in deleted and one.record.key not in back]
    tally.deleted.extend(found.key for found in gone)
    tally.batches += 1
    tally.bytes_deleted += sum(found.size for found in gone)
    tally.resurrected.extend(back)
    for found in gone:
        parts.emit(
            "object_backed_up_and_deleted", operation_id=operation_id, s3_key=found.key, size=found.size
        )
    for key in back:
        parts.emit("object_resurrected", operation_id=operation_id, s3_key=key)
    parts.emit("batch_completed", operation_id=operation_id, deleted=len(gone), resurrected=len(back))
    if confirmed.unread is not None:
        raise confirmed.unread  # all of the batch is back, and the sweep is held: unknown means keep


async def _fenced(
    parts: Parts, batch: _Batch, operation_id: str, tally: Tally
) -> tuple[list[Doomed], _Fence]:
    """Fence, then everything again: what became referenced, changed or vetoed while we copied stays.

    Returns what is left with its backups, and the last fence.
    """
    entries = batch.entries
    await parts.lease.keep()
    at, began = parts.clock.now(), parts.clock.monotonic()
    fence = _Fence(at, began, await fences(parts))
    hashes = {key: parts.protection.all_hashes(key) for key in entries}
    await _drop_by_registry(parts, entries, hashes, tally)
    await _drop_referenced(parts, entries, tally)
    await _drop_by_registry(parts, entries, hashes, tally)  # again: the reading may have taught it
    await _drop_changed(parts, entries, tally)
    await _drop_by_gates(parts, entries, tally)
    doomed = [Doomed(entry, batch.records[key]) for key, entry in entries.items()]
    parts.emit("batch_fenced", operation_id=operation_id, objects=len(doomed))
    return doomed, fence


async def _drop_by_registry(
    parts: Parts, entries: dict[str, PlanEntry], hashes: Mapping[str, Sequence[int]], tally: Tally
) -> None:
    """What followed changes have brought up to the fence."""
    protected = await _known(parts, {key: hashes[key] for key in entries})
    for key in protected:
        del entries[key]
    tally.kept[gates.REFERENCED] += len(protected)


async def _known(parts: Parts, hashes: Mapping[str, Sequence[int]]) -> list[str]:
    """Those keys that a row in the registry protects. With each stand the hashes that do."""
    held = await parts.registry.references.held({value for some in hashes.values() for value in some})
    return [key for key, some in hashes.items() if not held.isdisjoint(some)]


async def _drop_referenced(parts: Parts, entries: dict[str, PlanEntry], tally: Tally) -> None:
    referenced = await referenced_among(parts, entries.keys())
    if referenced:
        await _agree(parts, referenced)
    for key in referenced:
        del entries[key]
    tally.kept[gates.REFERENCED_NOW] += len(referenced)
    await parts.registry.listing.forget(referenced.keys(), found=parts.clock.now())


async def _agree(parts: Parts, referenced: Mapping[str, Sequence[Witness]]) -> None:
    """What the direct read has seen, the registry must know once it has caught up: else don't trust it.

    A row that came after the plan's sync is no disagreement: the registry learns of it here. Only a row that
    is there before and after, and that the registry doesn't know, is one.

    Raises:
        CycleHeld: the registry misses references.
    """
    sources = {witness.source for some in referenced.values() for witness in some}
    await sync_again(parts, sources)
    for name in sources:
        state = await parts.registry.references.state(name)
        if state is not None and state.lost is not None:
            raise PositionLost(f"{name}: {state.lost}")
    known = set(await _known(parts, {key: parts.protection.all_hashes(key) for key in referenced}))
    unknown = [key for key in referenced if key not in known]
    again = await referenced_among(parts, unknown)
    proven = {
        key: str(witness)
        for key in unknown
        for witness in referenced[key][:1]
        if not set(referenced[key]).isdisjoint(again.get(key, ()))
    }
    if proven:
        for name in sources:
            await parts.registry.references.lose_position(name, None)  # the next cycle reads all rows anew
        raise CycleHeld(registry_disagrees(proven))


async def _drop_claimed(
    parts: Parts, doomed: Sequence[Doomed], fence: _Fence, operation_id: str, tally: Tally
) -> list[Doomed]:
    """The last look before the intents. From here on a claim on one of these keys waits for the batch."""
    keys = [one.record.key for one in doomed]
    claimed = await parts.registry.claims.doom(operation_id, keys, fence.at)
    tally.kept[gates.CLAIMED] += len(claimed)
    return [one for one in doomed if one.record.key not in claimed]


async def _drop_changed(parts: Parts, entries: dict[str, PlanEntry], tally: Tally) -> None:
    """A re-upload of the same bytes keeps the ETag and passes If-Match: look at last-modified too."""
    now_there = await look_again(parts.store, sorted(entries))
    changed = [
        key
        for key, entry in entries.items()
        if (found := now_there[key]) is None or not same_object(entry.object, found)
    ]
    for key in changed:
        del entries[key]
    tally.kept[gates.CHANGED] += len(changed)


async def _drop_by_gates(parts: Parts, entries: dict[str, PlanEntry], tally: Tally) -> None:
    """Every gate again, on what the registry knows and not on what the plan's file says; then the vetoes."""
    moment = Moment(await parts.store.now())
    candidates: list[Candidate] = []
    objects = [entry.object for entry in entries.values()]
    for candidate in await parts.registry.listing.candidates_among(
        objects, moment.now, parts.protection.hashes
    ):
        objection = first_objection(parts.gates, candidate, moment)
        if objection is None:
            candidates.append(candidate)
        else:
            del entries[candidate.object.key]
            tally.kept[objection[0]] += 1

    if not parts.hook.s3gc_veto.get_hookimpls():
        return
    vetoed = await _threads.run(
        lambda: [one.object.key for one in candidates if parts.hook.s3gc_veto(candidate=one) is not None]
    )
    for key in vetoed:
        del entries[key]
    tally.kept[gates.VETOED] += len(vetoed)
