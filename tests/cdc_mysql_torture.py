"""As :mod:`cdc_torture`, on MariaDB, in each form of its log.

In a test for a minute at most; by hand for as long as you like::

    PYTHONPATH=tests:. python -m cdc_mysql_torture --seconds 600 --seed 7 --image MINIMAL --compress
"""

# ruff: noqa: E501 - statements stand on one line

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import aiomysql
import pymysql

from cdc_torture import Torture
from cdc_world import RESOLVER
from fixtures_databases import run_mariadb
from s3gc_cdc_mysql.source import MysqlCdcSource

SCHEMA = (
    "CREATE TABLE files (id int PRIMARY KEY, path varchar(200), doc text, note text)",
    "CREATE TABLE parts (id int, at int, path varchar(200), PRIMARY KEY (id, at)) PARTITION BY RANGE (at)"
    " (PARTITION p0 VALUES LESS THAN (50), PARTITION p1 VALUES LESS THAN (100))",
    "CREATE TABLE named (name varchar(60) PRIMARY KEY, id int, path varchar(200), KEY (id))",
    "CREATE TABLE owners (id int PRIMARY KEY)",
    "CREATE TABLE owned (id int PRIMARY KEY, owner int, path varchar(200),"
    " FOREIGN KEY (owner) REFERENCES owners (id) ON DELETE CASCADE)",
    "CREATE TABLE elsewhere (id int AUTO_INCREMENT PRIMARY KEY, v text)",
)
TABLES = {"files": ["path", "doc"], "parts": ["path"], "named": ["path"], "owned": ["path"]}

DDL: list[tuple[bool, str]] = [  # whether it is a gap that must be told, and the statements
    (False, "ALTER TABLE files ADD extra int DEFAULT 7, ALGORITHM = INSTANT; ALTER TABLE files DROP extra, ALGORITHM = INSTANT"),
    (False, "CREATE INDEX by_path ON files (path); DROP INDEX by_path ON files; ANALYZE TABLE files"),
    (False, "FLUSH BINARY LOGS"),
    (False, "CREATE TABLE other LIKE files; INSERT INTO other SELECT * FROM files; DROP TABLE other"),
    (False, "CREATE TEMPORARY TABLE files (id int); INSERT INTO files VALUES (1); DROP TEMPORARY TABLE files"),
    (True, "OPTIMIZE TABLE named"),
    (True, "ALTER TABLE files MODIFY path varchar(210); ALTER TABLE files MODIFY path varchar(200)"),
    (True, "SET SESSION binlog_format = 'STATEMENT'; UPDATE files SET path = CONCAT(path, '+') WHERE id < 50 AND LENGTH(path) < 100"),
    (True, "ALTER TABLE parts TRUNCATE PARTITION p1"),
    (True, "SET SESSION sql_log_bin = 0; ALTER TABLE files FORCE; UPDATE files SET path = CONCAT(path, '-') WHERE id < 50 AND LENGTH(path) < 100"),
    (True, "RENAME TABLE named TO away; INSERT IGNORE INTO away VALUES ('in between', 1, 'gap'); RENAME TABLE away TO named"),
]  # fmt: skip


