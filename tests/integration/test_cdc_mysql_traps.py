"""Events of MariaDB that lose references if they are taken lightly. After each, rows kept by changes equal a scan.

A test's name says the event; its body shows that the naive reading would have lost a key.
"""

# ruff: noqa: E501 - statements stand on one line

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

import anyio
import pytest

from cdc_mysql_world import MyApp
from fixtures_databases import Server, mariadb_url, run_mariadb
from s3gc.errors import PositionLost, SourceError
from s3gc.testing.source_contract import Rows, changed, scanned
from s3gc_cdc_mysql._server import Target
from s3gc_cdc_mysql.flavour import MariaDb, MySql

__all__ = ["mariadb_url"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the contract suite runs on trio, too


@pytest.fixture(
    scope="module",
    params=[
        {"binlog_row_image": "FULL"},
        {"binlog_row_image": "MINIMAL"},
        {"binlog_row_image": "NOBLOB", "log_bin_compress": "ON", "log_bin_compress_min_len": 10},
    ],
    ids=["full", "minimal", "noblob-compressed"],
)
def mariadb_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    settings = {"innodb_flush_log_at_trx_commit": 1, "sync_binlog": 1, **request.param}
    with run_mariadb(**settings) as server:
        yield server


@pytest.fixture
async def app(mariadb_url: str) -> AsyncIterator[MyApp]:
    app = MyApp(mariadb_url)
    yield app
    await app.close()


ONE = "CREATE TABLE one (id int PRIMARY KEY, path varchar(200), doc text, note text)"


# --------------------------------------------------------------------------- images


async def test_a_column_that_an_image_lacks_keeps_its_references(app: MyApp) -> None:
    """MINIMAL and NOBLOB: absent isn't NULL."""
    await app.run(ONE, "INSERT INTO one VALUES (1, 'a', 'doc/1', 'n'), (2, 'b', 'doc/2', 'n')")
    kept = await app.follow({"one": ["path", "doc"]})
    await app.run(
        "UPDATE one SET path = 'c' WHERE id = 1", "UPDATE one SET note = 'm'", "UPDATE one SET doc = NULL WHERE id = 2"
    )  # fmt: skip
    assert await kept.agrees() == {"c", "b", "doc/1"}


async def test_a_new_row_id_takes_along_what_the_image_lacks(app: MyApp) -> None:
    await app.run(ONE, "INSERT INTO one VALUES (1, 'a', 'doc/1', 'n'), (2, 'b', 'doc/2', 'n')")
    kept = await app.follow({"one": ["path", "doc"]})
    await app.run("UPDATE one SET id = 10 WHERE id = 1", "UPDATE one SET id = 1 WHERE id = 2")
    assert await kept.agrees() == {"a", "b", "doc/1", "doc/2"}
    assert {r.row_id for r in kept.rows.references} == {"1", "10"}


async def test_a_row_that_moves_under_the_scan_is_seen_with_all_its_values(app: MyApp) -> None:
    await app.run(ONE, *(f"INSERT INTO one VALUES ({n}, 'p/{n}', 'doc/{n}', '')" for n in range(10, 20)))
    source = app.source({"one": ["path", "doc"]})
    begun = await source.begin()
    seen = []
    async for batch in source.scan():
        if not seen:
            await app.run("UPDATE one SET id = 1 WHERE id = 19")
        seen += batch.references
    assert "doc/19" not in {r.key for r in seen}, "the scan alone has lost it"
    rows = Rows(seen)
    rows.apply(await changed(source, begun))
    assert rows.references == set(await scanned(source))
    assert "doc/19" in {r.key for r in rows.references}


async def test_rows_that_trade_ids(app: MyApp) -> None:
    await app.run(ONE, "INSERT INTO one VALUES (1, 'a', 'doc/1', ''), (2, 'b', 'doc/2', '')")
    kept = await app.follow({"one": ["path", "doc"]})
    await app.run(
        "BEGIN", "UPDATE one SET id = 3 WHERE id = 1", "UPDATE one SET id = 1 WHERE id = 2",
        "UPDATE one SET id = 2 WHERE id = 3", "COMMIT",
    )  # fmt: skip
    assert await kept.agrees() == {"a", "b", "doc/1", "doc/2"}


async def test_a_key_that_a_row_names_for_a_moment_is_told(app: MyApp) -> None:
    """A row that has to be read has gone on by then; what its change said itself mustn't be forgotten."""
    await app.run(
        "CREATE TABLE one (id int PRIMARY KEY, path varchar(99), doc varchar(99) DEFAULT 'default.jpg')"
    )
    kept = await app.follow({"one": ["path", "doc"]})
    await app.run("INSERT INTO one (id, path) VALUES (1, 'for a moment')", "UPDATE one SET path = 'b'")
    assert await kept.agrees() == {"b", "default.jpg"}
    assert "for a moment" in {r.key for b in kept.batches for c in b.changes for r in c.references}


async def test_a_default_is_a_value_that_an_image_may_lack(app: MyApp) -> None:
    """MINIMAL leaves a column out that the statement didn't name, and its default is a reference."""
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path varchar(99) DEFAULT 'default.jpg', n int)")
    kept = await app.follow({"one": ["path"]})
    await app.run("INSERT INTO one (id) VALUES (1)", "INSERT INTO one VALUES (2, 'b', 1)")
    assert await kept.agrees() == {"default.jpg", "b"}
    await app.run("UPDATE one SET path = 'c'", "REPLACE INTO one (id, n) VALUES (2, 5)")
    assert await kept.agrees() == {"default.jpg", "c"}
    await app.run("UPDATE one SET path = DEFAULT WHERE id = 1", "DELETE FROM one WHERE id = 2")
    assert await kept.agrees() == {"default.jpg"}


