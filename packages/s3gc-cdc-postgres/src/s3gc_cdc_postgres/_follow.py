"""Following the stream from where the registry is to a fence, over lost connections and restarts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import asyncpg  # type: ignore[import-untyped]
from attrs import evolve

from s3gc.errors import PositionLost, Reconfigured, SourceError
from s3gc.model import ChangeBatch
from s3gc.resolver import Resolver
from s3gc.sources.capture import Interrupted, insist
from s3gc_cdc_postgres import _assemble
from s3gc_cdc_postgres._assemble import Assembler, Gathered
from s3gc_cdc_postgres._rows import read_again
from s3gc_cdc_postgres._server import Target
from s3gc_cdc_postgres._wire import ConnectionLost, ReplicationConnection, ServerError
from s3gc_cdc_postgres.catalogue import Catalogue, TableInfo
from s3gc_cdc_postgres.position import Place, format_lsn

RETRY_SECONDS = 60.0
"""How long a server may be away, or the slot taken, before following gives up."""

_GONE_CODES = {
    "42704",  # undefined_object: the slot, or the publication, isn't there
    "58P01",  # undefined_file: its WAL was removed
    "55000",  # object_not_in_prerequisite_state: it can no longer get changes
}
_BUSY = "55006"  # object_in_use
_AWAY_CODES = ("08", "57P01", "57P02", "57P03", "53300")
_AWAY = (
    OSError,
    ConnectionLost,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
)


def still_told(name: str, target: Target, found: Catalogue, after: Place) -> None:
    """
    Raises:
        PositionLost: the slot can't tell all that was committed after this place.
    """
    lost = f"{name}: "
    slot = found.slot
    if slot is None:
        raise PositionLost(f"{lost}the replication slot {target.slot} is gone")
    if slot.plugin != "pgoutput" or slot.database != found.server.database:
        raise PositionLost(f"{lost}the replication slot {target.slot} is another one now")
    if slot.wal_status == "lost":
        raise PositionLost(
            f"{lost}the replication slot {target.slot} has lost its WAL: it held more than "
            "max_slot_wal_keep_size"
        )
    # Asked for less than it has released, the server would begin later without a word.
    if slot.confirmed > after.lsn:
        raise PositionLost(
            f"{lost}the replication slot {target.slot} begins at {format_lsn(slot.confirmed)}, "
            f"past {format_lsn(after.lsn)}: it was recreated, or somebody else has read from it"
        )
    if after.lsn > found.server.lsn:
        raise PositionLost(
            f"{lost}the server stands at {format_lsn(found.server.lsn)}, before {format_lsn(after.lsn)}: "
            "was it restored to its past?"
        )


class Follower:
    """One slot, followed. All methods run on the drivers' loop."""

    def __init__(self, name: str, target: Target, resolver: Resolver) -> None:
        self._name = name
        self._target = target
        self._resolver = resolver
        self._connection: ReplicationConnection | None = None
        self._assembler: Assembler | None = None
        self._items: deque[bytes | int] = deque()
        self._tables: list[TableInfo] = []
        self._after: Place | None = None
        self._until: Place | None = None
        self._confirmed = 0
        self.batch = _assemble.BATCH

    async def begin(self, after: Place, until: Place) -> None:
        """Be about to tell the changes between two places; goes on with the open stream if it is there."""
        assembler = self._assembler
        open_still = self._connection is not None and self._connection.alive
        if not (open_still and assembler is not None and assembler.reached and assembler.place == after):
            await self.close()
        self._after, self._until = after, until
        if self._assembler is not None:
            assert self._connection is not None
            self._connection.rest(False)
            self._assembler.towards(until)

    def at_end(self, place: Place, written: int) -> bool:
        """Whether the open stream has told all up to ``place``, and nothing was written behind it."""
        assembler = self._assembler
        return (
            assembler is not None
            and self._connection is not None
            and self._connection.alive
            and assembler.reached
            and assembler.place == place
            and assembler.end == written
        )

    async def next(self) -> ChangeBatch | None:
        """The next batch, or None once the fence was told.

        Raises:
            PositionLost: the changes are not all to be had any more.
            SourceError: the server stayed away for too long, or the slot taken.
        """
        return await insist(self._name, self._attempt, RETRY_SECONDS)

    async def _attempt(self) -> ChangeBatch | None:
        try:
            return await self._next()
        except ServerError as error:
            await self.close()
            if error.code == _BUSY or error.code.startswith(_AWAY_CODES):
                raise Interrupted(str(error)) from error
            if error.code in _GONE_CODES:
                raise PositionLost(f"{self._name}: the server can't tell all changes: {error}") from error
            raise SourceError(f"{self._name}: the server refuses to tell changes: {error}") from error
        except _AWAY as error:
            await self.close()
            raise Interrupted(str(error)) from error

    async def _next(self) -> ChangeBatch | None:
        if self._assembler is None:
            await self._open()
        assembler, connection = self._assembler, self._connection
        assert assembler is not None
        assert connection is not None
        while not assembler.ready:
            if assembler.reached:
                connection.rest(True)
                return None
            if not self._items:
                self._items.extend(await connection.take())
            item = self._items.popleft()
            if isinstance(item, int):
                assembler.sent_up_to(item)
            else:
                assembler.feed(item)
        batch = await self._finish(assembler.ready.popleft())
        return batch

    async def _open(self) -> None:
        assert self._after is not None
        assert self._until is not None
        after = self._after
        found = await self._target.catalogue()
        still_told(self._name, self._target, found, after)
        differences = after.prints.differences(
            self._until.prints, [table.spec for table in self._target.tracked], storage=False
        )
        if differences:
            await self._reconfigured(after, self._until, differences)
            raise PositionLost(f"{self._name}: {'; '.join(differences)}")
        self._tables = list(found.known)
        assembler = Assembler(self._name, self._tables, after, self._resolver, batch=self.batch)
        assembler.towards(self._until)
        self._items.clear()
        connection = await self._target.stream()
        self._connection = connection
        connection.confirmed = self._confirmed
        await connection.start(self._target.slot, self._target.publication, after.lsn)
        self._assembler = assembler

    async def _reconfigured(self, after: Place, until: Place, differences: Sequence[str]) -> None:
        """Whether nothing but the configuration is another one, and the slot shows the very history.

        Raises:
            Reconfigured: so it is.
            PositionLost: it is another history.
        """
        if len(differences) > 1 or after.prints.configuration == until.prints.configuration:
            return
        nothing = evolve(after.prints, tables=())
        proof = Assembler(self._name, [], evolve(after, prints=nothing), self._resolver)
        proof.towards(evolve(until, prints=nothing))
        self._items.clear()
        self._connection = connection = await self._target.stream()
        await connection.start(self._target.slot, self._target.publication, after.lsn)
        while not proof.proven:
            for item in await connection.take():
                if isinstance(item, int):
                    proof.sent_up_to(item)
                else:
                    proof.feed(item)
        await self.close()
        raise Reconfigured(f"{self._name}: {differences[0]}")

    async def _finish(self, gathered: Gathered) -> ChangeBatch:
        """A batch for the registry, with rows that must be read again."""
        if gathered.again:
            async with self._target.connection() as connection:
                await gathered.read_again(
                    self._tables,
                    lambda table, rows: read_again(connection, table, rows, self._resolver, RETRY_SECONDS),
                )
        batch = gathered.batch(self._name)
        self._after = gathered.place
        return batch

    def confirm(self, lsn: int) -> bool:
        """The server may forget what lies before. False if there is no stream to say it over."""
        self._confirmed = max(self._confirmed, lsn)
        if self._connection is None or not self._connection.alive:
            return False
        self._connection.confirm(lsn)
        return True

    async def close(self) -> None:
        """End the stream. A later one begins with the last batch that was told."""
        connection, self._connection = self._connection, None
        self._assembler = None
        self._items.clear()
        if connection is not None:
            await connection.close()
