"""All that differs between MariaDB and MySQL, besides the events of their logs.

Only MariaDB (10.11) is tested on a real server. What MySQL's class does was written from its manual, and the
parts of it that MariaDB can run are tested there.
"""

from __future__ import annotations

import abc
import asyncio
import time
from typing import Any, ClassVar

import pymysql  # type: ignore[import-untyped]
from attrs import frozen

from s3gc.errors import SourceError
from s3gc_cdc_mysql.position import Gtids, LogPlace, MariadbGtids, MysqlGtids

_DENIED = {1044, 1045, 1142, 1227, 1370, 1109}
_UNKNOWN = {1064, *_DENIED}
_POLL_SECONDS = 0.02
_STALE_SECONDS = 0.11  # InnoDB answers from a cache that it renews after 0.1 s without readers
_CASCADE, _NULL, _UPDATE_CASCADE, _UPDATE_NULL = 1, 2, 4, 8  # TYPE of InnoDB's foreign keys

# InnoDB has names as they are in the file system: database/table, and a partition's after #P#.
_DECODED = "CONVERT(CONVERT(CAST({} AS BINARY) USING filename) USING utf8mb4)"
_DATABASE = _DECODED.format("SUBSTRING_INDEX({0}, '/', 1)")
_TABLE = _DECODED.format(
    "SUBSTRING_INDEX(SUBSTRING_INDEX(SUBSTRING_INDEX({0}, '/', -1), '#P#', 1), '#p#', 1)"
)
# Transactions that have written; one that only reads has no number of its own.
_OPEN = """
SELECT CAST(trx_id AS CHAR) FROM information_schema.innodb_trx
WHERE trx_mysql_thread_id <> CONNECTION_ID() AND trx_id > 0 AND trx_id < 281474976710656
"""


@frozen
class ForeignKey:
    """What happens to rows of one table with those of another. Names are (database, table)."""

    child: tuple[str, str]
    parent: tuple[str, str]
    columns: tuple[tuple[str, str], ...]  # of the child, of the parent
    deletes: bool  # the child's row goes with the parent's
    nulls: bool  # the child's columns become NULL when the parent's row goes
    updates: bool  # the child's columns follow the parent's, or become NULL


