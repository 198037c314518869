"""The columns that references stand in, by small numbers."""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection


class Columns:
    """Numbers of columns, remembered within a transaction or a scan."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str, bool], int] = {}
        self._tables: dict[tuple[str, str], list[tuple[str, int]]] = {}

    def clear(self) -> None:
        """Forget what is remembered; the database knows."""
        self._known.clear()
        self._tables.clear()

    def id_of(self, connection: Connection, source: str, table: str, column: str, folder: bool) -> int:
        """The number of a column (of keys or of folders), given to it if it has none."""
        name = (source, table, column, folder)
        number = self._known.get(name)
        if number is None:
            connection.execute(
                "INSERT OR IGNORE INTO columns (source, tbl, col, folder) VALUES (?, ?, ?, ?)", name
            )
            number = self._known[name] = int(
                connection.execute(
                    "SELECT id FROM columns WHERE source = ? AND tbl = ? AND col = ? AND folder = ?", name
                ).fetchone()[0]
            )
            self._tables.pop((source, table), None)
        return number

    def named(self, connection: Connection, source: str, table: str) -> Sequence[tuple[str, int]]:
        """All known columns of a table: (name, number)."""
        found = self._tables.get((source, table))
        if found is None:
            found = self._tables[source, table] = [
                (str(name), int(number))
                for name, number in connection.execute(
                    "SELECT col, id FROM columns WHERE source = ? AND tbl = ?", (source, table)
                )
            ]
        return found

    def of_table(self, connection: Connection, source: str, table: str) -> Sequence[int]:
        """The numbers of a table's columns."""
        return [number for _, number in self.named(connection, source, table)]
