"""PostgreSQL by asyncpg."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import NullPool
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from s3gc.errors import SourceError
from s3gc.resolver import Odd
from s3gc.sources import _survey_postgres
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
from s3gc.sources._postgres_text import NATIVE, NATIVE_KEYS, POSTGRES_TEXT, odd_value

_CONNECT_SECONDS = 30.0
_TEXTS = frozenset({"text", "varchar"})
_ORDER_KEPT = (
    "SELECT NOT EXISTS (SELECT FROM pg_database WHERE datname = current_database()"
    "  AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid))"
    " AND NOT EXISTS (SELECT FROM pg_collation c WHERE c.collprovider IN ('c', 'i')"
    "  AND c.oid IN (SELECT attcollation FROM pg_attribute WHERE attnum > 0)"
    "  AND c.collversion IS DISTINCT FROM pg_collation_actual_version(c.oid))"
)
_TROUBLES = {
    "42501": Trouble.DENIED,  # insufficient_privilege, also where row-level security would hide rows
    "42P01": Trouble.GONE,  # undefined_table
    "42703": Trouble.GONE,  # undefined_column
    "3F000": Trouble.GONE,  # invalid_schema_name
    "57014": Trouble.SLOW,  # query_canceled
}
_LOCK_SECONDS = 5
_REPLICA = "this server is a replica (in recovery): references are read from the primary only"

_LOOKUP = """
SELECT c.oid, c.relkind::text, EXISTS (
    WITH RECURSIVE tree AS (
        SELECT c.oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)
    SELECT 1 FROM tree JOIN pg_class p USING (oid) WHERE p.relkind = 'f')
FROM pg_class c WHERE c.oid = to_regclass($1::text)
"""
_COLUMNS = """
SELECT a.attname::text, t.typname::text, coalesce(array_position(i.indkey::int2[], a.attnum), -1)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_index i ON i.indrelid = a.attrelid
    AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
# Every open transaction, a reading one too, holds a lock on its own virtual id, which no later one gets.
# pg_locks shows it to every user, while pg_stat_activity hides others' xact_start without pg_read_all_stats.
# Left out: autovacuum (it has no user), WAL senders where that is visible, and other databases. A backend
# that isn't in pg_stat_activity has just begun or just ended; it counts.
_OPEN = """
SELECT l.virtualtransaction, extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
       l.pid = pg_backend_pid()
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid IS NOT NULL AND l.virtualxid = l.virtualtransaction
  AND (a.pid IS NULL OR (
       a.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND a.usesysid IS NOT NULL
       AND coalesce(a.backend_type, '') NOT IN ('walsender', 'autovacuum worker')))
"""
_PREPARED = """
SELECT transaction::text, extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts WHERE database = current_database()
"""


