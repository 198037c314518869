"""Content that the vault has already is not stored again: a backup then shares the bytes of another one.

Before it does, those bytes were read again and compared with the object's own, every one.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

import anyio

from s3gc import _threads
from s3gc._log import get_logger
from s3gc.errors import BackupGone, VaultError
from s3gc.model import BackupRecord, SameAs
from s3gc.vault._contents import SHARED_MIN_BYTES, Contents
from s3gc.vault._encode import Arrived, Placed

REMEMBERED = 10_000
"""Contents of a session that the journal may not have yet; the oldest are forgotten first."""


class Sharing:
    """Finds backups to share bytes with, for one session.

    Args:
        contents: opens the index; asked once, in a thread, when it is needed.
        records: the backups that journal entries tell of, by their numbers; what can't be read is left out.
        locate: where a backup is now.
        read: a backup's bytes.
    """

    def __init__(
        self,
        contents: Callable[[], Contents],
        records: Callable[[Sequence[int]], Awaitable[Sequence[BackupRecord]]],
        locate: Callable[[BackupRecord], Awaitable[BackupRecord]],
        read: Callable[[BackupRecord], AsyncIterator[bytes]],
    ) -> None:
        self._open_contents = contents
        self._records = records
        self._locate = locate
        self._read = read
        self._contents: Contents | None = None
        self._unusable = False
        self._one = threading.Lock()  # the index is asked by one thread at a time
        self._recent: dict[bytes, BackupRecord] = {}
        self._placing: dict[bytes, anyio.Event] = {}  # content that is on its way into a pack

    async def share(self, batch: Sequence[Arrived]) -> None:
        """Those objects whose content is there already say where, afterwards."""
        await self._share(batch, await _threads.run(lambda: self._look(batch)))

    @asynccontextmanager
    async def placing(self, batch: Sequence[Arrived]) -> AsyncIterator[None]:
        """The same for a batch that is written in this context, and remembered.

        Batches that are written at the same time may have content in common: who comes second waits until it
        is written. A batch waits for those that came before it and for no other: so none waits in a circle.
        """
        found = await _threads.run(lambda: self._look(batch))
        done = anyio.Event()
        mine: list[bytes] = []
        before: list[anyio.Event] = []
        for one in batch:
            if not one.sha256 or one.same_as is not None or one.sha256 in self._recent:
                continue
            other = self._placing.setdefault(one.sha256, done)
            if other is done:
                mine.append(one.sha256)
            else:
                before.append(other)
        try:
            for other in before:
                await other.wait()
            await self._share(batch, found)
            yield
        finally:
            for sha256 in mine:
                self._placing.pop(sha256, None)
            done.set()

    async def _share(self, batch: Sequence[Arrived], found: Mapping[bytes, Sequence[int]]) -> None:
        for one in batch:
            if one.sha256 and one.same_as is None and (one.sha256 in found or one.sha256 in self._recent):
                entries = found.get(one.sha256, ())
                one.same_as = await self._whose(one.sha256, len(one.data), one.data, entries)

    async def known(self, record: BackupRecord) -> SameAs | None:
        """Another backup with the bytes of a large one that was written: read to its end, hash and all."""
        sha256 = bytes.fromhex(record.sha256)
        found = await _threads.run(lambda: self._ask({sha256} - self._recent.keys()))
        while True:
            recent = self._recent.get(sha256)
            whose = await self._whose(sha256, record.size, None, found.get(sha256, ()))
            if whose is not None:
                return whose
            if self._recent.get(sha256) is recent:  # no other one was written meanwhile
                self._remember(sha256, record)
                return None

    def remember(self, placed: Sequence[Placed]) -> None:
        """What was written in this session can be shared at once."""
        for one in placed:
            if one.record.size >= SHARED_MIN_BYTES and one.record.same_as is None:
                self._remember(one.sha256, one.record)

    def _remember(self, sha256: bytes, record: BackupRecord) -> None:
        self._recent[sha256] = record
        while len(self._recent) > REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def close(self) -> None:
        """May be called twice."""
        contents, self._contents = self._contents, None
        if contents is not None:
            contents.close()

    def _look(self, batch: Sequence[Arrived]) -> dict[bytes, list[int]]:
        """Compute the hashes that nobody has computed yet, and ask the index."""
        for one in batch:
            if not one.sha256 and one.info.size >= SHARED_MIN_BYTES:
                one.sha256 = hashlib.sha256(one.data).digest()
        return self._ask(
            {one.sha256 for one in batch if one.sha256 and one.same_as is None} - self._recent.keys()
        )

    def _ask(self, wanted: Collection[bytes]) -> dict[bytes, list[int]]:
        if not wanted or self._unusable:
            return {}
        try:
            with self._one:
                if self._contents is None:
                    self._contents = self._open_contents()
                return self._contents.find(wanted)
        except (sqlite3.Error, OSError) as error:
            # Without the index the same content may be stored twice, which harms nobody.
            self._unusable = True
            get_logger().warning("contents_unusable", problem=str(error))
            return {}

    async def _whose(
        self, sha256: bytes, size: int, data: bytes | None, entries: Sequence[int]
    ) -> SameAs | None:
        """A backup whose bytes are these: compared with ``data``, else by the hash that reading checks."""
        recent = self._recent.get(sha256)
        candidates = [recent] if recent is not None else await self._records(entries) if entries else ()
        for record in candidates:
            if record.size != size or record.sha256 != sha256.hex() or record.same_as is not None:
                continue
            try:
                record = await self._locate(record)
                if await self._equal(record, data):
                    return SameAs(record.key, record.location)
                why = "other bytes with the same SHA-256"
            except BackupGone:
                continue
            except VaultError as error:
                why = str(error)
            get_logger().error("shared_content_unreadable", key=record.key, place=record.location, why=why)
        return None

    async def _equal(self, record: BackupRecord, data: bytes | None) -> bool:
        at = 0
        view = None if data is None else memoryview(data)
        async with aclosing(self._read(record)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if view is not None and view[at : at + len(piece)] != piece:
                    return False
                at += len(piece)
        return at == record.size