# --------------------------------------------------------------------------- keys and values


async def test_keys_of_several_columns_of_many_types(app: MyApp) -> None:
    """Scan and log must print the same, or a change would miss its row."""
    await app.run(
        "CREATE TABLE odd (a varchar(20), b char(9), c binary(4), d decimal(9, 3), e date, f datetime(3),"
        " h bigint unsigned, i varbinary(9), j year, path text, PRIMARY KEY (a, b, c, d, e, f, h, i, j))"
        " CHARACTER SET latin1",
    )
    row = (
        "('é', 'ab ', X'0100', -1.5, '2024-02-03', '2024-02-03 04:05:06.700', 18446744073709551615,"
        " X'00FF00', 1999, {})"
    )
    await app.run("INSERT INTO odd VALUES " + row.format("'a'"))
    kept = await app.follow({"odd": ["path"]})
    await app.run("UPDATE odd SET path = 'b'")
    assert await kept.agrees() == {"b"}
    await app.run("UPDATE odd SET b = 'x', a = 'E' WHERE path = 'b'", "UPDATE odd SET d = 7.25, i = X'00'")
    assert await kept.agrees() == {"b"}
    await app.run("DELETE FROM odd")
    assert await kept.agrees() == set()


async def test_values_of_many_types_mean_the_same_in_scan_and_log(app: MyApp) -> None:
    await app.run(
        "CREATE TABLE t (id int PRIMARY KEY, a varchar(300) CHARACTER SET latin1, b longtext, c json, d blob, e char(30),"
        " f enum('f/1.jpg', 'f/2.jpg'), g set('g1', 'g2'), h varchar(99) CHARACTER SET utf16, i mediumtext CHARACTER SET gbk,"
        " j binary(20), k varbinary(300), l tinytext, m varchar(99) COLLATE utf8mb4_bin COMPRESSED, n text COMPRESSED)",
    )  # fmt: skip
    values = (
        "({id}, 'é/{id}.jpg', '<img src=\"/b/{id}.png\">', '{{\"deep\": [\"c/{id}.jpg\"]}}', 'd/{id}', 'e/{id}',"
        " 'f/{id}.jpg', 'g{id}', '漢/{id}.jpg', '字/{id}', 'j/{id}', 'k/{id}', 'l/{id} 😀', 'm/{id}', 'n/{id}')"
    )
    await app.run("INSERT INTO t VALUES " + values.format(id=1))
    kept = await app.follow({"t": [chr(c) for c in range(ord("a"), ord("o"))]})
    await app.run("INSERT INTO t VALUES " + values.format(id=2), "UPDATE t SET id = 3 WHERE id = 1")
    keys = await kept.agrees()
    assert {
        "é/2.jpg",
        "b/2.png",
        "c/2.jpg",
        "d/2",
        "e/2",
        "f/2.jpg",
        "漢/2.jpg",
        "字/2",
        "k/2",
        "m/2",
        "n/2",
    } <= keys


