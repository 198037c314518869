"""A PostgreSQL database whose changes are followed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta

import anyio

from s3gc.errors import ConfigError, PositionLost, SourceError
from s3gc.model import Position
from s3gc.resolver import Resolver
from s3gc.sources.capture import CHUNK, FollowedSql, digest
from s3gc_cdc_postgres._follow import Follower, still_told
from s3gc_cdc_postgres._rows import TableReader
from s3gc_cdc_postgres._server import Target
from s3gc_cdc_postgres._tip import Tip
from s3gc_cdc_postgres.catalogue import TableInfo
from s3gc_cdc_postgres.position import Committed, Fingerprint, Place, Told, format_lsn

_TRIES = 10


class PostgresCdcSource(FollowedSql[Place]):
    """The tracked columns of a PostgreSQL database: scanned once, then followed by logical replication.

    What is read directly (:meth:`find`, :meth:`check`, :meth:`untracked`) is read by a
    :class:`~s3gc.sources.sql.SqlSource`. Works on asyncio and trio: the drivers run on a loop in a thread.

    A position that can't be followed from any more raises :class:`~s3gc.errors.PositionLost`: the slot is
    gone, lost its WAL, was recreated or read by somebody else; the server is another, or was put back; the
    publication or a tracked table was changed, which the stream doesn't tell.

    Args:
        url: ``postgresql://user@host/database``, to the server itself and not to a pooler.
        tables: table → columns, as for :class:`~s3gc.sources.sql.SqlSource`.
        resolver: turns values into keys.
        slot: name of the replication slot; one for each bucket and vault.
        publication: name of the publication.
        folders: table → columns, of ``tables``, whose values name folders.
        resolver_settings: what the resolver was made with; another value means that all must be read anew.
        name: unique among the sources of a bucket; by default the URL without password and options.
        chunk_rows: most rows of one chunk of a scan.
        patience: how long :meth:`begin` waits for transactions that are open.

    Raises:
        ConfigError: the URL or a name is malformed.
    """

    _target: Target
    _follower: Follower

    def __init__(
        self,
        url: str,
        tables: Mapping[str, Sequence[str]],
        resolver: Resolver,
        *,
        slot: str,
        publication: str,
        folders: Mapping[str, Sequence[str]] | None = None,
        resolver_settings: object = None,
        name: str | None = None,
        chunk_rows: int = CHUNK,
        patience: timedelta = timedelta(minutes=15),
    ) -> None:
        for value in (slot, publication):
            if not value or len(value) > 63 or not all(c in _NAME for c in value):
                raise ConfigError(f"{value!r} must be 1 to 63 of a-z, 0-9 and _")
        super().__init__(
            url, tables, resolver, folders=folders, name=name, chunk_rows=chunk_rows, patience=patience
        )
        self._configuration = digest(
            [(table.parts, table.columns, sorted(table.folders)) for table in self._tracked],
            resolver_settings,
        )
        dsn = f"postgresql://{url.partition('://')[2]}"
        self._target = Target(dsn, self._tracked, publication, slot, resolver.odd)
        self._follower = Follower(self.name, self._target, resolver)
        self._tip = Tip(self._target)
        self._prints: Fingerprint | None = None  # as last read

    def __repr__(self) -> str:
        return f"PostgresCdcSource({self.name!r}, slot={self._target.slot!r})"

    # ------------------------------------------------------------------ positions

    async def fence(self, timeout: timedelta) -> Position:
        """Wait for the transactions that are open now, then write a message that the stream will show.

        Raises:
            SourceError: some didn't end in time, or a tracked table is being altered for longer.
        """
        await self._sql.fence(timeout)
        return await self._mark(timeout)

    async def _mark(self, timeout: timedelta) -> Position:
        """A fence's message, with what mustn't have changed up to it and is read after it.

        Both belong together when nothing changed meanwhile: a TRUNCATE that is told after the message has
        given its table a new file already. So it is done again until two readings in a row are the same.
        """
        for _ in range(_TRIES):
            id = secrets.token_hex(16)
            with self._errors("fence"):
                lsn, bound = await self._loop.run(self._target.mark, id)
            prints = await self._look("fence", timeout)
            before, self._prints = self._prints, prints
            if prints == before:
                break
        return Place(lsn, Told(id, bound), prints).position(self.name)

    async def tip(self, after: Position, timeout: timedelta) -> Position | None:
        """A fence's message, without waiting, and without a look at the catalogue: fences see to that."""
        place = Place.read(after)
        with self._errors("look for changes"):
            told = await self._loop.run(self._tip.look, self._follower, place)
        if told is None:
            return None
        lsn, proof = told
        return Place(lsn, proof, place.prints).position(self.name)

    async def let_go(self) -> None:
        """The slot's stream, and the connection that looks for changes."""
        with self._errors("let go of changes"):
            await self._loop.run(self._follower.close)
            await self._loop.run(self._tip.close)

    async def begin(self) -> Position:
        """Make publication and slot what they must be, and say where a scan begun now may begin to follow.

        Raises:
            SourceError: changes can't be followed; it says what to run.
        """
        with self._errors("begin to follow changes"):
            await self._loop.run(self._follower.close)
            await self._loop.run(self._target.setup, self._patience.total_seconds())
        # First what mustn't change, so that whatever does from here on is noticed at the next fence: a scan
        # sees a rewritten table, and changes of before that, told after it, would undo that. And once more
        # after the message: a TRUNCATE in between is never told, so the next fence would take it for a gap.
        prints = await self._look("begin to follow changes", self._patience)
        for _ in range(_TRIES):
            id = secrets.token_hex(16)
            with self._errors("begin to follow changes"):
                # The position before the waiting: what was committed earlier is visible to the scan then.
                lsn, bound = await self._loop.run(self._target.mark, id)
            before, prints = prints, await self._look("begin to follow changes", self._patience)
            if prints == before:
                break
        else:
            raise SourceError(f"{self.name}: the tracked tables are changed all the time (ALTER, TRUNCATE)")
        await self._sql.fence(self._patience)
        self._prints = prints
        return Place(lsn, Told(id, bound), prints).position(self.name)

    async def _look(self, doing: str, timeout: timedelta) -> Fingerprint:
        with self._errors(doing):
            return await self._loop.run(self._target.prints, self._configuration, timeout.total_seconds())

    async def _tables(self, begun: Position | None) -> tuple[Sequence[TableInfo], int | None]:
        found = await self._target.catalogue()
        if begun is not None:  # the changes since then must still be in the slot
            place = Place.read(begun)
            still_told(self.name, self._target, found, place)
            now = found.prints(self._configuration)
            names = [table.spec for table in self._target.tracked]
            if differences := place.prints.differences(now, names, storage=False):
                raise PositionLost(f"{self.name}: {'; '.join(differences)}")
        return found.known, await self._target.expected(found.known)

    def _reader(self, table: TableInfo, last: Sequence[str] | None) -> TableReader:
        return TableReader(table, self._resolver, self._chunk_rows, last)

    def _span(self, after: Position, until: Position) -> tuple[Place, Place] | None:
        begin, end = Place.read(after), Place.read(until)
        if not isinstance(end.proof, Told):
            raise SourceError(f"{self.name}: changes are told up to a fence, and {until.value} is none")
        if begin.lsn > end.proof.bound:
            raise PositionLost(
                f"{self.name}: the fence at {format_lsn(end.lsn)} stands before {format_lsn(begin.lsn)}: was "
                "the server restored to its past?"
            )
        if begin.lsn >= end.lsn and isinstance(begin.proof, Committed):  # this very fence was told
            return None
        return begin, end

    async def applied(self, position: Position) -> None:
        """The server may forget what lies before this position."""
        lsn = Place.read(position).lsn
        with self._errors("release changes"):
            await self._loop.run(self._confirm, lsn)

    async def _confirm(self, lsn: int) -> None:
        self._follower.confirm(lsn)

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._loop.run(self._tip.close)
        await super().aclose()


_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
