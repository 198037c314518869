"""Writing what remains of a pack into a new one.

A pack can't be changed. What remains of it is copied into a new pack first, read back there, and noted in
the journal together with what goes; then the old pack is unlinked. A crash before the note leaves the old
pack and a copy that nobody knows; after it, an old pack that nobody reads, which goes when the vault is
opened next.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from itertools import groupby

from attrs import evolve, frozen

from s3gc.errors import CodecMissing, VaultCorrupt, VaultError
from s3gc.journal_events import BACKUP_REMOVED, BACKUPS, PACK_RETIRED, REPACKED
from s3gc.model import BackupRecord, JournalDraft, ObjectInfo
from s3gc.vault import _fs
from s3gc.vault._places import Place
from s3gc.vault.local import LocalVault
from s3gc.vault.packs import PACK_SUFFIX
from s3gc.vault.records import canonical, record_from_json, record_to_json


@frozen
class Why:
    """On whose behalf a pack is written anew; ``why`` and ``reason`` are of what goes."""

    operation_id: str
    why: str = ""
    reason: str = ""


@frozen
class Repacked:
    """What was moved: bytes of the frames before and after."""

    before: int
    after: int


async def one_pack(
    vault: LocalVault, pack: str, places: Sequence[Place], why: Why, *, plain: bool = False
) -> str | Repacked:
    """Copy what stays, note all of it, unlink. Why the pack was left as it is, or what it is now.

    Args:
        plain: write the copies by zstd alone.
    """
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
            copies = await _copy(vault, kept, plain=plain)
        except (VaultCorrupt, CodecMissing) as error:
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
    return Repacked(sum(old.stored_size for old, _ in copies), sum(new.stored_size for _, new in copies))


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
    vault: LocalVault, kept: Sequence[tuple[str, BackupRecord]], *, plain: bool
) -> list[tuple[BackupRecord, BackupRecord]]:
    """Back the backups up again, under the operations that made them: durable, read back, compared.

    Raises:
        VaultCorrupt: one of them can't be read, or another object came out.
    """
    copies: list[tuple[BackupRecord, BackupRecord]] = []
    for operation, group in groupby(kept, key=lambda item: item[0]):
        records = [record for _, record in group]
        async with vault.copying(operation, plain=plain) as session:
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