async def test_folders_are_told_as_folders(app: MyApp) -> None:
    await app.run("CREATE TABLE albums (id int PRIMARY KEY, folder text)")
    kept = await app.follow({"albums": ["folder"]}, folders={"albums": ["folder"]})
    await app.run(
        "INSERT INTO albums VALUES (1, 'photos/7'), (2, 'photos/8')", "DELETE FROM albums WHERE id = 2"
    )
    await kept.agrees()
    assert {r.key for r in kept.rows.references if r.prefix} == {"photos/7/"}


# --------------------------------------------------------------------------- many rows at once


async def test_truncate_and_rows_after_it(app: MyApp) -> None:
    await app.run(
        ONE,
        "CREATE TABLE two LIKE one",
        "INSERT INTO one VALUES (1, 'a', '', '')",
        "INSERT INTO two SELECT * FROM one",
    )
    kept = await app.follow({"one": ["path"], "two": ["path"]})
    await app.run(
        "INSERT INTO one VALUES (2, 'c', '', '')", "TRUNCATE TABLE one", "INSERT INTO one VALUES (3, 'd', '', '')", "TRUNCATE `two`"
    )  # fmt: skip
    assert await kept.agrees() == {"d"}
    await app.run("TRUNCATE one", "INSERT INTO one VALUES (3, 'e', '', '')")
    assert await kept.agrees() == {"e"}


async def test_upserts_replaces_loads_and_triggers_are_all_told(app: MyApp) -> None:
    await app.run(
        ONE, "CREATE TABLE log (id int AUTO_INCREMENT PRIMARY KEY, path text)",
        "CREATE TRIGGER t AFTER UPDATE ON one FOR EACH ROW INSERT INTO log (path) VALUES (OLD.path)",
        "INSERT INTO one VALUES (1, 'a', 'doc', ''), (2, 'b', '', '')",
    )  # fmt: skip
    kept = await app.follow({"one": ["path", "doc"], "log": ["path"]})
    await app.run(
        "INSERT INTO one VALUES (1, 'c', '', '') ON DUPLICATE KEY UPDATE path = VALUES(path)",
        "REPLACE INTO one VALUES (2, 'd', 'e', '')", "REPLACE INTO one (id, path) VALUES (9, 'f')",
        "INSERT IGNORE INTO one VALUES (1, 'never', '', ''), (5, 'g', '', '')",
        "CREATE TABLE copy (id int PRIMARY KEY) SELECT id FROM one",
        "DELETE one FROM one JOIN copy USING (id) WHERE one.id = 5",
    )  # fmt: skip
    assert await kept.agrees() == {"c", "doc", "a", "d", "e", "f"}


async def test_rollback_and_savepoints(app: MyApp) -> None:
    await app.run(ONE, "CREATE TABLE old (id int) ENGINE = MyISAM", "INSERT INTO one VALUES (1, 'a', '', '')")
    kept = await app.follow({"one": ["path"]})
    await app.run(
        "BEGIN", "INSERT INTO one VALUES (2, 'b', '', '')", "SAVEPOINT s", "DELETE FROM one WHERE id = 1",
        "INSERT INTO one VALUES (3, 'never', '', '')", "ROLLBACK TO s", "UPDATE one SET path = 'c' WHERE id = 2", "COMMIT",
        "BEGIN", "DELETE FROM one", "INSERT INTO old VALUES (1)", "ROLLBACK",
    )  # fmt: skip
    assert await kept.agrees() == {"a", "c"}
    assert "never" not in {r.key for b in kept.batches for c in b.changes for r in c.references}


