"""A PostgreSQL database whose changes are followed."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import unquote

import anyio
from attrs import evolve

from s3gc.capture import CaptureState, ChangeCapture
from s3gc.errors import ConfigError, PositionLost, SourceError
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
from s3gc.sources.capture import LoopThread, tracked_tables
from s3gc.sources.sql import SqlSource
from s3gc_cdc_postgres._follow import Follower, still_told
from s3gc_cdc_postgres._rows import TableReader
from s3gc_cdc_postgres._server import Target, refuse
from s3gc_cdc_postgres._tip import Tip
from s3gc_cdc_postgres.catalogue import Catalogue, digest
from s3gc_cdc_postgres.position import Committed, Fingerprint, Place, Told, format_lsn

_TRIES = 10

CHUNK = 10_000
"""Most rows of a chunk of a scan; fewer where rows are large."""


class PostgresCdcSource(ChangeCapture):
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

    follows_changes = True
    resumes_scans = True

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
        self._sql = SqlSource(url, tables, resolver, folders=folders, name=name)
        self.name = self._sql.name
        self._secrets = _secrets(url)
        tracked = tracked_tables(tables, folders or {})
        self._configuration = digest(
            [(table.parts, table.columns, sorted(table.folders)) for table in tracked], resolver_settings
        )
        self._target = Target(f"postgresql://{url.partition('://')[2]}", tracked, publication, slot)
        self._resolver = resolver
        self._follower = Follower(self.name, self._target, resolver)
        self._tip = Tip(self._target)
        self._loop = LoopThread("s3gc capture")
        self._chunk_rows = chunk_rows
        self._patience = patience
        self._prints: Fingerprint | None = None  # as last read

    def __repr__(self) -> str:
        return f"PostgresCdcSource({self.name!r}, slot={self._target.slot!r})"

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
        """Server settings, rights, replica identities, publication, slot; changes nothing."""
        with self._errors("look at change capture"):
            return await self._loop.run(self._target.state, self.name, self._resolver.plain_regex)

    async def set_up(self) -> Sequence[str]:
        """Publication, then slot."""
        with self._errors("set change capture up"):
            return await self._loop.run(self._target.setup, self._patience.total_seconds())

    async def tear_down(self) -> Sequence[str]:
        """Slot, then publication."""
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

    async def scan(self) -> AsyncIterator[ScanBatch]:
        """All references, in chunks by key, each in a statement of its own: nothing keeps vacuum waiting.

        Raises:
            SourceError: anything went wrong; what came before must not be taken for the whole.
        """
        with self._errors("read"):
            found = await self._loop.run(self._target.catalogue)
        async for batch in self._scan(found, 0, None):
            yield batch

    async def scan_on(self, begun: Position, mark: str) -> AsyncIterator[ScanBatch]:
        """The same, from behind a row. The changes since the beginning must still be in the slot."""
        place = Place.read(begun)
        with self._errors("read"):
            found = await self._loop.run(self._target.catalogue)
            still_told(self.name, self._target, found, place)
            now = found.prints(self._configuration)
            names = [table.spec for table in self._target.tracked]
            if differences := place.prints.differences(now, names, storage=False):
                raise PositionLost(f"{self.name}: {'; '.join(differences)}")
            number, last = json.loads(mark)
        async for batch in self._scan(found, number, last):
            yield batch

    async def _scan(self, found: Catalogue, first: int, last: list[str] | None) -> AsyncIterator[ScanBatch]:
        with self._errors("read"):
            tables = found.known
            expected = await self._loop.run(self._target.expected, tables)
        for number in range(first, len(tables)):
            reader = TableReader(tables[number], self._resolver, self._chunk_rows, last)
            last = None
            while not reader.done:
                with self._errors("read"):
                    batch = await self._loop.run(self._chunk, reader)
                at = (number + 1, None) if reader.done else (number, reader.last)
                yield evolve(batch, mark=json.dumps(at), expected=expected)

    async def _chunk(self, reader: TableReader) -> ScanBatch:
        async with self._target.connection() as connection:
            return await reader.next(connection)

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        """Committed changes in commit order, over lost connections and restarts of the server.

        Raises:
            PositionLost: they are not all to be had any more; it says why.
            SourceError: the server stayed away, or something wasn't understood.
        """
        begin, end = Place.read(after), Place.read(until)
        if not isinstance(end.proof, Told):
            raise SourceError(f"{self.name}: changes are told up to a fence, and {until.value} is none")
        if begin.lsn > end.proof.bound:
            raise PositionLost(
                f"{self.name}: the fence at {format_lsn(end.lsn)} stands before {format_lsn(begin.lsn)}: was "
                "the server restored to its past?"
            )
        if begin.lsn >= end.lsn and isinstance(begin.proof, Committed):  # this very fence was told
            yield ChangeBatch([], after)
            return
        with self._errors("follow changes"):
            await self._loop.run(self._follower.begin, begin, end)
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

    async def applied(self, position: Position) -> None:
        """The server may forget what lies before this position."""
        lsn = Place.read(position).lsn
        with self._errors("release changes"):
            await self._loop.run(self._confirm, lsn)

    async def _confirm(self, lsn: int) -> None:
        self._follower.confirm(lsn)

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._loop.run(self._follower.close)
            await self._loop.run(self._tip.close)
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


_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


def _secrets(url: str) -> list[str]:
    userinfo, at, _ = url.partition("://")[2].rpartition("@")
    password = userinfo.partition(":")[2] if at else ""
    return sorted({password, unquote(password)} - {""}, key=len, reverse=True)
