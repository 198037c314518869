"""What SqlSource sees of a MariaDB server beyond the tracked columns."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest
import structlog
from sqlalchemy.exc import DBAPIError

from fixtures_databases import Server, mariadb_server, mariadb_url
from integration.test_source_contract import Session
from s3gc.errors import SourceError
from s3gc.model import UntrackedColumn
from s3gc.resolver import Resolver
from s3gc.sources import _coverage, _mysql
from s3gc.sources.sql import SqlSource
from s3gc.testing.source_contract import GLANCE

__all__ = ["mariadb_server", "mariadb_url"]

pytestmark = pytest.mark.anyio
RESOLVER = Resolver("my-bucket")
PASSWORD = "s3cret-pw"
NUMBERS = "(SELECT seq AS i FROM seq_1_to_5000) AS n"


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Session]:
    made = Session(url)
    try:
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            await made.close()


async def loose(
    url: str, tables: dict[str, Any], sample: int = 100
) -> dict[tuple[str, str], UntrackedColumn]:
    """The untracked columns by table and column."""
    source = SqlSource(url, tables, RESOLVER)
    try:
        told = [column async for column in source.untracked(sample)]
    finally:
        await source.aclose()
    found = {(column.table, column.column): column for column in told}
    assert len(found) == len(told)
    return found


@pytest.fixture
def joe_url(mariadb_server: Server, mariadb_url: str) -> str:
    """The same database as a user who may do nothing yet."""
    mariadb_server.admin(
        f"DROP USER IF EXISTS joe@'127.0.0.1'; CREATE USER joe@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'"
    )
    return f"mariadb://joe:{PASSWORD}@{mariadb_url.rpartition('@')[2]}"


async def test_every_type_that_could_hold_a_text(mariadb_url: str) -> None:
    number = uuid.uuid4()
    async with session(mariadb_url) as db:
        await db.run(
            """
            CREATE TABLE t (
                id int PRIMARY KEY, seen text, c1 text, c2 varchar(20), c3 char(20), c4 json, c5 blob,
                c6 uuid, c7 binary(16), c8 tinytext, c9 longtext, c10 varchar(20) CHARACTER SET latin1,
                c11 varbinary(20), c12 mediumblob, c13 varchar(20) AS (concat('c13', '.jpg')),
                n1 int, n2 decimal, n3 datetime, n4 timestamp, n5 enum('enum.jpg'), n6 set('a.jpg'),
                n7 bit(3), n8 point, n9 inet6, n10 double)
                WITH SYSTEM VERSIONING""",
            f"""
            INSERT INTO t (id, seen, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12) VALUES (
                1, 'seen.jpg', 'c1 🎉.jpg', 'c2.jpg', 'c3.jpg', '{{"a": "c 4.jpg"}}', 'c5.jpg', '{number}',
                x'{number.hex}', 'c8.jpg', 'c9.jpg', 'c10 é.jpg', 'c11.jpg', 'c12.jpg')""",
        )
    found = await loose(mariadb_url, {"t": ["seen"]})
    wanted = {f"c{i}": f"c{i}.jpg" for i in range(1, 14)}
    wanted |= {"c1": "c1 🎉.jpg", "c4": "c 4.jpg", "c6": number.hex, "c7": number.hex, "c10": "c10 é.jpg"}
    assert {column for _, column in found} == set(wanted)
    for (_, name), column in found.items():
        assert wanted[name] in column.keys, name
        assert column.sampled == 1
    assert found["t", "c2"].type == "varchar(20)"


async def test_names_are_as_a_user_writes_them_and_other_databases_count(
    mariadb_url: str, mariadb_server: Server
) -> None:
    database = mariadb_url.rpartition("/")[2]
    other = database + ".x"
    mariadb_server.admin(f"CREATE DATABASE `{other}`; CREATE TABLE `{other}`.users (bio text)")
    try:
        async with session(mariadb_url) as db:
            await db.run(
                'CREATE TABLE `Or.der` (`sel``ect` varchar(20), `a.b` text, `"x"` text, `group` int)',
                "CREATE TABLE users (avatar text, bio text)",
                "CREATE VIEW v AS SELECT bio FROM users",
                "CREATE SEQUENCE s",
            )
        found = await loose(mariadb_url, {f"{database}.users": ["avatar"], "v": ["bio"]})
        assert set(found) == {
            ('"Or.der"', "sel`ect"),
            ('"Or.der"', "a.b"),
            ('"Or.der"', '"""x"""'),
            (f"{database}.users", "bio"),  # as it is tracked; the view may leave rows out
            (f'"{other}".users', "bio"),
        }
        tables: dict[str, list[str]] = {f"{database}.users": ["avatar"]}
        for table, column in found:
            tables.setdefault(table, []).append(column)
        assert await loose(mariadb_url, tables) == {}
        nowhere = mariadb_url.rpartition("/")[0] + "/"
        found = await loose(nowhere, {f"{database}.users": ["avatar"]})
        assert (f'{database}."Or.der"', "a.b") in found
    finally:
        mariadb_server.admin(f"DROP DATABASE `{other}`")


async def test_newest_and_first_rows_are_seen_and_a_lonely_value_is_found(mariadb_url: str) -> None:
    async with session(mariadb_url) as db:
        await db.run(
            "CREATE TABLE t (id int PRIMARY KEY, seen text, v text, lonely text, doc json DEFAULT '{}', "
            "raw blob, number uuid, none varchar(9))",
            f"INSERT INTO t (id, v) SELECT i, concat('v/', i) FROM {NUMBERS}",
            "UPDATE t SET lonely = 'lonely.jpg', doc = '[\"doc.jpg\"]', raw = 'raw.jpg', "
            "number = '00000000-0000-0000-0000-000000000007' WHERE id = 2500",
            "CREATE TABLE loose (v text)",
            f"INSERT INTO loose SELECT if(i = 4000, 'there.jpg', '') FROM {NUMBERS}",
            "CREATE TABLE cut (v text, PRIMARY KEY (v(3)))",  # a key that sorts nothing
            "INSERT INTO cut VALUES ('1 a.jpg'), ('2 b.jpg')",
        )
    found = await loose(mariadb_url, {"t": ["seen"]}, sample=100)
    assert {"v/1", "v/5000"} <= set(found["t", "v"].keys)
    assert found["t", "v"].sampled == 100
    assert "lonely.jpg" in found["t", "lonely"].keys
    assert found["t", "lonely"].sampled == 1
    assert "doc.jpg" in found["t", "doc"].keys
    assert "raw.jpg" in found["t", "raw"].keys
    assert "00000000000000000000000000000007" in found["t", "number"].keys
    assert (found["t", "none"].sampled, set(found["t", "none"].keys)) == (0, set())
    assert set(found["loose", "v"].keys) == {"there.jpg"}
    assert {"a.jpg", "b.jpg"} <= set(found["cut", "v"].keys)
    small = await loose(mariadb_url, {"t": ["seen"]}, sample=10_000)
    assert small["t", "v"].sampled == 5000


async def test_what_may_not_be_read_is_named_in_a_warning(
    mariadb_url: str, joe_url: str, mariadb_server: Server
) -> None:
    database = mariadb_url.rpartition("/")[2]
    async with session(mariadb_url) as db:
        await db.run(
            "CREATE TABLE t (v text, w text)",
            "CREATE TABLE half (id int PRIMARY KEY, v text, w text)",
            "INSERT INTO half VALUES (1, 'a.jpg', 'b.jpg')",
            "CREATE TABLE written (v text)",
            "CREATE TABLE closed (v text)",
        )
    mariadb_server.admin(
        f"GRANT SELECT ON {database}.t TO joe@'127.0.0.1';"
        f"GRANT INSERT ON {database}.written TO joe@'127.0.0.1';"
        f"GRANT SELECT (w), INSERT (v) ON {database}.half TO joe@'127.0.0.1'"
    )
    with structlog.testing.capture_logs() as logs:
        found = await loose(joe_url, {"t": ["v"]})
    assert set(found) == {("t", "w"), ("half", "w")}
    assert set(found["half", "w"].keys) == {"b.jpg"}
    [line] = [line for line in logs if line["event"] == "coverage_incomplete"]
    assert set(line["unreadable"]) == {"half.v", "written.v"}  # closed isn't even to be seen


async def test_a_search_that_takes_too_long_is_given_up(
    mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_coverage, "_SEARCH_SECONDS", 0.001)
    async with session(mariadb_url) as db:
        await db.run(
            "CREATE TABLE t (v text)",
            "CREATE TABLE big (id int PRIMARY KEY, v varchar(2000), w text)",
            "INSERT INTO big SELECT seq, repeat('{', 500), NULL FROM seq_1_to_100000",
        )
    with structlog.testing.capture_logs() as logs:
        found = await loose(mariadb_url, {"t": ["v"]}, sample=10)
    assert found["big", "w"].sampled == 0
    assert [line["given_up"] for line in logs] == [["big.w"]]


async def test_a_lock_that_does_not_end_is_an_error(
    mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mysql, "_LOCK_SECONDS", 1)
    async with session(mariadb_url) as db:
        await db.run("CREATE TABLE t (v text)", "CREATE TABLE busy (v text)", "LOCK TABLES busy WRITE")
        with pytest.raises(SourceError, match=r"can't look for untracked columns.*[Ll]ock wait timeout"):
            await loose(mariadb_url, {"t": ["v"]})


async def test_a_missing_tracked_table_is_an_error(mariadb_url: str) -> None:
    async with session(mariadb_url) as db:
        await db.run("CREATE TABLE users (v text)")
    with pytest.raises(SourceError, match=r"'user'.*did you mean 'users'"):
        await loose(mariadb_url, {"user": ["v"]})


async def test_a_table_that_was_renamed_meanwhile_is_looked_at_under_its_new_name(mariadb_url: str) -> None:
    """Nothing holds the renaming up: a look leaves no lock behind."""
    async with session(mariadb_url) as db:
        await db.run(
            "CREATE TABLE t (v text)",
            "CREATE TABLE a (v text)",
            "CREATE TABLE b (v text)",
            "INSERT INTO a VALUES ('a.jpg')",
            "INSERT INTO b VALUES ('b.jpg')",
        )
        source = SqlSource(mariadb_url, {"t": ["v"]}, RESOLVER)
        found: dict[str, set[str]] = {}
        try:
            async with aclosing(source.untracked(10)) as columns:  # type: ignore[type-var]
                async for column in columns:
                    found[column.table] = set(column.keys)
                    if column.table == "a":
                        with anyio.fail_after(20 * GLANCE):
                            await db.run("RENAME TABLE b TO c", "ALTER TABLE a ADD COLUMN w int")
        finally:
            await source.aclose()
        assert found == {"a": {"a.jpg"}, "c": {"b.jpg"}}


async def test_huge_values_are_cut_and_bounded(mariadb_url: str) -> None:
    async with session(mariadb_url) as db:
        await db.run(
            "CREATE TABLE t (v text)",
            "CREATE TABLE big (id int PRIMARY KEY, v longtext, b longblob)",
            "INSERT INTO big SELECT seq, concat('head.jpg ', repeat(concat(' x', seq), 200000)), "
            "repeat('y', 500000) FROM seq_1_to_60",
        )
    found = await loose(mariadb_url, {"t": ["v"]}, sample=120)
    assert "head.jpg" in found["big", "v"].keys
    assert found["big", "v"].sampled == 60
    assert found["big", "b"].sampled == 60


async def test_a_look_cannot_write(mariadb_url: str) -> None:
    async with session(mariadb_url) as db:
        await db.run("CREATE TABLE t (v text)")
    source = SqlSource(mariadb_url, {"t": ["v"]}, RESOLVER)

    async def write() -> None:
        async with source._connection() as connection:
            await source._dialect.begin_look(connection, 30)
            await connection.exec_driver_sql("INSERT INTO t VALUES ('a.jpg')")

    try:
        with pytest.raises(DBAPIError, match=r"(?i)read.only"):
            await source._loop.run(write)
    finally:
        await source.aclose()
