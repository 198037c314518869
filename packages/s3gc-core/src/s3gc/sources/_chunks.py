"""How many rows to take at once, and a table taken so by its key: nothing keeps the database waiting."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from attrs import evolve

from s3gc.model import ScanBatch
from s3gc.resolver import Resolver
from s3gc.sources._batch import BatchReader
from s3gc.sources._dialect import TableQuery
from s3gc.sources._names import row_id

_FIRST_ROWS = 200
_CHUNK_BYTES = 16 * 1024 * 1024  # of values in one chunk, as far as the chunks before it tell
_SAMPLE = 64  # rows of a chunk that are measured


class ChunkSize:
    """Grows from few rows to ``most``, and stays small where rows are large."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = min(_FIRST_ROWS, most)

    def fit(self, rows: Sequence[Sequence[Any]]) -> None:
        """These were the last ones."""
        sample = rows[:: max(1, len(rows) // _SAMPLE)]
        size = sum(len(v) for row in sample for v in row if isinstance(v, str | bytes | list))
        fits = _CHUNK_BYTES * len(sample) // (size + 1)
        self.rows = max(1, min(self._most, 4 * self.rows, fits))


class ChunkReader(abc.ABC):
    """Reads one table in the order of its key, a chunk at a time, each in a statement of its own.

    What changes meanwhile is told by whoever follows changes from a position before the first chunk.
    """

    def __init__(
        self, query: TableQuery, resolver: Resolver, chunk_rows: int, last: Sequence[str] | None = None
    ) -> None:
        self._query = query
        self._size = ChunkSize(chunk_rows)
        self._batches = BatchReader(resolver, None)
        self.last = last
        """The key of the last row that was read, each value as in a row's id."""
        self.done = False
        """Whether the last row was read."""

    @abc.abstractmethod
    async def _rows(
        self, connection: Any, after: Sequence[str] | None, limit: int
    ) -> Sequence[Sequence[Any]]:
        """The first rows of the query whose key is greater than ``after``, in the order of the key."""

    async def next(self, connection: Any) -> ScanBatch:
        """The next chunk."""
        limit = self._size.rows
        rows = await self._rows(connection, self.last, limit)
        self.done = len(rows) < limit
        if rows:
            self.last = [row_id([value], 1) for value in rows[-1][: self._query.key_columns]]
            self._size.fit(rows)
        return evolve(self._batches.of(self._query, rows), rows=len(rows))