async def test_a_transaction_larger_than_a_batch(app: MyApp) -> None:
    """Its parts have the position before it: one can read on from each of them."""
    await app.run(ONE, "INSERT INTO one VALUES (1, 'a', '', '')")
    kept = await app.follow({"one": ["path"]}, batch=10)
    begun, base = kept.position, list(kept.rows.references)
    await app.run("BEGIN", "DELETE FROM one", "INSERT INTO one SELECT seq, CONCAT('k/', seq), '', REPEAT('x', 2500) FROM seq_1_to_95", "COMMIT")  # fmt: skip
    keys = await kept.agrees()
    assert len(keys) == 95
    parts = [batch for batch in kept.batches if batch.changes]
    assert len(parts) > 1
    assert {part.position for part in parts[:-1]} == {begun}
    for stop in range(1, len(parts)):
        later = app.source({"one": ["path"]})
        rows = Rows(base)
        rows.apply(parts[:stop])
        rows.apply(await changed(later, parts[stop - 1].position))
        await later.aclose()
        assert {r.key for r in rows.references} == keys


async def test_prepared_transactions(app: MyApp) -> None:
    """Their rows are in the log when they are prepared, and in the table when they are committed."""
    await app.run(ONE, "INSERT INTO one VALUES (1, 'a', '', '')")
    kept = await app.follow({"one": ["path"]})
    gid = app.name
    for end, expected in (("ROLLBACK", "a"), ("COMMIT", "b")):
        await app.run(
            f"XA START '{gid}'", "UPDATE one SET path = 'b'", f"XA END '{gid}'", f"XA PREPARE '{gid}'"
        )
        with pytest.raises(SourceError, match="1 transaction"):
            await kept.source.fence(timedelta(milliseconds=200))
        async with app.other() as other:
            await other.run("CREATE TABLE IF NOT EXISTS busy (id int)")
        tip = await kept.source.tip(kept.position, timedelta(seconds=5))
        kept.batches = list(await changed(kept.source, kept.position, tip))
        kept.rows.apply(kept.batches)
        kept.position = kept.batches[-1].position
        assert kept.keys == {"a"}, "a prepared change isn't there yet"
        await app.run(f"XA {end} '{gid}'")
        assert await kept.agrees() == {expected}


async def test_a_prepared_transaction_that_another_process_has_seen_is_a_gap(app: MyApp) -> None:
    await app.run(ONE, "INSERT INTO one VALUES (1, 'a', '', '')")
    kept = await app.follow({"one": ["path"]})
    gid = app.name
    await app.run(f"XA START '{gid}'", "UPDATE one SET path = 'b'", f"XA END '{gid}'", f"XA PREPARE '{gid}'")
    tip = await kept.source.tip(kept.position, timedelta(seconds=5))
    kept.position = (await changed(kept.source, kept.position, tip))[-1].position
    await app.run(f"XA COMMIT '{gid}'")
    await kept.source.aclose()
    with pytest.raises(PositionLost, match="rows were told before following began"):
        await kept.follow()


# --------------------------------------------------------------------------- foreign keys


async def test_rows_that_a_foreign_key_takes_along_are_told_to_be_gone(app: MyApp) -> None:
    """The log has no event of them. Too many are known, so all is scanned again by the next cycle."""
    await app.run(
        "CREATE TABLE top (id int PRIMARY KEY) ", "CREATE TABLE mid (id int PRIMARY KEY, top int, FOREIGN KEY (top) REFERENCES top (id) ON DELETE CASCADE)",
        "CREATE TABLE low (id int PRIMARY KEY, mid int, path text, FOREIGN KEY (mid) REFERENCES mid (id) ON DELETE CASCADE)",
        "CREATE TABLE loose (id int PRIMARY KEY, top int, path text, FOREIGN KEY (top) REFERENCES top (id) ON DELETE SET NULL)",
        "INSERT INTO top VALUES (1), (2), (3)", "INSERT INTO mid VALUES (1, 1), (2, 2)",
        "INSERT INTO low VALUES (1, 1, 'a'), (2, 2, 'b')", "INSERT INTO loose VALUES (1, 1, 'c')",
    )  # fmt: skip
    kept = await app.follow({"low": ["path"], "loose": ["path"]})
    await app.run("INSERT INTO top VALUES (4)", "UPDATE top SET id = 5 WHERE id = 4")
    await kept.agrees()
    assert not any(batch.stale for batch in kept.batches)
    await app.run("DELETE FROM top WHERE id = 1")
    batches = await changed(kept.source, kept.position)
    kept.rows.apply(batches)
    assert kept.keys == {"a", "b", "c"}, "the naive reading ends here"
    assert [b.stale for b in batches if b.stale] == [
        f"{kept.source.name}: rows of low went, or lost values, with rows that their foreign keys refer to"
    ]


