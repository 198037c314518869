"""Reading every backup that the journal knows."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from s3gc import _threads
from s3gc._pool import each
from s3gc.abc import Compressor
from s3gc.errors import BackupGone, VaultCorrupt, VaultError
from s3gc.model import BackupRecord, JournalEntry, Share, VaultCheck
from s3gc.vault._coding import CODED_MAX_BYTES, Coding
from s3gc.vault._frames import (
    Coded,
    coded_record,
    empty_record,
    reader_of,
    stream_record,
    whole_record,
)
from s3gc.vault._locations import index_of
from s3gc.vault._small_frames import SMALL_FRAME_BYTES
from s3gc.vault._solid import Block, read_block
from s3gc.vault.packs import PACK_SUFFIX, parse_location
from s3gc.vault.records import record_from_json
from s3gc.vault.scrub import in_share

BATCH_RECORDS = 500
BATCH_BYTES = 64 * 1024 * 1024
"""One stay in a worker thread reads up to so many backups, or stored bytes."""

DECODED_AT_ONCE = 8
"""Objects given to codecs of whole objects at one time; as many as there are cores are decoded."""

MAX_PROBLEMS = 1_000
"""More than these are counted, not listed."""


class _Checking:
    def __init__(self, folder: Path, bucket: str, codecs: Mapping[str, Compressor]) -> None:
        self._folder = folder
        self._bucket = bucket
        self._codecs = codecs
        self.backups = 0
        self.problems: list[str] = []
        self._more = 0

    def note(self, problem: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self._more += 1

    def check(self, records: Sequence[BackupRecord]) -> list[tuple[BackupRecord, Coded | None]]:
        """In a worker thread. Neighbours in a pack share its open file and what was read ahead.

        Returns what only a codec of whole objects can decode, and what shares the bytes of another one.
        """
        fd, opened = -1, ""
        coded: list[tuple[BackupRecord, Coded | None]] = []
        block: Block | None = None
        block_at = ""
        try:
            for record in records:
                try:
                    pack, offset, length = parse_location(record.location)
                    if pack != opened:
                        if fd >= 0:
                            os.close(fd)
                            fd, opened = -1, ""
                        fd = os.open(self._folder / (pack + PACK_SUFFIX), os.O_RDONLY)
                        opened = pack
                        read = reader_of(fd)
                    if index_of(record.location) is not None:
                        place = record.location.rpartition(":")[0]
                        if block is None or block_at != place:
                            block, block_at = None, place
                            block = read_block(read, record.location, self._codecs)
                        block.content_of(record, self._bucket)
                        continue
                    if record.same_as is not None:
                        empty_record(read, offset, record, self._bucket)
                        coded.append((record, None))
                        continue
                    if record.codec not in self._codecs and record.size <= CODED_MAX_BYTES:
                        coded.append((record, coded_record(read, offset, record, self._bucket)))
                        continue
                    if length <= SMALL_FRAME_BYTES:
                        whole_record(read, offset, record, self._bucket, self._codecs)
                        continue
                    for _ in stream_record(read, offset, record, self._bucket, self._codecs):
                        pass
                except (VaultError, OSError) as error:
                    self.fail(record, error)
        finally:
            if fd >= 0:
                os.close(fd)
        return coded

    def fail(self, record: BackupRecord, error: Exception) -> None:
        self.note(f"{record.key!r} at {record.location}: {error}")

    def result(self) -> VaultCheck:
        problems = [*self.problems, f"and {self._more} more"] if self._more else self.problems
        return VaultCheck(ok=not problems, backups=self.backups, problems=tuple(problems))


async def verify_backups(
    entries: AsyncIterator[JournalEntry],
    folder: Path,
    bucket: str,
    codecs: Mapping[str, Compressor],
    share: Share | None = None,
    locate: Callable[[BackupRecord], Awaitable[BackupRecord]] | None = None,
    coding: Coding | None = None,
    shared: Callable[[BackupRecord], Awaitable[None]] | None = None,
) -> VaultCheck:
    """Read and decode the backup of every entry, or of those in a share.

    One that can't be read is a problem, never an error. One that was moved is read where ``locate`` says, one
    that was removed on purpose isn't looked for. ``shared`` reads the bytes that one shares.
    """
    checking = _Checking(folder, bucket, codecs)
    decoding = coding or Coding(None, codecs)
    batch: list[BackupRecord] = []
    size = 0

    async def decode(item: tuple[BackupRecord, Coded | None]) -> None:
        record, coded = item
        try:
            if coded is not None:
                await decoding.decode(coded)
            elif shared is not None:
                await shared(record)
        except (VaultError, OSError) as error:
            checking.fail(record, error)

    async def check(records: Sequence[BackupRecord]) -> None:
        await each(await _threads.run(lambda: checking.check(records)), decode, workers=DECODED_AT_ONCE)

    try:
        async for entry in entries:
            try:
                record = record_from_json(entry.data["backup"])
                if locate is not None:
                    record = await locate(record)
                if share is not None and not in_share(record.location, share):
                    continue
                checking.backups += 1
            except BackupGone:
                continue
            except (KeyError, VaultError) as error:
                checking.backups += 1
                checking.note(f"journal entry {entry.seq} holds no backup record: {error}")
                continue
            batch.append(record)
            size += record.stored_size
            if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
                full, batch, size = batch, [], 0
                await check(full)
    except VaultCorrupt as error:
        checking.note(f"the journal can't be read further: {error}")
    await check(batch)
    return checking.result()
