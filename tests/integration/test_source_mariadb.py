"""SqlSource on MariaDB: types, names, privileges, replicas, and what a fence waits for."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiomysql  # type: ignore[import-untyped]
import anyio
import pytest
from sqlalchemy.engine import make_url

from fixtures_databases import Server, mariadb_server, mariadb_url
from s3gc.errors import SourceError
from s3gc.model import Reference
from s3gc.resolver import Resolver
from s3gc.sources._loop import LoopThread
from s3gc.sources.sql import SqlSource
from s3gc.testing.source_contract import GLANCE, PATIENCE, counted, found, scanned

__all__ = ["mariadb_server", "mariadb_url"]

pytestmark = pytest.mark.anyio
RESOLVER = Resolver("my-bucket")
PASSWORD = "s3cret-pw"


class Session:
    """A connection of the test's own."""

    def __init__(self, url: str) -> None:
        self._url, self._loop, self._raw = make_url(url), LoopThread("test"), None

    async def run(self, *statements: str) -> None:
        await self._loop.run(self._run, statements)

    async def _run(self, statements: tuple[str, ...]) -> None:
        u = self._url
        self._raw = self._raw or await aiomysql.connect(
            host=u.host, port=u.port, user=u.username, password=u.password, db=u.database, autocommit=True,
            charset="utf8mb4",
        )  # fmt: skip
        assert self._raw is not None
        for sql in statements:
            await self._raw.query(sql)

    async def close(self) -> None:
        if self._raw is not None:
            self._raw.close()
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
def joe_url(mariadb_server: Server, mariadb_url: str) -> str:
    """The same database as a user who may do no more than read it."""
    database = mariadb_url.rpartition("/")[2]
    mariadb_server.admin(
        f"DROP USER IF EXISTS joe@'127.0.0.1'; CREATE USER joe@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';"
        f"GRANT SELECT ON {database}.* TO joe@'127.0.0.1'"
    )
    return f"mariadb://joe:{PASSWORD}@{mariadb_url.rpartition('@')[2]}"


async def test_values_of_every_type(mariadb_url: str) -> None:
    number = uuid.uuid4()
    async with session(mariadb_url) as db:
        await db.run(
            """
            CREATE TABLE t (
                id int PRIMARY KEY, c1 text, c2 varchar(20), c3 char(20), c4 json, c5 blob, c6 uuid,
                c7 binary(16),
                c8 enum('enum.jpg'), c9 set('a.jpg', 'b.jpg'), c10 int, c11 varchar(20) CHARACTER SET latin1,
                c12 longtext COLLATE utf8mb4_bin)""",
            f"""
            INSERT INTO t VALUES (
                1, 'text é🎉.jpg', 'varchar.jpg', 'char.jpg', '{{"a": "js on.jpg"}}', 'blob.jpg',
                '{number}', x'{number.hex}', 'enum.jpg', 'a.jpg,b.jpg', 4711, 'latín.jpg', 'long.jpg')""",
            "INSERT INTO t (id, c1, c5) VALUES (2, '', '')",
        )
    async with opened(mariadb_url, {"t": [f"c{i}" for i in range(1, 13)]}) as source:
        await source.check()
        keys: dict[str, set[str]] = {}
        for reference in await scanned(source):
            keys.setdefault(reference.column, set()).add(reference.key)
        counts = set((await counted(source)).values())
    wanted = {
        "c1": {"text é🎉.jpg"}, "c2": {"varchar.jpg"}, "c3": {"char.jpg"}, "c4": {"js on.jpg"},
        "c5": {"blob.jpg"}, "c6": {str(number), number.hex}, "c7": {str(number), number.hex},
        "c8": {"enum.jpg"},
        "c9": {"a.jpg", "b.jpg"}, "c10": {"4711"}, "c11": {"latín.jpg"}, "c12": {"long.jpg"},
    }  # fmt: skip
    assert {c: wanted[c] - keys.get(c, set()) for c in wanted} == {c: set() for c in wanted}
    assert counts == {(2, 1)}


async def test_names_and_row_ids(mariadb_url: str) -> None:
    database = mariadb_url.rpartition("/")[2]
    async with session(mariadb_url) as db:
        await db.run(
            "CREATE TABLE `Or.der` (`sel``ect` varchar(20), `group` int, `key` varchar(9), "
            "PRIMARY KEY (`key`, `group`))",
            "INSERT INTO `Or.der` VALUES ('a.jpg', 1, 'k')",
            "CREATE TABLE users (avatar text)",
            "CREATE VIEW v AS SELECT `sel``ect` AS c FROM `Or.der`",
        )
    async with opened(mariadb_url, {f"{database}.`Or.der`": ["`sel``ect`"], "v": ["c"]}) as source:
        await source.check()
        assert Reference("a.jpg", f"{database}.`Or.der`", '["k","1"]', "`sel``ect`") in await scanned(source)
    for tables, words in (
        ({"Users": ["avatar"]}, "'Users'.*did you mean 'users'"),
        ({"users": ["avatars"]}, "no column 'avatars'.*did you mean 'avatar'"),
        ({"nowhere.users": ["avatar"]}, "no table 'nowhere.users'"),
    ):
        async with opened(mariadb_url, tables) as source:
            with pytest.raises(SourceError, match=words):
                await source.check()
            with pytest.raises(SourceError, match=words):
                await scanned(source)


