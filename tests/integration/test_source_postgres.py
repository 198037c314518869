"""SqlSource on PostgreSQL: types, names, privileges, replicas, and what a fence waits for."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import asyncpg  # type: ignore[import-untyped]
import pytest

from fixtures_databases import Server, postgres_server, postgres_url, run_postgres
from s3gc.errors import SourceError
from s3gc.model import Reference
from s3gc.resolver import Resolver
from s3gc.sources._loop import LoopThread
from s3gc.sources.sql import SqlSource
from s3gc.testing.source_contract import GLANCE, PATIENCE, counted, found, scanned

__all__ = ["postgres_server", "postgres_url"]

pytestmark = pytest.mark.anyio
RESOLVER = Resolver("my-bucket")
PASSWORD = "s3cret-pw"


class Session:
    """A connection of the test's own."""

    def __init__(self, url: str) -> None:
        self._url, self._loop, self._raw = url, LoopThread("test"), None

    async def run(self, sql: str) -> None:
        await self._loop.run(self._run, sql)

    async def _run(self, sql: str) -> None:
        self._raw = self._raw or await asyncpg.connect(self._url)
        assert self._raw is not None
        await self._raw.execute(sql)

    async def close(self) -> None:
        if self._raw is not None:
            self._raw.terminate()
        await self._loop.aclose()


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Session]:
    made = Session(url)
    try:
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            await made.close()


@asynccontextmanager
async def opened(url: str, tables: dict[str, Any], **more: Any) -> AsyncIterator[SqlSource]:
    source = SqlSource(url, tables, RESOLVER, **more)
    try:
        yield source
    finally:
        await source.aclose()


@pytest.fixture
def joe_url(postgres_server: Server, postgres_url: str) -> str:
    """The same database as a user without privileges beyond his tables."""
    postgres_server.admin(
        "DO $$BEGIN IF to_regrole('joe') IS NULL THEN "
        f"CREATE ROLE joe LOGIN PASSWORD '{PASSWORD}'; END IF; END$$"
    )
    host = postgres_url.rpartition("@")[2]
    return f"postgresql://joe:{PASSWORD}@{host}"


async def test_values_of_every_type(postgres_url: str) -> None:
    number = uuid.uuid4()
    async with session(postgres_url) as db:
        await db.run(
            f"""
            CREATE EXTENSION hstore;
            CREATE TYPE kind AS ENUM ('enum.jpg');
            CREATE TYPE pair AS (a int, b text);
            CREATE DOMAIN way AS text CHECK (value <> '');
            CREATE TABLE t (
                id int PRIMARY KEY, c1 text, c2 varchar(20), c3 char(20), c4 text[], c5 json, c6 jsonb,
                c7 bytea, c8 uuid, c9 kind, c10 hstore, c11 pair, c12 way, c13 bytea[], c14 int, c15 name,
                c16 xml, c17 kind[], c18 pair[], c19 uuid[]);
            INSERT INTO t VALUES (
                1, 'text é.jpg', 'varchar.jpg', 'char.jpg', ARRAY['ar,"ray.jpg', NULL, 'b c.jpg'],
                '{{"a": ["json.jpg"], "a": "double.jpg"}}', '{{"jsonb name.jpg": "/jsonb.jpg"}}',
                'bytea.jpg'::bytea, '{number}', 'enum.jpg', 'hs=>"hs tore.jpg"', (1, 'pa"ir ,.jpg'),
                'domain.jpg', ARRAY['by.jpg'::bytea], 4711, 'name.jpg', '<a href="xml.jpg"/>',
                ARRAY['enum.jpg'::kind], ARRAY[(1, 'deep pair.jpg')::pair], ARRAY['{number}'::uuid]);
            INSERT INTO t (id, c1, c4) VALUES (2, '', '{{}}');
            """
        )
    async with opened(postgres_url, {"t": [f"c{i}" for i in range(1, 20)]}) as source:
        await source.check()
        keys: dict[str, set[str]] = {}
        for reference in await scanned(source):
            keys.setdefault(reference.column, set()).add(reference.key)
        counts = {column.column: count for column, count in (await counted(source)).items()}
    wanted = {
        "c1": {"text é.jpg"}, "c2": {"varchar.jpg"}, "c3": {"char.jpg"}, "c4": {'ar,"ray.jpg', "b c.jpg"},
        "c5": {"json.jpg", "double.jpg"}, "c6": {"jsonb.jpg", "jsonb name.jpg"}, "c7": {"bytea.jpg"},
        "c8": {str(number), number.hex}, "c9": {"enum.jpg"}, "c10": {"hs tore.jpg"}, "c11": {'pa"ir ,.jpg'},
        "c12": {"domain.jpg"}, "c13": {"by.jpg"}, "c14": {"4711"}, "c15": {"name.jpg"}, "c16": {"xml.jpg"},
        "c17": {"enum.jpg"}, "c18": {"deep pair.jpg"}, "c19": {number.hex},
    }  # fmt: skip
    assert {c: wanted[c] - keys.get(c, set()) for c in wanted} == {c: set() for c in wanted}
    assert set(counts.values()) == {(2, 1)}


