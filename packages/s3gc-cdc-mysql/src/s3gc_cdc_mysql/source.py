"""A MariaDB or MySQL database whose changes are followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from attrs import evolve

from s3gc.capture import CaptureState
from s3gc.errors import ConfigError, PositionLost
from s3gc.model import Position
from s3gc.resolver import Resolver
from s3gc.sources.capture import CHUNK, FollowedSql, digest
from s3gc_cdc_mysql._follow import Follower, still_told
from s3gc_cdc_mysql._reading import TableReader
from s3gc_cdc_mysql._server import Target
from s3gc_cdc_mysql.catalogue import TableInfo
from s3gc_cdc_mysql.position import Place


class MysqlCdcSource(FollowedSql[Place]):
    """The tracked columns of a MariaDB or MySQL database: scanned once, then followed by its binary log.

    What is read directly (:meth:`find`, :meth:`check`, :meth:`untracked`) is read by a
    :class:`~s3gc.sources.sql.SqlSource`. Works on asyncio and trio: the drivers run on a loop in a thread.

    A position that can't be followed from any more raises :class:`~s3gc.errors.PositionLost`: the log was
    purged, or begun anew; the server is another, was put back, or crashed without keeping log and tables the
    same; a tracked table was altered; a session logged statements in the place of rows.

    Args:
        url: ``mysql://user@host/database``, to the server itself and not to a proxy.
        tables: table → columns, as for :class:`~s3gc.sources.sql.SqlSource`.
        resolver: turns values into keys.
        server_id: the number under which the log is read; no server or reader of this log may have the same.
        folders: table → columns, of ``tables``, whose values name folders.
        resolver_settings: what the resolver was made with; another value means that all must be read anew.
        name: unique among the sources of a bucket; by default the URL without password and options.
        chunk_rows: most rows of one chunk of a scan.
        patience: how long :meth:`begin` waits for transactions that are open.

    Raises:
        ConfigError: the URL or ``server_id`` is malformed.
    """

    _target: Target
    _follower: Follower

    def __init__(
        self,
        url: str,
        tables: Mapping[str, Sequence[str]],
        resolver: Resolver,
        *,
        server_id: int,
        folders: Mapping[str, Sequence[str]] | None = None,
        resolver_settings: object = None,
        name: str | None = None,
        chunk_rows: int = CHUNK,
        patience: timedelta = timedelta(minutes=15),
    ) -> None:
        if not 0 < server_id <= 0xFFFFFFFF:
            raise ConfigError(f"server_id must be 1 to 4294967295, got {server_id!r}")
        super().__init__(
            url, tables, resolver, folders=folders, name=name, chunk_rows=chunk_rows, patience=patience
        )
        self._configuration = digest(
            [(table.parts, table.columns, sorted(table.folders)) for table in self._tracked],
            resolver_settings,
        )
        self._target = Target(url, self._tracked, server_id)
        self._follower = Follower(self.name, self._target, resolver)
        self._asked: Place | None = None  # where the registry was when it was last asked for changes

    def __repr__(self) -> str:
        return f"MysqlCdcSource({self.name!r}, server_id={self._target.server_id})"

    # ------------------------------------------------------------------ positions

    async def fence(self, timeout: timedelta) -> Position:
        """Wait for the transactions that are open now, then note where the log ends.

        Raises:
            SourceError: some didn't end in time, or tracked tables are being altered.
        """
        await self._sql.fence(timeout)
        with self._errors("fence"):
            place = await self._loop.run(self._target.fence, self._configuration)
        return place.position(self.name)

    async def tip(self, after: Position, timeout: timedelta) -> Position | None:
        """The end of the log, without waiting, and without a look at the catalogue: fences see to that."""
        place = Place.read(after)
        with self._errors("look for changes"):
            now = await self._loop.run(self._target.tip)
        if now.log == place.log:
            return None
        return evolve(place, log=now.log, gtids=now.gtids, looked=False).position(self.name)

    async def capture_state(self) -> CaptureState:
        state = await super().capture_state()
        place = self._follower.told or self._asked
        if place is None:
            return state
        with self._errors("look at change capture"):
            lag = await self._loop.run(self._target.lag, place)
        return evolve(state, lag_bytes=lag)

    async def let_go(self) -> None:
        """The stream of the log."""
        with self._errors("let go of changes"):
            await self._loop.run(self._follower.close)

    async def begin(self) -> Position:
        """Say where a scan begun now may begin to follow: all before it is visible to that scan.

        Raises:
            SourceError: changes can't be followed; it says what to run.
        """
        with self._errors("begin to follow changes"):
            await self._loop.run(self._follower.forget)
            place = await self._loop.run(
                self._target.beginning, self._configuration, self._patience.total_seconds()
            )
        return place.position(self.name)

    async def _tables(self, begun: Position | None) -> tuple[Sequence[TableInfo], int | None]:
        told = self._follower.told
        if told is not None:  # its last transactions may be in the log and not to be seen yet
            await self._target.visible(told.log, self._patience.total_seconds())
        found = await self._target.catalogue()
        if begun is not None:
            place = Place.read(begun)
            still_told(self.name, found, place)
            names = [table.spec for table in self._tracked]
            if differences := place.prints.differences(
                found.prints(self._configuration), names, storage=False
            ):
                raise PositionLost(f"{self.name}: {'; '.join(differences)}")
        return found.known, sum(table.rows for table in found.known)

    def _reader(self, table: TableInfo, last: Sequence[str] | None) -> TableReader:
        return TableReader(table, self._resolver, self._chunk_rows, last)

    def _span(self, after: Position, until: Position) -> tuple[Place, Place] | None:
        begin, end = Place.read(after), Place.read(until)
        self._asked = begin
        if not end.log.at_least(begin.log):
            raise PositionLost(
                f"{self.name}: the fence at {end.log} stands before {begin.log}: was the server restored to "
                "its past, or its log begun anew?"
            )
        missing = begin.gtids.missing(end.gtids)
        if missing:
            raise PositionLost(
                f"{self.name}: the server doesn't have the transactions {missing} that were followed: this "
                "is another history"
            )
        if begin.log == end.log and begin.prints == end.prints:
            return None
        return begin, end
