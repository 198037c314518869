"""A look at columns that aren't tracked: could they hold references?"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve
from sqlalchemy.ext.asyncio import AsyncConnection

from s3gc.errors import SourceError
from s3gc.model import UntrackedColumn
from s3gc.resolver import Resolver
from s3gc.sources._dialect import BLANK, Dialect, LooseColumn, LooseTable, TrackedTable, Trouble

_ROUNDS = 3  # surveys; a table that went away between survey and look may be there under another name
_SECONDS = 30.0  # for the first rows of a table
_SEARCH_SECONDS = 5.0  # for the search of a column that seems to be empty: it may read the whole table
_MARGIN_SECONDS = 5.0  # for a server that doesn't end a statement in time
_TOGETHER = 8  # columns that one statement reads
_FIRST_ROWS = 10
_FETCH_BYTES = 1024 * 1024
_LOOK_BYTES = 1024 * 1024  # of values of one column in one pass
_LOOK_KEYS = 50_000  # of one column in one pass
_READINGS = 200  # single values of one column whose readings are told


class _Look:
    """What was seen of one column so far."""

    def __init__(self, column: LooseColumn) -> None:
        self.column = column
        self.keys: set[str] = set()
        self.readings: list[frozenset[str]] = []
        self.sampled = 0
        self._bytes = self._most_keys = 0

    def more(self) -> None:
        """Another pass begins: it may look at as much as the one before."""
        self._bytes = _LOOK_BYTES
        self._most_keys = len(self.keys) + _LOOK_KEYS

    @property
    def full(self) -> bool:
        return self._bytes <= 0 or len(self.keys) >= self._most_keys

    def at(self, value: Any, resolve: Callable[[object], frozenset[str]]) -> None:
        if value is None or self.full or (value in BLANK if isinstance(value, str) else value in (b"", [])):
            return
        self._bytes -= _size(value)
        self.sampled += 1
        keys = resolve(uuid.UUID(value) if self.column.is_uuid else value)
        self.keys |= keys
        if len(self.readings) < _READINGS and keys:
            self.readings.append(keys)


class Coverage:
    """Looks at one table after another. All methods run on the drivers' loop; ``close`` always must.

    Each pass over a table is a transaction of its own, so that no lock on a table outlives its look.
    """

    def __init__(
        self,
        dialect: Dialect,
        tables: Sequence[TrackedTable],
        resolver: Resolver,
        sample: int,
        connect: Callable[[], AsyncConnection],
    ) -> None:
        self._dialect = dialect
        self._tables = tables
        self._resolve = resolver.keys
        self._half = max(1, -(-sample // 2))
        self._connect = connect
        self._connection: AsyncConnection | None = None
        self._queue: deque[LooseTable] = deque()
        self._told: set[tuple[str, str]] = set()
        self._rounds = 0
        self._gone: list[str] = []
        self._at = ""
        self.hidden: dict[str, None] = {}
        """Columns that could not be looked at because this user may not read them."""
        self.slow: dict[str, None] = {}
        """Tables and columns whose look ended early."""

    def doing(self) -> str:
        """What is being done, for a message."""
        return f"look for untracked columns in {self._at}" if self._at else "look for untracked columns"

    async def next(self) -> list[UntrackedColumn] | None:
        """The loose columns of the next table, or None after the last."""
        while True:
            if not self._queue and not await self._survey():
                return None
            if self._queue:
                table = self._queue.popleft()
                self._at = table.spec
                found = await self._table(table)
                if found:
                    return found

    async def close(self) -> None:
        """End the transaction and the connection, whatever state they are in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()

    async def _survey(self) -> bool:
        """Ask the catalogue, again when a table had gone; False when all that it names was looked at."""
        if self._rounds and not self._gone:
            return False
        if self._rounds == _ROUNDS:
            raise SourceError(f"tables come and go while they are looked at: {', '.join(self._gone)}")
        self._rounds += 1
        self._gone = []
        self._at = ""
        connection = await self._open()
        await self._dialect.begin_look(connection, _SECONDS)
        survey = await self._dialect.survey(connection, self._tables)
        await connection.exec_driver_sql("ROLLBACK")
        self.hidden |= dict.fromkeys(survey.hidden)
        for table in survey.tables:
            fresh = [column for column in table.columns if (table.spec, column.name) not in self._told]
            if fresh:
                self._queue.append(evolve(table, columns=fresh))
        return True

    async def _table(self, table: LooseTable) -> list[UntrackedColumn]:
        looks = [_Look(column) for column in table.columns]
        for at in range(0, len(looks), _TOGETHER):
            trouble = await self._sample(table, looks[at : at + _TOGETHER])
            if trouble is Trouble.GONE:
                self._gone.append(table.spec)
                return []
            if trouble is Trouble.DENIED:
                self.hidden |= dict.fromkeys(f"{table.spec}.{column.name}" for column in table.columns)
                return []
        self._told.update((table.spec, column.name) for column in table.columns)
        return [
            UntrackedColumn(
                table.spec, look.column.name, look.column.type, look.keys, look.sampled, look.readings
            )
            for look in looks
        ]

    async def _sample(self, table: LooseTable, looks: Sequence[_Look]) -> Trouble | None:
        """The newest rows, the first rows, and a search for values where these had few."""
        seen: set[tuple[Any, ...]] = set()
        if table.newest:
            ended, trouble = await self._pass(table, looks, table.newest, _SECONDS, seen)
            if trouble is Trouble.SLOW:
                self.slow[table.spec] = None  # the first rows need no sorting
            elif trouble is not None or ended:
                return trouble
        ended, trouble = await self._pass(table, looks, "", _SECONDS, seen)
        if trouble is Trouble.SLOW:
            raise SourceError(
                f"table {table.spec!r} doesn't give its first rows within {_SECONDS:.0f} seconds"
            )
        if trouble is not None or ended:
            return trouble
        for look in looks:
            if look.sampled <= self._half // 5 and not look.full:
                where = f"WHERE {look.column.filled}"
                _, trouble = await self._pass(table, [look], where, _SEARCH_SECONDS, set(seen))
                if trouble is Trouble.SLOW:
                    self.slow[f"{table.spec}.{look.column.name}"] = None
                elif trouble is not None:
                    return trouble
        return None

    async def _pass(
        self,
        table: LooseTable,
        looks: Sequence[_Look],
        clause: str,
        seconds: float,
        seen: set[tuple[Any, ...]],
    ) -> tuple[bool, Trouble | None]:
        """One statement's rows. Returns whether these were all rows, and what went wrong."""
        selected = ", ".join([*table.key, *(look.column.value for look in looks)])
        sql = f"SELECT {selected} FROM {table.source} {clause} LIMIT {self._half}"
        for look in looks:
            look.more()
        try:
            async with asyncio.timeout(seconds + _MARGIN_SECONDS):
                return await self._read(sql, seconds, len(table.key), looks, seen) < self._half, None
        except Exception as error:
            trouble = Trouble.SLOW if isinstance(error, TimeoutError) else self._dialect.trouble(error)
            if trouble is None:
                raise
            await self.close()
            return False, trouble

    async def _read(
        self, sql: str, seconds: float, width: int, looks: Sequence[_Look], seen: set[tuple[Any, ...]]
    ) -> int:
        connection = await self._open()
        await self._dialect.begin_look(connection, seconds)
        rows = await self._dialect.rows(connection, sql)
        total, count = 0, _FIRST_ROWS
        while batch := await rows.fetch(count):
            total += len(batch)
            for row in batch:
                identity = tuple(row[:width])
                if width and identity in seen:
                    continue
                seen.add(identity)
                for number, look in enumerate(looks, width):
                    look.at(row[number], self._resolve)
            if all(look.full for look in looks):
                total = self._half  # there may be more
                break
            size = sum(_size(value) for row in batch for value in row)
            count = max(1, min(4 * count, _FETCH_BYTES * len(batch) // (size + 1)))
        await rows.close()
        await connection.exec_driver_sql("ROLLBACK")
        return total

    async def _open(self) -> AsyncConnection:
        if self._connection is None:
            self._connection = await self._connect().start()
        return self._connection


def _size(value: object) -> int:
    return len(value) if isinstance(value, (str, bytes)) else 16
