"""The binlog reader beside mysql-replication on the same stream, event by event. MariaDB 10.11.

That library skips compressed events without a word: there a replica of the table, made from our events alone,
is compared with the table.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from binlog_world import events as read_events
from binlog_world import everything, session, settings
from fixtures_databases import Server, mariadb_server, mariadb_url
from s3gc_cdc_mysql.connection import FilePosition
from s3gc_cdc_mysql.events import ABSENT, Delete, Event, Insert, Query, Rows, Update

__all__ = ["mariadb_server", "mariadb_url"]

pytestmark = pytest.mark.anyio

TABLE = """
CREATE TABLE files (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY, path varchar(300),
    thumb varchar(40) CHARACTER SET latin1,
    body mediumtext, raw varbinary(30), size int, price decimal(12,4), born datetime(3),
    kind enum('a','b','ü'),
    tags set('x','y','z'), doc json, seen timestamp(6) NULL, flag bit(3), label char(12) DEFAULT 'none'
)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("pymysqlreplication").setLevel(logging.CRITICAL)


def changed(random_: random.Random, ids: list[int]) -> tuple[str, list[object]]:
    """One statement that changes the table."""
    what = random_.random()
    if what < 0.45 or not ids:
        ids.append(max(ids, default=0) + 1)
        values: dict[str, object] = {
            "id": ids[-1],
            "path": random_.choice([None, "", f"photos/{random_.random()}.jpg", "größe/😀.png"]),
            "thumb": random_.choice([None, "é€", "t" * 40]),
            "body": random_.choice([None, "", "b" * random_.randrange(3000), "text/" * 20]),
            "size": random_.choice([None, -5, 2**31 - 1]),
            "price": random_.choice([None, "-12345678.1234", "0"]),
            "born": random_.choice([None, "2024-02-29 12:34:56.789"]),
            "kind": random_.choice([None, "a", "ü"]),
            "tags": random_.choice([None, "", "x,z"]),
            "doc": random_.choice([None, '{"key": "photos/a.jpg"}']),
            "seen": random_.choice([None, "2024-02-29 12:34:56.789012"]),
        }
        named = random_.sample(sorted(values), random_.randrange(1, len(values)))
        named = ["id", *(name for name in named if name != "id")]
        marks = ", ".join(["%s"] * len(named))
        return f"INSERT INTO files ({', '.join(named)}) VALUES ({marks})", [values[name] for name in named]
    some = random_.sample(ids, min(len(ids), random_.randrange(1, 6)))
    where = f"WHERE id IN ({', '.join(map(str, some))})"
    if what < 0.85:
        to = random_.choice([
            "path = CONCAT('new/', id)", "path = NULL", "body = REPEAT('z', 2000), size = id",
            "raw = X'00FF'",
            "flag = b'101', label = 'l'", "kind = 'b', tags = 'y'", "thumb = 'ß'",
        ])  # fmt: skip
        return f"UPDATE files SET {to} {where}", []
    for one in some:
        ids.remove(one)
    return f"DELETE FROM files {where}", []


async def write(
    url: str, seed: int, *settings_: str, statements: int = 250
) -> tuple[FilePosition, list[Any]]:
    """A history of the table. Returns where it begins and the table at its end."""
    random_ = random.Random(seed)
    ids: list[int] = []
    async with session(url) as run:
        await run("SET time_zone = '+00:00', sql_mode = ''")
        await run("CREATE OR REPLACE TABLE other (id int PRIMARY KEY, v text)")
        await run(TABLE.replace("CREATE TABLE", "CREATE OR REPLACE TABLE"))
        for setting in settings_:
            await run(setting)
        await run("FLUSH BINARY LOGS")
        [[file, *_]] = await run("SHOW MASTER STATUS")
        at = 0
        while at < statements:
            await run("BEGIN")
            for _ in range(random_.randrange(1, 8)):
                at += 1
                sql, arguments = changed(random_, ids)
                await run(sql, *arguments)
                if random_.random() < 0.2:
                    await run("REPLACE INTO other VALUES (%s, 'o')", at % 10)
            await run("COMMIT")
            if at > statements // 2 and random_.random() < 0.1:
                await run("FLUSH BINARY LOGS")
        return FilePosition(str(file)), await run("SELECT * FROM files ORDER BY id")