async def test_identity_tells_server_and_database(mariadb_url: str) -> None:
    async with session(mariadb_url) as db:
        await db.run("CREATE TABLE t (v text)")
    async with opened(mariadb_url, {"t": ["v"]}) as source:
        details = (await source.check()).details
    assert details["database"] == mariadb_url.rpartition("/")[2]
    assert details["server_version"].startswith("10.11")
    assert details["server_id"] == "1"


async def test_ordinals_grow_and_need_no_privilege_beyond_a_fences(
    mariadb_url: str, joe_url: str, mariadb_server: Server
) -> None:
    mariadb_server.admin("GRANT PROCESS ON *.* TO joe@'127.0.0.1'")
    ordinals: list[int] = []
    async with opened(joe_url, {"t": ["v"]}) as source, session(mariadb_url) as db:
        for statement in ("CREATE TABLE t (v text)", "INSERT INTO t VALUES ('a.jpg')", "FLUSH BINARY LOGS"):
            await db.run(statement)
            position = await source.fence(PATIENCE)
            assert position.ordinal is not None
            ordinals.append(position.ordinal)
    file, at = mariadb_server.admin("SHOW MASTER STATUS").split()[:2]
    assert ordinals[-1] >> 32 == int(file.rpartition(".")[2])
    # The server writes a checkpoint of its own into a new log a moment later.
    assert 0 < ordinals[-1] & 0xFFFFFFFF <= int(at)
    assert ordinals == sorted(set(ordinals))


async def test_folders_are_told_and_found(mariadb_url: str) -> None:
    async with session(mariadb_url) as db:
        await db.run(
            "CREATE TABLE albums (id int PRIMARY KEY, way text, number uuid, cover text)",
            "INSERT INTO albums VALUES (1, '/photos/7/', '00000000-0000-0000-0000-000000000007', 'covers/7')",
        )
    tables = {"albums": ["way", "number", "cover"]}
    async with opened(mariadb_url, tables, folders={"albums": ["way", "number"]}) as source:
        await source.check()
        every = await scanned(source)
        assert Reference("photos/7/", "albums", "1", "way", prefix=True) in every
        assert Reference("photos/7/", "albums", "1", "way") in every
        assert Reference("covers/7/", "albums", "1", "cover", prefix=True) not in every
        keys = ["photos/7/8/9.jpg", f"{7:032}/x.jpg", "covers/7/x.jpg"]
        assert {r.key async for r in source.find(keys)} == {"photos/7/", f"{7:032}/"}


async def test_a_fence_needs_process_and_says_so(
    mariadb_url: str, joe_url: str, mariadb_server: Server
) -> None:
    async with session(mariadb_url) as db:
        await db.run("CREATE TABLE t (v text)", "INSERT INTO t VALUES ('a.jpg')")
    async with opened(joe_url, {"t": ["v"]}) as source:
        assert await found(source, "a.jpg") == {"a.jpg"}
        for call in (source.check, lambda: source.fence(PATIENCE)):
            with pytest.raises(SourceError, match="GRANT PROCESS"):
                await call()
        mariadb_server.admin("GRANT PROCESS ON *.* TO joe@'127.0.0.1'")
        await source.check()
        await source.fence(PATIENCE)


async def test_what_may_not_be_read_is_an_error(
    joe_url: str, mariadb_url: str, mariadb_server: Server
) -> None:
    database = mariadb_url.rpartition("/")[2]
    async with session(mariadb_url) as db:
        await db.run("CREATE TABLE t (v text, w text)", "CREATE TABLE closed (v text)")
    mariadb_server.admin(
        f"REVOKE SELECT ON {database}.* FROM joe@'127.0.0.1'; GRANT PROCESS ON *.* TO joe@'127.0.0.1';"
        f"GRANT SELECT (v) ON {database}.t TO joe@'127.0.0.1'"
    )
    for tables in ({"closed": ["v"]}, {"t": ["v", "w"]}):
        async with opened(joe_url, tables) as source:
            for call in (source.check, lambda s=source: scanned(s), lambda s=source: found(s, "a.jpg")):
                with pytest.raises(SourceError):
                    await call()


async def test_errors_hide_the_password(joe_url: str) -> None:
    for url in (joe_url.replace(PASSWORD, "wr0ng-pw"), f"mysql://joe:{PASSWORD}@127.0.0.1:1/db"):
        async with opened(url, {"t": ["v"]}) as source:
            with pytest.raises(SourceError) as caught:
                await source.check()
            assert "wr0ng-pw" not in str(caught.value)
            assert PASSWORD not in str(caught.value)


async def test_a_read_only_server_is_refused(mariadb_url: str, mariadb_server: Server) -> None:
    async with session(mariadb_url) as db:
        await db.run("CREATE TABLE t (v text)")
    mariadb_server.admin("SET GLOBAL read_only = ON")
    try:
        async with opened(mariadb_url, {"t": ["v"]}) as source:
            for call in (source.check, lambda: source.fence(PATIENCE)):
                with pytest.raises(SourceError, match="read-only"):
                    await call()
    finally:
        mariadb_server.admin("SET GLOBAL read_only = OFF")


