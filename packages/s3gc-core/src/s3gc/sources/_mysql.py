"""MariaDB and MySQL by aiomysql."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import aiomysql  # type: ignore[import-untyped]
from sqlalchemy import NullPool
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from s3gc.errors import ConfigError, SourceError
from s3gc.sources import _survey_mysql
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

# Engines whose transactions innodb_trx lists, and engines without any, whose table locks order their work.
_ENGINES = frozenset({"innodb", "myisam", "aria", "memory"})
_ACCESS_DENIED = {1044, 1045, 1142, 1227, 1370}
_SYNTAX = 1064  # the server doesn't know this statement
_UNKNOWN_STATEMENT = {_SYNTAX, *_ACCESS_DENIED}
_TROUBLES = {
    1142: Trouble.DENIED,  # table
    1143: Trouble.DENIED,  # column
    1049: Trouble.GONE,  # database
    1054: Trouble.GONE,  # column
    1146: Trouble.GONE,  # table
    1969: Trouble.SLOW,  # MariaDB
    3024: Trouble.SLOW,  # MySQL
}
_TLS_FILES = ("ssl_ca", "ssl_cert", "ssl_key")
_LOCK_SECONDS = 5
_STALE_TRIES = 50
_STALE_SECONDS = 0.11  # InnoDB answers from a cache that it renews after 0.1 s without readers

_VARIABLES = """
read_only super_read_only server_uuid server_uid server_id wsrep_on max_statement_time max_execution_time
"""
_OPEN = """
SELECT trx_mysql_thread_id, CAST(trx_started AS CHAR), TIMESTAMPDIFF(SECOND, trx_started, NOW())
FROM information_schema.innodb_trx
"""


class MysqlRows(Rows):
    """An unbuffered cursor: rows stay on the server until they are asked for."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    async def fetch(self, count: int) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = await self._cursor.fetchmany(count)
        return rows

    async def close(self) -> None:
        await self._cursor.close()