def theirs(url: str, start: FilePosition) -> list[Any]:
    """What mysql-replication reads: kind, table and rows of each event, in their order."""
    at = settings(url)
    reader = BinLogStreamReader(
        connection_settings={k: at[k] for k in ("host", "port", "user")} | {"passwd": at["password"]},
        server_id=900_100, blocking=False, resume_stream=True, log_file=start.file, log_pos=start.position,
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent], only_schemas=[at["db"]],
    )  # fmt: skip
    try:
        return [
            (type(event).__name__.removesuffix("RowsEvent"), event.table, event.packet.log_pos, event.rows)
            for event in reader
        ]
    finally:
        reader.close()


THEIR_NAMES: dict[type[Rows], str] = {Insert: "Write", Update: "Update", Delete: "Delete"}


def as_they(value: Any, kind: str) -> Any:
    """Their types of values, where they differ from a direct read's, which is what ours are."""
    if value is ABSENT:
        return None  # they can't tell the two apart
    if kind == "doc" and isinstance(value, bytes):
        return value.decode()
    if kind == "tags" and value is not None:
        return set(value.split(",")) if value else None
    if kind == "flag" and value is not None:
        return f"{int.from_bytes(value, 'big'):03b}"
    return value


def compare(mine: list[Event], other: list[Any], database: str) -> int:
    rows = [event for event in mine if isinstance(event, Rows) and event.table.database == database]
    assert [(THEIR_NAMES[type(e)], e.table.name, e.header.next_position) for e in rows] == [
        (kind, table, position) for kind, table, position, _ in other
    ]
    count = 0
    for event, (_, _, _, their_rows) in zip(rows, other, strict=True):
        names = [str(event.table.columns[at].name) for at in event.columns]

        def image(row: Any, names: list[str] = names) -> dict[str, Any]:
            return {name: as_they(value, name) for name, value in zip(names, row, strict=True)}

        for row, their in zip(event.rows, their_rows, strict=True):  # type: ignore[attr-defined]
            count += 1
            if isinstance(event, Update):
                assert image(row[0]) == their["before_values"]
                assert image(row[1]) == their["after_values"]
            else:
                assert image(row) == their["values"]
    return count


async def agree(url: str, start: FilePosition) -> int:
    mine = await read_events(url, start)
    other = await asyncio.to_thread(theirs, url, start)
    return compare(mine, other, str(settings(url)["db"]))


@pytest.mark.parametrize("seed", range(3))
async def test_full_images(mariadb_url: str, seed: int) -> None:
    start, table = await write(mariadb_url, seed)
    assert await agree(mariadb_url, start) > 200
    assert replica(await read_events(mariadb_url, start)) == table


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
async def test_images_that_lack_columns(mariadb_url: str, image: str) -> None:
    start, table = await write(mariadb_url, 7, f"SET binlog_row_image = {image}")
    assert await agree(mariadb_url, start) > 200
    assert replica(await read_events(mariadb_url, start)) == table


def replica(found: list[Event]) -> list[Any]:
    """The table as our events alone make it, by its primary key."""
    rows: dict[int, list[Any]] = {}
    default = [None] * 13 + ["none"]
    for event in found:
        if not isinstance(event, Rows) or event.table.name != "files":
            continue
        for row in event.rows:  # type: ignore[attr-defined]
            if isinstance(event, Insert):
                rows[row[0]] = [d if v is ABSENT else v for v, d in zip(row, default, strict=True)]
            elif isinstance(event, Delete):
                del rows[row[0]]
            else:
                before, after = row
                kept = rows.pop(before[0])
                new = [old if v is ABSENT else v for v, old in zip(after, kept, strict=True)]
                rows[new[0]] = new
    return [tuple(rows[key]) for key in sorted(rows)]