@pytest.mark.parametrize("columns", ["path varchar(99) REFERENCES top (name) ON UPDATE CASCADE", "path varchar(99), FOREIGN KEY (path) REFERENCES top (name) ON UPDATE CASCADE ON DELETE CASCADE"])  # fmt: skip
async def test_a_foreign_key_that_writes_a_tracked_column_is_refused(app: MyApp, columns: str) -> None:
    await app.run(
        "CREATE TABLE top (id int PRIMARY KEY, name varchar(99) UNIQUE)",
        f"CREATE TABLE low (id int PRIMARY KEY, {columns})",
    )
    for call in (app.source({"low": ["path"]}).check, app.source({"low": ["path"]}).begin):
        with pytest.raises(SourceError, match=r"the foreign key of low to .*top changes path .*isn't logged"):
            await call()


async def test_a_foreign_key_that_writes_a_row_id_is_refused(app: MyApp) -> None:
    await app.run(
        "CREATE TABLE top (id int PRIMARY KEY)",
        "CREATE TABLE low (id int PRIMARY KEY, path text, FOREIGN KEY (id) REFERENCES top (id) ON UPDATE CASCADE)",
    )
    with pytest.raises(SourceError, match="changes id when"):
        await app.source({"low": ["path"]}).check()


# --------------------------------------------------------------------------- places and visibility


@pytest.fixture
async def hold_commits(app: MyApp, mariadb_server: Server) -> AsyncIterator[Callable[[], str]]:
    """Lets the next commit rest for two seconds between the log and the table: nobody sees it."""
    yield lambda: mariadb_server.admin(
        "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC'; SET GLOBAL rpl_semi_sync_master_timeout = 2000;"
        "SET GLOBAL rpl_semi_sync_master_wait_no_slave = 1; SET GLOBAL rpl_semi_sync_master_enabled = 1"
    )
    mariadb_server.admin("SET GLOBAL rpl_semi_sync_master_enabled = 0")


async def in_the_log(app: MyApp, before: str) -> None:
    with anyio.fail_after(10):
        while True:
            async with app.other() as other:
                now = MyApp(app.url)
                now.session = other
                if (await now.rows("SHOW MASTER STATUS"))[0][1] != before:
                    return


@pytest.mark.parametrize("flavour", [MariaDb, MySql])
async def test_the_beginning_is_a_place_whose_transactions_a_scan_sees(
    app: MyApp,
    hold_commits: Callable[[], str],
    flavour: type[MariaDb | MySql],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SHOW MASTER STATUS tells what no SELECT sees yet: 'position, then scan' would lose it."""
    await app.run(ONE)
    monkeypatch.setattr(MariaDb, "settled", flavour.settled)
    monkeypatch.setattr(MariaDb, "visible", flavour.visible)
    source = app.source({"one": ["path"]})
    [(_, before, *_)] = await app.rows("SHOW MASTER STATUS")
    hold_commits()
    async with app.other() as other, anyio.create_task_group() as tasks:
        tasks.start_soon(other.run, "INSERT INTO one VALUES (1, 'a', '', '')")
        await in_the_log(app, before)
        assert await app.rows("SELECT * FROM one") == [], "the trap is open"
        begun = await source.begin()
        rows = Rows(await scanned(source))
    rows.apply(await changed(source, begun))
    assert {r.key for r in rows.references} == {"a"}


async def test_a_row_that_is_read_again_is_read_when_its_change_is_visible(
    app: MyApp, hold_commits: Callable[[], str]
) -> None:
    """A default that a MINIMAL image lacks: read too early, the row isn't there and names nothing."""
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path varchar(99) DEFAULT 'default.jpg', n int)")
    kept = await app.follow({"one": ["path"]})
    [(_, before, *_)] = await app.rows("SHOW MASTER STATUS")
    hold_commits()
    async with app.other() as other, anyio.create_task_group() as tasks:
        tasks.start_soon(other.run, "INSERT INTO one (id) VALUES (1)")
        await in_the_log(app, before)
        await kept.up_to_now()
    assert kept.keys == {"default.jpg"}
    await kept.agrees()


