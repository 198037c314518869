"""Removing backups for good: those whose time is over, and those that must be forgotten by law.

A pack can't be changed. What remains of it is copied into a new pack first, read back there, and noted in
the journal together with what goes; then the old pack is unlinked. A crash before the note leaves the old
pack and a copy that nobody knows; after it, an old pack that nobody reads, which goes when the vault is
opened next.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from itertools import groupby

from attrs import evolve, frozen

from s3gc.errors import VaultCorrupt, VaultError
from s3gc.journal_events import BACKUP_REMOVED, BACKUPS, PACK_RETIRED, REPACKED
from s3gc.model import BackupRecord, JournalDraft, ObjectInfo, RemovalReport
from s3gc.vault import _fs
from s3gc.vault._places import PackPlan, Place, Places
from s3gc.vault.local import LocalVault
from s3gc.vault.packs import PACK_SUFFIX
from s3gc.vault.records import canonical, record_from_json, record_to_json

WORTH_REPACKING = 0.2
"""A pack is written anew for retention's sake only if this share of its bytes would go."""

RETENTION = "older than the vault's retention"
ERASED = "erased on request"


@frozen
class _Why:
    operation_id: str
    why: str
    reason: str


async def prune(
    vault: LocalVault, operation_id: str, *, before: datetime, reason: str, dry_run: bool
) -> RemovalReport:
    """Remove backups that were made before a time and whose object s3gc had deleted before it.

    A backup whose object was never deleted stays: nobody can say that it isn't needed. So does one of an
    operation that hasn't ended. Packs of which little would go stay as they are.

    Raises:
        VaultError: the vault can't be read or written, or is full. What went before stands in the journal.
    """
    with Places() as places:
        await places.load(vault.journal)
        places.doom_older(before)
        plans = places.packs()
        worth = [
            plan
            for plan in plans
            if plan.doomed_bytes >= WORTH_REPACKING * (plan.doomed_bytes + plan.kept_bytes)
        ]
        why = _Why(operation_id, RETENTION, reason)
        return await _remove(vault, places, worth, why, dry_run=dry_run, left=len(plans) - len(worth))


async def forget(
    vault: LocalVault, operation_id: str, key: str, *, reason: str, dry_run: bool
) -> RemovalReport:
    """Remove every backup of one key. The journal keeps that it was there, and that it was erased, and why.

    Raises:
        VaultError: the vault holds none, an operation that may need it hasn't ended, or the reason is empty.
    """
    if not reason.strip():
        raise VaultError("say why it is to be forgotten: the reason is all that is left of it")
    with Places() as places:
        await places.load(vault.journal)
        if not places.doom_key(key):
            raise VaultError(f"the vault holds no backup of {key!r}")
        if operation := places.open_operation_of(key):
            raise VaultError(
                f"operation {operation} hasn't ended and may need {key!r}: let it be settled first"
            )
        why = _Why(operation_id, ERASED, reason)
        return await _remove(vault, places, places.packs(), why, dry_run=dry_run, left=0)


async def _remove(
    vault: LocalVault, places: Places, plans: Sequence[PackPlan], why: _Why, *, dry_run: bool, left: int
) -> RemovalReport:
    removed = moved = freed = packs = 0
    problems: list[str] = []
    for plan in plans:
        if not dry_run:
            problem = await _one_pack(vault, plan.pack, places.of_pack(plan.pack), why)
            if problem is not None:
                problems.append(f"{plan.pack}: {problem}")
                continue
        packs += 1
        removed += plan.doomed
        moved += plan.kept
        freed += plan.doomed_bytes
    return RemovalReport(why.operation_id, dry_run, removed, moved, packs, freed, left, tuple(problems))


async def _one_pack(vault: LocalVault, pack: str, places: Sequence[Place], why: _Why) -> str | None:
    """Copy what stays, note all of it, unlink. Why the pack was left as it is, or None."""
    path = vault.packs_folder / (pack + PACK_SUFFIX)
    try:
        with _fs.explained(f"open {path}"):
            fd = os.open(path, os.O_RDONLY)
    except VaultError as error:
        return str(error)
    try:
        if not _fs.try_lock(fd):
            return "it is being written to: later"
        kept, doomed = await _records(vault, places)
        try:
            copies = await _copy(vault, kept)
        except VaultCorrupt as error:
            return f"what remains of it can't be read, so nothing of it was removed: {error}"
        drafts = [
            JournalDraft(
                REPACKED, why.operation_id, old.key, {"from": old.location, "backup": record_to_json(new)}
            )
            for old, new in copies
        ]
        facts = {"why": why.why, "reason": why.reason}
        drafts += [
            JournalDraft(
                BACKUP_REMOVED,
                why.operation_id,
                record.key,
                {"from": record.location, "backup": record_to_json(record), **facts},
            )
            for record in doomed
        ]
        # Together: a reader finds each backup in its old place, or in its new one.
        drafts.append(JournalDraft(PACK_RETIRED, why.operation_id, None, {"pack": pack}))
        await vault.journal.append(drafts)
        await vault.retire(pack)
    finally:
        os.close(fd)
    return None


async def _records(
    vault: LocalVault, places: Sequence[Place]
) -> tuple[list[tuple[str, BackupRecord]], list[BackupRecord]]:
    """What stays, with the operation that backed it up, and what goes."""
    by_seq: dict[int, list[Place]] = {}
    for place in places:
        by_seq.setdefault(place.seq, []).append(place)
    kept: list[tuple[str, BackupRecord]] = []
    doomed: list[BackupRecord] = []
    last = places[-1].seq
    async with aclosing(_entries(vault, places[0].seq - 1)) as found:  # type: ignore[type-var]
        async for seq, record in found:
            for place in by_seq.pop(seq, ()):
                if place.doomed:
                    doomed.append(record)
                else:
                    kept.append((place.operation, record))
            if seq >= last:
                break
    if by_seq:
        raise VaultCorrupt("the journal no longer has what it had a moment ago: run `audit verify`")
    return kept, doomed


async def _entries(vault: LocalVault, after: int) -> AsyncIterator[tuple[int, BackupRecord]]:
    async for entry in vault.journal.read(events=BACKUPS | {REPACKED}, after_seq=after):
        yield entry.seq, record_from_json(entry.data["backup"])


async def _copy(
    vault: LocalVault, kept: Sequence[tuple[str, BackupRecord]]
) -> list[tuple[BackupRecord, BackupRecord]]:
    """Back the backups up again, under the operations that made them: durable, read back, compared.

    Raises:
        VaultCorrupt: one of them can't be read, or another object came out.
    """
    copies: list[tuple[BackupRecord, BackupRecord]] = []
    for operation, group in groupby(kept, key=lambda item: item[0]):
        records = [record for _, record in group]
        async with vault.session(operation) as session:
            for record in records:
                info = ObjectInfo(
                    record.key, record.size, record.etag, record.last_modified, record.version_id
                )
                await session.add(info, record.attributes, vault.read(record))
            made = list(await session.commit())
        by_content: dict[str, list[BackupRecord]] = {}
        for new in made:
            by_content.setdefault(_content(new), []).append(new)
        for record in records:
            new_ones = by_content.get(_content(record))
            if not new_ones:
                raise VaultCorrupt(f"the copy of {record.key!r} is of another object")
            copies.append((record, new_ones.pop()))
    return copies


def _content(record: BackupRecord) -> str:
    """A record without what a copy may have otherwise."""
    return canonical(record_to_json(evolve(record, codec="", stored_size=0, location="")))