@pytest.mark.parametrize("image", ["FULL", "MINIMAL"])
async def test_a_compressed_log(mariadb_server: Server, mariadb_url: str, image: str) -> None:
    """``log_bin_compress``: rows and queries, from ten bytes on."""
    mariadb_server.admin("SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10")
    try:
        start, table = await write(mariadb_url, 11, f"SET binlog_row_image = {image}")
        async with session(mariadb_url) as run:
            await run("CREATE TABLE more (id int, v text COMMENT 'a text that is worth compressing')")
    finally:
        mariadb_server.admin("SET GLOBAL log_bin_compress = OFF, GLOBAL log_bin_compress_min_len = 256")
    found = await read_events(mariadb_url, start)
    kinds = {event.header.type for event in found}
    assert kinds >= {165, 166, 167, *([168] if image == "FULL" else [])}  # a key alone is too short for it
    assert replica(found) == table
    [made] = [e for e in found if isinstance(e, Query) and "worth compressing" in e.text]
    assert made.header.type == 165
    # What it is there for: the library loses all of these.
    lost = await asyncio.to_thread(theirs, mariadb_url, start)
    assert sum(len(rows) for _, _, _, rows in lost) < sum(
        len(e.rows)  # type: ignore[attr-defined]
        for e in found
        if isinstance(e, Rows) and e.table.database == settings(mariadb_url)["db"]
    )


async def test_everything_that_changes_rows(mariadb_url: str) -> None:
    """Statements of all kinds that write rows; what they wrote is compared with the table at each step."""
    async with session(mariadb_url) as run:
        await run("SET time_zone = '+00:00', sql_mode = ''")
        await run(TABLE)
        await run("CREATE TABLE source (id bigint unsigned, path varchar(300))")
        await run("INSERT INTO source VALUES (1, 'a'), (2, 'b'), (500, 'c')")
        await run("FLUSH BINARY LOGS")
        [[file, *_]] = await run("SHOW MASTER STATUS")
        start = FilePosition(str(file))
        for sql in (
            "INSERT INTO files (id, path) SELECT id, path FROM source",
            "INSERT INTO files (id, path) VALUES (1, 'dup'), (3, 'new')"
            " ON DUPLICATE KEY UPDATE path = 'changed'",
            "REPLACE INTO files (id, path) VALUES (2, 'replaced')",
            "INSERT IGNORE INTO files (id, path) VALUES (1, 'ignored'), (4, 'kept')",
            "UPDATE files f JOIN source s USING (id) SET f.path = CONCAT('joined/', s.path)",
            "DELETE f FROM files f JOIN source s USING (id) WHERE s.id = 500",
            "UPDATE files SET id = id + 1000 ORDER BY id DESC",
            "DELETE FROM files ORDER BY id LIMIT 1",
        ):
            await run(sql)
            assert replica(await read_events(mariadb_url, start)) == await run(
                "SELECT * FROM files ORDER BY id"
            ), sql
    assert await agree(mariadb_url, start)


async def test_a_transaction_that_is_rolled_back_leaves_nothing(mariadb_url: str) -> None:
    async with session(mariadb_url) as run:
        await run(TABLE)
        await run("FLUSH BINARY LOGS")
        [[file, *_]] = await run("SHOW MASTER STATUS")
        await run("BEGIN")
        await run("INSERT INTO files (id) VALUES (1)")
        await run("SAVEPOINT s")
        await run("INSERT INTO files (id) VALUES (2)")
        await run("ROLLBACK TO s")
        await run("COMMIT")
        await run("BEGIN")
        await run("INSERT INTO files (id) VALUES (3)")
        await run("ROLLBACK")
    found = await read_events(mariadb_url, FilePosition(str(file)), everything)
    assert [row[0] for row in replica(found)] == [1]
