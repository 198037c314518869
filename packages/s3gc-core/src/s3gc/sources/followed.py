"""A SQL database whose changes are followed: all that is the same whatever tells the changes."""

from __future__ import annotations

import abc
import json
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import unquote

import anyio
from attrs import evolve

from s3gc.capture import CaptureFinding, CaptureState, ChangeCapture
from s3gc.errors import SourceError
from s3gc.model import (
    ChangeBatch,
    Column,
    Position,
    Reference,
    ScanBatch,
    SourceIdentity,
    UntrackedColumn,
)
from s3gc.resolver import Resolver
from s3gc.sources._chunks import ChunkReader
from s3gc.sources._loop import LoopThread
from s3gc.sources._tracked import tracked_tables
from s3gc.sources.sql import SqlSource

CHUNK = 10_000
"""Most rows of a chunk of a scan; fewer where rows are large."""

P = TypeVar("P")
_P = TypeVar("_P", contravariant=True)


class CaptureTarget(Protocol):
    """One database, and what change capture keeps there. All methods run on the drivers' loop."""

    def connection(self) -> AbstractAsyncContextManager[Any]:
        """A connection in autocommit that reads values as the direct read does."""

    async def findings(self) -> list[CaptureFinding]:
        """What keeps changes from being followed."""

    async def state(self, source: str) -> CaptureState:
        """Everything about it, for people."""

    async def setup(self, timeout: float) -> list[str]:
        """Make what is missing, within ``timeout`` seconds. Returns what was done."""

    async def teardown(self) -> list[str]:
        """Remove what is there. Returns what was done."""


class ChangeFollower(Protocol[_P]):
    """Tells changes from one place to another. All methods run on the drivers' loop."""

    async def begin(self, after: _P, until: _P) -> None:
        """Be about to tell the changes between two places."""

    async def next(self) -> ChangeBatch | None:
        """The next batch, or None once the second place was told."""

    async def close(self) -> None:
        """End the stream. A later one begins with the last batch that was told."""


