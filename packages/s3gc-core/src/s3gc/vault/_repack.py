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
from s3gc.journal_events import BACKUP_REMOVED, BACKUPS, BYTES_MOVED, PACK_RETIRED, REPACKED
from s3gc.model import BackupRecord, JournalDraft, ObjectInfo, SameAs
from s3gc.vault import _fs
from s3gc.vault._locations import parse_location
from s3gc.vault._places import Place, Places
from s3gc.vault.local import LocalVault
from s3gc.vault.packs import PACK_SUFFIX
from s3gc.vault.records import canonical, record_from_json, record_to_json, same_as_to_json


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
    vault: LocalVault, pack: str, places: Places, why: Why, *, plain: bool = False
) -> str | Repacked:
    """Copy what stays, note all of it, unlink. Why the pack was left as it is, or what it is now.

    Bytes that other backups share stay: at their own backup, or if that goes, at one of the others.

    Args:
        places: is told what became of the pack's backups.
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
        try:
            moves, doomed, bytes_moved = await _copied(vault, pack, places, plain=plain)
        except (VaultCorrupt, CodecMissing) as error:
            return f"what remains of it can't be read, so nothing of it was removed: {error}"
        drafts = [
            JournalDraft(
                REPACKED, why.operation_id, old.key, {"from": old.location, "backup": record_to_json(new)}
            )
            for old, new in moves
        ]
        drafts += [
            JournalDraft(
                BYTES_MOVED, why.operation_id, old.key, {"from": old.location, "to": same_as_to_json(new)}
            )
            for old, new in bytes_moved.items()
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
    for old, new in moves:
        places.moved(old.location, new)
    for record in doomed:
        places.removed(record.location, record.key)
    for whose, now in bytes_moved.items():
        places.bytes_moved(whose.location, now)
    places.retired(pack)
    return Repacked(sum(old.stored_size for old, _ in moves), sum(new.stored_size for _, new in moves))


_Moves = list[tuple[BackupRecord, BackupRecord]]


async def _copied(
    vault: LocalVault, pack: str, places: Places, *, plain: bool
) -> tuple[_Moves, list[BackupRecord], dict[SameAs, SameAs]]:
    """The backups with their old and new records; those that go; where the bytes that others share went."""
    here = places.of_pack(pack)
    kept, doomed = await _records(vault, here)
    shared = places.sharers(pack)
    places_of = {(place.location, place.key): place for place in here}
    whole = [(operation, record) for operation, record in kept if record.same_as is None]
    # Bytes whose own backup goes, or was never confirmed, go to one that shares them.
    staying = {SameAs(record.key, record.location) for _, record in whole}
    heirs = {whose: heir for whose, heir in shared.items() if whose not in staying}
    inherited = [(heir.operation, await _record_at(vault, heir)) for heir in heirs.values()]
    moves = await _copy(vault, [*whole, *inherited], plain=plain)
    now = {(old.key, old.location): SameAs(new.key, new.location) for old, new in moves}
    bytes_moved = {
        whose: now[
            (heirs[whose].key, heirs[whose].location) if whose in heirs else (whose.key, whose.location)
        ]
        for whose in shared
    }
    moved = {(old.location, old.key) for old, _ in moves}
    sharing: list[tuple[str, BackupRecord, SameAs]] = []
    for operation, record in kept:
        place = places_of[record.location, record.key]
        if place.shared is not None and (record.location, record.key) not in moved:
            sharing.append((operation, record, bytes_moved.get(place.shared, place.shared)))
    return [*moves, *await _refer(vault, sharing)], doomed, bytes_moved


async def _record_at(vault: LocalVault, place: Place) -> BackupRecord:
    """A backup that shares bytes, as it is now."""
    for record in await vault.journal.records_at([place.seq]):
        record = evolve(record, location=place.location, same_as=place.shared)
        return evolve(record, stored_size=parse_location(place.location)[2])
    raise VaultCorrupt("the journal no longer has what it had a moment ago: run `audit verify`")


async def _refer(vault: LocalVault, sharing: Sequence[tuple[str, BackupRecord, SameAs]]) -> _Moves:
    """Write backups again that share bytes, which are at these places now."""
    moves: _Moves = []
    for operation, group in groupby(sharing, key=lambda item: item[0]):
        some = list(group)
        async with vault.copying(operation) as session:
            for _, record, same_as in some:
                await session.refer(_info(record), record.attributes, bytes.fromhex(record.sha256), same_as)
            made = await session.commit()
        moves += _matched([record for _, record, _ in some], made)
    return moves


def _info(record: BackupRecord) -> ObjectInfo:
    return ObjectInfo(record.key, record.size, record.etag, record.last_modified, record.version_id)


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


async def _copy(vault: LocalVault, kept: Sequence[tuple[str, BackupRecord]], *, plain: bool) -> _Moves:
    """Back the backups up again, under the operations that made them: durable, read back, compared.

    Raises:
        VaultCorrupt: one of them can't be read, or another object came out.
    """
    moves: _Moves = []
    for operation, group in groupby(kept, key=lambda item: item[0]):
        records = [record for _, record in group]
        async with vault.copying(operation, plain=plain) as session:
            for record in records:
                await session.add(_info(record), record.attributes, vault.read(record))
            made = await session.commit()
        moves += _matched(records, made)
    return moves


def _matched(records: Sequence[BackupRecord], made: Sequence[BackupRecord]) -> _Moves:
    """Each record with that of its copy."""
    by_content: dict[str, list[BackupRecord]] = {}
    for new in made:
        by_content.setdefault(_content(new), []).append(new)
    moves: _Moves = []
    for record in records:
        new_ones = by_content.get(_content(record))
        if not new_ones:
            raise VaultCorrupt(f"the copy of {record.key!r} is of another object")
        moves.append((record, new_ones.pop()))
    return moves


def _content(record: BackupRecord) -> str:
    """A record without what a copy may have otherwise."""
    return canonical(record_to_json(evolve(record, codec="", stored_size=0, location="", same_as=None)))
