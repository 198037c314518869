"""Following the log from where the registry is to a fence, over lost connections and restarts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import aiomysql  # type: ignore[import-untyped]

from s3gc.errors import PositionLost, SourceError
from s3gc.model import ChangeBatch
from s3gc.resolver import Resolver
from s3gc.sources.capture import Interrupted, insist
from s3gc_cdc_mysql import _assemble
from s3gc_cdc_mysql._assemble import Assembler, Gathered
from s3gc_cdc_mysql._reading import read_again
from s3gc_cdc_mysql._server import Target
from s3gc_cdc_mysql.binlog import Decoder
from s3gc_cdc_mysql.catalogue import Catalogue, TableInfo
from s3gc_cdc_mysql.connection import BinlogStream
from s3gc_cdc_mysql.events import Table
from s3gc_cdc_mysql.failures import (
    ConnectionLost,
    EndOfLog,
    LogUnreadable,
    SameServerId,
    ServerError,
    translated,
)
from s3gc_cdc_mysql.position import Place

RETRY_SECONDS = 60.0
"""How long a server may be away before following gives up."""

_AWAY = (OSError, ConnectionLost, EndOfLog, TimeoutError)  # a server that stops ends its streams in order


class Follower:
    """One log, followed. All methods run on the drivers' loop."""

    def __init__(self, name: str, target: Target, resolver: Resolver) -> None:
        self._name = name
        self._target = target
        self._resolver = resolver
        self._stream: BinlogStream | None = None
        self._decoder: Decoder | None = None
        self._assembler: Assembler | None = None
        self._packets: deque[bytes] = deque()
        self._tables: list[TableInfo] = []
        self._after: Place | None = None
        self._until: Place | None = None
        self.batch = _assemble.BATCH

    async def begin(self, after: Place, until: Place) -> None:
        """Be about to tell the changes between two places; goes on with the open stream if it is there."""
        assembler = self._assembler
        open_still = self._stream is not None and self._stream.alive
        if not (open_still and assembler is not None and assembler.reached and assembler.place == after):
            await self.close()
        self._after, self._until = after, until
        if self._assembler is not None:
            self._assembler.towards(until)

    async def next(self) -> ChangeBatch | None:
        """The next batch, or None once the fence was told.

        Raises:
            PositionLost: the changes are not all to be had any more.
            SourceError: the server stayed away for too long, or another reader has our number.
        """
        return await insist(self._name, self._attempt, RETRY_SECONDS)

    async def _attempt(self) -> ChangeBatch | None:
        try:
            return await self._next()
        except aiomysql.Error as error:
            await self.close()
            found = translated(error)
            if isinstance(found, ConnectionLost):
                raise Interrupted(str(found)) from error
            raise
        except LogUnreadable as error:
            await self.close()
            raise PositionLost(
                f"{self._name}: the server can't tell all changes from {self._from} on: {error}"
            ) from error
        except SameServerId as error:
            await self.close()
            raise SourceError(
                f"{self._name}: another reader of the log has taken our number, {self._target.server_id}: "
                f"give it, or this bucket's vault, another ({error})"
            ) from error
        except ServerError as error:
            await self.close()
            raise SourceError(f"{self._name}: the server refuses to tell changes: {error}") from error
        except _AWAY as error:
            await self.close()
            raise Interrupted(str(error) or type(error).__name__) from error

    @property
    def told(self) -> Place | None:
        """Where the last batch ended, or what was asked for."""
        return self._after

    @property
    def _from(self) -> str:
        return "" if self._after is None else str(self._after.log)

    async def _next(self) -> ChangeBatch | None:
        if self._assembler is None:
            await self._open()
        assembler, stream, decoder = self._assembler, self._stream, self._decoder
        assert assembler is not None
        assert stream is not None
        assert decoder is not None
        while not assembler.ready:
            if assembler.reached:
                return None
            if not self._packets:
                self._packets.extend(await stream.take())
            for event in decoder.decode(self._packets.popleft()):
                assembler.feed(event)
        return await self._finish(assembler.ready.popleft())

    async def _open(self) -> None:
        assert self._after is not None
        assert self._until is not None
        after = self._after
        found = await self._target.catalogue()
        self._compare(found, after)
        self._tables = list(found.known)
        assembler = Assembler(
            self._name,
            self._tables,
            found.watched,
            after,
            self._resolver,
            durable=found.server.durable,
            batch=self.batch,
        )
        assembler.towards(self._until)
        self._packets.clear()
        self._stream, checksum = await self._target.stream(after.log)
        self._decoder = Decoder(_Projection(found), checksum=checksum)
        self._assembler = assembler

    def _compare(self, found: Catalogue, after: Place) -> None:
        still_told(self._name, found, after)
        assert self._until is not None
        differences = after.prints.differences(
            self._until.prints, [table.spec for table in self._target.tracked], storage=False
        )
        if differences:
            raise PositionLost(f"{self._name}: {'; '.join(differences)}")

    async def _finish(self, gathered: Gathered) -> ChangeBatch:
        """A batch for the registry, with rows that must be read again."""
        if gathered.again:
            last = max((one.log for one in gathered.again), key=lambda log: (log.number, log.offset))
            await self._target.visible(last, RETRY_SECONDS)
            async with self._target.connection() as connection:
                await gathered.read_again(
                    self._tables, lambda table, rows: read_again(connection, table, rows, self._resolver)
                )
        batch = gathered.batch(self._name)
        self._after = gathered.place
        return batch

    async def forget(self) -> None:
        """End the stream; what was told was of a history that may be gone."""
        await self.close()
        self._after = self._until = None

    async def close(self) -> None:
        """End the stream. A later one begins with the last batch that was told."""
        stream, self._stream = self._stream, None
        self._assembler = None
        self._decoder = None
        self._packets.clear()
        if stream is not None:
            await stream.close()


class _Projection:
    """Which columns to decode: the key and the tracked ones; of tables above, none."""

    def __init__(self, found: Catalogue) -> None:
        self._wanted: dict[tuple[str, str], set[str]] = {
            (one.database, one.name): set() for one in found.watched
        }
        for table in found.known:
            self._wanted[table.database, table.name] = {c.name for c in (*table.key, *table.columns)}

    def __call__(self, table: Table) -> Sequence[int] | None:
        wanted = self._wanted.get((table.database, table.name))
        if wanted is None:
            return None
        return [column.index for column in table.columns if column.name in wanted]


def still_told(name: str, found: Catalogue, place: Place) -> None:
    """
    Raises:
        PositionLost: the log from a place on is gone.
    """
    files = [file for file, _ in found.server.logs]
    if files and place.log.file not in files:
        raise PositionLost(
            f"{name}: the server has purged its log {place.log.file} (the oldest is {files[0]}): keep logs "
            "for longer than the time between two cycles"
        )