async def fetch(connection: Any, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """All rows of a small query."""
    async with connection.cursor() as cursor:
        await cursor.execute(sql, parameters)  # a sign of percent is written twice
        return [tuple(row) for row in await cursor.fetchall()]


def code_of(error: BaseException) -> int:
    """The server's number of an error; 0 if it isn't the server's."""
    arguments = getattr(error, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


class Flavour(abc.ABC):
    """One of the two kinds of servers."""

    name: ClassVar[str]
    foreign_table: ClassVar[str]
    foreign_columns: ClassVar[str]
    storage_table: ClassVar[str]
    grant: ClassVar[str]
    """The privileges that following needs, besides SELECT on the tracked tables."""

    @abc.abstractmethod
    async def gtids(self, connection: Any) -> Gtids:
        """What is in the log now."""

    @abc.abstractmethod
    async def settled(self, connection: Any, timeout: float) -> LogPlace:
        """A place in the log up to which all transactions are visible to statements that begin after this.

        ``SHOW MASTER STATUS`` tells more: a transaction is in the log a moment before others see it.

        Raises:
            SourceError: they didn't become visible within ``timeout`` seconds.
        """

    @abc.abstractmethod
    async def visible(self, connection: Any, place: LogPlace, timeout: float) -> None:
        """Wait until all that lies before a place of the log is visible.

        Raises:
            SourceError: it didn't become so within ``timeout`` seconds.
        """

    @abc.abstractmethod
    async def prepare(self, connection: Any) -> None:
        """Make a connection read as the direct read does, for as long as it takes."""

    async def end(self, connection: Any) -> LogPlace:
        """The end of the log. All that any transaction before this could see lies before it.

        Raises:
            SourceError: this user may not see it, or there is no log.
        """
        denied: Exception | None = None
        for statement in ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"):
            try:
                rows = await fetch(connection, statement)
            except pymysql.err.MySQLError as error:
                if code_of(error) not in _UNKNOWN:
                    raise
                denied = error if code_of(error) in _DENIED else denied
                continue
            if rows:
                return LogPlace(str(rows[0][0]), int(rows[0][1]))
        if denied is not None:
            raise SourceError(f"this user may not see the binary log: {self.grant} ({denied.args[1]})")
        raise SourceError("the server keeps no binary log (log_bin is off)")

    async def logs(self, connection: Any) -> list[tuple[str, int]]:
        """The files of the log and their sizes; none if this user may not see them."""
        try:
            return [(str(row[0]), int(row[1])) for row in await fetch(connection, "SHOW BINARY LOGS")]
        except pymysql.err.MySQLError as error:
            if code_of(error) in {*_DENIED, 1381}:  # 1381: there is no log
                return []
            raise

    async def foreign_keys(self, connection: Any) -> list[ForeignKey]:
        """All foreign keys of the server that do something, whoever may see their tables."""
        rows = await self._catalogue(
            connection,
            f"SELECT f.ID, {_DATABASE.format('f.FOR_NAME')}, {_TABLE.format('f.FOR_NAME')}, "
            f"{_DATABASE.format('f.REF_NAME')}, {_TABLE.format('f.REF_NAME')}, "
            "f.TYPE, c.FOR_COL_NAME, c.REF_COL_NAME "
            f"FROM information_schema.{self.foreign_table} f "
            f"JOIN information_schema.{self.foreign_columns} c ON c.ID = f.ID "
            "WHERE f.TYPE & 15 ORDER BY f.ID, c.POS",
        )
        found: dict[str, tuple[tuple[str, str], tuple[str, str], int, list[tuple[str, str]]]] = {}
        for id, database, table, to_database, to_table, kind, column, referenced in rows:
            names = (str(database), str(table)), (str(to_database), str(to_table))
            entry = found.setdefault(str(id), (*names, int(kind), []))
            entry[3].append((str(column), str(referenced)))
        return [
            ForeignKey(
                child, parent, tuple(columns),
                bool(kind & _CASCADE), bool(kind & _NULL), bool(kind & (_UPDATE_CASCADE | _UPDATE_NULL)),
            )
            for child, parent, kind, columns in found.values()
        ]  # fmt: skip

    async def storage(self, connection: Any) -> dict[tuple[str, str], list[int]]:
        """The numbers of all tables in InnoDB, partitions with their table: a rebuilt one gets another."""
        found: dict[tuple[str, str], list[int]] = {}
        rows = await self._catalogue(
            connection,
            f"SELECT {_DATABASE.format('NAME')}, {_TABLE.format('NAME')}, TABLE_ID "
            f"FROM information_schema.{self.storage_table} WHERE NAME LIKE '%%/%%' ORDER BY TABLE_ID",
        )
        for database, table, number in rows:
            found.setdefault((str(database), str(table)), []).append(int(number))
        return found

    async def _catalogue(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        try:
            return await fetch(connection, sql)
        except pymysql.err.MySQLError as error:
            if code_of(error) in _DENIED:
                raise SourceError(
                    "InnoDB's catalogue isn't visible: GRANT PROCESS ON *.* TO the user of s3gc"
                ) from error
            raise


class MariaDb(Flavour):
    """MariaDB 10.5 and later."""

    name = "MariaDB"
    foreign_table = "INNODB_SYS_FOREIGN"
    foreign_columns = "INNODB_SYS_FOREIGN_COLS"
    storage_table = "INNODB_SYS_TABLES"
    grant = "GRANT REPLICATION SLAVE, BINLOG MONITOR, PROCESS ON *.* TO the user of s3gc"

    async def gtids(self, connection: Any) -> Gtids:
        [(text,)] = await fetch(connection, "SELECT @@GLOBAL.gtid_binlog_pos")
        return MariadbGtids.read(str(text or ""))

    async def settled(self, connection: Any, timeout: float) -> LogPlace:
        # The one place that belongs exactly to what a transaction sees, taken without a lock.
        await fetch(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        rows = await fetch(connection, "SHOW SESSION STATUS LIKE 'binlog_snapshot_%%'")
        await fetch(connection, "ROLLBACK")
        status = {str(name).lower(): str(value) for name, value in rows}
        if not status.get("binlog_snapshot_file"):
            raise SourceError("the server keeps no binary log (log_bin is off)")
        return LogPlace(status["binlog_snapshot_file"], int(status["binlog_snapshot_position"]))

    async def visible(self, connection: Any, place: LogPlace, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not (await self.settled(connection, timeout)).at_least(place):
            if time.monotonic() > end:
                raise SourceError(f"what lies before {place} didn't become visible in {timeout:.0f} seconds")
            await asyncio.sleep(_POLL_SECONDS)

    async def prepare(self, connection: Any) -> None:
        await fetch(connection, "SET SESSION net_write_timeout = 3600, SESSION max_statement_time = 0")


class MySql(Flavour):
    """MySQL 8.0 and later."""

    name = "MySQL"
    foreign_table = "INNODB_FOREIGN"
    foreign_columns = "INNODB_FOREIGN_COLS"
    storage_table = "INNODB_TABLES"
    grant = "GRANT REPLICATION SLAVE, REPLICATION CLIENT, PROCESS ON *.* TO the user of s3gc"

    async def gtids(self, connection: Any) -> Gtids:
        [(text,)] = await fetch(connection, "SELECT @@GLOBAL.gtid_executed")
        return MysqlGtids.read(str(text or ""))

    async def settled(self, connection: Any, timeout: float) -> LogPlace:
        place = await self.end(connection)
        await self.visible(connection, place, timeout)
        return place

    async def visible(self, connection: Any, place: LogPlace, timeout: float) -> None:
        # What is in the log and not visible yet is open for InnoDB, and has a number, for it has written.
        waiting = {row[0] for row in await fetch(connection, _OPEN)}
        end = time.monotonic() + timeout
        await asyncio.sleep(_STALE_SECONDS)
        waiting |= {row[0] for row in await fetch(connection, _OPEN)}
        while waiting:
            if time.monotonic() > end:
                raise SourceError(
                    f"{len(waiting)} transaction(s) that were open are open still after {timeout:.0f} seconds"
                )
            await asyncio.sleep(_STALE_SECONDS)
            waiting &= {row[0] for row in await fetch(connection, _OPEN)}

    async def prepare(self, connection: Any) -> None:
        await fetch(connection, "SET SESSION net_write_timeout = 3600, SESSION max_execution_time = 0")


def flavour_of(version: str) -> Flavour:
    """By what ``VERSION()`` says."""
    return MariaDb() if "mariadb" in version.lower() else MySql()
