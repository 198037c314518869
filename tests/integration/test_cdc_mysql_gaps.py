"""What the log doesn't tell, and histories that aren't the one that was followed: PositionLost, with the reason.

In each the naive reading ends in silence with references missing. Afterwards one can begin anew.
"""

# ruff: noqa: E501 - statements stand on one line

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta

import anyio
import pytest

from cdc_mysql_world import MyApp, reopened
from cdc_world import Kept
from fixtures_databases import Server, mariadb_server, mariadb_url, run_mariadb
from s3gc.errors import PositionLost, SourceError
from s3gc.model import Position
from s3gc_cdc_mysql import _follow
from s3gc_cdc_mysql.position import Place

__all__ = ["mariadb_server", "mariadb_url"]

pytestmark = pytest.mark.anyio

TABLES = {"one": ["path"], "two": ["path"]}
MAKE = (
    "CREATE TABLE one (id int PRIMARY KEY, path varchar(99), note varchar(99))",
    "CREATE TABLE two (id int PRIMARY KEY, path varchar(99))",
    "INSERT INTO one VALUES (1, 'a', 'n'), (2, 'b', 'n')", "INSERT INTO two VALUES (1, 'z')",
)  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app(mariadb_url: str) -> AsyncIterator[MyApp]:
    app = MyApp(mariadb_url)
    await app.run(*MAKE)
    yield app
    await app.close()


async def lost(kept: Kept, match: str) -> None:
    """The next fence tells; and again, for nothing was applied; then all is read anew."""
    for _ in range(2):
        with pytest.raises(PositionLost, match=match):
            await kept.follow()
    await kept.begin()
    await kept.agrees()


# --------------------------------------------------------------------------- statements

SILENT: dict[str, tuple[Sequence[str], str]] = {
    "a session that logs statements": (
        ["SET SESSION binlog_format = 'STATEMENT'", "UPDATE one SET path = 'c' WHERE id = 1"],
        r"logged a statement in the place of rows \(binlog_format\): .UPDATE one SET path",
    ),
    "a statement elsewhere whose trigger writes here": (
        ["CREATE TABLE other (id int)", "CREATE TRIGGER t AFTER INSERT ON other FOR EACH ROW INSERT INTO one VALUES (9, 'c', '')",
         "SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO other VALUES (1)"],
        "logged a statement in the place of rows",
    ),
    "a function called in a statement": (
        ["SET GLOBAL log_bin_trust_function_creators = 1",
         "CREATE FUNCTION f() RETURNS int MODIFIES SQL DATA BEGIN INSERT INTO one VALUES (9, 'c', ''); RETURN 1; END", "SET SESSION binlog_format = 'STATEMENT'", "SELECT f()"],
        "logged a statement in the place of rows",
    ),
    "a session without the names of columns": (
        ["SET GLOBAL binlog_row_metadata = 'MINIMAL'", "UPDATE one SET path = 'c' WHERE id = 1", "SET GLOBAL binlog_row_metadata = 'FULL'"],
        "without the names of its columns: binlog_row_metadata wasn't FULL",
    ),
    "a column made anew": (["ALTER TABLE one DROP path", "ALTER TABLE one ADD path varchar(99) DEFAULT 'c'"], "one was altered"),
    "a column made anew, the same": (
        ["ALTER TABLE one DROP path, ADD path varchar(99) DEFAULT 'c' AFTER id, ALGORITHM = INSTANT"], "one was altered",
    ),
    "another type": (["ALTER TABLE one MODIFY path varchar(5)"], "one was altered"),
    "columns renamed around": (
        ["ALTER TABLE one CHANGE path old varchar(99), CHANGE note path varchar(99)"], "one was altered",
    ),
    "tables renamed around": (["RENAME TABLE one TO three, two TO one, three TO two"], "one, .*two was renamed"),
    "renamed away and back": (
        ["ALTER TABLE one RENAME TO three", "INSERT INTO three VALUES (3, 'c', '')", "ALTER TABLE three RENAME one"], "one was altered",
    ),
    "recreated": (
        ["DROP TABLE one", "CREATE TABLE one (id int PRIMARY KEY, path varchar(99), note varchar(99))", "INSERT INTO one VALUES (1, 'c', '')"],
        "one was dropped",
    ),
    "replaced": (["CREATE OR REPLACE TABLE one (id int PRIMARY KEY, path varchar(99), note varchar(99))"], "one was created anew"),
    "a statement in disguise": (
        ["SET STATEMENT max_statement_time = 99 FOR /*!50100 ALTER */ TABLE `one` MODIFY path varchar(5)"], "one was altered",
    ),
    "rebuilt by another name of the same": (["OPTIMIZE TABLE one"], "one was rebuilt"),
    "another key": (["ALTER TABLE one DROP PRIMARY KEY, ADD PRIMARY KEY (id, path)"], "one was altered"),
    "without the log": (
        ["SET SESSION sql_log_bin = 0", "ALTER TABLE one ADD extra varchar(9), ALGORITHM = COPY", "UPDATE one SET path = 'c'"],
        "one was rebuilt",
    ),
    "a table swapped in without the log": (
        ["SET SESSION sql_log_bin = 0", "RENAME TABLE one TO three, two TO one, three TO two"], "table one was (rebuilt|altered)",
    ),
    "foreign keys that take rows along, come": (
        ["CREATE TABLE top (id int PRIMARY KEY)", "ALTER TABLE two ADD FOREIGN KEY (id) REFERENCES one (id) ON DELETE CASCADE", "DELETE FROM one WHERE id = 1"],
        "two was altered or recreated, or its foreign keys changed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(SILENT))
async def test_what_rows_do_not_tell(app: MyApp, case: str) -> None:
    kept = await app.follow(TABLES)
    statements, match = SILENT[case]
    async with app.other() as other:
        await other.run(*statements)
    await lost(kept, match)


PARTS = (
    "CREATE TABLE parts (id int PRIMARY KEY, path varchar(99)) PARTITION BY RANGE (id)"
    " (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))",
    "CREATE TABLE loose (id int PRIMARY KEY, path varchar(99))",
    "INSERT INTO loose VALUES (11, 'exchanged')", "INSERT INTO parts VALUES (1, 'a')",
)  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE parts EXCHANGE PARTITION p1 WITH TABLE loose",
        "ALTER TABLE loose RENAME TO lost, ALGORITHM = COPY; ALTER TABLE parts TRUNCATE PARTITION p0",
        "ALTER TABLE parts DROP PARTITION p0",
    ],
)
async def test_partitions_that_change_hands(app: MyApp, statement: str) -> None:
    await app.run(*PARTS)
    kept = await app.follow({"parts": ["path"]})
    await app.run(*statement.split("; "))
    await lost(kept, "parts was altered")


