"""References by source: staged by a scan, applied in one transaction together with the position."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from attrs import frozen
from sqlalchemy import Connection

from s3gc.model import Column, Position, Reference
from s3gc.registry._database import Database
from s3gc.registry._keys import key_hash


@frozen
class SourceState:
    """What the registry holds of one source."""

    position: str
    references: int
    references_good: int | None  # at the last cycle that no breaker held; None before the first


@frozen
class Resolved:
    """How many mentions of a column name an object that exists."""

    mentions: int
    resolved: int


class References:
    """The registry's rows: (source, table, row id, column) → key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._columns: dict[tuple[str, str, str], int] = {}

    async def begin(self) -> None:
        """Empty the stage."""

        def work(connection: Connection) -> None:
            connection.exec_driver_sql("DROP INDEX IF EXISTS scratch.staged")
            connection.exec_driver_sql("DELETE FROM scratch.stage")
            self._columns.clear()  # never trust ids of a transaction that may have been undone

        await self._database.run(work)

    async def stage(self, source: str, references: Sequence[Reference]) -> None:
        """Add references of a running scan; they count for nothing before :meth:`apply`."""

        def work(connection: Connection) -> None:
            known = self._columns
            rows = []
            for reference in references:
                name = (source, reference.table, reference.column)
                column = known.get(name)
                if column is None:
                    column = known[name] = self._column_id(connection, name)
                rows.append((column, reference.row_id, key_hash(reference.key)))
            connection.exec_driver_sql("INSERT INTO scratch.stage VALUES (?, ?, ?)", rows)

        if references:
            await self._database.run(work)

    @staticmethod
    def _column_id(connection: Connection, name: tuple[str, str, str]) -> int:
        connection.exec_driver_sql("INSERT OR IGNORE INTO columns (source, tbl, col) VALUES (?, ?, ?)", name)
        return int(
            connection.exec_driver_sql(
                "SELECT id FROM columns WHERE source = ? AND tbl = ? AND col = ?", name
            ).scalar_one()
        )

    async def apply(self, source: str, position: Position) -> None:
        """Make the staged rows the source's: delete what differs, insert what is new, note the position."""

        def work(connection: Connection) -> None:
            connection.exec_driver_sql("CREATE INDEX scratch.staged ON stage (col, row_id, key_hash)")
            connection.exec_driver_sql(
                "DELETE FROM refs WHERE col IN (SELECT id FROM columns WHERE source = ?) AND NOT EXISTS ("
                " SELECT 1 FROM scratch.stage s"
                " WHERE s.col = refs.col AND s.row_id = refs.row_id AND s.key_hash = refs.key_hash)",
                (source,),
            )
            connection.exec_driver_sql(
                "INSERT OR IGNORE INTO refs SELECT col, row_id, key_hash FROM scratch.stage"
                " ORDER BY col, row_id, key_hash"
            )
            connection.exec_driver_sql(
                "INSERT INTO sources (name, position) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET position = excluded.position",
                (source, position.value),
            )
            connection.exec_driver_sql("DROP INDEX scratch.staged")

        await self._database.run(work)

    async def forget_others(self, sources: Collection[str]) -> None:
        """Drop rows of sources that the configuration no longer has."""

        def work(connection: Connection) -> None:
            for (name,) in connection.exec_driver_sql(
                "SELECT name FROM sources UNION SELECT source FROM columns"
            ).fetchall():
                if name not in sources:
                    connection.exec_driver_sql(
                        "DELETE FROM refs WHERE col IN (SELECT id FROM columns WHERE source = ?)", (name,)
                    )
                    connection.exec_driver_sql("DELETE FROM columns WHERE source = ?", (name,))
                    connection.exec_driver_sql("DELETE FROM sources WHERE name = ?", (name,))
            self._columns.clear()

        await self._database.run(work)

    async def states(self) -> Mapping[str, SourceState]:
        """What is held of each source, counted now: there are no counters to drift."""

        def work(connection: Connection) -> dict[str, SourceState]:
            counted: dict[str, int] = dict(
                connection.exec_driver_sql(
                    "SELECT c.source, SUM((SELECT COUNT(*) FROM refs r WHERE r.col = c.id))"
                    " FROM columns c GROUP BY c.source"
                ).fetchall()
            )
            return {
                name: SourceState(position, counted.get(name) or 0, good)
                for name, position, good in connection.exec_driver_sql(
                    "SELECT name, position, references_good FROM sources"
                )
            }

        return await self._database.run(work)

    async def mark_good(self, counts: Mapping[str, int]) -> None:
        """Remember how many references each source had in a cycle that nothing held."""

        def work(connection: Connection) -> None:
            for name, count in counts.items():
                connection.exec_driver_sql(
                    "UPDATE sources SET references_good = ? WHERE name = ?", (count, name)
                )

        await self._database.run(work)

    async def resolved(self) -> Mapping[tuple[str, Column], Resolved]:
        """By source and column: of all mentions, those which name an object of the last listing."""

        def work(connection: Connection) -> dict[tuple[str, Column], Resolved]:
            return {
                (source, Column(table, column)): Resolved(mentions, resolved or 0)
                for source, table, column, mentions, resolved in connection.exec_driver_sql(
                    "SELECT c.source, c.tbl, c.col, COUNT(*), SUM(m.hit) FROM ("
                    " SELECT col, MAX(EXISTS (SELECT 1 FROM scratch.listing l WHERE l.key_hash = r.key_hash))"
                    " AS hit FROM refs r GROUP BY col, row_id) m JOIN columns c ON c.id = m.col GROUP BY c.id"
                )
            }

        return await self._database.run(work)

    async def count_of(self, key: str) -> int:
        """How many mentions of this key the registry holds: a count, never a counter."""
        value = key_hash(key)

        def work(connection: Connection) -> int:
            count = connection.exec_driver_sql("SELECT COUNT(*) FROM refs WHERE key_hash = ?", (value,))
            return int(count.scalar_one())

        return await self._database.run(work)
