"""The whole cycle by change capture, from ``create_config(cdc_backend="mysql")``, as its users run it.

The user is the one of the documentation: it may read the log and the tables, see transactions, and no more.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import s3gc_cdc_mysql
from cdc_cycle_world import Bucket, cycle_config, cycle_plugins
from fixtures_cli import Run
from fixtures_databases import Server, run_mariadb
from fixtures_s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Client, S3Server, s3_server, truth
from s3gc import Collector, Safety, create_config
from s3gc.errors import CycleHeld
from s3gc_cdc_mysql._names import server_id_for
from s3gc_cli._app import app

__all__ = ["s3_server", "truth"]

pytestmark = pytest.mark.anyio

PASSWORD = "it's a p@ss/word%"
DOCUMENT = Path(__file__).parents[2] / "docs" / "mysql-cdc.md"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run_mariadb(innodb_flush_log_at_trx_commit=1, sync_binlog=1) as server:
        yield server


def grants(database: str) -> str:
    """The statements of the documentation for MariaDB, with names of the test."""
    [block] = re.findall(r"<!-- grants: mariadb -->\n```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return (
        str(block)
        .replace("s3gc@'%'", "s3gc@'127.0.0.1'")
        .replace("app.users", f"{database}.files")
        .replace("'…'", "'" + PASSWORD.replace("'", "''") + "'")
    )


class Database:
    """A database of an application, with s3gc's minimal user beside."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        server.admin(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        self.sql("CREATE TABLE files (id bigint PRIMARY KEY, path varchar(200), note text)")
        server.admin("DROP USER IF EXISTS s3gc@'127.0.0.1'")
        server.admin(grants(name))

    @property
    def url(self) -> str:
        return f"mysql://s3gc:it%27s%20a%20p%40ss%2Fword%25@127.0.0.1:{self.server.port}/{self.name}"

    def sql(self, text: str) -> str:
        return self.server.admin(text, database=self.name)


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    made = Database(server, f"cycle_{time.monotonic_ns()}")
    yield made
    server.admin(f"DROP DATABASE {made.name}")


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "bucket")


def config_of(database: Database, bucket: Bucket, tmp_path: Path, **more: Any) -> Any:
    return cycle_config("mysql", database.url, bucket, tmp_path, **more)


def plugins() -> Any:
    return cycle_plugins("cdc-mysql", s3gc_cdc_mysql)


