"""What the stream doesn't tell, and histories that aren't the one that was followed: PositionLost, with the reason.

In each the naive reading ends in silence with references missing. Afterwards one can begin anew.
"""

# ruff: noqa: E501 - statements stand on one line

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta

import anyio
import asyncpg
import pytest
from attrs import evolve

from cdc_world import App, Kept, deadline
from fixtures_databases import Server, postgres_server, postgres_url, run_postgres
from s3gc.errors import PositionLost, Reconfigured, SourceError
from s3gc.testing.source_contract import Rows, scanned
from s3gc_cdc_postgres import _follow
from s3gc_cdc_postgres.position import Committed, Told
from s3gc_cdc_postgres.position import Place as Where

__all__ = ["deadline", "postgres_server", "postgres_url"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app(postgres_url: str) -> AsyncIterator[App]:
    app = App(postgres_url)
    await app.run(
        "CREATE TABLE one (id int PRIMARY KEY, path text, note text)", "CREATE TABLE two (id int PRIMARY KEY, path text)",
        "INSERT INTO one VALUES (1, 'a'), (2, 'b')", "INSERT INTO two VALUES (1, 'z')",
    )  # fmt: skip
    yield app
    await app.close()


TABLES = {"one": ["path"], "two": ["path"]}


async def lost(kept: Kept, match: str) -> None:
    """The next fence tells; and again, for nothing was applied; then all is read anew."""
    for _ in range(2):
        with pytest.raises(PositionLost, match=match):
            await kept.follow()
    await kept.begin()
    await kept.agrees()


# --------------------------------------------------------------------------- tables and publication

SILENT: dict[str, tuple[Sequence[str], str]] = {
    "recreated": (
        ["DROP TABLE one", "CREATE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'c')"],
        "table one was altered, recreated",
    ),
    "out of the publication for a while": (
        ["ALTER PUBLICATION s3gc DROP TABLE one", "INSERT INTO one VALUES (3, 'c')", "ALTER PUBLICATION s3gc ADD TABLE one"],
        "table one was altered, recreated, or left the publication",
    ),
    "publication recreated": (
        ["DROP PUBLICATION s3gc", "INSERT INTO one VALUES (3, 'c')", "CREATE PUBLICATION s3gc FOR TABLE one (id, path), two (id, path) WITH (publish_via_partition_root = true)"],
        "the publication was changed",
    ),
    "publication without deletes for a while": (
        ["ALTER PUBLICATION s3gc SET (publish = 'insert')", "UPDATE one SET path = 'c' WHERE id = 1", "ALTER PUBLICATION s3gc SET (publish = 'insert, update, delete, truncate')"],
        "the publication was changed",
    ),
    "rows filtered": (
        ["ALTER PUBLICATION s3gc SET TABLE one (id, path) WHERE (id > 100), two (id, path)"],
        "left the publication",
    ),
    "rewritten": (["ALTER TABLE one ALTER path TYPE text USING 'rewritten/' || path"], "table one was altered"),
    "another type": (["ALTER TABLE one ALTER path TYPE varchar(99)"], "table one was altered"),
    "column replaced with a default": (
        ["ALTER TABLE one DROP path", "ALTER TABLE one ADD path text DEFAULT 'default'"],
        "table one was altered",
    ),
    "columns renamed around": (
        ["ALTER TABLE one RENAME path TO old_path", "ALTER TABLE one RENAME note TO path", "UPDATE one SET path = 'c'"],
        "table one was altered",
    ),
    "tables renamed around": (
        ["ALTER TABLE one RENAME TO three", "ALTER TABLE two RENAME TO one", "ALTER TABLE three RENAME TO two"],
        "table one was altered.*table two was altered",
    ),
    "another identity": (
        ["CREATE UNIQUE INDEX by_path ON one (id, path)", "ALTER TABLE one ALTER path SET NOT NULL", "ALTER TABLE one REPLICA IDENTITY USING INDEX by_path"],
        "table one was altered",
    ),
    "identity away and back with an update between": (
        ["ALTER TABLE one DROP CONSTRAINT one_pkey", "ALTER TABLE one ADD PRIMARY KEY (id)", "VACUUM FULL one"],
        "table one was rewritten",
    ),
    "truncated and rewritten": (
        ["TRUNCATE two", "ALTER TABLE one ALTER path TYPE text USING 'x/' || path"],
        "table one was altered",
    ),
}  # fmt: skip


async def test_a_column_list_keeps_tracked_columns_from_being_altered(app: App) -> None:
    """PostgreSQL's own rule, which the documentation warns of. What to run around a migration is told."""
    kept = await app.follow(TABLES)
    migration = ("ALTER TABLE one ALTER path TYPE varchar(99)", "ALTER TABLE two DROP path")
    for statement in migration:
        with pytest.raises(asyncpg.PostgresError, match="publication"):
            await app.run(statement)
    assert await kept.agrees() == {"a", "b", "z"}
    told = (await kept.source.capture_state()).details["to alter or drop a listed column"]
    before, between, after = told.split("; ")
    assert between == "the migration"
    await app.run(before, migration[0], after)
    await lost(kept, "table one was altered")
    assert "to alter or drop a listed column" in (await kept.source.capture_state()).details


async def test_whole_tables_need_nothing_around_a_migration(app: App) -> None:
    await app.run("CREATE PUBLICATION s3gc FOR TABLE one, two WITH (publish_via_partition_root = true)")
    kept = await app.follow(TABLES)
    assert "to alter or drop a listed column" not in (await kept.source.capture_state()).details


@pytest.mark.parametrize("case", sorted(SILENT))
async def test_what_the_stream_does_not_tell(app: App, case: str) -> None:
    # The owner's publication, of whole tables: a column list would refuse some of these statements.
    await app.run("CREATE PUBLICATION s3gc FOR TABLE one, two WITH (publish_via_partition_root = true)")
    kept = await app.follow(TABLES)
    statements, match = SILENT[case]
    await app.run(*statements)
    await lost(kept, match)


async def test_a_table_that_is_gone_is_an_error_until_the_configuration_says_so(app: App) -> None:
    kept = await app.follow(TABLES)
    await app.run("DROP TABLE two")
    with pytest.raises(PositionLost, match="table two was altered"):
        await kept.follow()
    with pytest.raises(SourceError, match="there is no table 'two'"):
        await kept.source.begin()
    with pytest.raises(SourceError, match="there is no table 'two'"):
        await kept.source.check()


async def test_a_column_that_is_gone_is_an_error(app: App) -> None:
    kept = await app.follow(TABLES)
    await app.run("ALTER TABLE one RENAME path TO paths", "UPDATE one SET paths = 'c'")
    with pytest.raises(PositionLost, match="table one was altered"):
        await kept.follow()
    with pytest.raises(SourceError, match="no column 'path'; did you mean 'paths'"):
        await kept.source.begin()


PARTS = (
    "CREATE TABLE parts (id int PRIMARY KEY, path text) PARTITION BY RANGE (id)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE loose (id int PRIMARY KEY, path text)",
    "INSERT INTO loose VALUES (11, 'attached')", "INSERT INTO parts VALUES (1, 'a')",
)  # fmt: skip


UNTOLD: dict[str, Sequence[str]] = {
    "attached with rows": ["ALTER TABLE parts ATTACH PARTITION loose FOR VALUES FROM (10) TO (20)"],
    "truncated by itself": ["TRUNCATE parts_1"],
    "made, filled and attached in one transaction": [
        "BEGIN", "CREATE TABLE fresh (LIKE parts INCLUDING ALL)", "INSERT INTO fresh VALUES (31, 'moved')",
        "ALTER TABLE parts ATTACH PARTITION fresh FOR VALUES FROM (30) TO (40)", "COMMIT",
    ],
    "rows moved out of another one, in one transaction": [
        "BEGIN", "CREATE TABLE fresh (LIKE parts INCLUDING ALL)",
        "WITH gone AS (DELETE FROM parts_1 WHERE id = 1 RETURNING *) INSERT INTO fresh SELECT id + 30, path FROM gone",
        "ALTER TABLE parts ATTACH PARTITION fresh FOR VALUES FROM (30) TO (40)", "COMMIT",
    ],
    "away, changed and back": [
        "ALTER TABLE parts DETACH PARTITION parts_1", "UPDATE parts_1 SET path = 'changed meanwhile'",
        "ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (0) TO (10)",
    ],
    "made as a partition, away, filled and back": [
        "CREATE TABLE fresh PARTITION OF parts FOR VALUES FROM (30) TO (40)", "ALTER TABLE parts DETACH PARTITION fresh",
        "INSERT INTO fresh VALUES (31, 'while away')", "ALTER TABLE parts ATTACH PARTITION fresh FOR VALUES FROM (30) TO (40)",
    ],
    "the same in one transaction": [
        "BEGIN", "CREATE TABLE fresh PARTITION OF parts FOR VALUES FROM (30) TO (40)", "ALTER TABLE parts DETACH PARTITION fresh",
        "INSERT INTO fresh VALUES (31, 'while away')", "ALTER TABLE parts ATTACH PARTITION fresh FOR VALUES FROM (30) TO (40)", "COMMIT",
    ],
    "a child that inherits, made a partition": [
        "BEGIN", "CREATE TABLE fresh () INHERITS (loose)", "INSERT INTO fresh VALUES (31, 'as a child')",
        "ALTER TABLE fresh NO INHERIT loose", "ALTER TABLE fresh ALTER id SET NOT NULL",
        "ALTER TABLE parts ATTACH PARTITION fresh FOR VALUES FROM (30) TO (40)", "COMMIT",
    ],
    "a tree attached with rows": [
        "CREATE TABLE tree (LIKE parts INCLUDING ALL) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf PARTITION OF tree FOR VALUES FROM (30) TO (35)", "INSERT INTO tree VALUES (31, 'in a tree')",
        "ALTER TABLE parts ATTACH PARTITION tree FOR VALUES FROM (30) TO (40)",
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(UNTOLD))
async def test_partitions_whose_rows_nobody_told(app: App, case: str) -> None:
    await app.run(*PARTS)
    kept = await app.follow({"parts": ["path"]})
    await app.run(*UNTOLD[case])
    await lost(kept, "got a partition with rows that nobody told, or one was changed|partitions truncated")


TOLD: dict[str, tuple[int, Sequence[str]]] = {  # how often all is scanned again, and the statements
    "made": (0, ["CREATE TABLE fresh PARTITION OF parts FOR VALUES FROM (30) TO (40)"]),
    "made, and filled later": (
        0, ["CREATE TABLE fresh PARTITION OF parts FOR VALUES FROM (30) TO (40)", "INSERT INTO parts VALUES (31, 'c'), (32, 'd')",
            "UPDATE fresh SET path = 'e' WHERE id = 32", "VACUUM fresh", "ANALYZE fresh", "CREATE INDEX ON fresh (path)"],
    ),
    "made and filled in one transaction": (
        0, ["BEGIN", "CREATE TABLE fresh PARTITION OF parts FOR VALUES FROM (30) TO (40)", "INSERT INTO fresh VALUES (31, 'c')",
            "SAVEPOINT s", "CREATE TABLE more PARTITION OF parts FOR VALUES FROM (40) TO (50)", "INSERT INTO parts VALUES (41, 'd')", "COMMIT"],
    ),
    "attached while empty": (
        0, ["BEGIN", "CREATE TABLE fresh (LIKE parts INCLUDING ALL)", "ALTER TABLE parts ATTACH PARTITION fresh FOR VALUES FROM (30) TO (40)", "COMMIT"],
    ),
    "a tree, made": (
        0, ["CREATE TABLE tree PARTITION OF parts FOR VALUES FROM (30) TO (40) PARTITION BY RANGE (id)",
            "CREATE TABLE leaf PARTITION OF tree FOR VALUES FROM (30) TO (35)", "INSERT INTO parts VALUES (31, 'c')"],
    ),
    "dropped": (1, ["DROP TABLE parts_1"]),
    "detached": (1, ["INSERT INTO parts VALUES (2, 'c')", "ALTER TABLE parts DETACH PARTITION parts_1", "UPDATE parts_1 SET path = 'x'"]),
    "detached without waiting": (1, ["ALTER TABLE parts DETACH PARTITION parts_1 CONCURRENTLY"]),
    "one dropped and one made": (
        1, ["DROP TABLE parts_1", "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)", "INSERT INTO parts VALUES (1, 'c')"],
    ),
    "away, and told as rows again": (
        1, ["ALTER TABLE parts DETACH PARTITION parts_1", "CREATE TABLE fresh PARTITION OF parts FOR VALUES FROM (0) TO (10)",
            "INSERT INTO parts SELECT * FROM parts_1"],
    ),
    "emptied with its root": (0, ["TRUNCATE parts", "CREATE TABLE fresh PARTITION OF parts FOR VALUES FROM (30) TO (40)", "INSERT INTO parts VALUES (31, 'c')"]),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(TOLD))
async def test_partitions_that_come_and_go_hold_nothing(app: App, case: str) -> None:
    await app.run(
        *PARTS,
        "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (50) TO (60)",
        "INSERT INTO parts VALUES (51, 'stays')",
    )
    kept = await app.follow({"parts": ["path"]})
    scans, statements = TOLD[case]
    await app.run(*statements)
    await kept.agrees()
    assert kept.scans == scans
    await app.run("INSERT INTO parts VALUES (52, 'later')")
    if "fresh" in " ".join(statements) and "30" in " ".join(statements):
        await app.run("INSERT INTO parts VALUES (39, 'much later')")
    assert "later" in await kept.agrees()
    assert kept.scans == scans


async def test_a_partition_truncated_by_itself_after_its_root_leaves_too_much_and_loses_nothing(
    app: App,
) -> None:
    """The root's TRUNCATE explains new files. What is left over goes with the next reading of the table."""
    await app.run(*PARTS)
    kept = await app.follow({"parts": ["path"]})
    await app.run(
        "TRUNCATE parts",
        "INSERT INTO parts VALUES (1, 'left-over'), (2, 'b')",
        "TRUNCATE parts_1",
        "INSERT INTO parts VALUES (2, 'c')",
    )
    await kept.follow()
    assert kept.keys == {"left-over", "c"}


async def test_changes_that_harm_nothing_hold_nothing(app: App) -> None:
    kept = await app.follow(TABLES)
    await app.run(
        "ALTER TABLE one ADD unrelated text DEFAULT 'x'", "CREATE INDEX ON one (path)", "ANALYZE one", "VACUUM one",
        "ALTER TABLE one DROP note", "INSERT INTO one (id, path) VALUES (5, 'c')", "TRUNCATE two",
        "INSERT INTO two VALUES (7, 'y')", "COMMENT ON TABLE one IS 'x'", "GRANT SELECT ON one TO PUBLIC",
    )  # fmt: skip
    assert await kept.agrees() == {"a", "b", "c", "y"}


async def test_a_truncate_between_a_fences_message_and_its_look_is_no_gap(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await app.follow(TABLES)
    mark, done = kept.source._target.mark, []

    async def and_then_truncate(id: str) -> tuple[int, int]:
        found = await mark(id)
        if len(done) < 2:
            done.append(id)
            await asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(truncate(), app.session.loop._started())
            )
        return found

    async def truncate() -> None:
        await app.session._run((f"TRUNCATE one; INSERT INTO one VALUES ({len(done)}, 'c/{len(done)}')",))

    monkeypatch.setattr(kept.source._target, "mark", and_then_truncate)
    await kept.follow()
    assert len(done) == 2
    assert kept.keys == {"c/2", "z"}


async def meanwhile(app: App, *statements: str) -> None:
    """From the drivers' loop, on the application's connection."""
    await asyncio.wrap_future(
        asyncio.run_coroutine_threadsafe(app.session._run(statements), app.session.loop._started())
    )


@pytest.mark.parametrize(
    "statements",
    [
        (
            "UPDATE one SET path = 'c' WHERE id = 1",
            "ALTER TABLE one ALTER path TYPE text USING 'x/' || path",
        ),
        ("TRUNCATE one", "INSERT INTO one VALUES (7, 'after')"),
    ],
)
@pytest.mark.parametrize("place", ["mark", "prints"])
async def test_what_is_altered_while_one_begins_is_no_gap(
    app: App, monkeypatch: pytest.MonkeyPatch, place: str, statements: Sequence[str]
) -> None:
    """The scan sees a table rewritten, and a change of before, told after it, would undo that; a TRUNCATE
    before the message is never told. So one begins once more."""
    await app.run("CREATE PUBLICATION s3gc FOR TABLE one, two WITH (publish_via_partition_root = true)")
    kept = Kept(app, app.source(TABLES))
    await kept.source.set_up()
    plain, done = getattr(kept.source._target, place), []

    async def and_then(*args: object) -> object:
        found = await plain(*args)
        if not done:
            done.append(1)
            await meanwhile(app, *statements)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(kept.source._target, place, and_then)
        await kept.begin()
    assert done
    await kept.agrees()


async def test_tables_that_are_altered_all_the_time_are_not_begun_with(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(app, app.source(TABLES))
    mark = kept.source._target.mark

    async def and_then(id: str) -> tuple[int, int]:
        found = await mark(id)
        await meanwhile(app, "TRUNCATE one")
        return found

    monkeypatch.setattr(kept.source._target, "mark", and_then)
    with pytest.raises(SourceError, match="changed all the time"):
        await kept.source.begin()


async def test_a_truncate_is_remembered_over_an_interruption(app: App) -> None:
    """Its new file is explained by the stream, of which the registry has applied a part already."""
    kept = await app.follow(TABLES)
    await app.run(
        "TRUNCATE one", "INSERT INTO one VALUES (5, 'c')", "TRUNCATE two", "INSERT INTO two VALUES (6, 'd')"
    )
    fence = await kept.source.fence(timedelta(seconds=60))
    batches = [batch async for batch in kept.source.changes(kept.position, fence)]
    assert len(batches) == 2, "one for each table that was emptied"
    kept.rows.apply(batches[:1])
    kept.position = batches[0].position
    await kept.source._loop.run(kept.source._follower.close)
    assert await kept.agrees() == {"c", "d"}


async def test_a_ddl_that_is_committing_is_waited_for(app: App) -> None:
    """A change of the catalogue that is open at the fence isn't seen by a look at the catalogue."""
    await app.run("CREATE PUBLICATION s3gc FOR TABLE one, two WITH (publish_via_partition_root = true)")
    kept = await app.follow(TABLES)
    told: list[str] = []

    async def follow() -> None:
        try:
            await kept.follow()
        except PositionLost as error:
            told.append(str(error))

    async with app.other() as other:
        await other.run("BEGIN", "ALTER TABLE one ALTER path TYPE text USING 'x/' || path")
        with pytest.raises(SourceError, match=r"being changed|transaction"):
            await kept.source._mark(timedelta(milliseconds=300))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await anyio.sleep(0.5)
            await other.run("COMMIT")
    assert told
    assert "table one was altered" in told[0]


# --------------------------------------------------------------------------- the slot


async def test_a_dropped_slot(app: App) -> None:
    kept = await app.follow(TABLES)
    await kept.source._loop.run(kept.source._follower.close)
    await app.run(f"SELECT pg_drop_replication_slot('s3gc_{app.name}')", "INSERT INTO one VALUES (3, 'c')")
    await lost(kept, "the replication slot s3gc_.* is gone")


async def test_a_recreated_slot(app: App) -> None:
    """From its consistent point on it has everything, and nothing of before: no error would ever tell."""
    kept = await app.follow(TABLES)
    await kept.source._loop.run(kept.source._follower.close)
    slot = f"s3gc_{app.name}"
    await app.run(
        f"SELECT pg_drop_replication_slot('{slot}')", "INSERT INTO one VALUES (3, 'c')",
        f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')", "INSERT INTO one VALUES (4, 'd')",
    )  # fmt: skip
    await lost(kept, "it was recreated, or somebody else has read from it")


async def test_a_slot_that_somebody_else_has_read_from(app: App) -> None:
    kept = await app.follow(TABLES)
    await kept.source._loop.run(kept.source._follower.close)
    await app.run("INSERT INTO one VALUES (3, 'c')")
    await app.run(
        f"SELECT pg_logical_slot_get_binary_changes('s3gc_{app.name}', NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 's3gc')"
    )
    await lost(kept, "somebody else has read from it")


async def test_a_slot_of_another_kind_under_our_name(app: App) -> None:
    kept = await app.follow(TABLES)
    await kept.source._loop.run(kept.source._follower.close)
    slot = f"s3gc_{app.name}"
    await app.run(
        f"SELECT pg_drop_replication_slot('{slot}')", f"SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')",
    )  # fmt: skip
    with pytest.raises(PositionLost, match="is another one now"):
        await kept.follow()
    with pytest.raises(SourceError, match=rf"not ours: SELECT pg_drop_replication_slot\('{slot}'\)"):
        await kept.source.begin()


async def test_a_slot_in_use_is_waited_for_and_then_told(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_follow, "RETRY_SECONDS", 1.0)
    kept = await app.follow(TABLES)
    other = Kept(app, app.source(TABLES))
    other.position, other.rows = kept.position, kept.rows
    with pytest.raises(SourceError, match="is active for PID") as error:
        await other.follow()
    assert not isinstance(error.value, PositionLost)
    await kept.source.aclose()
    assert await other.agrees() == {"a", "b", "z"}


async def test_a_slot_that_waits_for_writers_names_them(app: App) -> None:
    source = app.source(TABLES, patience=timedelta(seconds=1))
    async with app.other() as other:
        await other.run("BEGIN", "INSERT INTO one VALUES (9, 'x')")
        with pytest.raises(
            SourceError, match=r"couldn't be created within 1 seconds.* process \d+ of s3gc_admin"
        ):
            await source.begin()
    await source.begin()


@pytest.mark.parametrize("followed", [False, True])
async def test_another_configuration_alone_is_no_gap(app: App, followed: bool) -> None:
    """The position's own transaction, or the beginning's message, is shown by the slot: the very history."""
    kept = Kept(app, app.source(TABLES))
    kept.position = await kept.source.begin()
    kept.rows = Rows(await scanned(kept.source))
    if followed:
        await app.run("INSERT INTO one VALUES (3, 'c')")
        await kept.follow()
        await kept.release()
    await kept.source.aclose()
    await app.run("INSERT INTO one VALUES (4, 'd')")
    for change in (
        {"tables": {"one": ["path"]}},
        {"tables": {"one": ["path", "note"], "two": ["path"]}},
        {"tables": TABLES, "resolver_settings": "another base URL"},
    ):
        later = Kept(app, app.source(**change))  # type: ignore[arg-type]
        later.position = kept.position
        with pytest.raises(Reconfigured, match="the configuration of the tracked tables changed"):
            await later.follow()
        await later.source.aclose()
    await later.begin()
    await later.agrees()


@pytest.mark.parametrize("followed", [False, True])
async def test_another_configuration_hides_no_gap(app: App, followed: bool) -> None:
    """Of a position that this history never had, nobody says that all else is as it was."""
    kept = await app.follow(TABLES)
    await app.run("INSERT INTO one VALUES (3, 'c')")
    await kept.follow()
    await kept.source.aclose()
    place = Where.read(kept.position)
    proof = Committed(4711, 1) if followed else Told("0" * 32, place.lsn)
    later = Kept(app, app.source({"one": ["path"]}))
    later.position = evolve(place, proof=proof).position(later.source.name)
    with pytest.raises(PositionLost, match=r"another transaction now|another history") as error:
        await later.follow()
    assert not isinstance(error.value, Reconfigured)
    await later.source.aclose()
    await app.run(f"SELECT pg_drop_replication_slot('s3gc_{app.name}')")
    later = Kept(app, app.source({"one": ["path"]}))
    later.position = kept.position
    with pytest.raises(PositionLost, match="is gone") as error:
        await later.follow()
    assert not isinstance(error.value, Reconfigured)


async def test_a_cancelled_reader_can_go_on(app: App) -> None:
    kept = await app.follow(TABLES)
    await app.run("INSERT INTO one SELECT n, 'k/' || n FROM generate_series(100, 200) n")
    fence = await kept.source.fence(timedelta(seconds=60))
    stream = kept.source.changes(kept.position, fence)
    await stream.__anext__()
    await stream.aclose()  # type: ignore[attr-defined]
    assert len(await kept.agrees()) == 104


# --------------------------------------------------------------------------- servers of their own


@pytest.fixture
def server() -> Iterator[Server]:
    with run_postgres(max_slot_wal_keep_size="64MB", max_wal_size="32MB", min_wal_size="32MB") as server:
        yield server


@pytest.fixture
async def own(server: Server) -> AsyncIterator[App]:
    app = App(f"postgresql://s3gc_admin:{server.password}@127.0.0.1:{server.port}/postgres")
    await app.run(
        "CREATE TABLE one (id int PRIMARY KEY, path text, note text)", "CREATE TABLE two (id int PRIMARY KEY, path text)",
        "INSERT INTO one VALUES (1, 'a'), (2, 'b')", "INSERT INTO two VALUES (1, 'z')",
    )  # fmt: skip
    yield app
    await app.close()


def reopened(own: App) -> App:
    """The same after the server was restarted."""
    return App(own.url)


async def halt(own: App, server: Server) -> None:
    """Stop the server in order."""
    assert server.process is not None
    await own.session.close()
    assert await anyio.to_thread.run_sync(server.process.stop)


def go_on(own: App, server: Server) -> None:
    """Start it again, on whatever its storage holds now."""
    assert server.process is not None
    server.process.start()
    own.session = reopened(own).session


async def test_a_slot_that_lost_its_wal(own: App) -> None:
    kept = await own.follow(TABLES)
    await kept.source._loop.run(kept.source._follower.close)
    await own.run("CREATE TABLE busy (v text)")
    for _ in range(8):
        await own.run(
            "INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 15000)",
            "SELECT pg_switch_wal()",
            "CHECKPOINT",
        )
    assert await own.ask("SELECT wal_status FROM pg_replication_slots") == "lost"
    await lost(kept, "has lost its WAL")


@pytest.mark.parametrize("names", ["*", "ANY 1 (a, *)", "FIRST 1 (s3gc, b)"])
async def test_a_server_that_would_wait_for_us_is_refused(own: App, names: str) -> None:
    """A stream that isn't confirmed at once, taken for a synchronous standby, would stop the application."""
    source = own.source(TABLES)
    await own.run(
        f"ALTER SYSTEM SET synchronous_standby_names = '{names}'", "SELECT pg_reload_conf(), pg_sleep(0.5)"
    )
    with pytest.raises(SourceError, match="commits would wait for s3gc"):
        await source.check()
    await own.run(
        "ALTER SYSTEM SET synchronous_standby_names = 'a, not_s3gc'", "SELECT pg_reload_conf(), pg_sleep(0.5)"
    )
    await source.check()


async def test_restarts_and_crashes_of_the_server_lose_nothing(own: App, server: Server) -> None:
    assert server.process is not None
    kept = await own.follow(TABLES)
    for number, end in enumerate([server.process.stop, server.process.kill] * 2):
        await own.run(f"INSERT INTO one VALUES ({10 + number}, 'k/{number}')")
        if number % 2:
            await kept.follow()
            await kept.release()
        await own.session.close()
        await anyio.to_thread.run_sync(end)
        server.process.start()
        own.session = reopened(own).session
        assert f"k/{number}" in await kept.agrees()


async def test_a_fence_is_on_the_disk_whatever_the_application_waits_for(own: App) -> None:
    """Else it, and what was committed before it, would come through when the server's writer pleases, and a
    crash would take it back after the registry has believed it."""
    kept = await own.follow(TABLES)
    await own.run(
        "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()", "ALTER DATABASE postgres SET synchronous_commit = off",
        "SET synchronous_commit = off",
    )  # fmt: skip
    for number in range(5):
        await own.run(f"INSERT INTO two VALUES ({100 + number}, 'late/{number}')")
        written = await own.ask("SELECT pg_current_wal_insert_lsn() - '0/0'")
        await kept.source.fence(timedelta(seconds=60))
        assert await own.ask("SELECT pg_current_wal_flush_lsn() - '0/0'") >= written


async def test_a_stream_keeps_no_server_from_stopping(own: App, server: Server) -> None:
    """It waits for its streams to confirm all there is, for ever if they only answer."""
    assert server.process is not None
    kept = await own.follow(TABLES)
    await kept.release()
    await own.run("INSERT INTO one VALUES (3, 'c')")
    await halt(own, server)
    go_on(own, server)
    assert "c" in await kept.agrees()


async def test_a_server_that_comes_back_while_it_is_waited_for(own: App, server: Server) -> None:
    assert server.process is not None
    kept = await own.follow(TABLES)
    await own.run("INSERT INTO one VALUES (3, 'c')")
    fence = await kept.source.fence(timedelta(seconds=60))
    await halt(own, server)
    batches = []

    async def read() -> None:
        batches.extend([batch async for batch in kept.source.changes(kept.position, fence)])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(1)
        assert not batches
        await anyio.to_thread.run_sync(server.process.start)
    kept.rows.apply(batches)
    assert "c" in kept.keys
    own.session = reopened(own).session


def put_aside(server: Server) -> None:
    """A snapshot of the storage: all of it, the slot's state too."""
    subprocess.run(["cp", "-a", server.directory / "data", server.directory / "aside"], check=True)


def put_back(server: Server) -> None:
    shutil.rmtree(server.directory / "data")
    (server.directory / "aside").rename(server.directory / "data")


async def test_a_server_put_back_to_before_the_position(own: App, server: Server) -> None:
    assert server.process is not None
    kept = await own.follow(TABLES)
    await kept.release()
    await halt(own, server)
    put_aside(server)
    go_on(own, server)
    await own.run("INSERT INTO one VALUES (3, 'c')")
    await own.run("SELECT pg_switch_wal()")
    await kept.agrees()
    await halt(own, server)
    put_back(server)
    go_on(own, server)
    # The fence itself stands before the registry: the core refuses that, and so does the source.
    fence = await kept.source.fence(timedelta(seconds=60))
    assert kept.position.ordinal is not None
    assert fence.ordinal is not None
    assert fence.ordinal < kept.position.ordinal
    with pytest.raises(PositionLost, match="before"):
        [_ async for _ in kept.source.changes(kept.position, fence)]
    await kept.begin()
    assert await kept.agrees() == {"a", "b", "z"}


async def test_a_server_put_back_that_has_gone_on_past_the_position(own: App, server: Server) -> None:
    """Same system identifier, same timeline, a position that it has reached again: only the transaction
    there tells that this is another history."""
    assert server.process is not None
    kept = await own.follow(TABLES)
    await kept.release()
    await halt(own, server)
    put_aside(server)
    go_on(own, server)
    await own.run("INSERT INTO one VALUES (3, 'in the history that is lost')")
    await kept.agrees()
    await halt(own, server)
    put_back(server)
    go_on(own, server)
    await own.run(
        "CREATE TABLE busy (v text)",
        "INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 3000)",
    )
    fence = await kept.source.fence(timedelta(seconds=60))
    assert kept.position.ordinal is not None
    assert fence.ordinal is not None
    assert fence.ordinal > kept.position.ordinal
    with pytest.raises(PositionLost, match=r"another transaction now|another history"):
        [_ async for _ in kept.source.changes(kept.position, fence)]
    await kept.begin()
    assert await kept.agrees() == {"a", "b", "z"}


async def test_another_database_of_the_same_name(own: App) -> None:
    await own.run("CREATE DATABASE shop")
    url = own.url.rpartition("/")[0] + "/shop"
    make = (
        "CREATE TABLE one (id int PRIMARY KEY, path text)",
        "CREATE TABLE two (id int PRIMARY KEY, path text)",
    )
    shop = App(url)
    await shop.run(*make)
    kept = await shop.follow(TABLES, slot="s3gc_shop")
    await kept.source._loop.run(kept.source._follower.close)
    await shop.session.close()
    await own.run(
        "SELECT pg_drop_replication_slot('s3gc_shop')",
        "DROP DATABASE shop WITH (FORCE)",
        "CREATE DATABASE shop",
    )
    shop.session = reopened(shop).session
    await shop.run(*make, "INSERT INTO one VALUES (1, 'other')")
    await lost(kept, "slot s3gc_shop is gone|another server, timeline or database")
    await shop.close()


async def test_a_promoted_server_is_on_another_timeline(own: App, server: Server) -> None:
    assert server.process is not None
    kept = await own.follow(TABLES)
    await own.session.close()
    await kept.source._loop.run(kept.source._follower.close)
    assert await anyio.to_thread.run_sync(server.process.stop)
    # As after a recovery to a point in time: recovery ends with a new timeline, the slot is kept by the files.
    signal = server.directory / "data" / "recovery.signal"
    signal.touch()
    shutil.chown(signal, *(server.demote.get("user"), server.demote.get("group")))
    with (server.directory / "data" / "postgresql.auto.conf").open("a") as settings:
        settings.write("restore_command = 'false'\n")
    go_on(own, server)
    with anyio.fail_after(60):
        while await own.ask("SELECT pg_is_in_recovery()"):  # noqa: ASYNC110 - the server has no event
            await anyio.sleep(0.1)
    assert (await own.ask("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)")) == "00000002"
    await lost(kept, "another server, timeline or database")
