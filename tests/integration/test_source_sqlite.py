"""SqlSource on SQLite: values, names, and the failures that must never look like an empty answer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from s3gc.errors import SourceError
from s3gc.model import Reference
from s3gc.resolver import Resolver
from s3gc.sources import _chunks
from s3gc.sources.sql import SqlSource
from s3gc.testing.source_contract import counted, found, scanned

pytestmark = pytest.mark.anyio
RESOLVER = Resolver("my-bucket")


@pytest.fixture
def database(tmp_path: Path) -> Callable[[str], str]:
    def make(script: str) -> str:
        with sqlite3.connect(tmp_path / "app.db") as connection:
            connection.executescript(script)
        connection.close()
        return f"sqlite:///{tmp_path / 'app.db'}"

    return make


def numbers(last: int) -> str:
    return f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last})"


@asynccontextmanager
async def opened(url: str, tables: dict[str, Any], **more: Any) -> AsyncIterator[SqlSource]:
    source = SqlSource(url, tables, RESOLVER, **more)
    try:
        yield source
    finally:
        await source.aclose()


async def test_values_of_every_type(database: Callable[[str], str]) -> None:
    url = database(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v);"
        "INSERT INTO t (v) VALUES ('a.jpg'), (x'622e6a7067'), (17), ('[\"c d.jpg\"]'), (NULL), (''), (0);"
    )
    async with opened(url, {"t": ["v"]}) as source:
        assert {"a.jpg", "b.jpg", "17", "c d.jpg", "0"} <= {r.key for r in await scanned(source)}
        assert list((await counted(source)).values()) == [(7, 5)]


async def test_names_are_found_without_regard_to_case_and_quoted(database: Callable[[str], str]) -> None:
    url = database(
        'CREATE TABLE "Or.der" ("se""lect" TEXT, "group" TEXT, "a.b" TEXT);'
        "INSERT INTO \"Or.der\" VALUES ('a.jpg', 'b.jpg', 'c.jpg');"
    )
    tables = {'main."or.DER"': ['"se""lect"', "GROUP", "a.b"]}
    async with opened(url, tables) as source:
        await source.check()
        assert {(r.key, r.column) for r in await scanned(source)} == {
            ("a.jpg", '"se""lect"'),
            ("b.jpg", "GROUP"),
            ("c.jpg", "a.b"),
        }


async def test_row_ids(database: Callable[[str], str]) -> None:
    url = database(
        "CREATE TABLE one (v, id TEXT PRIMARY KEY); INSERT INTO one VALUES ('a.jpg', 'x');"
        "CREATE TABLE two (b, v, a, PRIMARY KEY (a, b)) WITHOUT ROWID;"
        "INSERT INTO two VALUES (1, 'a.jpg', '1,');"
        "CREATE TABLE none (v); INSERT INTO none VALUES ('a.jpg'), ('b.jpg');"
        "CREATE VIEW view AS SELECT 'v/' || v AS v FROM none;"
    )
    async with opened(url, {name: ["v"] for name in ("one", "two", "none", "view")}) as source:
        references = await scanned(source)
        assert Reference("a.jpg", "one", "x", "v") in references
        assert Reference("a.jpg", "two", json.dumps(["1,", "1"], separators=(",", ":")), "v") in references
        bare = [r for r in references if r.table == "none"]
        assert len({r.row_id for r in bare}) == 2
        assert [r for r in await scanned(source) if r.table == "none"] == bare
        assert {r.key for r in references if r.table == "view"} == {"v/a.jpg", "v/b.jpg"}


async def test_missing_tables_and_columns_are_errors_with_a_hint(database: Callable[[str], str]) -> None:
    url = database(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, avatar TEXT); INSERT INTO users VALUES (1, 'a')"
    )
    for tables, words in (
        ({"user": ["avatar"]}, "'user'.*did you mean 'users'"),
        ({"users": ["avatr"]}, "no column 'avatr'.*did you mean 'avatar'"),
        ({"other.users": ["avatar"]}, "no schema 'other'"),
    ):
        async with opened(url, tables) as source:
            with pytest.raises(SourceError, match=words):
                await source.check()
            with pytest.raises(SourceError, match=words):
                await scanned(source)
            with pytest.raises(SourceError, match=words):
                await found(source, "a")


async def test_a_missing_file_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'no.db'}", {"t": ["v"]}) as source:
        for call in (source.check, lambda: scanned(source), lambda: source.fence(timedelta(seconds=1))):
            with pytest.raises(SourceError, match="no database file"):
                await call()
    assert not (tmp_path / "no.db").exists()


async def test_a_damaged_file_is_an_error(database: Callable[[str], str], tmp_path: Path) -> None:
    url = database(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, v); {numbers(20_000)} "
        "INSERT INTO t SELECT i, 'key/' || i FROM n;"
    )
    path = tmp_path / "app.db"
    data = bytearray(path.read_bytes())
    data[-40_960:-20_480] = b"\xff" * 20_480
    path.write_bytes(data)
    async with opened(url, {"t": ["v"]}) as source:
        with pytest.raises(SourceError, match="can't read"):
            await scanned(source)


async def test_folders_are_told_and_found_and_positions_have_no_ordinal(
    database: Callable[[str], str],
) -> None:
    url = database(
        "CREATE TABLE Albums (id INTEGER PRIMARY KEY, Way, cover);"
        "INSERT INTO Albums VALUES (1, 'photos/7', 'covers/7'), (2, x'622f63', ''), (3, '', NULL);"
    )
    async with opened(url, {"albums": ["way", "cover"]}, folders={"albums": ["way"]}) as source:
        every = await scanned(source)
        assert {r.key for r in every if r.prefix} == {"photos/7/", "b/c/"} | {
            r.key + "/" for r in every if r.row_id == "2" and not r.prefix
        }
        assert {r.key async for r in source.find(["photos/7/8.jpg", "covers/7/x", "photos/70"])} == {
            "photos/7/"
        }
        assert {r.key async for r in source.find(["photos/7"])} == {"photos/7"}
        assert (await source.fence(timedelta(seconds=5))).ordinal is None


async def test_a_folder_column_that_names_the_bucket_keeps_all_of_it(database: Callable[[str], str]) -> None:
    url = database("CREATE TABLE t (way); INSERT INTO t VALUES ('/')")
    async with opened(url, {"t": ["way"]}, folders={"t": ["way"]}) as source:
        assert {r.key async for r in source.find(["any/key.jpg"])} == {""}
    async with opened(url, {"t": ["way"]}) as source:
        assert {r.key async for r in source.find(["any/key.jpg"])} == set()


async def test_a_read_only_file_can_be_scanned_but_not_fenced(database: Callable[[str], str]) -> None:
    url = database("CREATE TABLE t (v); INSERT INTO t VALUES ('a.jpg')") + "?mode=ro"
    async with opened(url, {"t": ["v"]}) as source:
        assert await found(source, "a.jpg") == {"a.jpg"}
        with pytest.raises(SourceError, match=r"read-only.*must be writable"):
            await source.fence(timedelta(seconds=5))


async def test_identity(database: Callable[[str], str], tmp_path: Path) -> None:
    url = database("CREATE TABLE t (v); PRAGMA application_id = 77")
    async with opened(url, {"t": ["v"]}, name="app") as source:
        identity = await source.check()
    assert (identity.name, identity.kind) == ("app", "sqlite")
    assert identity.details == {"path": str((tmp_path / "app.db").resolve()), "application_id": "77"}


async def test_large_rows_come_in_small_batches(
    database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = database(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, v); {numbers(400)} "
        "INSERT INTO t SELECT i, 'key' || i || char(10) || hex(zeroblob(500)) FROM n;"
    )
    monkeypatch.setattr(_chunks, "_CHUNK_BYTES", 20_000)
    async with opened(url, {"t": ["v"]}) as source:
        sizes = [len({r.row_id for r in batch.references}) async for batch in source.scan()]
    assert sum(sizes) == 400
    assert max(sizes[1:]) <= 20


async def test_the_hosts_loop_is_free_while_a_scan_reads(database: Callable[[str], str]) -> None:
    url = database(f"CREATE TABLE t (v); {numbers(30_000)} INSERT INTO t SELECT 'key/' || i FROM n;")
    turns = 0
    done = anyio.Event()

    async def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with opened(url, {"t": ["v"]}) as source, anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        assert len(await scanned(source)) == 30_000
        done.set()
    assert turns > 10
