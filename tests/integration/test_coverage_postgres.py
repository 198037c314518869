"""What SqlSource sees of a PostgreSQL database beyond the tracked columns."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest
import structlog
from sqlalchemy.exc import DBAPIError

from fixtures_databases import Server, postgres_server, postgres_url
from integration.test_source_contract import Session
from s3gc.errors import SourceError
from s3gc.model import UntrackedColumn
from s3gc.resolver import Resolver
from s3gc.sources import _coverage, _postgres
from s3gc.sources.sql import SqlSource
from s3gc.testing.source_contract import GLANCE

__all__ = ["postgres_server", "postgres_url"]

pytestmark = pytest.mark.anyio
RESOLVER = Resolver("my-bucket")
PASSWORD = "s3cret-pw"


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
def joe_url(postgres_server: Server, postgres_url: str) -> str:
    """The same database as a user without privileges beyond his tables."""
    postgres_server.admin(
        "DO $$BEGIN IF to_regrole('joe') IS NULL THEN "
        f"CREATE ROLE joe LOGIN PASSWORD '{PASSWORD}'; END IF; END$$"
    )
    return f"postgresql://joe:{PASSWORD}@{postgres_url.rpartition('@')[2]}"


async def test_every_type_that_could_hold_a_text(postgres_url: str) -> None:
    number = uuid.uuid4()
    async with session(postgres_url) as db:
        await db.run(
            f"""
            CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
            CREATE TYPE kind AS ENUM ('enum.jpg');
            CREATE TYPE pair AS (a int, b text);
            CREATE DOMAIN way AS text; CREATE DOMAIN ways AS way[]; CREATE DOMAIN whole AS int;
            CREATE TABLE t (
                id int PRIMARY KEY, seen text, c1 text, c2 varchar(20), c3 char(20), c4 text[], c5 json,
                c6 jsonb, c7 bytea, c8 uuid, c9 citext, c10 hstore, c11 pair, c12 way, c13 ways, c14 name,
                c15 xml, c16 uuid[], c17 jsonb[], c18 ltree,
                n1 int, n2 numeric, n3 timestamptz, n4 bool, n5 kind, n6 kind[], n7 int4range, n8 inet,
                n9 int[], n10 tsvector, n11 whole, n12 interval, n13 point, n14 bit(3), n15 pg_lsn);
            INSERT INTO t VALUES (
                1, 'seen.jpg', 'c1.jpg', 'c2.jpg', 'c3.jpg', '{{c4.jpg,"c 4.jpg"}}', '{{"a": "c5.jpg"}}',
                '["c6.jpg"]', 'c7.jpg', '{number}', 'c9.jpg', 'a=>c10.jpg', (1, 'c11.jpg'), 'c12.jpg',
                '{{c13.jpg}}', 'c14.jpg', '<a href="c15.jpg"/>', '{{{number}}}', ARRAY['"c17.jpg"'::jsonb],
                'c18');
            """
        )
    found = await loose(postgres_url, {"t": ["seen"]})
    wanted = {f"c{i}": f"c{i}.jpg" for i in range(1, 18)}
    wanted |= {"c8": number.hex, "c16": number.hex, "c18": "c18"}
    assert {column for _, column in found} == set(wanted)
    for (_, name), column in found.items():
        assert wanted[name] in column.keys, name
        assert column.sampled == 1
    assert found["t", "c2"].type == "character varying(20)"
    assert found["t", "c13"].type == "ways"


async def test_names_are_as_a_user_writes_them(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            """
            CREATE SCHEMA "my.app"; CREATE SCHEMA other;
            CREATE TABLE "my.app"."Or""der" ("se""lect" text, "a.b" text, "`x`" text);
            CREATE TABLE users (avatar text, bio text); CREATE TABLE other.users (bio text);
            CREATE TABLE "two words" (v text); CREATE TEMP TABLE mine (v text);
            """
        )
    found = await loose(postgres_url, {"public.users": ["avatar"]})
    assert set(found) == {
        ('"my.app"."Or""der"', 'se"lect'),
        ('"my.app"."Or""der"', "a.b"),
        ('"my.app"."Or""der"', '"`x`"'),
        ("public.users", "bio"),  # as it is tracked
        ("other.users", "bio"),
        ("two words", "v"),
    }
    tables: dict[str, list[str]] = {"public.users": ["avatar"]}
    for table, column in found:
        tables.setdefault(table, []).append(column)
    assert await loose(postgres_url, tables) == {}
    assert ('"users"', "bio") in await loose(postgres_url, {'"users"': ["avatar"], "other.users": ["bio"]})
    assert ("users", "bio") in await loose(postgres_url, {"other.users": ["bio"]})


async def test_newest_and_first_rows_are_seen_and_a_lonely_value_is_found(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            """
            CREATE TABLE t (id int PRIMARY KEY, seen text, v text, lonely text, doc jsonb DEFAULT '{}',
                raw bytea, number uuid, none text);
            INSERT INTO t (id, v) SELECT i, 'v/' || i FROM generate_series(1, 5000) i;
            UPDATE t SET lonely = 'lonely.jpg', doc = '["doc.jpg"]', raw = 'raw.jpg',
                number = '00000000-0000-0000-0000-000000000007' WHERE id = 2500;
            CREATE TABLE loose (v text);
            INSERT INTO loose SELECT CASE i WHEN 4000 THEN 'there.jpg' ELSE '' END
            FROM generate_series(1, 5000) i;
            """
        )
    found = await loose(postgres_url, {"t": ["seen"]}, sample=100)
    assert {"v/1", "v/5000"} <= set(found["t", "v"].keys)
    assert found["t", "v"].sampled == 100
    assert "lonely.jpg" in found["t", "lonely"].keys
    assert found["t", "lonely"].sampled == 1
    assert "doc.jpg" in found["t", "doc"].keys
    assert "raw.jpg" in found["t", "raw"].keys
    assert "00000000-0000-0000-0000-000000000007" in found["t", "number"].keys
    assert (found["t", "none"].sampled, set(found["t", "none"].keys)) == (0, set())
    assert set(found["loose", "v"].keys) == {"there.jpg"}
    small = await loose(postgres_url, {"t": ["seen"]}, sample=10_000)
    assert small["t", "v"].sampled == 5000  # every row once


async def test_children_of_a_tracked_table_are_no_news(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            """
            CREATE TABLE part (id int PRIMARY KEY, v text, w text) PARTITION BY RANGE (id);
            CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);
            CREATE TABLE part2 PARTITION OF part DEFAULT PARTITION BY RANGE (id);
            CREATE TABLE part3 PARTITION OF part2 DEFAULT;
            INSERT INTO part VALUES (1, 'p1.jpg', 'w1.jpg'), (100, 'p2.jpg', 'w2.jpg');
            CREATE TABLE base (v text); CREATE TABLE more (extra text) INHERITS (base);
            INSERT INTO more VALUES ('b.jpg', 'extra.jpg');
            CREATE VIEW view AS SELECT w FROM part; CREATE MATERIALIZED VIEW old AS SELECT w FROM part;
            """
        )
    found = await loose(postgres_url, {"part": ["v"], "base": ["v"]})
    assert set(found) == {("part", "w"), ("more", "extra")}
    assert {"w1.jpg", "w2.jpg"} <= set(found["part", "w"].keys)
    found = await loose(postgres_url, {"part3": ["v"], "view": ["w"]})
    assert set(found) == {("part", "v"), ("part", "w"), ("base", "v"), ("more", "extra")}
    assert "b.jpg" in found["base", "v"].keys


async def test_what_has_foreign_children_is_read_without_them(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            """
            CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
            CREATE FOREIGN TABLE f (v text) SERVER far; CREATE TABLE t (v text);
            CREATE TABLE part (id int, v text) PARTITION BY RANGE (id);
            CREATE FOREIGN TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10) SERVER far;
            CREATE TABLE part2 PARTITION OF part DEFAULT; INSERT INTO part VALUES (11, 'p2.jpg');
            CREATE TABLE base (v text); CREATE FOREIGN TABLE far1 () INHERITS (base) SERVER far;
            CREATE TABLE near () INHERITS (base);
            INSERT INTO base VALUES ('base.jpg'); INSERT INTO near VALUES ('near.jpg');
            """
        )
    found = await loose(postgres_url, {"t": ["v"]})
    assert {name: set(column.keys) for (name, _), column in found.items()} == {
        "part2": {"p2.jpg"},
        "base": {"base.jpg"},
        "near": {"near.jpg"},
    }


async def test_what_may_not_be_read_is_named_in_a_warning(postgres_url: str, joe_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            """
            CREATE TABLE t (v text, w text); CREATE TABLE closed (id int, v text);
            CREATE TABLE half (id int PRIMARY KEY, v text, w text);
            INSERT INTO half VALUES (1, 'a.jpg', 'b.jpg');
            CREATE TABLE policed (v text, mine bool); ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON policed USING (current_setting('app.tenant') = v);
            GRANT SELECT ON t, policed TO joe; GRANT SELECT (w) ON half TO joe;
            CREATE SCHEMA shut; CREATE TABLE shut.t (v text); GRANT SELECT ON shut.t TO joe;
            CREATE TABLE child () INHERITS (shut.t); CREATE TABLE heir () INHERITS (closed);
            INSERT INTO child VALUES ('child.jpg'); INSERT INTO heir VALUES (1, 'heir.jpg');
            GRANT SELECT ON child, heir TO joe;
            """
        )
    with structlog.testing.capture_logs() as logs:
        found = await loose(joe_url, {"t": ["v"]})
    assert set(found) == {("t", "w"), ("half", "w"), ("child", "v"), ("heir", "v")}
    assert set(found["half", "w"].keys) == {"b.jpg"}
    assert set(found["child", "v"].keys) == {"child.jpg"}  # its parent may not be read, and so it is
    assert set(found["heir", "v"].keys) == {"heir.jpg"}
    [line] = [line for line in logs if line["event"] == "coverage_incomplete"]
    assert set(line["unreadable"]) == {"closed.v", "half.v", "policed.v", "shut.t.v"}
    assert line["unreadable_columns"] == 4


async def test_a_search_that_takes_too_long_is_given_up(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_coverage, "_SEARCH_SECONDS", 0.01)
    async with session(postgres_url) as db:
        await db.run(
            "CREATE TABLE t (v text); CREATE TABLE big (id int PRIMARY KEY, v text, w text);"
            "INSERT INTO big SELECT i, repeat('{', 2000), NULL FROM generate_series(1, 60000) i;"
            "UPDATE big SET v = NULL WHERE id <= 200 OR id > 59800;"
        )
    with structlog.testing.capture_logs() as logs:
        found = await loose(postgres_url, {"t": ["v"]}, sample=10)
    assert found["big", "w"].sampled == 0
    assert [line["given_up"] for line in logs] == [["big.w"]]


async def test_first_rows_that_do_not_come_are_an_error(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text); CREATE TABLE busy (v text)")
        await db.run("BEGIN; LOCK TABLE busy")
        monkeypatch.setattr(_coverage, "_SECONDS", 0.3)
        with pytest.raises(SourceError, match="'busy' doesn't give its first rows"):
            await loose(postgres_url, {"t": ["v"]})


async def test_a_server_that_does_not_end_a_statement_in_time_is_left(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_look = _postgres.PostgresDialect.begin_look

    async def patient(dialect: Any, connection: Any, seconds: float) -> None:
        await begin_look(dialect, connection, 3600)

    monkeypatch.setattr(_postgres.PostgresDialect, "begin_look", patient)
    monkeypatch.setattr(_postgres, "_LOCK_SECONDS", 3600)
    monkeypatch.setattr(_coverage, "_SECONDS", 0.3)
    monkeypatch.setattr(_coverage, "_MARGIN_SECONDS", 0.2)
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text); CREATE TABLE busy (v text)")
        await db.run("BEGIN; LOCK TABLE busy")
        with (
            anyio.fail_after(60),
            pytest.raises(SourceError, match="'busy' doesn't give its first rows"),
        ):
            await loose(postgres_url, {"t": ["v"]})


async def test_a_missing_tracked_table_is_an_error(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE users (v text)")
    with pytest.raises(SourceError, match=r"'user'.*did you mean 'users'"):
        await loose(postgres_url, {"user": ["v"]})


async def test_a_table_that_was_renamed_meanwhile_is_looked_at_under_its_new_name(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            "CREATE TABLE t (v text); CREATE TABLE a (v text); CREATE TABLE b (v text);"
            "INSERT INTO a VALUES ('a.jpg'); INSERT INTO b VALUES ('b.jpg')"
        )
        source = SqlSource(postgres_url, {"t": ["v"]}, RESOLVER)
        found: dict[str, set[str]] = {}
        try:
            async with aclosing(source.untracked(10)) as columns:  # type: ignore[type-var]
                async for column in columns:
                    found[column.table] = set(column.keys)
                    if column.table == "a":
                        await db.run("ALTER TABLE b RENAME TO c")
        finally:
            await source.aclose()
        assert found == {"a": {"a.jpg"}, "c": {"b.jpg"}}


async def test_tables_that_come_and_go_all_the_time_are_an_error(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text); CREATE TABLE a0 (v text); CREATE TABLE b0 (v text)")
        source = SqlSource(postgres_url, {"t": ["v"]}, RESOLVER)

        async def look() -> None:
            number = 0
            async with aclosing(source.untracked(10)) as columns:  # type: ignore[type-var]
                async for _ in columns:
                    await db.run(
                        f"DROP TABLE b{number}; CREATE TABLE a{number + 1} (v text);"
                        f"CREATE TABLE b{number + 1} (v text)"
                    )
                    number += 1

        try:
            with pytest.raises(SourceError, match="come and go"):
                await look()
        finally:
            await source.aclose()


async def test_huge_values_are_cut_and_bounded(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            """
            CREATE TABLE t (v text); CREATE TABLE big (id int PRIMARY KEY, v text, b bytea);
            INSERT INTO big SELECT i, 'head.jpg ' || repeat(' x' || i, 400000), repeat('y', 2000000)::bytea
            FROM generate_series(1, 60) i;
            CREATE TABLE many (v text);
            INSERT INTO many SELECT 'k/' || i || ' ' || string_agg('k/' || i || '/' || j, ' ')
            FROM generate_series(1, 300) i, generate_series(1, 1500) j GROUP BY i;
            CREATE TABLE wide (v text);
            INSERT INTO wide SELECT repeat('x', 16000) FROM generate_series(1, 300);
            """
        )
    found = await loose(postgres_url, {"t": ["v"]}, sample=120)
    assert "head.jpg" in found["big", "v"].keys
    assert found["big", "v"].sampled == 60
    assert found["big", "b"].sampled == 60
    many = await loose(postgres_url, {"t": ["v"]}, sample=600)
    assert 20 < many["many", "v"].sampled < 300
    assert len(many["many", "v"].keys) < 60_000
    assert 20 < many["wide", "v"].sampled < 100


async def test_nothing_is_left_behind_and_nothing_is_locked(
    postgres_url: str, postgres_server: Server
) -> None:
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text); CREATE TABLE a (v text); CREATE TABLE b (v text)")
        source = SqlSource(postgres_url, {"t": ["v"]}, RESOLVER)
        try:
            async with aclosing(source.untracked(10)) as columns:  # type: ignore[type-var]
                async for column in columns:
                    if column.table == "b":
                        with anyio.fail_after(20 * GLANCE):
                            await db.run("ALTER TABLE a ADD COLUMN w int")  # nothing holds it up
                        break
        finally:
            await source.aclose()
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 's3gc'"
    with anyio.fail_after(30):
        while postgres_server.admin(left) != "0":  # noqa: ASYNC110 - the server tells no event
            await anyio.sleep(0.05)


async def test_a_hung_look_can_be_cancelled(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text); CREATE TABLE busy (v text)")
        await db.run("BEGIN; LOCK TABLE busy")
        with anyio.fail_after(60), anyio.move_on_after(GLANCE) as scope:
            await loose(postgres_url, {"t": ["v"]})
        assert scope.cancelled_caught


async def test_a_lock_that_does_not_end_is_an_error(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_postgres, "_LOCK_SECONDS", 0.3)
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text); CREATE TABLE busy (v text)")
        await db.run("BEGIN; LOCK TABLE busy")
        with pytest.raises(SourceError, match=r"can't look for untracked columns in busy.*lock timeout"):
            await loose(postgres_url, {"t": ["v"]})


async def test_a_look_cannot_write(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text)")
    source = SqlSource(postgres_url, {"t": ["v"]}, RESOLVER)

    async def write() -> None:
        async with source._connection() as connection:
            await source._dialect.begin_look(connection, 30)
            await connection.exec_driver_sql("INSERT INTO t VALUES ('a.jpg')")

    try:
        with pytest.raises(DBAPIError, match=r"(?i)read.only"):
            await source._loop.run(write)
    finally:
        await source.aclose()
