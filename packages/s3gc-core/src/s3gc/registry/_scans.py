"""Scans that can be cut off and go on: what was read so far stands here, with the place to go on from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import TYPE_CHECKING

from attrs import frozen

from s3gc._json import dumps
from s3gc.model import Column, ColumnCount, Position, ScanBatch
from s3gc.registry._columns import Columns
from s3gc.registry._keys import hash_of
from s3gc.registry._times import micros, moment

if TYPE_CHECKING:
    from s3gc.registry._database import Database

SCHEMA = """
-- a scan under way: since which position, and where it goes on
CREATE TABLE IF NOT EXISTS scans (
  source TEXT PRIMARY KEY, position TEXT NOT NULL, ordinal INTEGER, synced INTEGER NOT NULL,
  mark TEXT NOT NULL, rows INTEGER NOT NULL, counts TEXT NOT NULL) WITHOUT ROWID;
-- what it has read: nothing believes it before the scan is whole
CREATE TABLE IF NOT EXISTS scanned (
  col INTEGER NOT NULL, row_id TEXT NOT NULL, key_hash INTEGER NOT NULL,
  PRIMARY KEY (col, row_id, key_hash)) WITHOUT ROWID;
"""


@frozen
class CutOff:
    """A scan that was begun and isn't whole."""

    position: Position
    synced: datetime  # before the position was taken
    mark: str
    rows: int
    counts: Mapping[Column, ColumnCount]


class Scans:
    """Scans of sources that can go on with them. Each batch is written with its mark in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._columns = Columns()

    async def cut_off(self, source: str) -> CutOff | None:
        """The scan that was begun last, unless it is whole."""

        def work(connection: Connection) -> CutOff | None:
            row = connection.execute(
                "SELECT position, ordinal, synced, mark, rows, counts FROM scans WHERE source = ?", (source,)
            ).fetchone()
            if row is None:
                return None
            position, ordinal, synced, mark, rows, counts = row
            return CutOff(
                Position(source, position, ordinal),
                moment(synced),
                mark,
                rows,
                {Column(table, name): ColumnCount(*two) for table, name, *two in json.loads(counts)},
            )

        return await self._database.run(work)

    async def begin(self, source: str, position: Position, synced: datetime) -> None:
        """A scan begins; what another one had read is forgotten."""

        def work(connection: Connection) -> None:
            forget(connection, source)
            self._columns.clear()
            connection.execute(
                "INSERT INTO scans VALUES (?, ?, ?, ?, '', 0, '[]')",
                (source, position.value, position.ordinal, micros(synced)),
            )

        await self._database.run(work, writes=True)

    async def add(self, source: str, batch: ScanBatch, counts: Mapping[Column, ColumnCount]) -> None:
        """A batch, and all that was counted up to its end."""

        def work(connection: Connection) -> None:
            self._columns.clear()  # never trust ids of a transaction that may have been undone
            rows = _rows(connection, self._columns, source, batch)
            connection.executemany("INSERT OR IGNORE INTO scanned VALUES (?, ?, ?)", rows)
            connection.execute(
                "UPDATE scans SET mark = ?, rows = rows + ?, counts = ? WHERE source = ?",
                (
                    batch.mark,
                    batch.rows,
                    dumps([(c.table, c.column, n.rows, n.values) for c, n in counts.items()]),
                    source,
                ),
            )

        await self._database.run(work, writes=True)


def _rows(
    connection: Connection, columns: Columns, source: str, batch: ScanBatch
) -> Sequence[tuple[int, str, int]]:
    return [
        (columns.id_of(connection, source, one.table, one.column, one.prefix), one.row_id, hash_of(one))
        for one in batch.references
    ]


def forget(connection: Connection, source: str) -> None:
    """Its scan under way counts for nothing."""
    connection.execute(
        "DELETE FROM scanned WHERE col IN (SELECT id FROM columns WHERE source = ?)", (source,)
    )
    connection.execute("DELETE FROM scans WHERE source = ?", (source,))
