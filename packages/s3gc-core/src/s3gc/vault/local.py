"""A vault in a folder: ``vault.json``, ``journal.sqlite3``, ``journal.head`` and ``packs/<ULID>.pack``.

The format is described in ``docs/vault-format.md``; packs can be read without this program.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
from ulid import ULID

from s3gc import _threads
from s3gc._log import get_logger
from s3gc.abc import BackupSession, Compressor, ObjectCoder, Vault
from s3gc.clock import Clock
from s3gc.compressors.store import StoreCompressor
from s3gc.compressors.zstd import ZstdCompressor
from s3gc.errors import ConfigError, VaultCorrupt, VaultError
from s3gc.journal_events import BACKUP_REMOVED, BACKUPS
from s3gc.model import BackupRecord, RebuildReport, Share, VaultCheck, VaultStats
from s3gc.vault import _fs
from s3gc.vault._coding import CODED_MAX_BYTES, Coding
from s3gc.vault._contents import Contents
from s3gc.vault._frames import (
    READ_AHEAD_BYTES,
    Read,
    codec_named,
    coded_record,
    empty_record,
    reader_of,
    sharer_of,
    stream_record,
    whole_record,
)
from s3gc.vault._identity import Identity, read_identity, require_bucket, write_identity
from s3gc.vault._layout import CHUNK_MAX_BYTES
from s3gc.vault._locations import index_of
from s3gc.vault._moved import Moved
from s3gc.vault._pack_files import PackMissing, open_pack
from s3gc.vault._recovery import TornTail, cut, known_behind, torn_tails
from s3gc.vault._session import SMALL_OBJECT_BYTES, LocalBackupSession
from s3gc.vault._sharing import Sharing
from s3gc.vault._small_reads import FRAME_EXTRA_BYTES, read_small
from s3gc.vault._solid import Block, lent_by, read_block
from s3gc.vault._verify import verify_backups
from s3gc.vault.journal import JOURNAL_NAME, SqliteJournal
from s3gc.vault.packs import PACK_SUFFIX, PackWriter, parse_location
from s3gc.vault.rebuild import rebuild

PACKS_NAME = "packs"
T = TypeVar("T")


class LocalVault(Vault):
    """A vault in a local folder.

    Args:
        path: the folder; it and its parents are made when the vault is.
        compressors: the codecs that can be read and written. ``store`` is always there.
        clock: for the journal's times and the packs' names.
        codec: the name of the one to write with.
        coder: encodes and decodes by codecs of whole objects; it is closed with the vault.
        share: store content that is there already only once.
        solid: compresses small objects of one kind together; a zstd. None: each has a frame of its own.

    Raises:
        ConfigError: two codecs have one name, or ``codec`` isn't among them.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        compressors: Sequence[Compressor],
        clock: Clock,
        codec: str = "zstd",
        coder: ObjectCoder | None = None,
        share: bool = True,
        solid: Compressor | None = None,
    ) -> None:
        self.folder = Path(path).absolute()
        self.url = self.folder.as_uri()
        self.problems: Sequence[str] = ()
        """What ``open`` found damaged and left as it is."""
        self._codecs = _by_name(compressors)
        if codec not in self._codecs:
            raise ConfigError(f"there is no codec {codec!r}; known are {', '.join(sorted(self._codecs))}")
        self._codec = self._codecs[codec]
        self._coding = Coding(coder, self._codecs)
        self._share = share
        if solid is not None and solid.name != ZstdCompressor.name:
            raise ConfigError(f"blocks are compressed by zstd, not by {solid.name!r}")
        self._solid = solid
        self._clock = clock
        self._packs = self.folder / PACKS_NAME
        self._bucket = ""
        self._open = False
        self._read_only = False
        self._current: PackWriter | None = None  # a pack that the next session may go on with

    @property
    def packs_folder(self) -> Path:
        """Where the packs are."""
        return self._packs

    # ------------------------------------------------------------------ opening

    async def open(self, store_url: str, *, create: bool = True) -> None:
        if self._open:
            raise VaultError(f"the vault in {self.folder} is open already")
        identity, self._read_only = await self._run(lambda: self._look())
        if identity is None:
            identity = await self._create(store_url, create)
        require_bucket(self.folder, identity, store_url)
        self.id = identity.vault_id
        self._bucket = store_url
        journal = self._journal_of(identity)
        try:
            await journal.open(read_only=self._read_only)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await journal.aclose()
            raise
        self.journal: SqliteJournal = journal
        self._open = True
        self._moved = Moved(journal)
        try:
            await self._moved.load()
        except VaultCorrupt as error:  # it must open all the same, or nobody could audit it
            get_logger().error("journal_entry_damaged", problem=str(error), vault=self.url)
        if not self._read_only:
            if journal.problem is None:
                for pack in sorted(self._moved.retired):  # of a removal that was cut off
                    await self.retire(pack)
            if journal.problem:
                get_logger().error("journal_contradicts_head", problem=journal.problem, vault=self.url)
            await self._cut_torn_tails()

    async def aclose(self) -> None:
        if not self._open:
            return
        self._open = False
        current, self._current = self._current, None
        if current is not None:
            current.close()
        with anyio.CancelScope(shield=True):
            try:
                await self._coding.aclose()
            finally:
                await self.journal.aclose()

    def _look(self) -> tuple[Identity | None, bool]:
        if self.folder.exists() and not self.folder.is_dir():
            raise VaultError(f"{self.folder} is a file: give the vault a folder")
        identity = read_identity(self.folder)
        paths = (self.folder, self._packs, self.folder / JOURNAL_NAME)
        read_only = identity is not None and not all(_fs.writable(path) for path in paths if path.exists())
        return identity, read_only

    async def _create(self, store_url: str, create: bool) -> Identity:
        if not create:
            raise VaultError(f"there is no vault in {self.folder}")
        identity = Identity(str(ULID.from_datetime(self._clock.now())), store_url, self._clock.now())

        def make_folders() -> None:
            with _fs.explained(f"make a vault in {self.folder}"):
                self.folder.mkdir(parents=True, exist_ok=True, mode=_fs.PRIVATE_FOLDER)
                self._packs.mkdir(exist_ok=True, mode=_fs.PRIVATE_FOLDER)
                if any(self._packs.glob("*" + PACK_SUFFIX)):
                    raise VaultError(
                        f"{self._packs} holds packs and vault.json is missing: bring vault.json back "
                        "from a copy of the vault, or use another folder"
                    )

        def make_identity() -> None:
            # Last, so that a folder with vault.json is a whole vault.
            with _fs.explained(f"make a vault in {self.folder}"):
                write_identity(self.folder, identity)
                _fs.sync_folder(self.folder.parent)

        await self._run(make_folders)
        await self._journal_of(identity).create()
        await self._run(make_identity)
        return identity

    def _journal_of(self, identity: Identity) -> SqliteJournal:
        return SqliteJournal(
            self.folder, vault_id=identity.vault_id, bucket=identity.store_url, clock=self._clock
        )

    async def _cut_torn_tails(self) -> None:
        def find() -> list[TornTail]:
            with _fs.explained(f"look at the packs in {self._packs}"):
                return torn_tails(self._packs)

        problems: list[str] = []
        for tail in await self._run(find):
            pack = tail.path.name.removesuffix(PACK_SUFFIX)
            if known_behind(tail, await self.journal.mentions(pack)):
                problems.append(f"{tail.path.name} is damaged from byte {tail.offset} on")
                get_logger().error("pack_damaged", pack=pack, offset=tail.offset, vault=self.url)
                continue
            with _fs.explained(f"cut the torn end of {tail.path}"):
                if await self._run(lambda tail=tail: cut(tail)):  # type: ignore[misc]
                    get_logger().warning("pack_tail_cut", pack=pack, offset=tail.offset, vault=self.url)
        self.problems = tuple(problems)

    # ------------------------------------------------------------------ writing

    async def check(self, *, max_fill: float) -> None:
        self._require_open(writing=True)
        if isinstance(self.journal, SqliteJournal) and self.journal.problem:
            raise VaultCorrupt(f"{self.journal.problem}: see `audit verify`")
        await self._run(lambda: self._check(max_fill))

    def _check(self, max_fill: float) -> None:
        with _fs.explained(f"write into {self._packs}"):
            probe = self._packs / f".probe-{ULID()}"
            fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _fs.PRIVATE_FILE)
            try:
                _fs.write_at(fd, b"s3gc" * 1024, 0)
                _fs.sync_data(fd)
            finally:
                os.close(fd)
                probe.unlink()
            found = os.statvfs(self._packs)
        # As `df` counts: what only root may use is neither used nor free.
        used = found.f_blocks - found.f_bfree
        usable = used + found.f_bavail
        fill = used / usable if usable else 1.0
        if fill > max_fill:
            raise VaultError(
                f"the file system of {self._packs} is filled to {fill:.1%}, more than the {max_fill:.1%} "
                "that are allowed: free space, move the vault, or raise max_vault_fill"
            )
        if found.f_files and not found.f_favail:
            raise VaultError(f"the file system of {self._packs} has no inodes left: free some")

    @asynccontextmanager
    async def session(self, operation_id: str) -> AsyncIterator[BackupSession]:
        """Begin to back up. Leaving it without ``commit`` leaves harmless garbage in a pack."""
        sharing = None
        if self._share:
            sharing = Sharing(
                lambda: Contents(self.folder, self.folder / JOURNAL_NAME, self.id),
                self.journal.records_at,
                self.locate,
                self.read,
            )
        async with self._session(operation_id, self._codec, self._coding, sharing) as session:
            yield session

    @asynccontextmanager
    async def copying(self, operation_id: str, *, plain: bool = False) -> AsyncIterator[LocalBackupSession]:
        """A session for backups that are in the vault already, which it doesn't share; with ``plain`` by zstd
        alone.

        Raises:
            VaultError: there is no zstd.
        """
        codec, coding = self._codec, self._coding
        if plain:
            codec, coding = codec_named(self._codecs, ZstdCompressor.name), Coding(None)
        async with self._session(operation_id, codec, coding, None) as session:
            yield session

    @asynccontextmanager
    async def _session(
        self, operation_id: str, codec: Compressor, coding: Coding, sharing: Sharing | None
    ) -> AsyncIterator[LocalBackupSession]:
        self._require_open(writing=True)
        current, self._current = self._current, None
        session = LocalBackupSession(
            operation_id,
            bucket=self._bucket,
            folder=self._packs,
            current=current,
            create=self._new_pack,
            codec=codec,
            codecs=self._codecs,
            coding=coding,
            sharing=sharing,
            solid=self._solid,
        )
        try:
            yield session
        finally:
            left = session.close()
            if left is not None and self._open and self._current is None:
                self._current = left
            elif left is not None:
                left.close()

    def _new_pack(self) -> PackWriter:
        return PackWriter(self._packs, str(ULID.from_datetime(self._clock.now())))

    # ------------------------------------------------------------------ reading

    async def read(self, record: BackupRecord) -> AsyncIterator[bytes]:
        """The object's bytes. One of up to 8 MiB is checked whole before its first byte comes out."""
        self._require_open(writing=False)
        fd, here = await self._open_frame(record)
        _, offset, length = parse_location(here.location)
        try:
            if index_of(here.location) is not None:
                block = await self._run(lambda: self._read_block(fd, here.location))
                yield block.content_of(here, self._bucket)
                return
            small = here.size <= SMALL_OBJECT_BYTES and length <= here.size + FRAME_EXTRA_BYTES
            coded = here.codec not in self._codecs and here.size <= CODED_MAX_BYTES
            if small or coded:
                read = reader_of(fd, ahead=length if small else READ_AHEAD_BYTES)
                if coded:
                    body = await self._run(lambda: coded_record(read, offset, here, self._bucket))
                    pieces_of = [await self._coding.decode(body)]
                else:
                    pieces_of = await self._run(
                        lambda: whole_record(read, offset, here, self._bucket, self._codecs)
                    )
                for piece in pieces_of:
                    for begin in range(0, len(piece), CHUNK_MAX_BYTES):
                        yield piece[begin : begin + CHUNK_MAX_BYTES]
                return
            pieces = stream_record(reader_of(fd), offset, here, self._bucket, self._codecs)
            while (piece := await self._run(lambda: next(pieces, b""))) != b"":
                yield piece
        finally:
            os.close(fd)

    def _read_block(self, fd: int, location: str) -> Block:
        return read_block(reader_of(fd, ahead=parse_location(location)[2]), location, self._codecs)

    async def _open_frame(self, record: BackupRecord) -> tuple[int, BackupRecord]:
        """An open pack, and the record of the frame in it that has a backup's bytes."""
        for last in (False, False, True):
            here = await self.locate(record)
            if index_of(here.location) is None and parse_location(here.location)[2] != here.stored_size:
                raise VaultCorrupt(f"the record of {record.key!r} contradicts itself about its length")
            try:
                if here.same_as is not None:
                    here = await self._sharer(here)
                return await self._open_pack(here.location), here
            except PackMissing as missing:
                await self._moved.load()  # another process may have removed the pack meanwhile
                if last or missing.pack not in self._moved.retired:
                    raise
        raise AssertionError("not reached")

    async def _sharer(self, record: BackupRecord) -> BackupRecord:
        """The record of the frame whose bytes a backup shares; its own frame was checked."""
        await self._in_pack(record.location, lambda read, at: empty_record(read, at, record, self._bucket))
        return await self._whose(record)

    async def _whose(self, record: BackupRecord) -> BackupRecord:
        assert record.same_as is not None
        place = await self._moved.bytes_of(record.same_as)

        def look(read: Read, _: int) -> BackupRecord:
            if index_of(place.location) is None:
                return sharer_of(read, place, record, self._bucket)
            return lent_by(read_block(read, place.location, self._codecs), place, record, self._bucket)

        return await self._in_pack(place.location, look)

    async def _in_pack(self, location: str, look: Callable[[Read, int], T]) -> T:
        fd = await self._open_pack(location)
        try:
            return await self._run(lambda: look(reader_of(fd, ahead=4096), parse_location(location)[1]))
        finally:
            os.close(fd)

    async def _open_pack(self, location: str) -> int:
        pack = parse_location(location)[0]
        return await self._run(lambda: open_pack(self._packs, pack))

    async def read_small(self, records: Sequence[BackupRecord]) -> Mapping[str, bytes]:
        self._require_open(writing=False)
        located: list[BackupRecord] = []
        for record in records:
            if record.size <= SMALL_OBJECT_BYTES and record.codec in self._codecs:
                with contextlib.suppress(VaultError):
                    located.append(await self.locate(record))
        return await self._run(lambda: read_small(self._packs, located, self._bucket, self._codecs))

    async def locate(self, record: BackupRecord) -> BackupRecord:
        self._require_open(writing=False)
        return await self._moved.locate(record)

    async def retire(self, pack: str) -> None:
        """Unlink a pack of which the journal says that nobody reads it any more. It may be gone already.

        Raises:
            VaultError: the journal doesn't say so, or it can't be unlinked.
        """
        self._require_open(writing=True)
        await self._moved.load()
        if pack not in self._moved.retired:
            raise VaultError(f"the journal doesn't say that {pack} is no longer needed")
        path = self._packs / (pack + PACK_SUFFIX)

        def unlink() -> None:
            if path.exists():
                path.unlink()
                _fs.sync_folder(self._packs)

        await self._run(unlink)

    async def stats(self) -> VaultStats:
        self._require_open(writing=False)

        def on_disk() -> tuple[int, int]:
            with _fs.explained(f"look at {self._packs}"):
                sizes = [e.stat().st_size for e in os.scandir(self._packs) if e.name.endswith(PACK_SUFFIX)]
            return len(sizes), sum(sizes)

        packs, stored = await self._run(on_disk)
        backups, original = await self.journal.backup_totals(BACKUPS)
        gone, gone_bytes = await self.journal.backup_totals({BACKUP_REMOVED})
        entries = await self.journal.count()
        return VaultStats(packs, backups - gone, stored, original - gone_bytes, entries)

    async def verify(self, share: Share | None = None) -> VaultCheck:
        self._require_open(writing=False)
        read: set[str] = set()  # places of shared bytes that were right

        async def shared(record: BackupRecord) -> None:
            whose = await self._whose(record)
            if whose.location not in read:
                async for _ in self.read(whose):
                    pass
                read.add(whose.location)

        return await verify_backups(
            self.journal.read(events=BACKUPS),
            self._packs,
            self._bucket,
            self._codecs,
            share,
            self.locate,
            self._coding,
            shared,
        )

    # ------------------------------------------------------------------ when the journal is lost

    async def rebuild(self, store_url: str, operation_id: str, *, set_aside: bool = False) -> RebuildReport:
        if self._open:
            raise VaultError(f"the vault in {self.folder} is open: what opens needs no rebuilding")
        return await rebuild(self.folder, store_url, operation_id, clock=self._clock, set_aside=set_aside)

    # ------------------------------------------------------------------ small things

    def _require_open(self, *, writing: bool) -> None:
        if not self._open:
            raise VaultError(f"the vault in {self.folder} is not open")
        if writing and self._read_only:
            raise VaultError(
                f"the vault in {self.folder} is read-only for this user: "
                "check the mount and the folder's owner"
            )

    async def _run(self, function: Callable[[], T]) -> T:
        def explained() -> T:
            with _fs.explained(f"use the vault in {self.folder}"):
                return function()

        return await _threads.run(explained)


def _by_name(compressors: Sequence[Compressor]) -> Mapping[str, Compressor]:
    made: dict[str, Compressor] = {}
    for compressor in compressors:
        if compressor.name in made:
            raise ConfigError(f"two codecs are called {compressor.name!r}: disable the plugin of one")
        made[compressor.name] = compressor
    made.setdefault(StoreCompressor.name, StoreCompressor())
    return made