async def test_a_scan_sees_all_that_was_told(app: MyApp, hold_commits: Callable[[], str]) -> None:
    """When all is scanned again in the middle of following, what was told mustn't be taken for gone."""
    await app.run(ONE)
    kept = await app.follow({"one": ["path"]})
    [(_, before, *_)] = await app.rows("SHOW MASTER STATUS")
    hold_commits()
    async with app.other() as other, anyio.create_task_group() as tasks:
        tasks.start_soon(other.run, "INSERT INTO one VALUES (1, 'a', '', '')")
        await in_the_log(app, before)
        await kept.up_to_now()
        assert await app.rows("SELECT * FROM one") == [], "the trap is open"
        assert kept.keys == {"a"}
        kept.rows = Rows(await scanned(kept.source))
    assert await kept.agrees() == {"a"}


async def test_a_fence_covers_every_commit(app: MyApp) -> None:
    await app.run(ONE)
    kept = await app.follow({"one": ["path"]})
    for number in range(40):
        await app.run(f"INSERT INTO one VALUES ({number}, 'k/{number}', '', '')")
        await kept.follow()
        assert f"k/{number}" in kept.keys


async def test_a_fence_on_an_idle_server_comes_through(app: MyApp) -> None:
    await app.run(ONE, "INSERT INTO one VALUES (1, 'a', '', '')")
    kept = await app.follow({"one": ["path"]})
    with anyio.fail_after(20):
        await app.run("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
        for _ in range(3):
            assert await kept.agrees() == {"a"}
        while await kept.up_to_now():  # the server writes a note of its own a moment after a new file
            assert not any(batch.changes for batch in kept.batches)


async def test_changes_between_fences_are_told_up_to_the_tip(app: MyApp) -> None:
    """The follower's way: without waiting for open transactions, and the fingerprint stays that of the fence."""
    await app.run(ONE, "INSERT INTO one VALUES (1, 'a', '', '')")
    kept = await app.follow({"one": ["path"]})
    async with app.other() as other:
        await other.run("BEGIN", "INSERT INTO one VALUES (2, 'open', '', '')")
        await app.run("INSERT INTO one VALUES (3, 'c', '', '')")
        tip = await kept.source.tip(kept.position, timedelta(seconds=5))
        kept.batches = list(await changed(kept.source, kept.position, tip))
        kept.rows.apply(kept.batches)
        kept.position = kept.batches[-1].position
        assert kept.keys == {"a", "c"}
        await other.run("COMMIT")
    await app.run("TRUNCATE one", "INSERT INTO one VALUES (4, 'd', '', '')")
    tip = await kept.source.tip(kept.position, timedelta(seconds=5))
    kept.rows.apply(await changed(kept.source, kept.position, tip))
    kept.position = (await changed(kept.source, kept.position, tip))[-1].position
    assert await kept.agrees() == {"d"}


async def test_places_are_told_by_a_catalogue_that_stands_still(
    app: MyApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TRUNCATE between the fence's place and its look at the catalogue would be taken for a rebuilt table."""
    await app.run(ONE)
    kept = await app.follow({"one": ["path"]})
    now, done = Target.now, []

    async def and_then_truncate(self: Target, connection: object) -> object:
        found = await now(self, connection)
        if len(done) < 2:
            done.append(1)
            async with self.connection() as other, other.cursor() as cursor:
                await cursor.execute("TRUNCATE one")
        return found

    monkeypatch.setattr(Target, "now", and_then_truncate)
    fence = await kept.source.fence(timedelta(seconds=20))
    assert len(done) == 2
    monkeypatch.undo()
    kept.rows.apply(await changed(kept.source, kept.position, fence))
    assert kept.keys == set()


# --------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("CREATE TABLE t (id int, path text)", "no primary key.*ADD PRIMARY KEY"),
        ("CREATE TABLE t (id int PRIMARY KEY, path text) ENGINE = MyISAM", "ENGINE = InnoDB"),
        ("CREATE TABLE t (id int PRIMARY KEY, path text) ENGINE = Aria", "ENGINE = InnoDB"),
        ("CREATE TABLE b (id int PRIMARY KEY, path text); CREATE VIEW t AS SELECT * FROM b", "isn't an ordinary"),
        ("CREATE TABLE t (id int PRIMARY KEY, path text) WITH SYSTEM VERSIONING", "system-versioned"),
        ("CREATE TABLE t (id int PRIMARY KEY, n text, path text AS (CONCAT('p/', n)) VIRTUAL)", "path is generated"),
        ("CREATE TABLE t (id int PRIMARY KEY, n text, path text AS (CONCAT('p/', n)) STORED)", "path is generated"),
        ("CREATE TABLE t (id timestamp PRIMARY KEY, path text)", "logged in another form"),
        ("CREATE TABLE t (id double PRIMARY KEY, path text)", "logged in another form"),
        ("CREATE TABLE t (id int PRIMARY KEY, path uuid)", "logged in another form"),
    ],
)  # fmt: skip
async def test_tables_whose_changes_are_not_told_are_refused(app: MyApp, make: str, message: str) -> None:
    await app.run(*make.split("; "))
    for call in (app.source({"t": ["path"]}).check, app.source({"t": ["path"]}).begin):
        with pytest.raises(SourceError, match=message):
            await call()


