"""A journal made anew from packs alone, for a vault that has lost its own.

What packs tell: which bucket, key and version each backup is of, and which operation made it. What they
don't: whether the object was deleted afterwards, put back or overwritten, what a cycle decided, what a
person acknowledged. So the new journal says of each frame only that it was found.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from attrs import define, evolve, field, frozen
from ulid import ULID

from s3gc import _threads, journal_events
from s3gc.clock import Clock
from s3gc.errors import VaultError, VaultMismatch
from s3gc.model import BackupRecord, JournalDraft, RebuildReport, SameAs
from s3gc.vault import _fs
from s3gc.vault._identity import IDENTITY_NAME, Identity, read_identity, require_bucket, write_identity
from s3gc.vault.journal import HEAD_NAME, JOURNAL_NAME, SqliteJournal
from s3gc.vault.packs import PACK_SUFFIX, Frame, PackDamage, parse_location, read_frames
from s3gc.vault.records import canonical, record_from_json, record_to_json

T = TypeVar("T")

BATCH_ENTRIES = 1_000
"""Entries written at once."""

_OLD = (JOURNAL_NAME, JOURNAL_NAME + "-wal", JOURNAL_NAME + "-shm", HEAD_NAME, IDENTITY_NAME)
"""In the order in which they are set aside: a folder without vault.json is no whole vault, and says so."""


async def rebuild(
    folder: Path, store_url: str, operation_id: str, *, clock: Clock, set_aside: bool = False
) -> RebuildReport:
    """Read all packs below ``folder`` and write a new journal, a new head and a new ``vault.json``.

    The packs stay as they are, byte by byte. The vault gets a new id: it can't go on with a chain whose
    entries are lost. A crash at any moment leaves the packs and either the old files or none; then it is to
    be done again.

    Raises:
        VaultMismatch: a frame, or what is left of vault.json, is of another bucket.
        VaultError: there is a journal and not ``set_aside``; there are no packs; a frame's version is newer.
    """
    previous = await _threads.run(lambda: _require_lost(folder, store_url, set_aside))
    identity = Identity(str(ULID.from_datetime(clock.now())), store_url, clock.now())
    scratch = folder / f"rebuild-{operation_id}"
    await _run(folder, lambda: _fresh(scratch))
    journal = SqliteJournal(scratch, vault_id=identity.vault_id, bucket=store_url, clock=clock)
    try:
        await journal.create()
        await journal.open()
        found = await _read_packs(folder, store_url, journal, operation_id)
        left = [name for name in _OLD if (folder / name).exists()]
        aside = f"lost-{operation_id}" if left else None
        facts = {
            "previous_vault": previous.vault_id if previous else None,
            "packs": found.packs,
            "backups": found.backups,
            "damaged": len(found.damaged),
            "set_aside": aside,
        }
        await journal.append([JournalDraft(journal_events.VAULT_REBUILT, operation_id, None, facts)])
    finally:
        await journal.aclose()
    await _run(folder, lambda: _take_place(folder, scratch, identity, aside))
    return RebuildReport(
        operation_id=operation_id,
        vault_id=identity.vault_id,
        previous_vault=previous.vault_id if previous else None,
        packs=found.packs,
        backups=found.backups,
        damaged=tuple(found.damaged),
        set_aside=str(folder / aside) if aside else None,
    )


def _require_lost(folder: Path, store_url: str, set_aside: bool) -> Identity | None:
    """What is left of the vault's identity.

    Raises:
        VaultMismatch, VaultError: nothing may be rebuilt here.
    """
    if (folder / JOURNAL_NAME).exists() and not set_aside:
        raise VaultError(
            f"{folder / JOURNAL_NAME} is there: see `audit verify`. If it can't be used any more and there "
            "is no copy of it, say so (set_aside): it is kept beside the new one"
        )
    if not any((folder / "packs").glob("*" + PACK_SUFFIX)):
        raise VaultError(f"there are no packs below {folder}: nothing to rebuild from")
    try:
        previous = read_identity(folder)
    except VaultError:
        return None  # a damaged vault.json tells nothing; it is set aside with the rest
    if previous is not None:
        require_bucket(folder, previous, store_url)
    return previous


def _fresh(scratch: Path) -> None:
    for old in scratch.parent.glob("rebuild-*"):  # of a rebuild that was cut off
        shutil.rmtree(old)
    scratch.mkdir(mode=_fs.PRIVATE_FOLDER)


@define
class _Found:
    packs: int = 0
    backups: int = 0
    damaged: list[str] = field(factory=list)


async def _read_packs(folder: Path, store_url: str, journal: SqliteJournal, operation_id: str) -> _Found:
    found = _Found()
    whose = _Whose()
    try:
        await _read_each(folder, store_url, journal, operation_id, found, whose)
        while batch := await _run(folder, lambda: whose.take(BATCH_ENTRIES)):
            drafts = [_sharer(one, operation_id) for one in batch]
            await journal.append(drafts)
            lost = [one.frame.record for one in batch if one.same_as is None]
            found.backups += len(batch) - len(lost)
            found.damaged += [
                f"{one.key!r} at {one.location} shares its bytes, which are in no pack" for one in lost
            ]
    finally:
        whose.close()
    return found


async def _read_each(
    folder: Path, store_url: str, journal: SqliteJournal, operation_id: str, found: _Found, whose: _Whose
) -> None:
    for path in sorted((folder / "packs").glob("*" + PACK_SUFFIX)):
        found.packs += 1
        pack = path.name.removesuffix(PACK_SUFFIX)
        damage: list[PackDamage] = []
        frames = read_frames(path, on_damage=damage.append)
        while batch := await _run(folder, lambda frames=frames: list(islice(frames, BATCH_ENTRIES))):  # type: ignore[misc]
            _require_frames(batch, store_url)
            # Those that share bytes come last, when it is known where these are.
            own = await _run(folder, lambda batch=batch: whose.note(batch))  # type: ignore[misc]
            await journal.append([_draft(frame) for frame in own])
            found.backups += len(own)
        await journal.append([_damaged(pack, one, operation_id) for one in damage])
        found.damaged += [f"{pack} at {one.offset}, {one.length} bytes: {one.reason}" for one in damage]


@frozen
class _Sharer:
    """A frame that shares bytes, and whose they are; None: nobody's."""

    frame: Frame
    same_as: SameAs | None


