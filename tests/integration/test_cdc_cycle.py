"""The whole cycle by change capture, from ``create_config(cdc_backend="postgres")``, as its users run it.

The user is the one of the documentation: it may log in, replicate, and read the tables, and no more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import s3gc_cdc_postgres
from cdc_cycle_world import Bucket, cycle_config, cycle_plugins
from fixtures_cli import Run
from fixtures_databases import Server, run_postgres
from s3gc import Collector
from s3gc.errors import CycleHeld
from s3gc_cdc_postgres._names import names_for
from s3gc_cli._app import app

pytestmark = pytest.mark.anyio

PASSWORD = "it's a p@ss/word%"
SETTINGS: dict[str, Any] = {"autovacuum": "off", "wal_keep_size": 0}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run_postgres(**SETTINGS) as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    made = Database(server, f"cycle_{os.getpid()}_{time.monotonic_ns()}")
    yield made
    made.drop()


class Database:
    """A database of an application, owned by its own user, with s3gc's minimal user beside."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        password = PASSWORD.replace("'", "''")
        server.admin(
            f"CREATE DATABASE {name};"
            "DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
            f"DO $$ BEGIN CREATE ROLE s3gc LOGIN REPLICATION PASSWORD '{password}';"
            " EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        )
        self.sql("GRANT CREATE ON SCHEMA public TO app")
        self.sql(
            "SET ROLE app;"
            "CREATE TABLE files (id bigint PRIMARY KEY, path text, note text);"
            "GRANT SELECT ON files TO s3gc"
        )

    @property
    def url(self) -> str:
        return f"postgresql://s3gc:it%27s%20a%20p%40ss%2Fword%25@127.0.0.1:{self.server.port}/{self.name}"

    def sql(self, text: str) -> str:
        client = [*self.server.client[:-1], self.server.client[-1].rpartition("/")[0] + "/" + self.name]
        server = self.server
        return Server(server.port, server.password, client, server.demote, server.directory).admin(text)

    def drop(self) -> None:
        self.server.admin(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}';"
            "SELECT pg_sleep(0.1);"
            f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            f" WHERE database = '{self.name}';"
        )
        self.server.admin(f"DROP DATABASE {self.name} WITH (FORCE)")


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "bucket")


def config_of(database: Database, bucket: Bucket, tmp_path: Path, **more: Any) -> Any:
    return cycle_config("postgres", database.url, bucket, tmp_path, **more)


def plugins() -> Any:
    return cycle_plugins("cdc-postgres", s3gc_cdc_postgres)


def prepare(database: Database, config: Any) -> None:
    """What the owner of the tables runs once."""
    _, publication = names_for(config)
    database.sql(
        f"CREATE PUBLICATION {publication} FOR TABLE files (id, path)"
        " WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
    )