async def test_names_are_exact(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            'CREATE SCHEMA "my.app"; CREATE TABLE "my.app"."Order" ("se""lect" text, "Group" text);'
            """INSERT INTO "my.app"."Order" VALUES ('a.jpg', 'b.jpg'); CREATE TABLE users (avatar text)"""
        )
    async with opened(
        postgres_url, {'"my.app".Order': ['"se""lect"', "Group"], "public.users": ["avatar"]}
    ) as s:
        await s.check()
        assert {r.key for r in await scanned(s)} == {"a.jpg", "b.jpg"}
    for tables, words in (
        ({"Users": ["avatar"]}, "'Users'.*did you mean 'users'"),
        ({"users": ["Avatar"]}, "no column 'Avatar'.*did you mean 'avatar'"),
        ({"my.users": ["avatar"]}, "no table 'my.users'"),
    ):
        async with opened(postgres_url, tables) as s:
            with pytest.raises(SourceError, match=words):
                await s.check()
            with pytest.raises(SourceError, match=words):
                await scanned(s)


async def test_row_ids_views_and_partitions(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            """
            CREATE TABLE two (v text, a int, at timestamptz, PRIMARY KEY (at, a));
            INSERT INTO two VALUES ('a.jpg', 1, '2026-01-02 03:04:05+02');
            CREATE TABLE part (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
            CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);
            CREATE TABLE part2 PARTITION OF part DEFAULT;
            INSERT INTO part VALUES (1, 'p1.jpg'), (100, 'p2.jpg');
            CREATE VIEW view AS SELECT 'view/' || v AS v FROM part;
            CREATE MATERIALIZED VIEW old AS SELECT v FROM part;
            """
        )
    async with opened(postgres_url, {"two": ["v"], "part": ["v"], "view": ["v"]}) as source:
        await source.check()
        references = await scanned(source)
    composite = json.dumps(["2026-01-02 01:04:05+00", "1"], separators=(",", ":"))
    assert Reference("a.jpg", "two", composite, "v") in references
    assert {r.key for r in references} == {"a.jpg", "p1.jpg", "p2.jpg", "view/p1.jpg", "view/p2.jpg"}
    async with opened(postgres_url, {"old": ["v"]}) as source:
        with pytest.raises(SourceError, match="materialized view"):
            await source.check()


async def test_foreign_tables_are_refused_also_as_partitions(postgres_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            """
            CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
            CREATE FOREIGN TABLE f (v text) SERVER far;
            CREATE TABLE part (id int, v text) PARTITION BY RANGE (id);
            CREATE FOREIGN TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10) SERVER far;
            """
        )
    for table in ("f", "part"):
        async with opened(postgres_url, {table: ["v"]}) as source:
            with pytest.raises(SourceError, match="foreign"):
                await scanned(source)


async def test_identity(postgres_url: str, joe_url: str, postgres_server: Server) -> None:
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text); GRANT SELECT ON t TO joe")
    system = postgres_server.admin("SELECT system_identifier FROM pg_control_system()")
    for url in (postgres_url, joe_url):
        async with opened(url, {"t": ["v"]}) as source:
            details = (await source.check()).details
        assert details["system_identifier"] == system
        assert details["database"] == url.rpartition("/")[2]
        assert details["server_version"].startswith("15")