async def test_a_database_that_was_dropped(app: MyApp) -> None:
    await app.run(
        f"CREATE DATABASE {app.name}_b", f"CREATE TABLE {app.name}_b.three (id int PRIMARY KEY, path text)"
    )
    kept = await app.follow({f"{app.name}_b.three": ["path"]})
    await app.run(
        f"DROP DATABASE {app.name}_b", f"CREATE DATABASE {app.name}_b", f"CREATE TABLE {app.name}_b.three (id int PRIMARY KEY, path text)"
    )  # fmt: skip
    try:
        await lost(kept, f"database {app.name}_b was dropped")
    finally:
        await app.run(f"DROP DATABASE {app.name}_b")


async def test_changes_that_harm_nothing_hold_nothing(app: MyApp) -> None:
    kept = await app.follow(TABLES)
    await app.run(
        "ALTER TABLE one ADD extra varchar(9) DEFAULT 'x'", "ALTER TABLE one ADD INDEX by_note (note), COMMENT = 'x'", "CREATE INDEX by_path ON one (path)",
        "DROP INDEX by_path ON one", "ANALYZE TABLE one", "ALTER TABLE one DROP extra, COMMENT = 'path'", "INSERT INTO one (id, path) VALUES (5, 'c')",
        "CREATE TABLE other LIKE one", "ALTER TABLE other ADD two int, RENAME TO others", "CREATE VIEW v AS SELECT * FROM one",
        "CREATE TRIGGER tr BEFORE INSERT ON two FOR EACH ROW SET NEW.path = NEW.path", "DROP TABLE others", "CREATE TEMPORARY TABLE one (id int)",
        "INSERT INTO one VALUES (1)", "DROP TEMPORARY TABLE one", "FLUSH TABLES", "TRUNCATE two", "INSERT INTO two VALUES (7, 'y')",
        f"GRANT SELECT ON {app.name}.* TO nobody@'127.0.0.1' IDENTIFIED BY 'x'", "DROP USER nobody@'127.0.0.1'",
    )  # fmt: skip
    assert await kept.agrees() == {"a", "b", "c", "y"}