async def test_plan_and_execute_over_restarts_of_ours_and_of_the_server(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    keys = [f"k/{number}" for number in range(20)]
    bucket.put(*keys)
    database.sql("INSERT INTO files SELECT n, 'k/' || n FROM generate_series(0, 14) n")
    config = config_of(database, bucket, tmp_path)
    prepare(database, config)
    async with Collector.open(config, plugins=plugins()) as gc:
        plan = await gc.plan()
        assert {entry.object.key for entry in plan} == set()
        assert bucket.keys == set(keys)
    # Free ones are seen once: the second observation may delete.
    database.sql("DELETE FROM files WHERE id < 3; UPDATE files SET path = 'k/17' WHERE id = 3")
    async with Collector.open(config, plugins=plugins()) as gc:
        report = await gc.collect()
        assert set(report.deleted) == {"k/15", "k/16", "k/18", "k/19"}
        state = (await gc._parts.registry.references.states()).popitem()[1]
        assert (state.followed, state.references) == (True, 12)
    assert database.server.process is not None
    database.server.process.stop()
    database.server.process.start()
    database.sql("INSERT INTO files VALUES (100, 'k/0')")
    async with Collector.open(config, plugins=plugins()) as gc:
        report = await gc.collect()
        assert set(report.deleted) == {"k/1", "k/2", "k/3"}
        assert len((await gc.restore(prefix="", dry_run=False)).restored) == 7
    assert bucket.keys == set(keys)


async def test_without_a_publication_the_owner_is_told_what_to_run(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("a")
    config = config_of(database, bucket, tmp_path)
    async with Collector.open(config, plugins=plugins()) as gc:
        with pytest.raises(CycleHeld) as held:
            await gc.collect()
    why = str(held.value)
    assert "let the owner of the tables run: CREATE PUBLICATION" in why
    assert 'FOR TABLE "public"."files" ("id", "path")' in why
    statement = why.partition("let the owner of the tables run: ")[2].partition(" = true)")[0] + " = true)"
    database.sql(statement)
    async with Collector.open(config, plugins=plugins()) as gc:
        with pytest.raises(CycleHeld, match="no_references"):
            await gc.collect()


async def test_no_error_shows_the_password(database: Database, bucket: Bucket, tmp_path: Path) -> None:
    config = config_of(database, bucket, tmp_path)
    prepare(database, config)
    assert PASSWORD not in repr(config)
    database.server.admin("ALTER ROLE s3gc PASSWORD 'another'")
    try:
        async with Collector.open(config, plugins=plugins()) as gc:
            with pytest.raises(CycleHeld) as held:
                await gc.collect()
    finally:
        database.server.admin("ALTER ROLE s3gc PASSWORD '" + PASSWORD.replace("'", "''") + "'")
    assert "password authentication failed" in str(held.value)
    assert not any(secret in str(held.value) for secret in (PASSWORD, "it%27s", "p%40ss"))


async def test_a_gap_holds_and_the_next_cycle_has_read_anew(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("a", "b")
    database.sql("INSERT INTO files VALUES (1, 'a')")
    config = config_of(database, bucket, tmp_path)
    prepare(database, config)
    async with Collector.open(config, plugins=plugins()) as gc:
        await gc.plan()
    slot, _ = names_for(config)
    database.sql(f"SELECT pg_drop_replication_slot('{slot}')")
    database.sql("UPDATE files SET path = 'b' WHERE id = 1")
    async with Collector.open(config, plugins=plugins()) as gc:
        with pytest.raises(CycleHeld) as held:
            await gc.collect()
        assert [one.code for one in held.value.breakers] == ["position_lost"]
        assert f"the replication slot {slot} is gone" in str(held.value)
        assert bucket.keys == {"a", "b"}
        await gc.acknowledge("position_lost", "the test dropped it", subject=gc._parts.sources[0].name)
        await gc.collect()  # seen once
        assert set((await gc.collect()).deleted) == {"a"}


# --------------------------------------------------------------------------- the command line


@pytest.fixture
def cli(
    database: Database, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("s3gc.create_plugin_manager", plugins)
    monkeypatch.setattr("s3gc_cli._commands.cdc.create_plugin_manager", plugins)
    (tmp_path / "s3gc.toml").write_text(
        f'bucket = "file://{bucket.folder}"\nvault_path = "{tmp_path}/vault"\ncdc_backend = "postgres"\n'
        f'cdc_connection_url = "{database.url}"\n[tables]\nfiles = ["path"]\n'
    )

    def run(*arguments: str) -> Run:
        done = CliRunner().invoke(app, ["cdc", *arguments])
        return Run(done.exit_code, done.stdout, done.stderr)

    return run


def test_check_set_up_and_take_down(database: Database, cli: Callable[..., Run]) -> None:
    first = cli("check")
    assert first.code == 0
    assert "ready to be set up" in first.stdout
    statement = next(line.strip() for line in first.stdout.splitlines() if "CREATE PUBLICATION" in line)
    refused = cli("setup")
    assert refused.code == 1
    assert f"let the owner of the tables run: {statement}" in refused.stderr
    database.sql(statement)
    assert "created the slot s3gc_" in cli("setup").stdout
    assert cli("setup").stdout == "all is there already\n"
    state = cli("check", "--json").document
    assert (state["ready"], [one["code"] for one in state["findings"]]) == (True, ["max_slot_wal_keep_size"])
    assert "SELECT pg_reload_conf()" in state["findings"][0]["fix"]
    assert state["details"]["user"] == "s3gc"
    assert state["lag_bytes"] >= 0
    assert state["held_bytes"] > 0
    assert PASSWORD not in str(state)
    refused = cli("teardown")
    assert refused.code == 1
    assert "must be owner of publication" in refused.stderr
    database.sql(refused.stderr.partition("let its owner run: ")[2])
    assert cli("teardown").stdout == "nothing was there\n"
    left = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
    assert database.sql(left) == "0"
    assert database.sql("SELECT count(*) FROM pg_publication") == "0"


def test_what_has_to_be_mended_first_is_told_with_its_statement(
    database: Database, cli: Callable[..., Run]
) -> None:
    database.sql("ALTER TABLE files DROP CONSTRAINT files_pkey")
    database.server.admin("ALTER ROLE s3gc NOREPLICATION")
    try:
        told = cli("check")
        assert told.code == 1
        assert "2 problems to mend first" in told.stdout
        lines = [line.strip() for line in told.stdout.splitlines()]
        mend = [line for line in lines if line.startswith("ALTER ROLE")]
        assert mend == ['ALTER ROLE "s3gc" REPLICATION']
        assert 'ALTER TABLE "public"."files" ADD PRIMARY KEY (…)' in lines
    finally:
        database.server.admin("ALTER ROLE s3gc REPLICATION")


async def test_lag_and_log_held_are_in_the_metrics(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("a")
    database.sql("INSERT INTO files VALUES (1, 'a')")
    config = config_of(database, bucket, tmp_path)
    prepare(database, config)
    async with Collector.open(config, plugins=plugins()) as gc:
        await gc.plan()
        [capture] = (await gc.metrics())["capture"].values()
        assert capture["ready"]
        assert capture["lag_bytes"] < 100_000
        before = capture["lag_bytes"]
        database.sql("CREATE TABLE busy AS SELECT repeat('x', 1000) FROM generate_series(1, 1000) n")
        [capture] = (await gc.metrics())["capture"].values()
        assert capture["lag_bytes"] > before + 500_000
        assert capture["held_bytes"] > 500_000
        database.sql("DROP TABLE files")
        [capture] = (await gc.metrics())["capture"].values()
        assert not capture["ready"]