async def test_hidden_rows_are_errors(postgres_url: str, joe_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run(
            """
            CREATE TABLE policed (v text, mine bool);
            INSERT INTO policed VALUES ('a.jpg', true), ('b.jpg', false);
            ALTER TABLE policed ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON policed USING (mine);
            GRANT SELECT ON policed TO joe;
            CREATE TABLE closed (v text); CREATE TABLE half (v text, w text); GRANT SELECT (v) ON half TO joe;
            """
        )
    for tables, words in (
        ({"policed": ["v"]}, "row-level security"),
        ({"closed": ["v"]}, "permission denied"),
        ({"half": ["v", "w"]}, "permission denied"),
    ):
        async with opened(joe_url, tables) as source:
            with pytest.raises(SourceError, match=words):
                await source.check()
            with pytest.raises(SourceError, match=words):
                await scanned(source)
            with pytest.raises(SourceError, match=words):
                await found(source, "a.jpg")


async def test_no_server_and_a_wrong_password_are_errors_without_the_password(joe_url: str) -> None:
    wrong = joe_url.replace(PASSWORD, "wr0ng-pw")
    nobody = f"postgresql://joe:{PASSWORD}@127.0.0.1:1/db"
    for url, words in ((wrong, "password authentication failed"), (nobody, "onnect")):
        async with opened(url, {"t": ["v"]}) as source:
            for call in (source.check, lambda s=source: scanned(s), lambda s=source: s.fence(PATIENCE)):
                with pytest.raises(SourceError, match=words) as caught:
                    await call()
                assert "wr0ng-pw" not in str(caught.value)
                assert PASSWORD not in str(caught.value)


async def test_a_scan_that_loses_its_connection_fails(postgres_url: str, postgres_server: Server) -> None:
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t AS SELECT 'key/' || i AS v FROM generate_series(1, 5000) i")
    async with opened(postgres_url, {"t": ["v"]}, batch_rows=100) as source:

        async def scan() -> None:
            async for _ in source.scan():
                postgres_server.admin(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 's3gc'"
                )

        with pytest.raises(SourceError):
            await scan()
        assert len(await scanned(source)) == 5000


async def test_a_replica_is_refused() -> None:
    with run_postgres(standby=True) as server:
        url = f"postgresql://s3gc_admin:{server.password}@127.0.0.1:{server.port}/postgres"
        with anyio.fail_after(60):
            while True:  # it takes connections once it is consistent
                async with opened(url, {"pg_catalog.pg_class": ["relname"]}) as source:
                    with pytest.raises(SourceError) as caught:
                        await source.check()
                    if "starting up" not in str(caught.value) and "not yet accepting" not in str(
                        caught.value
                    ):
                        break
                await anyio.sleep(0.2)
        assert "replica" in str(caught.value)
        async with opened(url, {"pg_catalog.pg_class": ["relname"]}) as source:
            with pytest.raises(SourceError, match="replica"):
                await source.fence(PATIENCE)


# ------------------------------------------------------------------------------ the fence


async def waits(source: SqlSource) -> bool:
    """Whether a fence begun now is still waiting after a glance."""
    with anyio.move_on_after(GLANCE):
        await source.fence(PATIENCE)
        return False
    return True


async def test_a_user_without_privileges_sees_all_open_transactions(postgres_url: str, joe_url: str) -> None:
    """Also one that has only read so far: it may write yet."""
    async with opened(joe_url, {"t": ["v"]}) as source, session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text); GRANT SELECT ON t TO joe")
        assert not await waits(source)
        await db.run("BEGIN; SELECT 1")
        assert await waits(source)
        with pytest.raises(SourceError, match=r"1 transaction.*age isn't visible"):
            await source.fence(timedelta(seconds=0.2))
        await db.run("INSERT INTO t VALUES ('a.jpg')")
        assert await waits(source)
        await db.run("COMMIT")
        assert not await waits(source)


async def test_the_error_names_number_and_age_and_no_statement(postgres_url: str) -> None:
    async with (
        opened(postgres_url, {"t": ["v"]}) as source,
        session(postgres_url) as one,
        session(postgres_url) as two,
    ):
        await one.run("CREATE TABLE t (v text)")
        await one.run("BEGIN; INSERT INTO t VALUES ('private')")
        await two.run("BEGIN; INSERT INTO t VALUES ('private')")
        with pytest.raises(SourceError, match=r"2 transaction.*the oldest for 0:00:0") as caught:
            await source.fence(timedelta(seconds=0.3))
        assert "private" not in str(caught.value)
        assert "INSERT" not in str(caught.value)


