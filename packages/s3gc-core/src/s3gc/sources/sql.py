"""References in the columns of a SQL database."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import anyio
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from s3gc._log import get_logger
from s3gc.abc import ReferenceSource, Wanted
from s3gc.errors import ConfigError, SourceError
from s3gc.model import Column, Position, Reference, ScanBatch, SourceIdentity, UntrackedColumn
from s3gc.resolver import Resolver
from s3gc.sources._coverage import Coverage
from s3gc.sources._dialect import Dialect, Running, TrackedTable
from s3gc.sources._loop import LoopThread
from s3gc.sources._reader import Reader
from s3gc.sources._tracked import tracked_tables

_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "aiomysql"}
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql"}
_NAMES = {"postgres": "postgresql", "mariadb": "mysql"}
_NAMED = 20  # columns that a warning names
_FIRST_POLL, _LAST_POLL = 0.02, 1.0  # seconds between two looks at the running transactions


class SqlSource(ReferenceSource):
    """The tracked columns of one database: SQLite, PostgreSQL, MariaDB or MySQL.

    Works on asyncio and trio: the drivers run on a loop in a thread of their own, with one hop a batch.
    Ordinary and partitioned tables and plain views may be tracked; a view must not leave rows out.
    Materialized views and foreign tables are refused.

    A **fence** waits until every transaction that is open at its beginning has ended, reading ones too, for
    they may write yet. PostgreSQL: by the virtual ids in ``pg_locks`` and by ``pg_prepared_xacts``, without
    privileges. MariaDB, MySQL: by ``innodb_trx`` (needs PROCESS) and ``XA RECOVER``; a transaction opens with
    its first statement on an InnoDB table. SQLite: by its write lock; one that has only read isn't seen.

    Args:
        url: ``sqlite:///file``, ``postgresql://…``, ``mysql://…``, ``mariadb://…``; a ``+driver`` is ignored.
        tables: table → columns, as the database spells them. ``schema.table`` is understood; names with dots
            go in double quotes.
        resolver: turns values into keys.
        folders: table → columns, of ``tables``, whose values name folders: everything below is referenced,
            and the object of that very name too.
        name: unique among the sources of a bucket; by default the URL without password and options.
        batch_rows: most rows of one batch; fewer where rows are large.

    Raises:
        ConfigError: the URL, a name or ``batch_rows`` is malformed, a column of ``folders`` isn't among
            ``tables``, or the driver isn't installed.
    """

    def __init__(
        self,
        url: str,
        tables: Mapping[str, Sequence[str]],
        resolver: Resolver,
        *,
        folders: Mapping[str, Sequence[str]] | None = None,
        name: str | None = None,
        batch_rows: int = 10_000,
    ) -> None:
        if not isinstance(batch_rows, int) or batch_rows < 1:
            raise ConfigError(f"batch_rows must be at least 1, got {batch_rows!r}")
        self._dialect = _dialect(url)
        self._tables = self._tracked(tables, folders or {})
        self._resolver = resolver
        self._batch_rows = batch_rows
        self.name = name or self._dialect.target.display
        self._loop = LoopThread(f"s3gc {self._dialect.kind}")
        self._engine: AsyncEngine | None = None

    def _tracked(
        self, tables: Mapping[str, Sequence[str]], folders: Mapping[str, Sequence[str]]
    ) -> tuple[TrackedTable, ...]:
        return tracked_tables(tables, folders)

    def __repr__(self) -> str:
        tables = [table.spec for table in self._tables]
        return f"{type(self).__name__}({self._dialect.target.display!r}, tables={tables!r})"

    def columns(self) -> Sequence[Column]:
        return [Column(t.spec, spec) for t in self._tables for spec, _ in t.columns]

    async def check(self) -> SourceIdentity:
        """Connect, prove that this is a primary and that all is there, and say which database it is.

        Raises:
            SourceError: unreachable, a replica, a table or column missing (with the nearest name), or a
                privilege missing.
        """
        with self._errors("check"):
            details = await self._loop.run(self._check)
        return SourceIdentity(self.name, self._dialect.kind, details)

    async def fence(self, timeout: timedelta) -> Position:
        """Wait for the transactions that are open now.

        Raises:
            SourceError: some didn't end in time (with their number and age), or they can't be seen.
        """
        end = time.monotonic() + timeout.total_seconds()
        with self._errors("fence"):
            first = await self._loop.run(self._running)
            if first.open:
                await self._wait(first.open, end, timeout)
                # One of these may have been prepared instead of ended.
                again = await self._loop.run(self._running)
                await self._wait({**first.prepared, **again.prepared}, end, timeout)
            else:
                await self._wait(first.prepared, end, timeout)
        return Position(self.name, first.position, first.ordinal)

    async def scan(self) -> AsyncIterator[ScanBatch]:
        """All references in one transaction, a batch of one table's rows at a time.

        A table without rows gives one batch that says so. References of a row are of one batch.

        Raises:
            SourceError: anything went wrong; what came before must not be taken for the whole.
        """
        async for batch in self._read(None):
            yield batch

    async def references(self) -> AsyncIterator[Reference | Sequence[Reference]]:
        async for batch in self.scan():
            if batch.references:
                yield batch.references

    async def find(self, keys: Collection[str]) -> AsyncIterator[Reference]:
        """The references to any of these keys, by a fresh transaction and the same resolver.

        Raises:
            SourceError: as for :meth:`scan`.
        """
        async for batch in self._read(Wanted(keys)):
            for reference in batch.references:
                yield reference

    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        """Columns that could hold references and aren't tracked, each with a sample of its values.

        Looked at is every table that this user may read, besides those of the system: all schemas of a
        PostgreSQL database, all databases of a MariaDB or MySQL server, the whole SQLite file; in them all
        columns of texts, JSON, XML, UUIDs, binaries, and in PostgreSQL of arrays, domains, composites and
        types of extensions over them. Not looked at: numbers, times, enums, and what has no rows of its own
        here, namely views, materialized views, foreign tables, and partitions and children whose parent is
        read. A view that is tracked doesn't stand in for its tables: it may leave rows out.

        A sample is the newest rows (by primary key, where there is one), the first rows, and for a column
        that was almost empty in both a search for values. Values are cut (16,384 characters, 4,096 bytes);
        JSON's and arrays' empties count as empty. A column that this user may not read isn't told, for
        nothing is known of it; a warning names it in the log, and a search that was given up.

        Raises:
            SourceError: a tracked table is missing, the catalogue or the first rows of a table can't be read
                within a time, or the schema changes all the time.
        """
        coverage = Coverage(self._dialect, self._tables, self._resolver, sample, self._connection)
        try:
            while True:
                with self._errors(coverage.doing):
                    columns = await self._loop.run(coverage.next)
                if columns is None:
                    break
                for column in columns:
                    yield column
        finally:
            with anyio.CancelScope(shield=True):
                await self._loop.run(coverage.close)
        if coverage.hidden or coverage.slow:
            get_logger().warning(
                "coverage_incomplete",
                source=self.name,
                unreadable=list(coverage.hidden)[:_NAMED],
                unreadable_columns=len(coverage.hidden),
                given_up=list(coverage.slow)[:_NAMED],
            )

    async def aclose(self) -> None:
        if self._engine is not None:
            await self._loop.run(self._dispose)
        await self._loop.aclose()

    async def _read(self, wanted: Wanted | None) -> AsyncIterator[ScanBatch]:
        reader = Reader(self._dialect, self._tables, self._resolver, self._batch_rows, wanted)
        try:
            with self._errors("read"):
                await self._loop.run(self._open, reader)
            while True:
                with self._errors("read"):
                    batch = await self._loop.run(reader.next)
                if batch is None:
                    return
                yield batch
        finally:
            with anyio.CancelScope(shield=True):
                await self._loop.run(reader.close)

    async def _wait(self, waiting: Mapping[str, timedelta | None], end: float, timeout: timedelta) -> None:
        pause = _FIRST_POLL
        while waiting:
            left = end - time.monotonic()
            if left <= 0:
                raise SourceError(_blocked(waiting, timeout))
            await anyio.sleep(min(pause, left))
            pause = min(2 * pause, _LAST_POLL)
            now = await self._loop.run(self._running)
            everything = {**now.open, **now.prepared}
            waiting = {name: everything[name] for name in waiting if name in everything}

    @contextmanager
    def _errors(self, doing: str | Callable[[], str]) -> Iterator[None]:
        """Turn whatever a driver raises into a SourceError without secrets."""
        try:
            yield
        except SourceError as error:
            raise type(error)(f"{self.name}: {error}") from error.__cause__
        except Exception as error:
            text = _message(error)
            for secret in self._dialect.target.secrets:
                text = text.replace(secret, "***")
            what = doing if isinstance(doing, str) else doing()
            raise SourceError(f"{self.name}: can't {what}: {text}") from error

    # ------------------------------------------------------------------ on the drivers' loop

    def _connection(self) -> AsyncConnection:
        self._dialect.before_connect()
        if self._engine is None:
            self._engine = self._dialect.engine()
        return self._engine.connect()

    async def _open(self, reader: Reader) -> None:
        await reader.open(self._connection())

    async def _check(self) -> dict[str, str]:
        async with self._connection() as connection:
            details = await self._dialect.identity(connection)
        reader = Reader(self._dialect, self._tables, self._resolver, 1, Wanted(()))
        try:
            await reader.open(self._connection())
            await reader.touch()
        finally:
            await reader.close()
        return details

    async def _running(self) -> Running:
        async with self._connection() as connection:
            return await self._dialect.running(connection)

    async def _dispose(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None


def _dialect(url: str) -> Dialect:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError, TypeError, AttributeError):
        # Not chained: the parser's message may repeat the URL, and with it the password.
        raise ConfigError(
            "the database URL can't be parsed; write scheme://user:password@host/database"
        ) from None
    scheme = parsed.drivername.partition("+")[0]
    kind = _NAMES.get(scheme, scheme)
    if kind not in _DRIVERS:
        raise ConfigError(f"unknown database {scheme!r}: sqlite, postgresql, mysql and mariadb are known")
    if importlib.util.find_spec(_DRIVERS[kind]) is None:
        extra = _EXTRAS.get(kind)
        package = f"'s3-reference-manager[{extra}]'" if extra else _DRIVERS[kind]
        raise ConfigError(f"{scheme} needs {_DRIVERS[kind]}: pip install {package}")
    if kind == "sqlite":
        from s3gc.sources._sqlite import SqliteDialect

        return SqliteDialect(parsed)
    if kind == "postgresql":
        from s3gc.sources._postgres import PostgresDialect

        return PostgresDialect(parsed)
    from s3gc.sources._mysql import MysqlDialect

    return MysqlDialect(parsed)


def _blocked(waiting: Mapping[str, timedelta | None], timeout: timedelta) -> str:
    ages = [age for age in waiting.values() if age is not None]
    oldest = f"the oldest for {max(ages)}" if ages else "their age isn't visible to this user"
    prepared = sum(name.startswith("prepared ") for name in waiting)
    more = f", {prepared} of them prepared and not ended" if prepared else ""
    return f"after {timeout} {len(waiting)} transaction(s) that were open are open still{more}; {oldest}"


def _message(error: BaseException) -> str:
    """The driver's own words, without the statement."""
    inner: BaseException = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    inner = inner.__cause__ or inner
    return f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__