class FollowedSql(ChangeCapture, Generic[P]):
    """The tracked columns of a SQL database: scanned once in chunks, then followed.

    What is read directly (:meth:`find`, :meth:`check`, :meth:`untracked`) is read by a
    :class:`~s3gc.sources.sql.SqlSource`. Works on asyncio and trio: the drivers run on a loop in a thread.
    A subclass sets ``_target`` and ``_follower`` and knows what a place (``P``) is.

    Args:
        url, tables, resolver, folders, name: as for :class:`~s3gc.sources.sql.SqlSource`.
        chunk_rows: most rows of one chunk of a scan.
        patience: how long :meth:`begin` waits for transactions that are open.

    Raises:
        ConfigError: the URL or a name is malformed.
    """

    follows_changes = True
    resumes_scans = True

    _target: CaptureTarget
    _follower: ChangeFollower[P]

    def __init__(
        self,
        url: str,
        tables: Mapping[str, Sequence[str]],
        resolver: Resolver,
        *,
        folders: Mapping[str, Sequence[str]] | None = None,
        name: str | None = None,
        chunk_rows: int = CHUNK,
        patience: timedelta = timedelta(minutes=15),
    ) -> None:
        self._sql = SqlSource(url, tables, resolver, folders=folders, name=name)
        self.name = self._sql.name
        self._secrets = _secrets(url)
        self._tracked = tracked_tables(tables, folders or {})
        self._resolver = resolver
        self._loop = LoopThread("s3gc capture")
        self._chunk_rows = chunk_rows
        self._patience = patience

    # ------------------------------------------------------------------ what it is

    def columns(self) -> Sequence[Column]:
        return self._sql.columns()

    async def check(self) -> SourceIdentity:
        """As the direct read's, and nothing that :meth:`begin` can't mend keeps changes from being followed.

        Raises:
            SourceError: with each problem and the statement that mends it.
        """
        identity = await self._sql.check()
        with self._errors("check"):
            refuse([one for one in await self._loop.run(self._target.findings) if not one.ours])
        return identity

    async def capture_state(self) -> CaptureState:
        """The server's settings, this user's rights, every table, and what is kept there. Changes nothing."""
        with self._errors("look at change capture"):
            return await self._loop.run(self._target.state, self.name)

    async def set_up(self) -> Sequence[str]:
        with self._errors("set change capture up"):
            return await self._loop.run(self._target.setup, self._patience.total_seconds())

    async def tear_down(self) -> Sequence[str]:
        with self._errors("take change capture down"):
            await self._loop.run(self._follower.close)
            return await self._loop.run(self._target.teardown)

    async def references(self) -> AsyncIterator[Reference | Sequence[Reference]]:
        async for batch in self.scan():
            if batch.references:
                yield batch.references

    async def find(self, keys: Collection[str]) -> AsyncIterator[Reference]:
        async for reference in self._sql.find(keys):
            yield reference

    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        async for column in self._sql.untracked(sample):
            yield column

    # ------------------------------------------------------------------ rows

    @abc.abstractmethod
    async def _tables(self, begun: Position | None) -> tuple[Sequence[Any], int | None]:
        """The tracked tables as they are now, in order, and how many rows they have, about.

        Runs on the drivers' loop.

        Args:
            begun: where a scan that is to go on was begun.

        Raises:
            PositionLost: the changes since then can't be told any more, or the tables aren't what they were.
            SourceError: a table isn't there.
        """

    @abc.abstractmethod
    def _reader(self, table: Any, last: Sequence[str] | None) -> ChunkReader:
        """A reader of one of these tables, from behind a key."""

    async def scan(self) -> AsyncIterator[ScanBatch]:
        """All references, in chunks by key, each in a statement of its own.

        Raises:
            SourceError: anything went wrong; what came before must not be taken for the whole.
        """
        async for batch in self._scan(None, 0, None):
            yield batch

    async def scan_on(self, begun: Position, mark: str) -> AsyncIterator[ScanBatch]:
        """The same, from behind a row."""
        number, last = json.loads(mark)
        async for batch in self._scan(begun, number, last):
            yield batch

    async def _scan(
        self, begun: Position | None, first: int, last: Sequence[str] | None
    ) -> AsyncIterator[ScanBatch]:
        with self._errors("read"):
            tables, expected = await self._loop.run(self._tables, begun)
        for number in range(first, len(tables)):
            reader = self._reader(tables[number], last)
            last = None
            while not reader.done:
                with self._errors("read"):
                    batch = await self._loop.run(self._chunk, reader)
                at = (number + 1, None) if reader.done else (number, reader.last)
                yield evolve(batch, mark=json.dumps(at), expected=expected)

    async def _chunk(self, reader: ChunkReader) -> ScanBatch:
        async with self._target.connection() as connection:
            return await reader.next(connection)

    # ------------------------------------------------------------------ changes

    @abc.abstractmethod
    def _span(self, after: Position, until: Position) -> tuple[P, P] | None:
        """The places of two positions; None if nothing lies between them and nothing must be looked at.

        Raises:
            PositionLost: they aren't of one history, or not ours.
            SourceError: the second is no fence.
        """

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        """Committed changes in commit order, over lost connections and restarts of the server.

        Raises:
            PositionLost: they are not all to be had any more; it says why.
            SourceError: the server stayed away, or something wasn't understood.
        """
        span = self._span(after, until)
        if span is None:
            yield ChangeBatch([], after)
            return
        with self._errors("follow changes"):
            await self._loop.run(self._follower.begin, *span)
        whole = False
        try:
            while True:
                with self._errors("follow changes"):
                    batch = await self._loop.run(self._follower.next)
                if batch is None:
                    break
                yield batch
            whole = True
        finally:
            if not whole:
                with anyio.CancelScope(shield=True):
                    await self._loop.run(self._follower.close)

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._loop.run(self._follower.close)
            await self._loop.aclose()
            await self._sql.aclose()

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn whatever a driver raises into a SourceError without secrets."""
        try:
            yield
        except SourceError as error:
            text = str(error)
            raise type(error)(text if text.startswith(self.name) else f"{self.name}: {text}") from error
        except Exception as error:
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            for secret in self._secrets:
                text = text.replace(secret, "***")
            raise SourceError(f"{self.name}: can't {doing}: {text}") from error


def refuse(wrong: Sequence[CaptureFinding]) -> None:
    """
    Raises:
        SourceError: one of these keeps changes from being followed.
    """
    fatal = [one for one in wrong if one.fatal]
    if fatal:
        raise SourceError("changes can't be followed: " + "; ".join(map(str, fatal)))


def _secrets(url: str) -> list[str]:
    userinfo, at, _ = url.partition("://")[2].rpartition("@")
    password = userinfo.partition(":")[2] if at else ""
    return sorted({password, unquote(password)} - {""}, key=len, reverse=True)
