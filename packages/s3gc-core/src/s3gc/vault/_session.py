"""Backups on their way into packs: the part that runs in the event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from s3gc import _threads
from s3gc._pool import each
from s3gc.abc import BackupSession, Compressor, WholeObject
from s3gc.errors import VaultError
from s3gc.model import BackupRecord, ObjectAttributes, ObjectInfo, SameAs
from s3gc.vault import _fs
from s3gc.vault._coding import Coding
from s3gc.vault._encode import Arrived, Blocks, Placed, SmallPacks, read_back, runs
from s3gc.vault._large import SMALL_STRETCH_BYTES, STRETCH_BYTES, LargeFrame
from s3gc.vault._layout import CHUNK_MAX_BYTES, HeaderText, header_text
from s3gc.vault._sharing import Sharing
from s3gc.vault.packs import PackWriter

SMALL_OBJECT_BYTES = 8 * 1024 * 1024
"""Objects up to this size are held in memory whole; larger ones are streamed into a pack of their own."""

BATCH_BYTES = 4 * 1024 * 1024
BATCH_OBJECTS = 256
"""Small objects are compressed and written together when they are this many, or these bytes."""

MEMORY_BYTES = 16 * 1024 * 1024
"""Bytes of small objects in memory at one time; more of them wait."""

FAST_LARGE_OBJECTS = 1
"""Large objects at one time that may use much memory to be fast (each about 40 MiB); the others use less."""

LARGE_THREADS = 8
"""Threads for the stages of all large objects: one that waits for the disk must not hold up the others."""

T = TypeVar("T")


class LocalBackupSession(BackupSession):
    """A session of a :class:`~s3gc.vault.local.LocalVault`.

    After an error in writing a batch or in a commit it takes nothing more: open a new one.
    Frames that no commit returned stay in their pack as garbage that nothing refers to.
    """

    def __init__(
        self,
        operation_id: str,
        *,
        bucket: str,
        folder: Path,
        current: PackWriter | None,
        create: Callable[[], PackWriter],
        codec: Compressor,
        codecs: Mapping[str, Compressor],
        coding: Coding,
        sharing: Sharing | None = None,
        solid: Compressor | None = None,
    ) -> None:
        self._operation_id = operation_id
        self._bucket = bucket
        self._folder = folder
        self._create = create
        self._codec = codec
        self._codecs = codecs
        self._coding = coding
        self._sharing = sharing
        blocks = None if solid is None else Blocks(solid, bucket, operation_id)
        self._packs = SmallPacks(current, create, codec, blocks)
        self._large = 0  # large objects on their way
        self._large_packs: list[PackWriter] = []
        self._proven: list[BackupRecord] = []  # large objects, durable and read back
        self._placed: list[Placed] = []
        self._pending: list[Arrived] = []
        self._pending_bytes = 0
        self._reserved = 0  # bytes of small objects in memory, those still arriving included
        self._waiting = 0  # tasks that wait for memory
        self._writing = 0  # batches in worker threads
        self._changed = anyio.Event()
        threads = max(1, min(4, os.cpu_count() or 1))
        self._threads = anyio.CapacityLimiter(threads)
        self._large_threads = anyio.CapacityLimiter(LARGE_THREADS)
        self._batches = anyio.Semaphore(threads)
        self._committing = anyio.Lock()
        self._failed: BaseException | None = None
        self._closed = False

    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        self._require_usable()
        if info.size < 0:
            raise VaultError(f"the size of {info.key!r} is {info.size}")
        header = header_text(info, attributes, self._bucket, self._operation_id)
        if info.size > SMALL_OBJECT_BYTES:
            await self._add_large(info, attributes, header, chunks)
            return
        await self._reserve(info.size)
        try:
            data = await _collect(info, chunks)
            arrived = Arrived(info, attributes, header, data)
            if self._coding.takes(data):
                await self._code([arrived])
        except BaseException:
            self._release(info.size)
            raise
        self._pending.append(arrived)
        self._pending_bytes += info.size
        if self._waiting or self._pending_bytes >= BATCH_BYTES or len(self._pending) >= BATCH_OBJECTS:
            await self._write_pending()

    async def add_all(self, objects: Sequence[WholeObject]) -> None:
        """As :meth:`add` for each. The small ones are written together, and that has happened on return."""
        self._require_usable()
        small = [one for one in objects if one.listed.size <= SMALL_OBJECT_BYTES]
        for one in small:
            _require_size(one.listed, len(one.data), at_end=True)
        if len(small) < len(objects):
            await super().add_all([one for one in objects if one.listed.size > SMALL_OBJECT_BYTES])
        size = sum(one.listed.size for one in small)
        await self._reserve(size)
        try:
            arrived = self._arrived(small)
            await self._code(arrived)
            # Shielded as in _write_pending: the packs must not be closed under a thread that writes.
            with anyio.CancelScope(shield=True):
                async with self._batches:
                    self._writing += 1
                    try:
                        await self._place(arrived)
                    except BaseException as error:
                        self._failed = error
                        raise
                    finally:
                        self._writing -= 1
        finally:
            self._release(size)

    async def refer(
        self, info: ObjectInfo, attributes: ObjectAttributes, sha256: bytes, same_as: SameAs
    ) -> None:
        """Take an object whose bytes the vault has at ``same_as``; the caller knows that it has."""
        self._require_usable()
        header = header_text(info, attributes, self._bucket, self._operation_id)
        self._pending.append(Arrived(info, attributes, header, b"", sha256=sha256, same_as=same_as))
        if len(self._pending) >= BATCH_OBJECTS:
            await self._write_pending()

    async def _code(self, objects: Sequence[Arrived]) -> None:
        """Note what codecs of whole objects make of those that they take."""
        taken = [one for one in objects if self._coding.takes(one.data)]
        if not taken:
            return
        if self._sharing is not None:  # what is there already needs no codec
            await self._sharing.share(taken)

        async def encode(one: Arrived) -> None:
            one.coded = await self._coding.encode(one.data)

        await each([one for one in taken if one.same_as is None], encode)

    async def _place(self, batch: Sequence[Arrived]) -> None:
        """Write objects into packs. Shielded by the caller."""
        if self._sharing is None:
            self._placed += await self._run(lambda: self._packs.write(batch))
            return
        async with self._sharing.placing(batch):
            placed = await self._run(lambda: self._packs.write(batch))
            self._placed += placed
            self._sharing.remember(placed)

    def _arrived(self, objects: Sequence[WholeObject]) -> list[Arrived]:
        bucket, operation_id = self._bucket, self._operation_id
        return [
            Arrived(
                one.listed,
                one.attributes,
                header_text(one.listed, one.attributes, bucket, operation_id),
                one.data,
            )
            for one in objects
        ]

    async def commit(self) -> Sequence[BackupRecord]:
        async with self._committing:
            self._require_usable()
            while self._pending or self._writing:
                if self._pending:
                    await self._write_pending()
                else:
                    await self._changed.wait()
                self._require_usable()
            placed, self._placed = self._placed, []
            large, self._large_packs = self._large_packs, []
            proven, self._proven = self._proven, []
            small = self._packs.take_used()
            try:
                await self._run(lambda: self._sync([*small, *large]))
                await self._read_back_all(placed)
            except BaseException as error:
                self._failed = error
                raise
            finally:
                for writer in (*small, *large):
                    if writer is not self._packs.current and writer not in self._packs.used:
                        writer.close()
            return [*(frame.record for frame in placed), *proven]

    def close(self) -> PackWriter | None:
        """End the session; the pack that may be written further by the next one."""
        self._closed = True
        if self._sharing is not None:
            self._sharing.close()
        current = self._packs.current
        reusable = current is not None and self._failed is None and not current.broken
        for writer in (*self._packs.used, *self._large_packs):
            if writer is not current or not reusable:
                writer.close()
        if current is not None and not reusable:
            current.close()
        return current if reusable else None

    # ------------------------------------------------------------------ small objects

    async def _reserve(self, size: int) -> None:
        while self._reserved and self._reserved + size > MEMORY_BYTES:
            if self._pending:
                await self._write_pending()
                continue
            self._waiting += 1
            try:
                await self._changed.wait()
            finally:
                self._waiting -= 1
            self._require_usable()
        self._reserved += size

    def _release(self, size: int) -> None:
        self._reserved -= size
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def _write_pending(self) -> None:
        # Shielded: a batch holds objects of other tasks, which were told that it is on its way.
        with anyio.CancelScope(shield=True):
            async with self._batches:
                batch, self._pending = self._pending, []
                size, self._pending_bytes = self._pending_bytes, 0
                if not batch:
                    return
                self._writing += 1
                try:
                    await self._place(batch)
                except BaseException as error:
                    self._failed = error
                    raise
                finally:
                    self._writing -= 1
                    self._release(size)

    # ------------------------------------------------------------------ large objects

    async def _add_large(
        self, info: ObjectInfo, attributes: ObjectAttributes, header: HeaderText, chunks: AsyncIterator[bytes]
    ) -> None:
        stretch = STRETCH_BYTES if self._large < FAST_LARGE_OBJECTS else SMALL_STRETCH_BYTES
        self._large += 1
        try:
            with anyio.CancelScope(shield=True):
                writer = await self._run(self._create)
            try:
                frame = LargeFrame(info, attributes, header, writer, self._codecs, self._codec, stretch)
                try:
                    async for pieces in _batches(info, chunks, stretch):
                        await self._run_large(partial(frame.feed, pieces))
                    record = await self._run_large(frame.finish)
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._run_large(frame.close)
            except BaseException:
                writer.remove()
                raise
        finally:
            self._large -= 1
        if self._sharing is not None:
            same_as = await self._sharing.known(record)
            if same_as is not None:
                with anyio.CancelScope(shield=True):
                    await self._run(writer.remove)
                await self.refer(info, attributes, bytes.fromhex(record.sha256), same_as)
                return
        self._proven.append(record)
        self._large_packs.append(writer)

    async def _run_large(self, function: Callable[[], T]) -> T:
        return await self._run(function, self._large_threads)

    # ------------------------------------------------------------------ both

    def _sync(self, writers: Sequence[PackWriter]) -> None:
        for writer in writers:
            writer.sync()

    async def _read_back_all(self, placed: Sequence[Placed]) -> None:
        try:
            async with anyio.create_task_group() as group:
                for run in runs(placed):
                    group.start_soon(self._read_back, run)
        except ExceptionGroup as found:
            raise _first(found) from None

    async def _read_back(self, run: Sequence[Placed]) -> None:
        await self._run(lambda: read_back(run, self._codecs))

    async def _run(self, function: Callable[[], T], limiter: anyio.CapacityLimiter | None = None) -> T:
        """In a worker thread. Only what happens there is the vault's fault, so only there it is explained."""

        def explained() -> T:
            with _fs.explained(f"keep backups in {self._folder}"):
                return function()

        return await _threads.run(explained, limiter=limiter or self._threads)

    def _require_usable(self) -> None:
        if self._closed:
            raise VaultError("this backup session has ended: open a new one")
        if self._failed is not None:
            raise VaultError(f"this backup session failed, open a new one: {self._failed}") from self._failed