async def test_partitions_are_told_as_their_table(app: MyApp) -> None:
    await app.run(
        "CREATE TABLE parts (id int, at int, path text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)"
        " (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))",
        "INSERT INTO parts VALUES (1, 1, 'a'), (2, 11, 'b')",
    )
    kept = await app.follow({"parts": ["path"]})
    await app.run(
        "INSERT INTO parts VALUES (3, 2, 'c')",
        "UPDATE parts SET at = 15 WHERE id = 3",
        "DELETE FROM parts WHERE id = 2",
    )
    assert await kept.agrees() == {"a", "c"}
    await app.run("TRUNCATE parts", "INSERT INTO parts VALUES (9, 9, 'z')")
    assert await kept.agrees() == {"z"}


async def test_names_that_must_be_quoted(app: MyApp) -> None:
    await app.run(
        "CREATE TABLE `odd-né.tab``le` (`the id` int PRIMARY KEY, `pa%th` text)",
        "INSERT INTO `odd-né.tab``le` VALUES (1, 'a')",
    )
    kept = await app.follow({'"odd-né.tab`le"': ["pa%th"]})
    await app.run("INSERT INTO `odd-né.tab``le` VALUES (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')")
    assert await kept.agrees() == {"a", "b", "c", "d", "e"}
    await app.run("TRUNCATE `odd-né.tab``le`", "INSERT INTO `odd-né.tab``le` VALUES (2, 'f')")
    assert await kept.agrees() == {"f"}


@pytest.mark.parametrize(
    ("type", "values"),
    [
        ("bigint unsigned", [str(18446744073709551615 - n) for n in range(20)]),
        ("decimal(30, 3)", [f"123456789012345678901234567.{n:03}" for n in range(20)]),
        ("varbinary(9)", [f"X'{n:02x}00{n:02x}'" for n in range(256 - 20, 256)]),
        ("varchar(9) CHARACTER SET latin1", [f"'é%\\\\{n:02}'" for n in range(20)]),
        ("datetime(6)", [f"'2024-01-01 00:00:00.{n:06}'" for n in range(20)]),
    ],
)
async def test_chunks_leave_no_row_out_and_go_on_from_their_marks(
    app: MyApp, type: str, values: list[str]
) -> None:
    rows = ", ".join(f"({number % 3}, {value}, 'k/{number}')" for number, value in enumerate(values))
    await app.run(
        f"CREATE TABLE one (a int, id {type}, path text, PRIMARY KEY (a, id))",
        f"INSERT INTO one VALUES {rows}",
    )
    source = app.source({"one": ["path"]})
    begun = await source.begin()
    batches = [batch async for batch in source.scan()]
    assert len(batches) == 7
    keys = [{r.key for r in batch.references} for batch in batches]
    assert sorted(key for some in keys for key in some) == sorted(f"k/{n}" for n in range(20))
    for at, batch in enumerate(batches):
        later = [{r.key for r in one.references} async for one in source.scan_on(begun, batch.mark)]
        assert [some for some in later if some] == [some for some in keys[at + 1 :] if some]
