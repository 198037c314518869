"""The sweep: a plan executed by batches. It deletes nothing that isn't in the plan, and may only shrink it.

Each batch: verify → back up → fence → gates again → delete → confirm. An unexpected error before the
deletes ends the batch; after the first delete nothing but the confirmation ends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import anyio
from attrs import Factory, define, frozen

from s3gc import _threads, capabilities, gates, journal_events
from s3gc._pool import each
from s3gc.abc import BackupSession
from s3gc.backup import back_up, same_object
from s3gc.breakers import registry_disagrees
from s3gc.confirm import confirm, confirm_operation
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
from s3gc.keylist import KeyCollector
from s3gc.looking import look_again
from s3gc.model import (
    BackupRecord,
    Candidate,
    DeleteOutcome,
    JournalDraft,
    Moment,
    ObjectInfo,
    PlanEntry,
    Position,
    TrippedBreaker,
)
from s3gc.parts import Parts
from s3gc.plan import Plan
from s3gc.reading import Witness, fences, referenced_among, sync_again
from s3gc.vault.records import record_to_json

FAILED_BATCHES = 3
"""The sweep ends after so many failed batches in a row: the store is down, not one object."""

LOOKS = 5
"""Looks in a row that may fail when a delete's answer was lost."""

FIRST_LOOK = 0.5
"""Seconds until the second look; each pause is twice the one before."""


@define
class Tally:
    """What a sweep did, as it goes."""

    deleted: KeyCollector
    backed_up: int = 0
    bytes_deleted: int = 0
    kept: Counter[str] = Factory(Counter)
    resurrected: list[str] = Factory(list)
    errors: list[str] = Factory(list)
    begun: int = 0  # batches
    batches: int = 0  # that deleted something
    late_window: float = 0.0  # seconds, the longest from a last fence to its confirmation
    open: bool = False  # something is deleted that isn't confirmed: the journal must show no end


@frozen
class _Doomed:
    """An object on its way out: what was listed, what keeps it recoverable, and why it goes."""

    entry: PlanEntry
    record: BackupRecord


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
    failed = 0
    async with parts.vault.session(operation_id) as session:
        safety = parts.config.safety
        batches = _batches(plan.entries(), safety.batch_objects, safety.batch_bytes)
        # Read in a thread: parsing thousands of lines would stall the host's loop.
        while batch := await _threads.run(lambda: next(batches, [])):
            tally.begun += 1
            try:
                await _batch(parts, session, batch, operation_id, tally)
                failed = 0
            except (SourceError, VaultError) as error:
                # Evidence or the way back is missing: that concerns every batch, not this one.
                code = _code(error)
                raise CycleHeld([TrippedBreaker(code, "", str(error))]) from error
            except StoreError as error:
                failed += 1
                tally.errors.append(f"batch of {len(batch)} objects kept: {error}")
                parts.emit("batch_failed", operation_id=operation_id, error=str(error))
                if failed == FAILED_BATCHES:
                    raise S3GCError(
                        f"{failed} batches in a row failed, the sweep ended; the last error: {error}"
                    ) from error
            await capabilities.reconsider(parts, operation_id)


def _code(error: SourceError | VaultError) -> str:
    if isinstance(error, PositionLost):
        return "position_lost"
    return "source_failed" if isinstance(error, SourceError) else "vault_unusable"


async def _confirm_all(parts: Parts, operation_id: str, tally: Tally) -> None:
    """A row may have named a key of an early batch during a late one: back before we end (P3)."""
    tally.open = True
    with anyio.CancelScope(shield=True):
        try:
            back = await confirm_operation(parts, operation_id)
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


async def _batch(
    parts: Parts, session: BackupSession, batch: Sequence[PlanEntry], operation_id: str, tally: Tally
) -> None:
    entries = {entry.object.key: entry for entry in batch}
    try:
        await parts.lease.keep()
        doomed, fence = await _prepare(parts, session, entries, operation_id, tally)
        await parts.lease.confirm()
    except BaseException:
        tally.kept[gates.BATCH_FAILED] += len(entries)
        raise
    if not doomed:
        return

    # From the intent to the confirmation nothing may stop us half way: a cancel waits for the batch's end.
    tally.open = True
    with anyio.CancelScope(shield=True):
        doomed = await _drop_claimed(parts, doomed, fence, operation_id, tally)
        await parts.vault.journal.append(_intents(doomed, fence.positions, operation_id))
        try:
            deleted = await _delete(parts, doomed, operation_id, tally)
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