async def _collect(info: ObjectInfo, chunks: AsyncIterator[bytes]) -> bytes:
    pieces: list[bytes] = []
    total = 0
    async for piece in chunks:
        total += len(piece)
        _require_size(info, total, at_end=False)
        pieces.append(piece)
    _require_size(info, total, at_end=True)
    return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)


async def _batches(
    info: ObjectInfo, chunks: AsyncIterator[bytes], size: int
) -> AsyncIterator[Sequence[bytes]]:
    """The same bytes, about ``size`` at a time, in pieces of a MiB; only the very last may be shorter.

    What comes in pieces of a MiB isn't copied.
    """
    held: list[bytes] = []
    waiting = total = 0
    async for chunk in chunks:
        total += len(chunk)
        _require_size(info, total, at_end=False)
        held.append(chunk)
        waiting += len(chunk)
        if waiting >= size:
            pieces = _mebibytes(held)
            held = [pieces.pop()] if len(pieces[-1]) < CHUNK_MAX_BYTES else []
            waiting = sum(map(len, held))
            yield pieces
    _require_size(info, total, at_end=True)
    if held:
        yield _mebibytes(held)


def _mebibytes(held: list[bytes]) -> list[bytes]:
    if all(len(piece) == CHUNK_MAX_BYTES for piece in held[:-1]) and len(held[-1]) <= CHUNK_MAX_BYTES:
        return held
    data = b"".join(held)
    return [data[begin : begin + CHUNK_MAX_BYTES] for begin in range(0, len(data), CHUNK_MAX_BYTES)]


def _require_size(info: ObjectInfo, total: int, *, at_end: bool) -> None:
    if total > info.size or (at_end and total != info.size):
        has = "more" if total > info.size else f"only {total}"
        raise VaultError(f"{info.key!r} was listed with {info.size} bytes and has {has}: not backed up")


def _first(error: BaseException) -> BaseException:
    """The error itself, not the group that a task group made of it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
