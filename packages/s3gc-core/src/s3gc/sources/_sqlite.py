"""SQLite by aiosqlite."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite
from sqlalchemy import NullPool
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from s3gc.errors import ConfigError, SourceError
from s3gc.sources import _survey_sqlite
from s3gc.sources._dialect import (
    Dialect,
    Rows,
    Running,
    Survey,
    TableQuery,
    Target,
    TrackedTable,
    Trouble,
    driver_error,
    fetch,
    no_table,
)

_STEPS = 50_000  # of SQLite's machine, between two looks at the clock


class SqliteRows(Rows):
    """A cursor of aiosqlite: rows come as they are asked for."""

    def __init__(self, cursor: aiosqlite.Cursor) -> None:
        self._cursor = cursor

    async def fetch(self, count: int) -> Sequence[Sequence[Any]]:
        return list(await self._cursor.fetchmany(count))

    async def close(self) -> None:
        await self._cursor.close()


class SqliteDialect(Dialect):
    """A file. The writer lock is the fence: SQLite has one writer at a time.

    Positions have no ordinal: WAL mode and VACUUM INTO don't let the file's change counter grow for certain.
    """

    kind = "sqlite"

    def __init__(self, url: URL) -> None:
        database = url.database or ""
        if database in ("", ":memory:") or url.query.get("mode") == "memory":
            raise ConfigError("a SQLite source must be a file, such as sqlite:///app.db: memory isn't shared")
        unknown = set(url.query) - {"mode", "uri"}
        if unknown:
            raise ConfigError(f"unknown option {sorted(unknown)[0]!r} in the SQLite URL; known: mode, uri")
        self._mode = str(url.query.get("mode", "rw"))
        if self._mode not in ("ro", "rw"):
            raise ConfigError(f"mode={self._mode} in the SQLite URL: only ro and rw make sense for a source")
        self._path = Path(database.removeprefix("file:")).resolve()
        super().__init__(Target(display=f"sqlite:///{self._path}", secrets=()))

    def engine(self) -> AsyncEngine:
        return create_async_engine(
            "sqlite+aiosqlite://",
            async_creator=self._connect,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
        )

    async def _connect(self) -> aiosqlite.Connection:
        # Never mode=rwc: a missing file would become an empty database without any references.
        uri = f"file:{quote(str(self._path))}?mode={quote(self._mode)}"
        return await aiosqlite.connect(uri, uri=True, isolation_level=None)

    def before_connect(self) -> None:
        if not self._path.is_file():
            raise SourceError(f"there is no database file {self._path}")

    async def begin(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("BEGIN")

    async def query(self, connection: AsyncConnection, table: TrackedTable) -> TableQuery:
        *schema, name = table.parts
        master = self.quoted(*(schema or ["main"]), "sqlite_master")
        if schema and schema[0].lower() not in ("main", "temp"):
            raise SourceError(f"table {table.spec!r}: a SQLite file has no schema {schema[0]!r}")
        found = await fetch(connection, f"SELECT name FROM {master} WHERE type IN ('table', 'view')")
        existing = [str(row[0]) for row in found]
        # SQLite takes names without regard to ASCII case.
        real = next((e for e in existing if e == name), None) or next(
            (e for e in existing if e.lower() == name.lower()), None
        )
        if real is None:
            raise no_table(table, existing)
        info = await fetch(connection, "SELECT name, pk FROM pragma_table_xinfo(?)", real)
        by_case = {str(column).lower(): str(column) for column, _ in info}
        known = TrackedTable(
            table.spec, table.parts, tuple((spec, by_case.get(c.lower(), c)) for spec, c in table.columns)
        )
        columns = self.columns_in(known, list(by_case.values()))
        keys = [str(column) for column, order in sorted(info, key=lambda row: int(row[1])) if order]
        # Qualified, because SQLite takes an unknown "name" alone for a string.
        source = self.quoted(*schema, real)
        selected = ", ".join(f"t.{self.quoted(c)}" for c in (*keys, *columns))
        return TableQuery(table, f"SELECT {selected} FROM {source} AS t", len(keys))

    async def rows(self, connection: AsyncConnection, sql: str, *parameters: object) -> Rows:
        raw: aiosqlite.Connection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
        return SqliteRows(await raw.execute(sql))

    async def survey(self, connection: AsyncConnection, tables: Sequence[TrackedTable]) -> Survey:
        return await _survey_sqlite.survey(connection, tables, self.quoted)

    async def begin_look(self, connection: AsyncConnection, seconds: float) -> None:
        raw: aiosqlite.Connection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
        # SQLite doesn't check texts: one that isn't UTF-8 is no reason not to look at the others.
        raw.text_factory = lambda data: data.decode("utf-8", "replace")
        end = time.monotonic() + seconds
        await raw.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        await connection.exec_driver_sql("PRAGMA query_only = ON")
        await connection.exec_driver_sql("BEGIN")

    def trouble(self, error: BaseException) -> Trouble | None:
        own = driver_error(error)
        if int(getattr(own, "sqlite_errorcode", 0)) & 0xFF == sqlite3.SQLITE_INTERRUPT:
            return Trouble.SLOW
        missing = isinstance(own, sqlite3.OperationalError) and str(own).startswith("no such ")
        return Trouble.GONE if missing else None

    async def identity(self, connection: AsyncConnection) -> dict[str, str]:
        [(application_id,)] = await fetch(connection, "PRAGMA application_id")
        return {"path": str(self._path), "application_id": str(application_id)}

    async def running(self, connection: AsyncConnection) -> Running:
        position = datetime.now(UTC).isoformat()
        await connection.exec_driver_sql("PRAGMA busy_timeout = 50")
        try:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            # On a file that it can't write, SQLite begins a reading transaction instead and says nothing.
            # Writing what is there already tells; the rollback below takes it back.
            [(version,)] = await fetch(connection, "PRAGMA user_version")
            await connection.exec_driver_sql(f"PRAGMA user_version = {int(version)}")
        except OperationalError as error:
            code = int(getattr(error.orig, "sqlite_errorcode", 0))
            if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return Running(position, {"the writer": None})
            if code & 0xFF == sqlite3.SQLITE_READONLY:
                raise SourceError(
                    f"{self._path} is read-only: to know that no write is under way, s3gc takes the write "
                    "lock for a moment (and writes nothing), so the file and its folder must be writable"
                ) from error
            raise
        await connection.exec_driver_sql("ROLLBACK")
        return Running(position)