class _Whose:
    """Which frame has which bytes: of a vault of any size, so on disk, in a file without a name."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(
            "CREATE TABLE bytes (sha256 TEXT, size INTEGER, location TEXT, key TEXT,"
            " PRIMARY KEY (sha256, size, location)) WITHOUT ROWID;"
            "CREATE TABLE sharers (number INTEGER PRIMARY KEY, bucket TEXT, operation TEXT, record TEXT);"
        )
        self._taken = 0

    def close(self) -> None:
        self._database.close()

    def note(self, frames: Sequence[Frame]) -> list[Frame]:
        """Remember these. Those that have bytes of their own."""
        own = [frame for frame in frames if frame.record.same_as is None]
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO bytes VALUES (?, ?, ?, ?)",
            [(one.record.sha256, one.record.size, one.record.location, one.record.key) for one in own],
        )
        self._database.executemany(
            "INSERT INTO sharers (bucket, operation, record) VALUES (?, ?, ?)",
            [
                (one.bucket, one.operation_id, canonical(record_to_json(one.record)))
                for one in frames
                if one.record.same_as is not None
            ],
        )
        self._database.execute("COMMIT")
        return own

    def take(self, most: int) -> list[_Sharer]:
        """The next ones that share bytes."""
        rows = self._database.execute(
            "SELECT number, bucket, operation, record FROM sharers WHERE number > ? ORDER BY number LIMIT ?",
            (self._taken, most),
        ).fetchall()
        made: list[_Sharer] = []
        for number, bucket, operation, text in rows:
            self._taken = number
            record = record_from_json(json.loads(text))
            _, offset, length = parse_location(record.location)
            made.append(_Sharer(Frame(record, bucket, operation, offset, length), self._of(record)))
        return made

    def _of(self, record: BackupRecord) -> SameAs | None:
        """Where its frame says if they are there, else anywhere: they may have been moved since."""
        assert record.same_as is not None
        row = self._database.execute(
            "SELECT key, location FROM bytes WHERE sha256 = ? AND size = ? ORDER BY location <> ? LIMIT 1",
            (record.sha256, record.size, record.same_as.location),
        ).fetchone()
        return SameAs(*row) if row else None


def _sharer(one: _Sharer, operation_id: str) -> JournalDraft:
    if one.same_as is not None:
        return _draft(evolve(one.frame, record=evolve(one.frame.record, same_as=one.same_as)))
    pack = parse_location(one.frame.record.location)[0]
    reason = f"the bytes of {one.frame.record.key!r}, which it shares, are in no pack"
    return _damaged(pack, PackDamage(one.frame.offset, one.frame.length, reason, False), operation_id)


def _require_frames(frames: Sequence[Frame], store_url: str) -> None:
    for frame in frames:
        if frame.bucket != store_url:
            raise VaultMismatch(
                f"the backup of {frame.record.key!r} at {frame.record.location} is of {frame.bucket}, not of "
                f"{store_url}: is this the right configuration?"
            )


def _draft(frame: Frame) -> JournalDraft:
    data = {"backup": record_to_json(frame.record)}
    return JournalDraft(journal_events.BACKUP_FOUND, frame.operation_id, frame.record.key, data)


def _damaged(pack: str, damage: PackDamage, operation_id: str) -> JournalDraft:
    facts = {
        "pack": pack,
        "offset": damage.offset,
        "length": damage.length,
        "reason": damage.reason,
        "torn": damage.torn,
    }
    return JournalDraft(journal_events.DAMAGE_FOUND, operation_id, None, facts)


def _take_place(folder: Path, scratch: Path, identity: Identity, aside: str | None) -> None:
    """The new journal in place of the old one; vault.json last, so that a folder with it is whole."""
    if (scratch / (JOURNAL_NAME + "-wal")).exists():
        raise VaultError(f"{scratch / JOURNAL_NAME} could not be closed: is another program reading it?")
    if aside is not None:
        (folder / aside).mkdir(mode=_fs.PRIVATE_FOLDER, exist_ok=True)
        for name in _OLD:
            if (folder / name).exists():
                os.replace(folder / name, folder / aside / name)
        _fs.sync_folder(folder / aside)
        _fs.sync_folder(folder)
    for name in (JOURNAL_NAME, HEAD_NAME):
        os.replace(scratch / name, folder / name)
    _fs.sync_folder(folder)
    write_identity(folder, identity)
    shutil.rmtree(scratch)


async def _run(folder: Path, function: Callable[[], T]) -> T:
    def explained() -> T:
        with _fs.explained(f"rebuild the vault in {folder}"):
            return function()

    return await _threads.run(explained)
