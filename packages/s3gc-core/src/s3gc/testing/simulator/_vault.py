"""The real vault on a disk that tells what is durable, so that a loss of power can take the rest away."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import Factory, define

from s3gc.abc import BackupSession
from s3gc.compressors.store import StoreCompressor
from s3gc.compressors.zstd import ZstdCompressor
from s3gc.model import BackupRecord, JournalDraft, ObjectAttributes, ObjectInfo
from s3gc.vault._identity import Identity
from s3gc.vault.journal import SqliteJournal
from s3gc.vault.local import LocalVault
from s3gc.vault.packs import PACK_SUFFIX, parse_location

if TYPE_CHECKING:
    from s3gc.testing.simulator._process import Process

_COMPRESSORS = (ZstdCompressor(), StoreCompressor())
_FULL = 2
"""SQLite's number for ``synchronous=FULL``."""


@define
class Disk:
    """What fsync was called for. Files are known by device and inode."""

    sizes: dict[tuple[int, int], int] = Factory(dict)
    names: set[tuple[int, int]] = Factory(set)  # files whose name is durable, too
    on_sync: Callable[[int], None] | None = None

    def synced(self, fd: int) -> None:
        """Note what is durable once fsync returns."""
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(f"/proc/self/fd/{fd}") as entries:
                self.names.update((found.st_dev, entry.inode()) for entry in entries)
            return
        if self.on_sync is not None:
            self.on_sync(fd)
        self.sizes[found.st_dev, found.st_ino] = found.st_size

    def durable(self, path: Path) -> int:
        """Bytes of a file that would survive a loss of power; 0 when not even its name would."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return 0
        where = (found.st_dev, found.st_ino)
        return self.sizes.get(where, 0) if where in self.names else 0

    def lose_power(self, folder: Path) -> list[str]:
        """Packs lose what no fsync was called for. Returns what happened."""
        told = []
        for path in sorted((folder / "packs").glob("*" + PACK_SUFFIX)):
            size, durable = path.stat().st_size, self.durable(path)
            if size > durable:
                told.append(f"a pack loses {size - durable} of its {size} bytes")
                os.truncate(path, durable)
                if not durable:
                    path.unlink()
        return told


@contextmanager
def watched(disk: Disk) -> Iterator[None]:
    """While this runs, fsync and fdatasync of this thread's process are noted by ``disk``."""
    fsync, fdatasync = os.fsync, os.fdatasync
    os.fsync = os.fdatasync = disk.synced  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync, os.fdatasync = fsync, fdatasync


class SimJournal(SqliteJournal):
    """The real journal; the oracle hears of each entry at the moment when it is durable."""

    process: Process
    _durable: bool | None = None

    async def append(self, drafts: Sequence[JournalDraft]) -> None:
        if not drafts:
            return
        point = f"journal:{drafts[0].event}"
        self.process.reach(point + "<")
        await self.process.awake()
        self.process.require_disk()
        await super().append(drafts)
        self.process.reach(point + ">")
        await self.process.awake()

    def _append(self, drafts: Sequence[JournalDraft]) -> None:
        super()._append(drafts)
        if self._durable is None:
            self._durable = not self.forgets_at_power_loss()
            if not self._durable:
                self.process.world.oracle.broken(
                    "P2", "the journal's entries aren't durable when they are written"
                )
        self.process.world.oracle.journaled(self.process, drafts)

    def forgets_at_power_loss(self) -> bool:
        """Whether the connection doesn't wait for the disk at each commit."""
        if self._writer is None:
            return False
        return bool(self._writer.execute("PRAGMA synchronous").fetchone()[0] < _FULL)


class _Session(BackupSession):
    def __init__(self, inner: BackupSession, process: Process) -> None:
        self._inner, self._process = inner, process

    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        await self._inner.add(info, attributes, chunks)

    async def commit(self) -> Sequence[BackupRecord]:
        self._process.reach("backup<")
        await self._process.awake()
        self._process.require_disk()
        records = await self._inner.commit()
        self._process.reach("backup>")
        await self._process.awake()
        return records


class SimVault(LocalVault):
    """The real vault, as one process has it open."""

    def __init__(self, folder: Path, process: Process) -> None:
        super().__init__(folder, compressors=_COMPRESSORS, clock=process)
        self.process = process

    def _journal_of(self, identity: Identity) -> SqliteJournal:
        journal = SimJournal(
            self.folder, vault_id=identity.vault_id, bucket=identity.store_url, clock=self.process
        )
        journal.process = self.process
        return journal

    async def check(self, *, max_fill: float) -> None:
        self.process.reach("vault<")
        self.process.require_disk()
        await super().check(max_fill=max_fill)

    @asynccontextmanager
    async def session(self, operation_id: str) -> AsyncIterator[BackupSession]:
        async with super().session(operation_id) as inner:
            yield _Session(inner, self.process)

    def pack_of(self, record: BackupRecord) -> tuple[Path, int]:
        """The file that holds a backup, and how long it must at least be."""
        name, offset, length = parse_location(record.location)
        return self.folder / "packs" / (name + PACK_SUFFIX), offset + length

    def forgets_at_power_loss(self) -> bool:
        """Whether the journal would lose its newest entries."""
        journal = getattr(self, "journal", None)
        return isinstance(journal, SimJournal) and journal.forgets_at_power_loss()

    def reap(self) -> None:
        """The operating system closes what a killed process had open."""
        journal = getattr(self, "journal", None)
        if isinstance(journal, SimJournal):
            journal._close()
        if self._current is not None:
            self._current.close()


def lose_log(database: Path) -> None:
    """A SQLite database loses what stands only in its write-ahead log. Nobody may have it open."""
    for ending in ("-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def keep_log(database: Path) -> tuple[bytes, bytes | None]:
    """The database's files as they are now: closing it would merge the log."""
    log = database.with_name(database.name + "-wal")
    return database.read_bytes(), log.read_bytes() if log.exists() else None