class PostgresRows(Rows):
    """A portal of asyncpg, read in large steps: its own prefetch of 50 rows is a third as fast."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    async def fetch(self, count: int) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = await self._cursor.fetch(count)
        return rows


async def _order_is_kept(connection: AsyncConnection) -> bool:
    """Whether texts are sorted as they were when the indexes were made, as far as the server knows.

    After an update of the C library or ICU an index on texts may find too few rows (PostgreSQL's
    documentation, ALTER COLLATION: notes). Servers before 15 don't know about the database's own order.
    """
    [(version,)] = await fetch(connection, "SELECT current_setting('server_version_num')::int")
    if version < 150_000:
        return False
    [(kept,)] = await fetch(connection, _ORDER_KEPT)
    return bool(kept)


class PostgresDialect(Dialect):
    """A primary server, read in one REPEATABLE READ transaction."""

    kind = "postgresql"

    def __init__(self, url: URL) -> None:
        query = dict(url.query)
        self._timeout = float(str(query.pop("connect_timeout", "") or _CONNECT_SECONDS))
        for libpq_only in ("channel_binding", "gssencmode", "keepalives"):
            query.pop(libpq_only, None)
        self._settings = {} if "application_name" in query else {"application_name": "s3gc"}
        self._url = url.set(drivername="postgresql", query=query)
        where = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
        super().__init__(Target(display=str(where), secrets=[url.password] if url.password else []))

    def engine(self) -> AsyncEngine:
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            connect_args={"prepared_statement_cache_size": 0},
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
        )

    async def _connect(self, **_: object) -> Any:
        return await asyncpg.connect(
            self._url.render_as_string(hide_password=False),
            timeout=self._timeout,
            statement_cache_size=0,  # a pooler may give the next transaction another server
            server_settings=self._settings or None,
        )

    async def begin(self, connection: AsyncConnection) -> None:
        for sql in (
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            "SET LOCAL row_security = off",  # a policy that would hide rows becomes an error
            "SET LOCAL statement_timeout = 0",
            "SET LOCAL idle_in_transaction_session_timeout = 0",
            "SET LOCAL plan_cache_mode = force_custom_plan",  # a generic plan compares with each key in turn
            *(f"SET LOCAL {name} = '{value}'" for name, value in POSTGRES_TEXT.items()),
        ):
            await connection.exec_driver_sql(sql)
        [(replica,)] = await fetch(connection, "SELECT pg_is_in_recovery()")
        if replica:  # it lags behind, and several hosts in a URL may change their roles
            raise SourceError(_REPLICA)
        if not await _order_is_kept(connection):
            for path in ("indexscan", "indexonlyscan", "bitmapscan"):
                await connection.exec_driver_sql(f"SET LOCAL enable_{path} = off")

    async def query(self, connection: AsyncConnection, table: TrackedTable) -> TableQuery:
        found = await fetch(connection, _LOOKUP, self.quoted(*table.parts))
        if not found:
            names = await fetch(
                connection,
                "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE relkind IN ('r', 'p', 'v') AND nspname NOT LIKE 'pg\\_%' "
                "AND nspname <> 'information_schema'",
            )
            raise no_table(table, [str(row[0]) for row in names])
        [(oid, kind, foreign)] = found
        if kind == "m":
            raise SourceError(
                f"{table.spec!r} is a materialized view, which may be out of date: track its tables"
            )
        if kind not in ("r", "p", "v") or foreign:
            raise SourceError(
                f"{table.spec!r} isn't an ordinary table or view, or has foreign partitions: "
                "transactions elsewhere can't be waited for. Make that server a source of its own"
            )
        info = await fetch(connection, _COLUMNS, oid)
        types = {str(name): str(type_name) for name, type_name, _ in info}
        columns = self.columns_in(table, list(types))
        keys = [str(name) for name, _, order in sorted(info, key=lambda row: int(row[2])) if order >= 0]
        selected = [self._key(c, types[c]) for c in keys]
        selected += [self._expression(c, types[c], NATIVE) for c in columns]
        sql = f"SELECT {', '.join(selected)} FROM {self.quoted(*table.parts)} AS t"
        plain = not table.folders and all(types[column] in _TEXTS for column in columns)
        texts = [f"t.{self.quoted(column)}" for column in columns] if plain else None
        return TableQuery(table, sql, len(keys), texts=texts)

    def _key(self, column: str, type_name: str) -> str:
        """Printed by the type's own output function, as change capture gets it: a cast may print otherwise
        (bool, inet, bpchar)."""
        name = f"t.{self.quoted(column)}"
        return name if type_name in NATIVE_KEYS else f"format('%s', {name})"

    def _expression(self, column: str, type_name: str, native: frozenset[str]) -> str:
        name = f"t.{self.quoted(column)}"
        return name if type_name in native else f"{name}::text"

    async def rows(self, connection: AsyncConnection, sql: str, *parameters: object) -> Rows:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        return PostgresRows(await raw.cursor(sql, *parameters))

    def narrowed(self, query: TableQuery, values: Collection[str], odd: Odd) -> tuple[str, Sequence[object]]:
        """Rows with one of these values, and all with a value of which nobody can say.

        :func:`~s3gc.sources._postgres_text.two_indexes` makes both quick to find.
        """
        if query.texts is None:
            return query.sql, ()
        either = [f"{name} = ANY ($1::text[]) OR {odd_value(name, odd)}" for name in query.texts]
        return f"{query.sql} WHERE {' OR '.join(either)}", (list(values),)

    async def identity(self, connection: AsyncConnection) -> dict[str, str]:
        [(replica, database, version, readable)] = await fetch(
            connection,
            "SELECT pg_is_in_recovery(), current_database()::text, current_setting('server_version'), "
            "has_function_privilege('pg_control_system()', 'execute')",
        )
        if replica:
            raise SourceError(_REPLICA)
        details = {"database": str(database), "server_version": str(version)}
        if readable:
            [(system,)] = await fetch(connection, "SELECT system_identifier::text FROM pg_control_system()")
            details["system_identifier"] = str(system)
        return details

    async def running(self, connection: AsyncConnection) -> Running:
        # A replica's locks say nothing of the primary's writers, and it has no position of its own.
        [(replica,)] = await fetch(connection, "SELECT pg_is_in_recovery()")
        if replica:
            raise SourceError(_REPLICA)
        # Fixed width, so that positions compare as texts.
        [(position,)] = await fetch(
            connection, "SELECT lpad(to_hex((pg_current_wal_insert_lsn() - '0/0')::int8), 16, '0')"
        )
        # Open before prepared: a transaction that is being prepared goes from the first list to the second.
        rows = await fetch(connection, _OPEN)
        prepared = await fetch(connection, _PREPARED)
        if not any(own for _, _, own in rows):
            raise SourceError(
                "pg_locks doesn't show our own transaction, so it isn't to be trusted about others'"
            )
        return Running(
            str(position),
            {str(name): _age(age) for name, age, own in rows if not own},
            {f"prepared {name}": _age(age) for name, age in prepared},
            ordinal=int(position, 16),
        )

    async def survey(self, connection: AsyncConnection, tables: Sequence[TrackedTable]) -> Survey:
        return await _survey_postgres.survey(connection, tables, self.quoted)

    async def begin_look(self, connection: AsyncConnection, seconds: float) -> None:
        # One state of all rows isn't needed: nothing is held back from vacuum between two statements.
        for sql in (
            "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
            "SET LOCAL row_security = off",
            f"SET LOCAL statement_timeout = {int(seconds * 1000)}",
            f"SET LOCAL lock_timeout = {int(_LOCK_SECONDS * 1000)}",
            "SET LOCAL idle_in_transaction_session_timeout = 0",
        ):
            await connection.exec_driver_sql(sql)

    def trouble(self, error: BaseException) -> Trouble | None:
        return _TROUBLES.get(str(getattr(driver_error(error), "sqlstate", "")))


def _age(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=max(0.0, seconds))