async def test_a_row_without_the_log_is_seen_by_the_direct_read_and_a_scan(app: MyApp) -> None:
    """No log tells it. What stands before each delete does."""
    kept = await app.follow(TABLES)
    async with app.other() as other:
        await other.run("SET SESSION sql_log_bin = 0", "INSERT INTO one VALUES (9, 'secret', '')")
    await kept.follow()
    assert kept.keys == {"a", "b", "z"}
    assert {r.key async for r in kept.source.find({"secret"})} == {"secret"}


async def test_a_table_that_is_gone_is_an_error_until_the_configuration_says_so(app: MyApp) -> None:
    kept = await app.follow(TABLES)
    await app.run("DROP TABLE two")
    with pytest.raises(PositionLost, match=r"table two was altered|two was dropped"):
        await kept.follow()
    for call in (kept.source.begin, kept.source.check):
        with pytest.raises(SourceError, match="there is no table 'two'"):
            await call()


async def test_a_position_of_another_configuration(app: MyApp) -> None:
    kept = await app.follow(TABLES)
    for change in ({"one": ["path"]}, {"one": ["path", "note"], "two": ["path"]}):
        later = Kept(app, app.source(change))
        later.position = kept.position
        with pytest.raises(PositionLost, match="the configuration of the tracked tables changed"):
            await later.follow()
    later = Kept(app, app.source(TABLES, resolver_settings="another base URL"))
    later.position = kept.position
    await lost(later, "the configuration of the tracked tables changed")
    later.position = Position(kept.position.source, "1/2 t:1:1 a.b.c.d:e", 1)
    with pytest.raises(PositionLost, match="is no position of change capture"):
        await later.follow()


async def test_another_reader_with_our_number(app: MyApp) -> None:
    """The server drops the first one. Both going on for ever would throw each other out in turns."""
    kept = await app.follow(TABLES, server_id=4711)
    await app.run("INSERT INTO one VALUES (9, 'i', '')")
    await kept.follow()  # its stream is open from here on
    other = Kept(app, app.source(TABLES, server_id=4711))
    other.position, other.rows = kept.position, kept.rows
    await app.run("INSERT INTO one VALUES (3, 'c', '')")
    assert "c" in await other.agrees()
    await app.run("INSERT INTO one VALUES (4, 'd', '')")
    with pytest.raises(SourceError, match="another reader of the log has taken our number, 4711") as error:
        await kept.follow()
    assert not isinstance(error.value, PositionLost)
    assert "d" in await kept.agrees(), "the next cycle goes on"


async def test_a_cancelled_reader_can_go_on(app: MyApp) -> None:
    kept = await app.follow(TABLES, batch=10)
    await app.run("INSERT INTO one SELECT seq, CONCAT('k/', seq), '' FROM seq_100_to_200")
    fence = await kept.source.fence(timedelta(seconds=60))
    stream = kept.source.changes(kept.position, fence)
    await stream.__anext__()
    await stream.aclose()  # type: ignore[attr-defined]
    for seconds in (0.0, 0.005, 0.02, 0.05):
        with anyio.move_on_after(seconds):
            await kept.follow()
    await kept.begin()
    assert len(await kept.agrees()) == 104


async def test_a_replica_is_refused(app: MyApp, mariadb_server: Server) -> None:
    kept = await app.follow(TABLES)
    mariadb_server.admin("SET GLOBAL read_only = 1")
    try:
        for call in (kept.source.begin, kept.source.check, kept.follow):
            with pytest.raises(SourceError, match="read-only"):
                await call()
        with pytest.raises(SourceError, match="read-only"):
            await kept.source.tip(kept.position, timedelta(seconds=5))
    finally:
        mariadb_server.admin("SET GLOBAL read_only = 0")


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("binlog_format", "MIXED", "binlog_format is MIXED.*SET GLOBAL binlog_format = 'ROW'"),
        ("binlog_format", "STATEMENT", "binlog_format is STATEMENT"),
        ("binlog_row_metadata", "NO_LOG", "SET GLOBAL binlog_row_metadata = 'FULL'"),
        ("binlog_row_metadata", "MINIMAL", "binlog_row_metadata is MINIMAL"),
    ],
)
async def test_a_server_that_does_not_log_rows_is_refused(
    app: MyApp, mariadb_server: Server, name: str, value: str, match: str
) -> None:
    mariadb_server.admin(f"SET GLOBAL {name} = '{value}'")
    try:
        for call in (app.source(TABLES).begin, app.source(TABLES).check, app.source(TABLES).set_up):
            with pytest.raises(SourceError, match=match):
                await call()
    finally:
        good = {"binlog_format": "ROW", "binlog_row_metadata": "FULL"}[name]
        mariadb_server.admin(f"SET GLOBAL {name} = '{good}'")