async def _prepare(
    parts: Parts, session: BackupSession, entries: dict[str, PlanEntry], operation_id: str, tally: Tally
) -> tuple[list[_Doomed], _Fence]:
    """All that comes before the first delete. Takes what must stay out of ``entries``.

    Returns what is left with its backups, and the last fence.
    """
    whole = len(entries)

    # verify: the database itself, past the registry
    await _drop_referenced(parts, entries, tally)
    parts.emit(
        "batch_verified",
        operation_id=operation_id,
        objects=len(entries),
        referenced=whole - len(entries),
    )

    # back up
    records, kept = await back_up(parts, session, [entry.object for entry in entries.values()], operation_id)
    for key, (code, _) in kept.items():
        del entries[key]
        tally.kept[code] += 1
    tally.backed_up += len(records)
    parts.emit(
        "batch_backed_up",
        operation_id=operation_id,
        objects=len(records),
        bytes=sum(record.size for record in records.values()),
    )

    # fence, then everything again: what became referenced, changed or vetoed while we copied stays
    await parts.lease.keep()
    at, began = parts.clock.now(), parts.clock.monotonic()
    fence = _Fence(at, began, await fences(parts))
    hashes = {key: parts.protection.all_hashes(key) for key in entries}
    await _drop_by_registry(parts, entries, hashes, tally)
    await _drop_referenced(parts, entries, tally)
    await _drop_by_registry(parts, entries, hashes, tally)  # again: the reading may have taught it
    await _drop_changed(parts, entries, tally)
    await _drop_by_gates(parts, entries, tally)
    doomed = [_Doomed(entry, records[key]) for key, entry in entries.items()]
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
    await parts.registry.listing.forget(referenced.keys())


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
    parts: Parts, doomed: Sequence[_Doomed], fence: _Fence, operation_id: str, tally: Tally
) -> list[_Doomed]:
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


def _intents(
    doomed: Sequence[_Doomed], positions: Sequence[Position], operation_id: str
) -> list[JournalDraft]:
    fence = JournalDraft(
        journal_events.FENCE_REACHED,
        operation_id,
        data={"positions": {position.source: position.value for position in positions}},
    )
    return [
        fence,
        *(
            JournalDraft(
                journal_events.DELETE_INTENDED,
                operation_id,
                one.record.key,
                {
                    "etag": one.entry.object.etag,
                    "size": one.entry.object.size,
                    "last_modified": one.entry.object.last_modified.isoformat(),
                    "since": one.entry.unreferenced_since.isoformat(),
                    "observations": one.entry.observations,
                    "reason": one.entry.reason,
                },
            )
            for one in doomed
        ),
    ]


async def _delete(
    parts: Parts, doomed: Sequence[_Doomed], operation_id: str, tally: Tally
) -> dict[str, BackupRecord]:
    """Delete, and journal how each ended. Returns the records of all that are gone by our hand."""
    deleted: dict[str, BackupRecord] = {}
    skipped: dict[str, tuple[str, str]] = {}

    async def remove(group: Sequence[_Doomed]) -> None:
        etags = {one.record.key: one.entry.object.etag for one in group}
        outcomes: Mapping[str, DeleteOutcome | StoreError]
        try:
            await parts.lease.before_delete()
            outcomes = await parts.store.delete_many(etags)
        except StoreError as error:
            outcomes = dict.fromkeys(etags, error)
        over = anyio.current_time() + request_life(parts).total_seconds()
        for one in group:
            outcome = outcomes[one.record.key]
            if isinstance(outcome, StoreError):
                await fail(one, outcome, over)
            elif outcome is DeleteOutcome.DELETED:
                deleted[one.record.key] = one.record
            else:
                skipped[one.record.key] = (gates.CHANGED, f"the store says: {outcome.value}")

    async def fail(one: _Doomed, error: StoreError, over: float) -> None:
        listed = one.entry.object
        if error.outcome_unknown and await is_gone(parts, listed, over):
            deleted[listed.key] = one.record
        else:
            skipped[listed.key] = (gates.NOT_DELETED, str(error))
            tally.errors.append(f"{listed.key!r} was not deleted: {error}")

    most = parts.store.delete_most
    await each([doomed[start : start + most] for start in range(0, len(doomed), most)], remove)
    drafts = [deletion_draft(record, operation_id) for record in deleted.values()]
    drafts += [
        JournalDraft(journal_events.DELETE_SKIPPED, operation_id, key, {"reason": code, "detail": detail})
        for key, (code, detail) in skipped.items()
    ]
    await parts.vault.journal.append(drafts)
    for code, _ in skipped.values():
        tally.kept[code] += 1
    return deleted


def deletion_draft(record: BackupRecord, operation_id: str, *, recovered: bool = False) -> JournalDraft:
    """The journal's entry of a deletion: all that a restore needs."""
    data: dict[str, object] = {"backup": record_to_json(record)}
    if recovered:
        data["recovered"] = True
    return JournalDraft(journal_events.DELETED, operation_id, record.key, data)


def request_life(parts: Parts) -> timedelta:
    """How long a request that nobody waits for any more may still be carried out (safety case, A8)."""
    return parts.config.safety.lease_margin


async def is_gone(parts: Parts, listed: ObjectInfo, over: float) -> bool:
    """Look whether this very upload is gone after a delete whose answer was lost.

    Args:
        over: when the request's life (:func:`request_life`) is over, by anyio's clock. Until then "it is
            still there" is no answer.

    Raises:
        StoreError: the store doesn't answer; the intent stays open in the journal for the next start.
    """
    pause = FIRST_LOOK
    failed = 0
    while True:
        asked = anyio.current_time()
        try:
            found = await parts.store.stat(listed.key)
        except StoreError:
            failed += 1
            if failed == LOOKS:
                raise
        else:
            failed = 0
            if found is None:
                return True
            if asked >= over:
                return not same_object(listed, found)
        left = over - anyio.current_time()
        await anyio.sleep(min(pause, left) if left > 0 else FIRST_LOOK)
        pause *= 2
