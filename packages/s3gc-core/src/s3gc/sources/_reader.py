"""One pass over all tracked tables in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from s3gc.abc import Wanted
from s3gc.model import ScanBatch
from s3gc.resolver import Resolver
from s3gc.sources._batch import BatchReader
from s3gc.sources._chunks import ChunkSize
from s3gc.sources._dialect import Dialect, Rows, TableQuery, TrackedTable

_CLOSE_SECONDS = 5.0


class Reader:
    """Reads batch after batch. All methods run on the drivers' loop; ``close`` always must.

    ``wanted`` limits the references to those that protect these keys; None means all.
    """

    def __init__(
        self,
        dialect: Dialect,
        tables: Sequence[TrackedTable],
        resolver: Resolver,
        batch_rows: int,
        wanted: Wanted | None,
    ) -> None:
        self._dialect = dialect
        self._tables = tables
        self._batches = BatchReader(resolver, wanted)
        self._wanted = wanted
        self._values = [] if wanted is None else resolver.plain_values(wanted.keys)
        self._resolver = resolver
        self._batch_rows = batch_rows
        self._connection: AsyncConnection | None = None
        self._queries: list[TableQuery] = []
        self._rows: Rows | None = None
        self._size = ChunkSize(batch_rows)

    async def open(self, connection: AsyncConnection) -> None:
        """Begin the transaction and look up every table in it."""
        self._connection = await connection.start()
        await self._dialect.begin(connection)
        self._queries = [await self._dialect.query(connection, table) for table in self._tables]

    async def touch(self) -> None:
        """Read at most one row of each table: proof that this user may."""
        assert self._connection is not None
        for query in self._queries:
            rows = await self._dialect.rows(self._connection, query.sql + " LIMIT 1")
            while await rows.fetch(1):
                pass
            await rows.close()

    async def next(self) -> ScanBatch | None:
        """The next batch, or None after the last row of the last table."""
        while self._queries:
            assert self._connection is not None
            query = self._queries[0]
            fresh = self._rows is None
            if self._rows is None:
                sql: str = query.sql
                parameters: Sequence[object] = ()
                if self._wanted is not None:
                    sql, parameters = self._dialect.narrowed(query, self._values, self._resolver.odd)
                self._rows = await self._dialect.rows(self._connection, sql, *parameters)
                self._size = ChunkSize(self._batch_rows)
            rows = await self._rows.fetch(self._size.rows)
            if rows:
                self._size.fit(rows)
                return self._batches.of(query, rows)
            await self._rows.close()
            self._rows = None
            self._queries.pop(0)
            if fresh:
                return self._batches.of(query, rows)
        return None

    async def close(self) -> None:
        """End the transaction and the connection, whatever state they are in."""
        connection, self._connection, self._rows = self._connection, None, None
        if connection is not None:
            # A cursor may be half read: throwing the connection away is quicker than reading to its end.
            # Bounded: aiosqlite waits for ever for a thread of its own that has ended meanwhile.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await connection.invalidate()
                    await connection.close()