async def test_a_prepared_transaction_is_open(postgres_url: str, joe_url: str) -> None:
    async with session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text); GRANT SELECT ON t TO joe")
        await db.run("BEGIN; INSERT INTO t VALUES ('a.jpg'); PREPARE TRANSACTION 'one'")
        async with opened(joe_url, {"t": ["v"]}) as source:
            assert await waits(source)
            with pytest.raises(SourceError, match="1 of them prepared"):
                await source.fence(timedelta(seconds=0.2))
            await db.run("COMMIT PREPARED 'one'")
            assert not await waits(source)


async def test_a_transaction_prepared_while_a_fence_waits_is_waited_for(postgres_url: str) -> None:
    passed = anyio.Event()
    async with opened(postgres_url, {"t": ["v"]}) as source, session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text)")
        await db.run("BEGIN; SELECT 1")

        async def fence() -> None:
            await source.fence(PATIENCE)
            passed.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fence)
            await anyio.sleep(GLANCE)
            await db.run("INSERT INTO t VALUES ('a.jpg'); PREPARE TRANSACTION 'two'")
            await anyio.sleep(2 * GLANCE)
            assert not passed.is_set()
            await db.run("COMMIT PREPARED 'two'")
        assert await found(source, "a.jpg") == {"a.jpg"}


async def test_other_databases_are_not_waited_for(postgres_url: str, postgres_server: Server) -> None:
    other = postgres_url.rpartition("/")[0] + "/postgres"
    async with opened(postgres_url, {"t": ["v"]}) as source, session(other) as db:
        await db.run("BEGIN; CREATE TEMP TABLE x (v text)")
        assert not await waits(source)


async def test_positions_grow(postgres_url: str) -> None:
    async with opened(postgres_url, {"t": ["v"]}) as source, session(postgres_url) as db:
        first = await source.fence(PATIENCE)
        await db.run("CREATE TABLE t (v text); INSERT INTO t VALUES ('a.jpg')")
        second = await source.fence(PATIENCE)
    assert len(first.value) == len(second.value) == 16
    assert first.value < second.value
    assert first.ordinal is not None
    assert second.ordinal is not None
    assert first.ordinal < second.ordinal
    assert second.ordinal == int(second.value, 16)


async def test_folders_are_told_and_found(postgres_url: str) -> None:
    number = uuid.uuid4()
    async with session(postgres_url) as db:
        await db.run(
            f"""
            CREATE TABLE albums (id int PRIMARY KEY, way text, ways text[], number uuid, cover text);
            INSERT INTO albums VALUES
                (1, '/photos/7/', '{{a/b,"c, d/"}}', '{number}', 'covers/7'), (2, NULL, '{{}}', NULL, '');
            """
        )
    tables = {"albums": ["way", "ways", "number", "cover"]}
    async with opened(postgres_url, tables, folders={"albums": ["way", "ways", "number"]}) as source:
        await source.check()
        every = await scanned(source)
        told = {(r.column, r.key) for r in every if r.prefix}
        assert {("way", "photos/7/"), ("way", "/photos/7/"), ("ways", "a/b/"), ("ways", "c, d/")} <= told
        assert ("number", f"{number}/") in told
        assert "cover" not in {column for column, _ in told}
        assert Reference("covers/7", "albums", "1", "cover") in every
        assert Reference("photos/7/", "albums", "1", "way", prefix=True) in every
        assert Reference("photos/7/", "albums", "1", "way") in every  # the object of that very name
        assert {c.column: n for c, n in (await counted(source)).items()}["way"] == (2, 1)
        keys = ["photos/7/8/9.jpg", "photos/70.jpg", "c, d/x.jpg", f"{number}/x.jpg", "covers/7/x.jpg"]
        found_by = {(r.column, r.key) async for r in source.find(keys) if r.prefix}
        assert found_by == {("way", "photos/7/"), ("ways", "c, d/"), ("number", f"{number}/")}


async def test_a_blocked_read_can_be_cancelled(postgres_url: str) -> None:
    async with opened(postgres_url, {"t": ["v"]}) as source, session(postgres_url) as db:
        await db.run("CREATE TABLE t (v text)")
        await db.run("BEGIN; LOCK TABLE t")
        with anyio.fail_after(60), anyio.move_on_after(GLANCE) as scope:
            await found(source, "a.jpg")
        assert scope.cancelled_caught
        await db.run("ROLLBACK")
        assert await found(source, "a.jpg") == set()
