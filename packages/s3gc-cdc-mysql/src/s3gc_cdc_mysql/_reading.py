"""Rows read by their key: the scan in chunks, and rows that must be read again."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from s3gc.model import Reference
from s3gc.resolver import Resolver
from s3gc.sources.capture import BatchReader, ChunkReader, TableQuery, row_id
from s3gc_cdc_mysql._assemble import Again
from s3gc_cdc_mysql.catalogue import ColumnInfo, TableInfo, quoted
from s3gc_cdc_mysql.flavour import fetch

_TOGETHER = 500  # rows that one statement reads again
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "year"})
_BINARIES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})


class TableReader(ChunkReader):
    """Reads one table by its key."""

    def __init__(
        self, table: TableInfo, resolver: Resolver, chunk_rows: int, last: Sequence[str] | None = None
    ) -> None:
        super().__init__(_query(table), resolver, chunk_rows, last)
        self._table = table
        self._keys = [f"t.{quoted(column.name)}" for column in table.key]

    async def _rows(
        self, connection: Any, after: Sequence[str] | None, limit: int
    ) -> Sequence[Sequence[Any]]:
        # Written out, for the server finds no range for a comparison of tuples.
        where = ""
        parameters: list[Any] = []
        if after is not None:
            steps = []
            values = [_typed(column, text) for column, text in zip(self._table.key, after, strict=True)]
            for at in range(len(self._keys)):
                signs = [*("=" for _ in range(at)), ">"]
                parts = zip(self._keys[: at + 1], signs, values, strict=False)
                steps.append(f"({' AND '.join(_compared(*part, parameters) for part in parts)})")
            where = f"WHERE {' OR '.join(steps)} "
        order = _escaped(", ".join(self._keys))
        sql = f"{_escaped(self._query.sql)} {where}ORDER BY {order} LIMIT {limit}"
        return await fetch(connection, sql, *parameters)


async def read_again(
    connection: Any, table: TableInfo, rows: Sequence[Again], resolver: Resolver
) -> dict[str, list[Reference]]:
    """What rows name now, by row id, in a view that sees the transactions that spoke of them."""
    batches = BatchReader(resolver, None)
    query = _query(table)
    width = len(table.key)
    keys = [f"t.{quoted(column.name)}" for column in table.key]
    found: dict[str, list[Reference]] = {}
    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        parameters: list[Any] = []
        any_of = [
            " AND ".join(
                _compared(key, "=", value, parameters) for key, value in zip(keys, row.key, strict=True)
            )
            for row in some
        ]
        sql = f"{_escaped(query.sql)} WHERE {' OR '.join(f'({one})' for one in any_of)}"
        got = await fetch(connection, sql, *parameters)
        for read in got:
            found[row_id(read, width)] = []
        for reference in batches.of(query, got).references:
            found[reference.row_id].append(reference)
    return found


def _query(table: TableInfo) -> TableQuery:
    selected = ", ".join(f"t.{quoted(column.name)}" for column in (*table.key, *table.columns))
    sql = f"SELECT {selected} FROM {quoted(table.database, table.name)} AS t"
    return TableQuery(table.tracked, sql, len(table.key))


def _typed(column: ColumnInfo, text: str) -> Any:
    """A value of a key from a row's id. (Compared with a text, a number would become an inexact one.)"""
    if column.data_type in _INTEGERS:
        return int(text)
    if column.data_type == "decimal":
        return Decimal(text)
    if column.data_type in _BINARIES:
        return bytes.fromhex(text.removeprefix("\\x"))
    return text


def _compared(key: str, sign: str, value: Any, parameters: list[Any]) -> str:
    if isinstance(value, bytes):  # aiomysql can't write them
        return f"{_escaped(key)} {sign} X'{value.hex()}'"
    parameters.append(value)
    return f"{_escaped(key)} {sign} %s"


def _escaped(sql: str) -> str:
    """As part of a statement with parameters."""
    return sql.replace("%", "%%")
