"""Claims: an application asks before it refers to an object that is there already.

Without a claim, a row that names an old object may commit in the moment in which a sweep deletes it. That
heals (P3), but for a while the object is away. With a claim it isn't: see :func:`claim`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import anyio

from s3gc import journal_events
from s3gc.deletion import request_life
from s3gc.errors import AmbiguousKey, BackupGone, S3GCError
from s3gc.model import BackupRecord, JournalDraft
from s3gc.parts import Parts
from s3gc.putback import put_back_if_missing
from s3gc.registry import Claim
from s3gc.vault.records import record_from_json

MOST_WAIT = timedelta(seconds=60)
"""How long a claim waits for a batch that is deleting its key, besides the life of a request, for which the
next start of a killed collector has to wait as well. Longer: the collector has stopped half way."""

_FIRST_PAUSE = 0.01
_MOST_PAUSE = 0.2


async def claim(parts: Parts, key: str, ttl: timedelta) -> bool:
    """Make sure that an object exists and stays for ``ttl``, so that a row may refer to it.

    The row must be committed before the claim ends, by the clock of this host; from then on it is the row
    that protects the object. Works across all processes that share the registry's file.

    Why claim and sweep can't both win: the claim is written first, and after that we look whether a sweep has
    taken (doomed) the key. The sweep dooms a key in the transaction that looks for claims. So one of three:

    - the claim came first: the sweep sees it and leaves the key alone;
    - the doom came first: we wait until the batch is confirmed. Its confirmation either sees the claim and
      puts the object back, as for a row that names it, or had looked already; then the object is missing
      when the wait is over, and we put it back ourselves;
    - the sweep was through with the key before: as in the case before, without waiting.

    Only then do we look whether the object exists: no sweep that may still delete it is left, and the next
    one will see the claim.

    Args:
        ttl: how long; more than 0, at most ``Safety.max_claim``.

    Returns:
        True: the object exists, and s3gc doesn't delete it before the claim ends. False: there is no such
        object, or a collector that stopped half way holds the key; upload a copy of your own.

    Raises:
        ValueError: ``ttl`` is out of its range.
        AmbiguousKey: the store can't address this key.
        S3GCError: registry, store or vault can't be used. Nothing is claimed.
    """
    if not timedelta(0) < ttl <= parts.config.safety.max_claim:
        raise ValueError(
            f"a claim lasts more than 0 and at most max_claim, {parts.config.safety.max_claim}; got {ttl}"
        )
    if not parts.store.can_address(key):
        raise AmbiguousKey(f"{key!a} is no key that the store can address exactly; nothing was claimed")
    unique = parts.new_id()
    name = parts.registry.claims.name(unique)
    try:
        claimed = await _claim(parts, key, ttl, unique, name)
    except BaseException:
        with anyio.CancelScope(shield=True):
            try:
                await parts.registry.claims.remove(key, name)
            except S3GCError as error:  # it ends by its time; the first error is the one to tell
                parts.log.warning("claim_not_removed", s3_key=key, error=str(error))
        raise
    if not claimed:
        await parts.registry.claims.remove(key, name)
    return claimed


async def release(parts: Parts, key: str) -> bool:
    """End a claim of this collector's before its time, e.g. because the row was not written after all.

    Where several claims of this collector's run on one key, the one that ends first is taken, whoever made
    it: the others last at least as long as they must. Release each claim at most once, and before it ends.

    Returns:
        Whether there was one.

    Raises:
        S3GCError: the registry can't be used.
    """
    return await parts.registry.claims.release(key, parts.clock.now())


async def end(parts: Parts, key: str, reason: str, id: str | None) -> Sequence[Claim]:
    """End other processes' claims on a key, on record. From then on only rows protect the object.

    The journal is told first: a crash in between leaves a claim that runs on, and says too much.

    Args:
        id: only this claim; None means all on the key.

    Returns:
        Those that were ended, with the end that they had.

    Raises:
        ValueError: the reason is empty.
        S3GCError: registry or journal can't be used; the claims run on.
    """
    if not reason.strip():
        raise ValueError("a reason is needed: it stands in the journal")
    running = [
        one
        for one in await parts.registry.claims.all(parts.clock.now())
        if one.key == key and id in (None, one.id)
    ]
    if not running:
        return ()
    operation_id = parts.new_id()
    await parts.vault.journal.append(
        [
            JournalDraft(
                journal_events.CLAIM_ENDED,
                operation_id,
                key,
                {"id": one.id, "until": one.until.isoformat(), "reason": reason},
            )
            for one in running
        ]
    )
    now = parts.clock.now()
    return [ended for one in running for ended in await parts.registry.claims.end(key, now, one.id)]


async def _claim(parts: Parts, key: str, ttl: timedelta, unique: str, name: str) -> bool:
    claims = parts.registry.claims
    last = parts.clock.monotonic() + (MOST_WAIT + request_life(parts)).total_seconds()
    while True:
        now = parts.clock.now()
        until = now + ttl
        if await claims.add(key, until, name, at=now):
            if not await _spared(parts, key, last):
                return False
            continue  # it may be doomed anew, if the claim had ended while we waited
        if not await _is_there(parts, key, unique):
            return False
        if parts.clock.now() < until:
            data = {"until": until.isoformat(), "id": name}
            await parts.vault.journal.append([JournalDraft(journal_events.CLAIMED, unique, key, data)])
            return True
        if parts.clock.monotonic() >= last:  # each time it took longer than the claim lasts
            return False


async def _spared(parts: Parts, key: str, last: float) -> bool:
    """Wait until no sweep has the key any more; False when that takes too long."""
    pause = _FIRST_PAUSE
    while await parts.registry.claims.is_doomed(key):
        if parts.clock.monotonic() >= last:
            return False
        await anyio.sleep(pause)
        pause = min(2 * pause, _MOST_PAUSE)
    return True


async def _is_there(parts: Parts, key: str, operation_id: str) -> bool:
    """Whether the object exists; one that we have deleted is put back first."""
    if await parts.store.stat(key) is not None:
        return True
    record = await _removed(parts, key)
    if record is None:
        return False
    try:
        written = await put_back_if_missing(parts, record)
    except BackupGone:
        return False  # long deleted, and its backup, too
    if written is not None:  # else somebody uploaded it meanwhile
        data = {"why": "claimed", "etag": written.etag}
        await parts.vault.journal.append([JournalDraft(journal_events.RESURRECTED, operation_id, key, data)])
    return True


async def _removed(parts: Parts, key: str) -> BackupRecord | None:
    """The backup of a key whose removal is the last that the journal tells of it."""
    record: BackupRecord | None = None
    events = {journal_events.DELETED, journal_events.RESURRECTED, journal_events.RESTORED}
    async for entry in parts.vault.journal.read(key=key, events=events):
        record = record_from_json(entry.data["backup"]) if entry.event == journal_events.DELETED else None
    return record
