"""What SqlSource sees of a SQLite file beyond the tracked columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy.exc import DBAPIError

from s3gc.errors import SourceError
from s3gc.model import UntrackedColumn
from s3gc.resolver import Resolver
from s3gc.sources import _coverage
from s3gc.sources.sql import SqlSource

pytestmark = pytest.mark.anyio
RESOLVER = Resolver("my-bucket")
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"


@pytest.fixture
def database(tmp_path: Path) -> Callable[[str], str]:
    def make(script: str) -> str:
        with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
            connection.executescript(script)
        return f"sqlite:///{tmp_path / 'app.db'}"

    return make


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


async def test_every_column_that_could_hold_a_text(database: Callable[[str], str]) -> None:
    url = database(
        """
        CREATE TABLE t (
            id INTEGER PRIMARY KEY, seen TEXT, c1 TEXT, c2 VARCHAR(20), c3 CLOB, c4 JSON, c5 BLOB, c6,
            c7 STRING, c8 UUID, c9 NVARCHAR(9), c10 JSONB,
            c11 TEXT GENERATED ALWAYS AS ('c11' || '.jpg') VIRTUAL,
            n1 INTEGER, n2 REAL, n3 NUMERIC, n4 DECIMAL(10, 2), n5 BOOLEAN, n6 DATETIME, n7 DATE, n8 DOUBLE,
            n9 FLOAT, n10 TIMESTAMP, n11 BIGINT);
        INSERT INTO t (seen, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10) VALUES ('seen.jpg', 'c1.jpg', 'c2.jpg',
            'c3.jpg', '["c4.jpg"]', x'63352e6a7067', 'c6.jpg', 'c7.jpg', 'c8.jpg', 'c9.jpg', 'c10.jpg');
        """
    )
    found = await loose(url, {"t": ["SEEN"]})
    assert {column for _, column in found} == {f"c{i}" for i in range(1, 12)}
    for (_, name), column in found.items():
        assert f"{name}.jpg" in column.keys, name
        assert column.sampled == 1
    assert (found["t", "c2"].type, found["t", "c6"].type) == ("VARCHAR(20)", "")


async def test_names_are_as_a_user_writes_them(database: Callable[[str], str]) -> None:
    url = database(
        """
        CREATE TABLE "Or.der" ("se""lect" TEXT, "a.b" TEXT, "`x`" TEXT);
        CREATE TABLE Users (avatar TEXT, bio TEXT); CREATE VIEW v AS SELECT bio FROM Users;
        CREATE TABLE seq (id INTEGER PRIMARY KEY AUTOINCREMENT, "two words" TEXT);
        INSERT INTO seq VALUES (1, 'seq.jpg'); CREATE INDEX i ON Users (bio); ANALYZE;
        CREATE VIRTUAL TABLE docs USING fts5(body); INSERT INTO docs VALUES ('body.jpg');
        """
    )
    found = await loose(url, {"main.users": ["Avatar"], "v": ["bio"]})
    rest = {at for at in found if not at[0].startswith("docs_")}
    assert rest == {
        ('"Or.der"', 'se"lect'),
        ('"Or.der"', "a.b"),
        ('"Or.der"', '"`x`"'),
        ("main.users", "bio"),  # as it is tracked
        ("seq", "two words"),
    }
    assert set(found["docs_content", "c0"].keys) == {"body.jpg"}
    tables: dict[str, list[str]] = {"main.users": ["avatar"]}
    for table, column in found:
        tables.setdefault(table, []).append(column)
    assert await loose(url, tables) == {}
    assert ("Users", "bio") in await loose(url, {"seq": ["two words"]})


@pytest.mark.parametrize(
    "columns",
    [
        "id INTEGER PRIMARY KEY",
        "id INTEGER",
        "id TEXT PRIMARY KEY",
        "id INTEGER PRIMARY KEY, rowid TEXT",
        "id INTEGER PRIMARY KEY, rowid TEXT, _rowid_ TEXT, oid TEXT",
    ],
)
@pytest.mark.parametrize("rest", ["", "WITHOUT ROWID"])
async def test_newest_and_first_rows_are_seen_and_a_lonely_value_is_found(
    database: Callable[[str], str], columns: str, rest: str
) -> None:
    if rest and "PRIMARY KEY" not in columns:
        columns += " PRIMARY KEY"
    url = database(
        f"""
        CREATE TABLE other (seen TEXT);
        CREATE TABLE t ({columns}, v TEXT, lonely TEXT, doc JSON DEFAULT '{{}}', raw BLOB, none TEXT) {rest};
        {NUMBERS} INSERT INTO t (id, v, raw) SELECT printf('%04d', i), 'v/' || i, x'' FROM n;
        UPDATE t SET lonely = 'lonely.jpg', doc = '["doc.jpg"]', raw = 'raw.jpg' WHERE v = 'v/2500';
        """
    )
    found = await loose(url, {"other": ["seen"]}, sample=100)
    assert {"v/1", "v/5000"} <= set(found["t", "v"].keys)
    assert found["t", "v"].sampled == 100
    assert "lonely.jpg" in found["t", "lonely"].keys
    assert found["t", "lonely"].sampled == 1
    assert "doc.jpg" in found["t", "doc"].keys
    assert "raw.jpg" in found["t", "raw"].keys
    assert (found["t", "none"].sampled, set(found["t", "none"].keys)) == (0, set())
    small = await loose(url, {"other": ["seen"]}, sample=10_000)
    assert small["t", "v"].sampled == 5000


async def test_texts_that_are_no_texts_are_read_all_the_same(database: Callable[[str], str]) -> None:
    url = database(
        "CREATE TABLE t (seen TEXT, v TEXT);"
        "INSERT INTO t VALUES ('a', CAST(x'ff2061e92e6a7067' AS TEXT)), ('b', 'good.jpg')"
    )
    found = await loose(url, {"t": ["seen"]})
    assert "good.jpg" in found["t", "v"].keys
    assert found["t", "v"].sampled == 2


async def test_a_search_that_takes_too_long_is_given_up(
    database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_coverage, "_SEARCH_SECONDS", -1.0)
    monkeypatch.setattr(_coverage, "_MARGIN_SECONDS", 30.0)
    url = database(
        f"CREATE TABLE t (v TEXT); CREATE TABLE big (v INTEGER, w TEXT); {NUMBERS} "
        "INSERT INTO big SELECT i, NULL FROM n, (SELECT 1 FROM n LIMIT 20);"
    )
    with structlog.testing.capture_logs() as logs:
        found = await loose(url, {"t": ["v"]}, sample=10)
    assert found["big", "w"].sampled == 0
    assert [line["given_up"] for line in logs] == [["big.w"]]


async def test_a_missing_tracked_table_is_an_error(database: Callable[[str], str]) -> None:
    url = database("CREATE TABLE users (v TEXT)")
    with pytest.raises(SourceError, match=r"'user'.*did you mean 'users'"):
        await loose(url, {"user": ["v"]})


async def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no database file"):
        await loose(f"sqlite:///{tmp_path / 'app.db'}", {"t": ["v"]})


async def test_the_file_can_be_written_between_two_looks(database: Callable[[str], str]) -> None:
    script = "; ".join(f"CREATE TABLE t{i} (v TEXT); INSERT INTO t{i} VALUES ('{i}.jpg')" for i in range(3))
    url = database(script)
    source = SqlSource(url, {"t0": ["v"]}, RESOLVER)
    found: dict[str, set[str]] = {}
    try:
        async with aclosing(source.untracked(10)) as columns:  # type: ignore[type-var]
            async for column in columns:
                found[column.table] = set(column.keys)
                if column.table == "t1":
                    database("PRAGMA busy_timeout = 0; ALTER TABLE t2 RENAME TO t3")
    finally:
        await source.aclose()
    assert found == {"t1": {"1.jpg"}, "t3": {"2.jpg"}}


async def test_a_look_cannot_write(database: Callable[[str], str]) -> None:
    source = SqlSource(database("CREATE TABLE t (v TEXT)"), {"t": ["v"]}, RESOLVER)

    async def write() -> None:
        async with source._connection() as connection:
            await source._dialect.begin_look(connection, 30)
            await connection.exec_driver_sql("INSERT INTO t VALUES ('a.jpg')")

    try:
        with pytest.raises(DBAPIError, match=r"readonly"):
            await source._loop.run(write)
    finally:
        await source.aclose()