class MysqlDialect(Dialect):
    """A primary server, read in one consistent snapshot."""

    kind = "mysql"
    quote = "`"

    def __init__(self, url: URL) -> None:
        query = {"charset": "utf8mb4", **url.query}
        self._tls = _tls(str(query.pop("ssl", query.pop("tls", ""))).lower())
        self._files = {name: str(query.pop(name)) for name in _TLS_FILES if name in query}
        self._url = url.set(drivername="mysql+aiomysql", query=query)
        where = URL.create("mysql", url.username, None, url.host, url.port, url.database)
        super().__init__(Target(display=str(where), secrets=[url.password] if url.password else []))

    def engine(self) -> AsyncEngine:
        return create_async_engine(
            self._url,
            connect_args=self._ssl(),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
        )

    def arguments(self) -> dict[str, Any]:
        """What ``aiomysql.connect`` takes for a connection like those of the engine."""
        _, arguments = self._url.get_dialect()().create_connect_args(self._url)
        return {**arguments, **self._ssl(), "autocommit": True}

    def _ssl(self) -> dict[str, Any]:
        if not (self._tls or self._files):
            return {}
        try:
            context = ssl.create_default_context(cafile=self._files.get("ssl_ca"))
            if "ssl_cert" in self._files:
                context.load_cert_chain(self._files["ssl_cert"], self._files.get("ssl_key"))
        except OSError as error:
            raise SourceError(f"a certificate of the database URL can't be read: {error}") from error
        return {"ssl": context}

    async def begin(self, connection: AsyncConnection) -> None:
        variables = await self._variables(connection)
        settings = ["net_write_timeout = 3600"]  # seconds; the reader of our batches may be slow
        settings += [
            f"{name} = 0" for name in ("max_statement_time", "max_execution_time") if name in variables
        ]
        await connection.exec_driver_sql("SET SESSION " + ", SESSION ".join(settings))
        await connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    async def query(self, connection: AsyncConnection, table: TrackedTable) -> TableQuery:
        if len(table.parts) == 2:
            schema = table.parts[0]
        else:
            [(schema,)] = await fetch(connection, "SELECT DATABASE()")
            if schema is None:
                raise SourceError("the URL names no database: end it with /name or write database.table")
        # The catalogue compares without regard to case; the names here don't.
        tables = await fetch(
            connection,
            "SELECT table_schema, table_name, table_type, engine FROM information_schema.tables "
            "WHERE table_schema = %s",
            schema,
        )
        real = [row for row in tables if row[0] == schema and row[1] == table.parts[-1]]
        if not real:
            raise no_table(table, [str(row[1]) for row in tables])
        [(_, name, kind, engine)] = real
        if kind != "VIEW" and str(engine).lower() not in _ENGINES:
            raise SourceError(
                f"table {table.spec!r} has the engine {engine}, whose transactions can't be waited for; "
                "known are InnoDB, MyISAM, Aria and MEMORY"
            )
        info = await fetch(
            connection,
            "SELECT column_name, data_type, table_name FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            schema,
            name,
        )
        types = {str(column): str(data_type).lower() for column, data_type, of in info if of == name}
        columns = self.columns_in(table, list(types))
        primary = await fetch(
            connection,
            "SELECT column_name, table_name FROM information_schema.key_column_usage WHERE table_schema = %s "
            "AND table_name = %s AND constraint_name = 'PRIMARY' ORDER BY ordinal_position",
            schema,
            name,
        )
        # The key of a system-versioned table has a hidden column; of rows as they are now it tells nothing.
        keys = [str(column) for column, of in primary if of == name and column in types]
        selected = ", ".join(f"t.{self.quoted(c)}" for c in (*keys, *columns))
        uuids = frozenset(number for number, c in enumerate(columns) if types[c] == "uuid")
        sql = f"SELECT {selected} FROM {self.quoted(str(schema), str(name))} AS t"
        return TableQuery(table, sql, len(keys), uuids)

    async def rows(self, connection: AsyncConnection, sql: str, *parameters: object) -> Rows:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        cursor = await raw.cursor(aiomysql.SSCursor)
        await cursor.execute(sql)
        return MysqlRows(cursor)

    async def identity(self, connection: AsyncConnection) -> dict[str, str]:
        variables = await self._variables(connection)
        _refuse(variables)
        for statement in ("SHOW ALL SLAVES STATUS", "SHOW REPLICA STATUS", "SHOW SLAVE STATUS"):
            try:
                rows = await fetch(connection, statement)
            except DBAPIError as error:
                if _code(error) not in _UNKNOWN_STATEMENT:
                    raise
                continue  # another server's spelling, or not visible to this user: read_only has to do
            if rows:
                raise SourceError("this server is a replica: references are read from the primary only")
        await self.running(connection)  # a missing privilege should show now, not at the first fence
        [(database, version)] = await fetch(connection, "SELECT DATABASE(), VERSION()")
        details = {"database": str(database), "server_version": str(version)}
        details |= {n: variables[n] for n in ("server_uuid", "server_uid", "server_id") if n in variables}
        return details

    async def running(self, connection: AsyncConnection) -> Running:
        _refuse(await self._variables(connection))
        [(position, us)] = await fetch(
            connection,
            "SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%%Y-%%m-%%dT%%H:%%i:%%s.%%f+00:00'), CONNECTION_ID()",
        )
        ordinal = await self._ordinal(connection)
        # Our own transaction, begun now on a connection that nobody has seen before, is the proof that the
        # list is complete and fresh: InnoDB's cache may be older, and a missing privilege may show nothing.
        await connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        for _ in range(_STALE_TRIES):
            try:
                rows = await fetch(connection, _OPEN)
            except DBAPIError as error:
                if _code(error) in _ACCESS_DENIED:
                    raise SourceError(
                        "open transactions aren't visible: GRANT PROCESS ON *.* TO the user of s3gc"
                    ) from error
                raise
            if any(thread == us for thread, _, _ in rows):
                break
            await asyncio.sleep(_STALE_SECONDS)
        else:
            raise SourceError(
                "innodb_trx doesn't show our own transaction, so it isn't to be trusted about others"
            )
        # After the open ones: a transaction that is being prepared goes from that list to this one.
        prepared = await self._prepared(connection)
        await connection.exec_driver_sql("ROLLBACK")
        return Running(
            str(position),
            {
                # Thread 0: prepared, and its connection is gone.
                f"{thread or 'prepared 0'} since {started}": timedelta(seconds=max(0, int(age or 0)))
                for thread, started, age in rows
                if thread != us
            },
            {f"prepared {name}": None for name in prepared},
            ordinal=ordinal,
        )

    async def _ordinal(self, connection: AsyncConnection) -> int | None:
        """Where the binary log stands; None if it is off or this user may not see it."""
        # MariaDB tells everybody. MySQL needs REPLICATION CLIENT, and 8.4 has another word for it.
        rows = await fetch(connection, "SHOW GLOBAL STATUS LIKE 'binlog_snapshot_%%'")
        status = {str(name).lower(): str(value) for name, value in rows}
        if status.get("binlog_snapshot_file"):
            return binlog_ordinal(status["binlog_snapshot_file"], status.get("binlog_snapshot_position"))
        for statement in ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"):
            try:
                shown = await fetch(connection, statement)
            except DBAPIError as error:
                if _code(error) not in _UNKNOWN_STATEMENT:
                    raise
                continue
            if shown:
                return binlog_ordinal(str(shown[0][0]), str(shown[0][1]))
        return None

    async def survey(self, connection: AsyncConnection, tables: Sequence[TrackedTable]) -> Survey:
        return await _survey_mysql.survey(connection, tables, self.quoted)

    async def begin_look(self, connection: AsyncConnection, seconds: float) -> None:
        variables = await self._variables(connection)
        settings = [f"lock_wait_timeout = {_LOCK_SECONDS}"]
        if "max_statement_time" in variables:
            settings.append(f"max_statement_time = {seconds}")
        if "max_execution_time" in variables:
            settings.append(f"max_execution_time = {int(seconds * 1000)}")
        await connection.exec_driver_sql("SET SESSION " + ", SESSION ".join(settings))
        await connection.exec_driver_sql("START TRANSACTION READ ONLY")

    def trouble(self, error: BaseException) -> Trouble | None:
        return _TROUBLES.get(_code(error))

    async def _prepared(self, connection: AsyncConnection) -> list[str]:
        try:
            rows = await fetch(connection, "XA RECOVER")
        except DBAPIError as error:
            if _code(error) in {
                1401,
                *_ACCESS_DENIED,
            }:  # 1401: XAER_RMERR, as MySQL 8 says it
                raise SourceError(
                    "prepared transactions aren't visible: GRANT XA_RECOVER_ADMIN ON *.* TO the user of s3gc"
                ) from error
            raise
        return [repr(row) for row in rows]

    async def _variables(self, connection: AsyncConnection) -> dict[str, str]:
        if self._tls or self._files:  # the driver goes on in plain text where the server has no TLS
            cipher = await fetch(connection, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
            if not (cipher and cipher[0][1]):
                raise SourceError("TLS was asked for, and the server doesn't offer it")
        listed = ", ".join(f"'{name}'" for name in _VARIABLES.split())
        rows = await fetch(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")
        return {str(name).lower(): str(value) for name, value in rows}


def binlog_ordinal(file: str | None, position: str | None) -> int | None:
    """A place in the binary log as a number that grows from file to file; None if there is no place."""
    number = (file or "").rpartition(".")[2]
    if not number.isdecimal() or not (position or "").isdecimal():
        return None
    # One transaction isn't split: a file may outgrow 4 GiB. Standing still is better than falling back.
    return (int(number) << 32) | min(int(position or 0), 0xFFFFFFFF)


def _tls(value: str) -> bool:
    if value in ("1", "true", "on", "yes", "required"):
        return True
    if value in ("", "0", "false", "off", "no", "disabled"):
        return False
    raise ConfigError(f"ssl={value} isn't understood in the database URL: write ssl=true, or ssl_ca=…")


def _refuse(variables: dict[str, str]) -> None:
    """Raise for a server where an open transaction may be on another server."""
    if any(
        variables.get(name, "OFF").upper() not in ("OFF", "0") for name in ("read_only", "super_read_only")
    ):
        raise SourceError(
            "this server is read-only, as replicas are: references are read from the primary only. "
            "If it is the primary, SET GLOBAL read_only = OFF"
        )
    if variables.get("wsrep_on", "OFF").upper() in ("ON", "1"):
        raise SourceError("this is a Galera cluster: transactions open on other nodes can't be waited for")


def _code(error: BaseException) -> int:
    arguments = getattr(driver_error(error), "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0
