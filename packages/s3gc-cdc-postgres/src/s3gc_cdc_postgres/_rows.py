"""Rows read by their key: the scan in chunks, and rows that must be read again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from s3gc.model import Reference
from s3gc.resolver import Resolver
from s3gc.sources.capture import BatchReader, ChunkReader, TableQuery, row_id
from s3gc_cdc_postgres._assemble import Again
from s3gc_cdc_postgres.catalogue import ColumnInfo, TableInfo, quoted

# Types of the core's NATIVE and NATIVE_KEYS, by number.
_TEXTS = {25, 1043, 2950, 17}  # text, varchar, uuid, bytea
_NATIVE = _TEXTS | {1042, 19, 1009, 1015, 1014, 1003, 2951, 1001}
_NATIVE_KEYS = _TEXTS | {21, 23, 20}

_TOGETHER = 1_000  # rows that one statement reads again
_POLL_SECONDS = 0.02


class TableReader(ChunkReader):
    """Reads one table by its key."""

    def __init__(
        self, table: TableInfo, resolver: Resolver, chunk_rows: int, last: Sequence[str] | None = None
    ) -> None:
        query = TableQuery(table.tracked, _select(table), len(table.key))
        super().__init__(query, resolver, chunk_rows, last)
        self._table = table

    async def _rows(
        self, connection: Any, after: Sequence[str] | None, limit: int
    ) -> Sequence[Sequence[Any]]:
        keys = ", ".join(f"t.{quoted(column.name)}" for column in self._table.key)
        where = "" if after is None else f"WHERE ({keys}) > ({_parameters(self._table.key)}) "
        sql = f"{self._query.sql} {where}ORDER BY {keys} LIMIT {limit}"
        rows: Sequence[Sequence[Any]] = await connection.fetch(sql, *(after or ()))
        return rows


async def read_again(
    connection: Any, table: TableInfo, rows: Sequence[Again], resolver: Resolver, timeout: float
) -> dict[str, list[Reference]]:
    """What rows name now, by row id, in a view that sees the transactions that spoke of them.

    Raises:
        SourceError: a transaction didn't become visible in time.
    """
    batches = BatchReader(resolver, None)
    width = len(table.key)
    query = TableQuery(table.tracked, _select(table), width)
    keys = ", ".join(f"t.{quoted(column.name)}" for column in table.key)
    found: dict[str, list[Reference]] = {}
    await _visible(connection, {row.xid for row in rows}, timeout)
    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        columns = [[row.key[number] for row in some] for number in range(width)]
        arrays = ", ".join(f"${number + 1}::text[]" for number in range(width))
        names = ", ".join(f"k{number}" for number in range(width))
        casts = ", ".join(f"u.k{number}::{column.type}" for number, column in enumerate(table.key))
        sql = f"{query.sql} JOIN unnest({arrays}) AS u ({names}) ON ({keys}) = ({casts})"
        got = await connection.fetch(sql, *columns)
        for row in got:
            found[row_id(row, width)] = []
        for reference in batches.of(query, got).references:
            found[reference.row_id].append(reference)
    return found


async def _visible(connection: Any, xids: set[int], timeout: float) -> None:
    """Wait until transactions whose commits were streamed are visible: they become so a moment later."""
    async with asyncio.timeout(timeout):
        while True:
            text = await connection.fetchval("SELECT pg_current_snapshot()::text")
            if all(visible(text, xid) for xid in xids):
                return
            await asyncio.sleep(_POLL_SECONDS)


def visible(snapshot: str, xid: int) -> bool:
    """Whether a snapshot (``xmin:xmax:xip,…``) sees a committed transaction, given by its low 32 bits."""
    xmin, xmax, running = snapshot.split(":")
    top = int(xmax)
    full = (top & ~0xFFFFFFFF) | xid
    if full > top + 0x7FFFFFFF:
        full -= 1 << 32
    elif full < top - 0x7FFFFFFF:
        full += 1 << 32
    if full < int(xmin):
        return True
    return full < top and str(full) not in running.split(",")


def _select(table: TableInfo) -> str:
    selected = [_printed(column, _NATIVE_KEYS, "format('%s', {})") for column in table.key]
    selected += [_printed(column, _NATIVE, "{}::text") for column in table.columns]
    return f"SELECT {', '.join(selected)} FROM {quoted(table.schema, table.name)} AS t"


def _printed(column: ColumnInfo, native: set[int], form: str) -> str:
    name = f"t.{quoted(column.name)}"
    return name if column.type_oid in native else form.format(name)


def _parameters(key: Sequence[ColumnInfo]) -> str:
    return ", ".join(f"${number}::text::{column.type}" for number, column in enumerate(key, 1))