async def test_plan_and_execute_over_restarts_of_ours_and_of_the_server(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    keys = [f"k/{number}" for number in range(20)]
    bucket.put(*keys)
    database.sql("INSERT INTO files SELECT seq, CONCAT('k/', seq), '' FROM seq_0_to_14")
    config = config_of(database, bucket, tmp_path)
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
    database.sql("INSERT INTO files VALUES (100, 'k/0', '')")
    async with Collector.open(config, plugins=plugins()) as gc:
        report = await gc.collect()
        assert set(report.deleted) == {"k/1", "k/2", "k/3"}
        assert len((await gc.restore(prefix="", dry_run=False)).restored) == 7
    assert bucket.keys == set(keys)


async def test_the_same_over_s3(
    database: Database,
    tmp_path: Path,
    s3_server: S3Server,
    truth: S3Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    name = f"s3gc-cdc-{database.name.replace('_', '-')}"
    truth.create_bucket(Bucket=name)
    for number in range(8):
        truth.put_object(Bucket=name, Key=f"k/{number}", Body=b"bytes")

    def keys() -> set[str]:
        listed = truth.list_objects_v2(Bucket=name, Prefix="k/").get("Contents", ())
        return {one["Key"] for one in listed}

    database.sql("INSERT INTO files SELECT seq, CONCAT('k/', seq), '' FROM seq_0_to_5")
    config = create_config(
        bucket=name, endpoint_url=s3_server.endpoint_url, region=REGION, tables={"files": ["path"]},
        mode="execute", retention_days=0, vault_path=tmp_path / "vault", cdc_backend="mysql",
        cdc_connection_url=database.url, safety=Safety.demo().but(min_observations=2),
    )  # fmt: skip
    async with Collector.open(config, plugins=plugins()) as gc:
        assert len(await gc.plan()) == 0
    database.sql("DELETE FROM files WHERE id = 0; UPDATE files SET path = 'k/7' WHERE id = 1")
    assert database.server.process is not None
    database.server.process.stop()
    database.server.process.start()
    async with Collector.open(config, plugins=plugins()) as gc:
        assert set((await gc.collect()).deleted) == {"k/6"}
        assert set((await gc.collect()).deleted) == {"k/0", "k/1"}
        assert keys() == {f"k/{number}" for number in (2, 3, 4, 5, 7)}
        await gc.restore(prefix="", dry_run=False)
    assert keys() == {f"k/{number}" for number in range(8)}


async def test_no_error_shows_the_password(database: Database, bucket: Bucket, tmp_path: Path) -> None:
    config = config_of(database, bucket, tmp_path)
    assert PASSWORD not in repr(config)
    database.server.admin("SET PASSWORD FOR s3gc@'127.0.0.1' = PASSWORD('another')")
    async with Collector.open(config, plugins=plugins()) as gc:
        with pytest.raises(CycleHeld) as held:
            await gc.collect()
    assert "Access denied" in str(held.value)
    assert not any(secret in str(held.value) for secret in (PASSWORD, "it%27s", "p%40ss"))


async def test_a_gap_holds_and_the_next_cycle_has_read_anew(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("a", "b")
    database.sql("INSERT INTO files VALUES (1, 'a', '')")
    config = config_of(database, bucket, tmp_path)
    async with Collector.open(config, plugins=plugins()) as gc:
        await gc.plan()
    database.sql("ALTER TABLE files DROP path; ALTER TABLE files ADD path varchar(200) DEFAULT 'b'")
    async with Collector.open(config, plugins=plugins()) as gc:
        with pytest.raises(CycleHeld) as held:
            await gc.collect()
        assert [one.code for one in held.value.breakers] == ["position_lost"]
        assert "files was altered" in str(held.value)
        assert bucket.keys == {"a", "b"}
        await gc.acknowledge("position_lost", "the test did it", subject=gc._parts.sources[0].name)
        await gc.collect()  # seen once
        assert set((await gc.collect()).deleted) == {"a"}


async def test_rows_taken_along_by_a_foreign_key_hold_nothing(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("a", "b")
    database.sql(
        "CREATE TABLE owners (id int PRIMARY KEY); INSERT INTO owners VALUES (1), (2);"
        "ALTER TABLE files ADD owner int, ADD FOREIGN KEY (owner) REFERENCES owners (id) ON DELETE CASCADE;"
        "INSERT INTO files VALUES (1, 'a', '', 1), (2, 'b', '', 2)"
    )
    config = config_of(database, bucket, tmp_path)
    async with Collector.open(config, plugins=plugins()) as gc:
        await gc.plan()
        database.sql("DELETE FROM owners WHERE id = 1")
        await gc.collect()
        assert set((await gc.collect()).deleted) == {"a"}


async def test_lag_is_in_the_metrics(database: Database, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a")
    database.sql("INSERT INTO files VALUES (1, 'a', '')")
    async with Collector.open(config_of(database, bucket, tmp_path), plugins=plugins()) as gc:
        await gc.plan()
        [capture] = (await gc.metrics())["capture"].values()
        assert capture["ready"]
        before = capture["lag_bytes"]
        database.sql("CREATE TABLE busy SELECT REPEAT('x', 1000) FROM seq_1_to_1000")
        [capture] = (await gc.metrics())["capture"].values()
        assert capture["lag_bytes"] > before + 500_000
        database.sql("DROP TABLE files")
        [capture] = (await gc.metrics())["capture"].values()
        assert not capture["ready"]


# --------------------------------------------------------------------------- the command line


@pytest.fixture
def cli(
    database: Database, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("s3gc.create_plugin_manager", plugins)
    monkeypatch.setattr("s3gc_cli._commands.cdc.create_plugin_manager", plugins)
    (tmp_path / "s3gc.toml").write_text(
        f'bucket = "file://{bucket.folder}"\nvault_path = "{tmp_path}/vault"\ncdc_backend = "mysql"\n'
        f'cdc_connection_url = "{database.url}"\n[tables]\nfiles = ["path"]\n'
    )

    def run(*arguments: str) -> Run:
        done = CliRunner().invoke(app, ["cdc", *arguments])
        return Run(done.exit_code, done.stdout, done.stderr)

    return run


def test_check_set_up_and_take_down(database: Database, cli: Callable[..., Run]) -> None:
    first = cli("check")
    assert first.code == 0
    assert "ready" in first.stdout
    assert cli("setup").stdout == "all is there already\n"
    state = cli("check", "--json").document
    assert (state["ready"], state["findings"]) == (True, [])
    assert state["details"]["user"] == "s3gc@127.0.0.1"
    assert state["details"]["server"] == "MariaDB"
    assert PASSWORD not in str(state)
    assert cli("teardown").stdout == "nothing was there\n"


def test_what_has_to_be_mended_first_is_told_with_its_statement(
    database: Database, cli: Callable[..., Run]
) -> None:
    database.sql("ALTER TABLE files DROP PRIMARY KEY")
    database.server.admin("SET GLOBAL binlog_row_metadata = 'NO_LOG'")
    try:
        told = cli("check")
        assert told.code == 1
        assert "2 problems to mend first" in told.stdout
        lines = [line.strip() for line in told.stdout.splitlines()]
        assert f"ALTER TABLE `{database.name}`.`files` ADD PRIMARY KEY (…)" in lines
        assert any(line.startswith("SET GLOBAL binlog_row_metadata = 'FULL'") for line in lines)
        refused = cli("setup")
        assert refused.code == 1
        assert "SET GLOBAL binlog_row_metadata = 'FULL'" in refused.stderr
    finally:
        database.server.admin("SET GLOBAL binlog_row_metadata = 'FULL'")


@pytest.mark.parametrize(
    ("taken", "told"),
    [
        ("REPLICATION SLAVE", "REPLICATION SLAVE"),
        ("BINLOG MONITOR", "BINLOG MONITOR"),
        ("PROCESS", "PROCESS"),
    ],
)
def test_each_grant_is_needed_and_named(
    database: Database, cli: Callable[..., Run], taken: str, told: str
) -> None:
    database.server.admin(f"REVOKE {taken} ON *.* FROM s3gc@'127.0.0.1'")
    refused = cli("setup")
    assert refused.code == 1
    assert told in refused.stderr


def test_names_are_the_same_for_one_bucket_and_vault(
    database: Database, bucket: Bucket, tmp_path: Path
) -> None:
    one = config_of(database, bucket, tmp_path)
    assert server_id_for(one) == server_id_for(config_of(database, bucket, tmp_path, mode="dry_run"))
    assert server_id_for(one) != server_id_for(
        config_of(database, bucket, tmp_path, vault_path=tmp_path / "v")
    )
    assert server_id_for(one) >= 1 << 31