class Connection:
    """aiomysql's, as the torture knows one."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    async def execute(self, sql: str) -> None:
        for statement in sql.split(";"):
            if statement.strip():
                await self._raw.query(statement)

    def is_closed(self) -> bool:
        return bool(self._raw.closed)

    def terminate(self) -> None:
        self._raw.close()

    async def close(self) -> None:
        self._raw.close()


class MysqlTorture(Torture):
    refused = (pymysql.err.Error, OSError, TimeoutError, asyncio.IncompleteReadError, RuntimeError)
    schema = SCHEMA
    ddl = DDL
    tables = TABLES
    patience = "SET SESSION lock_wait_timeout = 5"
    _numbers = itertools.count(600_000)

    def _address(self) -> str:
        return f"mysql://s3gc_admin:{self._server.password}@127.0.0.1:{self._server.port}/shop"

    async def _connect(self) -> Any:
        raw = await aiomysql.connect(
            host="127.0.0.1", port=self._server.port, user="s3gc_admin", password=self._server.password,
            db="shop", autocommit=True, charset="utf8mb4", connect_timeout=5,
        )  # fmt: skip
        return Connection(raw)

    def _open(self) -> Any:
        # Each process has another number: what a killed one has left reading is of no matter.
        source = MysqlCdcSource(
            self._url, TABLES, RESOLVER, server_id=next(self._numbers), chunk_rows=50,
            patience=timedelta(seconds=60),
        )  # fmt: skip
        source._follower.batch = self._random.choice([3, 50, 1000])
        return source

    async def _transaction(self, connection: Any) -> None:
        await connection.execute("SET SESSION innodb_lock_wait_timeout = 2, SESSION lock_wait_timeout = 5")
        xa = f"'t{self._next()}'" if self._random.random() < 0.1 else None
        ends = self._random.choice(["COMMIT"] * 6 + ["ROLLBACK"])
        await connection.execute(f"XA START {xa}" if xa else "BEGIN")
        for _ in range(self._random.choice([1, 1, 2, 5])):
            nested = not xa and self._random.random() < 0.2
            if nested:
                await connection.execute("SAVEPOINT s")
            statement = self._random.choice(self._events)()
            if not xa or not statement.startswith("TRUNCATE"):
                await connection.execute(statement)
            if nested and not statement.startswith("TRUNCATE"):  # which ends the transaction
                await connection.execute(self._random.choice(["ROLLBACK TO s", "RELEASE SAVEPOINT s"]))
        if xa:
            await connection.execute(f"XA END {xa}")
            await connection.execute(f"XA COMMIT {xa} ONE PHASE" if ends == "COMMIT" else f"XA ROLLBACK {xa}")
        else:
            await connection.execute(ends)
        self.counts["transactions"] += 1

    @property
    def _events(self) -> list[Callable[[], str]]:
        return [
            lambda: f"INSERT INTO files VALUES ({self._id()}, {self._key()}, {self._big()}, '') ON DUPLICATE KEY UPDATE path = VALUES(path)",
            lambda: f"INSERT IGNORE INTO files (id, path) VALUES ({self._id()}, {self._key()}), ({self._id()}, {self._key()})",
            lambda: f"REPLACE INTO files VALUES ({self._id()}, {self._key()}, {self._big()}, 'n')",
            lambda: f"REPLACE INTO files (id, doc) VALUES ({self._id()}, {self._big()})",
            lambda: f"INSERT IGNORE INTO named VALUES ('n{self._id()}', {self._id()}, {self._key()})",
            lambda: f"INSERT IGNORE INTO parts VALUES ({self._id()}, {self._at()}, {self._key()})",
            lambda: f"INSERT IGNORE INTO owners VALUES ({self._id() % 40})",
            lambda: f"INSERT IGNORE INTO owned VALUES ({self._id()}, {self._id() % 40}, {self._key()})",
            lambda: f"DELETE FROM owners WHERE id = {self._id() % 40}",
            lambda: f"UPDATE owned SET path = {self._key()} WHERE id = {self._id()}",
            lambda: f"UPDATE files SET path = {self._key()} WHERE id = {self._id()}",
            lambda: f"UPDATE files SET note = CONCAT('x', {self._next()}) WHERE id % 7 = {self._random.randrange(7)}",
            lambda: f"UPDATE IGNORE files SET id = {self._id()} + 400 WHERE id = {self._id()}",
            lambda: f"UPDATE IGNORE files SET id = id - 400 WHERE id = {self._id()} + 400",
            lambda: f"UPDATE files SET doc = {self._big()} WHERE id = {self._id()}",
            lambda: f"UPDATE files SET path = NULL WHERE id = {self._id()}",
            lambda: f"UPDATE named SET name = CONCAT(name, '+') WHERE id = {self._id()} AND LENGTH(name) < 50",
            lambda: f"UPDATE named SET id = id + 2000000 + {self._next()}, path = {self._key()} WHERE id = {self._id()}",
            lambda: f"UPDATE IGNORE parts SET at = {self._at()} WHERE id = {self._id()}",
            lambda: f"UPDATE parts SET id = {self._id()} + 3000000 + {self._next()} WHERE id = {self._id()}",
            lambda: f"DELETE FROM files WHERE id = {self._id()}",
            lambda: f"DELETE FROM named WHERE id = {self._id()}",
            lambda: f"DELETE FROM parts WHERE id = {self._id()}",
            lambda: f"DELETE FROM {self._random.choice(list(TABLES))} WHERE id > {400 + 10 * self._random.randrange(100)}",
            lambda: f"INSERT INTO files SELECT seq, CONCAT('bulk/{self._next()}/', seq), NULL, REPEAT('y', 300) FROM seq_100000_to_{100000 + self._random.randrange(300)} ON DUPLICATE KEY UPDATE path = VALUES(path)",
            lambda: "TRUNCATE " + self._random.choice(["files", "parts", "named"]) if self._random.random() < 0.05 else "SELECT 1",
            lambda: "INSERT INTO elsewhere (v) SELECT REPEAT('x', 500) FROM seq_1_to_20",
        ]  # fmt: skip

    async def _mend(self) -> None:
        """A statement that failed in the middle may have left a table away, or another in its place."""
        self._gap = True  # also where it can't be mended: the server may have done it all the same
        try:
            connection = await self._connect()
            for statement in (
                "RENAME TABLE away TO named",
                "DROP TABLE other",
                "DROP INDEX by_path ON files",
            ):
                self._gap = True
                try:
                    await connection.execute(statement)
                except pymysql.err.Error as error:
                    if error.args[0] not in (1146, 1050, 1051, 1091):  # it isn't there, or is there already
                        raise
            await connection.close()
        except self.refused:
            self.counts["mending refused"] += 1


async def torture(seconds: float, seed: int, **settings: object) -> Counter[str]:
    """Run it on a server of its own."""
    durable = {"innodb_flush_log_at_trx_commit": 1, "sync_binlog": 1, "max_binlog_size": 1 << 20}
    with run_mariadb(**durable, **settings) as server:
        server.admin("CREATE DATABASE shop CHARACTER SET utf8mb4")
        one = MysqlTorture(server, seconds, seed)
        try:
            await one.run()
        finally:
            print(dict(one.counts), getattr(one, "last_error", ""))
        return one.counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--image", default="FULL", choices=["FULL", "MINIMAL", "NOBLOB"])
    parser.add_argument("--compress", action="store_true")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    more = {"log_bin_compress": "ON", "log_bin_compress_min_len": 10} if arguments.compress else {}
    asyncio.run(torture(arguments.seconds, arguments.seed, binlog_row_image=arguments.image, **more))