async def test_a_replica_is_refused(mariadb_url: str, mariadb_server: Server) -> None:
    async with session(mariadb_url) as db:
        await db.run("CREATE TABLE t (v text)")
    mariadb_server.admin(
        "CHANGE MASTER 'up' TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'x'"
    )
    try:
        async with opened(mariadb_url, {"t": ["v"]}) as source:
            with pytest.raises(SourceError, match="replica"):
                await source.check()
    finally:
        mariadb_server.admin("RESET SLAVE 'up' ALL")


async def test_engines_without_known_transactions_are_refused(mariadb_url: str) -> None:
    async with session(mariadb_url) as db:
        await db.run(
            "CREATE TABLE far (v varchar(9) NOT NULL) ENGINE = CSV",
            "CREATE TABLE old (id int PRIMARY KEY, v text) ENGINE = MyISAM",
            "INSERT INTO old VALUES (1, 'a.jpg')",
        )
    async with opened(mariadb_url, {"far": ["v"]}) as source:
        with pytest.raises(SourceError, match="engine CSV"):
            await source.check()
    async with opened(mariadb_url, {"old": ["v"]}) as source:
        assert await found(source, "a.jpg") == {"a.jpg"}


# ------------------------------------------------------------------------------ the fence


async def waits(source: SqlSource) -> bool:
    """Whether a fence begun now is still waiting after a glance."""
    with anyio.move_on_after(2 * GLANCE):
        await source.fence(PATIENCE)
        return False
    return True


async def test_a_transaction_that_has_only_read_is_open(mariadb_url: str) -> None:
    async with opened(mariadb_url, {"t": ["v"]}) as source, session(mariadb_url) as db:
        await db.run("CREATE TABLE t (v text)", "BEGIN", "SELECT * FROM t")
        assert await waits(source)
        with pytest.raises(SourceError, match=r"1 transaction.*the oldest for 0:00") as caught:
            await source.fence(timedelta(seconds=0.2))
        assert "SELECT" not in str(caught.value)
        await db.run("COMMIT")
        assert not await waits(source)


async def test_a_prepared_transaction_is_open_also_without_its_connection(mariadb_url: str) -> None:
    async with opened(mariadb_url, {"t": ["v"]}) as source:
        async with session(mariadb_url) as db:
            await db.run("CREATE TABLE t (v text)", "XA START 'one'", "INSERT INTO t VALUES ('a.jpg')")
            await db.run("XA END 'one'")
            assert await waits(source)
            await db.run("XA PREPARE 'one'")
            assert await waits(source)
        try:
            assert await waits(source)
            with pytest.raises(SourceError, match="prepared and not ended"):
                await source.fence(timedelta(seconds=0.2))
        finally:
            async with session(mariadb_url) as db:
                await db.run("XA COMMIT 'one'")
        assert not await waits(source)
        assert await found(source, "a.jpg") == {"a.jpg"}


async def test_a_prepared_transaction_that_loses_its_connection_is_still_waited_for(mariadb_url: str) -> None:
    passed = anyio.Event()
    async with opened(mariadb_url, {"t": ["v"]}) as source, session(mariadb_url) as other:

        async def fence() -> None:
            await source.fence(PATIENCE)
            passed.set()

        async with anyio.create_task_group() as tasks:
            async with session(mariadb_url) as db:
                await db.run("CREATE TABLE t (v text)", "XA START 'two'", "INSERT INTO t VALUES ('a.jpg')")
                tasks.start_soon(fence)
                await anyio.sleep(GLANCE)
                await db.run("XA END 'two'", "XA PREPARE 'two'")
            await anyio.sleep(3 * GLANCE)
            assert not passed.is_set()
            await other.run("XA COMMIT 'two'")
        assert await found(source, "a.jpg") == {"a.jpg"}


async def test_a_fence_does_not_trust_a_stale_list(mariadb_url: str, mariadb_server: Server) -> None:
    """InnoDB answers from a cache for 0.1 s: somebody who looks all the time keeps it old."""
    async with (
        opened(mariadb_url, {"t": ["v"]}) as source,
        session(mariadb_url) as db,
        session(mariadb_url) as spy,
    ):
        await db.run("CREATE TABLE t (v text)")
        await spy.run("SELECT * FROM information_schema.innodb_trx")
        await db.run("BEGIN", "INSERT INTO t VALUES ('a.jpg')")
        assert await waits(source)


async def test_a_blocked_read_can_be_cancelled(mariadb_url: str) -> None:
    async with opened(mariadb_url, {"t": ["v"]}) as source, session(mariadb_url) as db:
        await db.run("CREATE TABLE t (v text)", "LOCK TABLES t WRITE")
        with anyio.fail_after(60), anyio.move_on_after(GLANCE) as scope:
            await found(source, "a.jpg")
        assert scope.cancelled_caught
        await db.run("UNLOCK TABLES")
        assert await found(source, "a.jpg") == set()