# --------------------------------------------------------------------------- servers of their own


@pytest.fixture(params=[{}], ids=["plain"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with run_mariadb(innodb_flush_log_at_trx_commit=1, sync_binlog=1, **request.param) as server:
        server.admin("CREATE DATABASE shop CHARACTER SET utf8mb4")
        yield server


@pytest.fixture
async def own(server: Server) -> AsyncIterator[MyApp]:
    app = MyApp(f"mysql://s3gc_admin:{server.password}@127.0.0.1:{server.port}/shop")
    await app.run(*MAKE)
    yield app
    await app.close()


async def halt(own: MyApp, server: Server) -> None:
    assert server.process is not None
    await own.session.close()
    assert await anyio.to_thread.run_sync(server.process.stop)


async def go_on(own: MyApp, server: Server) -> None:
    assert server.process is not None
    await anyio.to_thread.run_sync(server.process.start)
    own.session = reopened(own)


def put_aside(server: Server) -> None:
    subprocess.run(["cp", "-a", server.directory / "data", server.directory / "aside"], check=True)


def put_back(server: Server) -> None:
    shutil.rmtree(server.directory / "data")
    (server.directory / "aside").rename(server.directory / "data")


async def let_go(own: MyApp, kept: Kept) -> None:
    """A log that somebody reads isn't purged."""
    await kept.source.let_go()
    dumps = "SELECT 1 FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
    with anyio.fail_after(20):
        while await own.rows(dumps):  # noqa: ASYNC110 - the server has no event
            await anyio.sleep(0.05)


async def test_a_purged_log(own: MyApp) -> None:
    kept = await own.follow(TABLES)
    await own.run("INSERT INTO one VALUES (3, 'c', '')", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    await let_go(own, kept)
    with anyio.fail_after(20):
        while (await own.rows("SHOW BINARY LOGS"))[0][
            0
        ] != "binlog.000003":  # it may be needed for a recovery
            await own.run("PURGE BINARY LOGS TO 'binlog.000003'")
            await anyio.sleep(0.1)
    await lost(kept, r"purged its log binlog.000001|Could not find")


async def test_a_log_that_was_begun_anew(own: MyApp) -> None:
    kept = await own.follow(TABLES)
    await let_go(own, kept)
    await own.run("INSERT INTO one VALUES (3, 'c', '')", "RESET MASTER")
    await own.run(*(f"INSERT INTO one VALUES ({n}, 'd', '')" for n in range(10, 40)))
    await lost(kept, "this is another history|isn't the file that was followed|can't tell all changes")


async def test_a_log_that_ends_before_the_position(own: MyApp) -> None:
    """Error 1236 of the server, or silence: it would wait there for ever."""
    kept = await own.follow(TABLES)
    await kept.source.let_go()
    place = Place.read(kept.position)
    ahead = place.log.moved(place.log.offset + 100_000)
    for log in (ahead, type(ahead)("binlog.000009", 4)):
        kept.position = type(place)(log, place.born, place.gtids, place.prints).position(kept.source.name)
        with pytest.raises(PositionLost, match="before"):
            await kept.follow()


async def test_gtids_of_another_history(own: MyApp) -> None:
    kept = await own.follow(TABLES)
    await kept.source.let_go()
    place = Place.read(kept.position)
    more = place.gtids.having(0, 1, 10**9)  # type: ignore[union-attr,call-arg]
    kept.position = type(place)(place.log, place.born, more, place.prints).position(kept.source.name)
    await lost(kept, "doesn't have the transactions 0-1-1000000000")


async def test_another_server_id(own: MyApp) -> None:
    kept = await own.follow(TABLES)
    await kept.source.let_go()
    await own.run("SET GLOBAL server_id = 7")
    await lost(kept, "another server or database")


async def test_restarts_and_crashes_of_the_server_lose_nothing(own: MyApp, server: Server) -> None:
    assert server.process is not None
    kept = await own.follow(TABLES)
    for number, end in enumerate([server.process.stop, server.process.kill] * 2):
        await own.run(f"INSERT INTO one VALUES ({10 + number}, 'k/{number}', '')")
        if number % 2:
            await kept.follow()
        await own.session.close()
        await anyio.to_thread.run_sync(end)
        await go_on(own, server)
        assert f"k/{number}" in await kept.agrees()


async def test_a_crash_of_a_server_that_may_lose_commits_is_a_gap(own: MyApp, server: Server) -> None:
    """Its log has what its tables may have lost: a delete that never was would free a file."""
    assert server.process is not None
    await own.run("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
    kept = await own.follow(TABLES)
    assert [one.code for one in (await kept.source.capture_state()).findings] == ["durability"]
    await own.run("DELETE FROM one WHERE id = 1")
    await own.session.close()
    await anyio.to_thread.run_sync(server.process.kill)
    await go_on(own, server)
    await lost(kept, "the server crashed, and without innodb_flush_log_at_trx_commit = 1")


async def test_a_server_that_comes_back_while_it_is_waited_for(own: MyApp, server: Server) -> None:
    assert server.process is not None
    kept = await own.follow(TABLES)
    await own.run("INSERT INTO one VALUES (3, 'c', '')")
    fence = await kept.source.fence(timedelta(seconds=60))
    await halt(own, server)
    batches = []

    async def read() -> None:
        batches.extend([batch async for batch in kept.source.changes(kept.position, fence)])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(1)
        await go_on(own, server)
    kept.rows.apply(batches)
    assert "c" in kept.keys


async def test_a_server_that_stays_away_is_told(
    own: MyApp, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_follow, "RETRY_SECONDS", 1.0)
    kept = await own.follow(TABLES)
    await own.run("INSERT INTO one VALUES (3, 'c', '')")
    fence = await kept.source.fence(timedelta(seconds=60))
    await halt(own, server)
    await kept.source.let_go()
    with pytest.raises(SourceError, match="couldn't be followed for 1 seconds") as error:
        [_ async for _ in kept.source.changes(kept.position, fence)]
    assert not isinstance(error.value, PositionLost)
    await go_on(own, server)
    assert "c" in await kept.agrees()


async def test_a_server_put_back_to_before_the_position(own: MyApp, server: Server) -> None:
    kept = await own.follow(TABLES)
    await halt(own, server)
    put_aside(server)
    await go_on(own, server)
    await own.run("INSERT INTO one VALUES (3, 'c', '')", "FLUSH BINARY LOGS")
    await kept.agrees()
    await halt(own, server)
    put_back(server)
    await go_on(own, server)
    fence = await kept.source.fence(timedelta(seconds=60))
    assert kept.position.ordinal is not None
    assert fence.ordinal is not None
    assert fence.ordinal < kept.position.ordinal
    with pytest.raises(PositionLost, match="before"):
        [_ async for _ in kept.source.changes(kept.position, fence)]
    await kept.begin()
    assert await kept.agrees() == {"a", "b", "z"}


async def test_a_server_put_back_that_has_gone_on_past_the_position(own: MyApp, server: Server) -> None:
    """The same server, the same file, the same GTIDs, a position that it has reached again: only the moment
    when the file was begun tells that this is another history."""
    kept = await own.follow(TABLES)
    await halt(own, server)
    put_aside(server)
    await go_on(own, server)
    await own.run("INSERT INTO one VALUES (3, 'in the history that is lost', '')")
    await kept.agrees()
    await halt(own, server)
    put_back(server)
    await anyio.sleep(1.1)  # the log counts in seconds
    await go_on(own, server)
    await own.run(
        *(f"INSERT INTO one VALUES ({n}, 'in the history that is here ', '')" for n in range(3, 33))
    )
    fence = await kept.source.fence(timedelta(seconds=60))
    assert kept.position.ordinal is not None
    assert fence.ordinal is not None
    assert fence.ordinal > kept.position.ordinal
    with pytest.raises(PositionLost, match="isn't the file that was followed"):
        [_ async for _ in kept.source.changes(kept.position, fence)]
    await kept.begin()
    assert "in the history that is here " in await kept.agrees()
