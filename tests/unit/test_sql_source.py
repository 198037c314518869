"""URLs, names and row ids of SQL sources; nothing here needs a server."""

from __future__ import annotations

import importlib.util
import json
import threading
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.errors import ConfigError, SourceError
from s3gc.model import Column
from s3gc.resolver import Resolver
from s3gc.sources._loop import LoopThread
from s3gc.sources._mysql import MysqlDialect
from s3gc.sources._names import (
    column_name,
    nearest,
    row_id,
    split_name,
    stand_in,
    written_column,
    written_table,
)
from s3gc.sources.sql import SqlSource

RESOLVER = Resolver("my-bucket")
TABLES = {"users": ["avatar"]}


def source(url: str, **more: Any) -> SqlSource:
    return SqlSource(url, more.pop("tables", TABLES), RESOLVER, **more)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:///app.db", "sqlite"),
        ("sqlite+aiosqlite:////srv/app.db", "sqlite"),
        ("postgresql://u:p@h/d", "postgresql"),
        ("postgres://u:p@h/d", "postgresql"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql"),
        ("mysql://u:p@h/d", "mysql"),
        ("mariadb://u:p@h/d", "mysql"),
        ("mysql+pymysql://u:p@h/d?charset=utf8mb4", "mysql"),
    ],
)
def test_url_picks_the_dialect(url: str, kind: str) -> None:
    assert source(url)._dialect.kind == kind


@pytest.mark.parametrize(
    "url", ["postgresql://u:s3cret@h:port/d", "oracle://u:s3cret@h/d", "s3cret", "", None]
)
def test_a_bad_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        source(url)
    if url != "s3cret":
        assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_memory_is_no_source(url: str) -> None:
    with pytest.raises(ConfigError, match="must be a file"):
        source(url)


def test_an_unknown_option_of_sqlite_is_refused() -> None:
    with pytest.raises(ConfigError, match="'cache'"):
        source("sqlite:///x.db?cache=shared")
    with pytest.raises(ConfigError, match="mode=rwc"):
        source("sqlite:///x.db?mode=rwc")


@pytest.mark.parametrize(
    ("url", "extra"),
    [("postgresql://h/d", "[postgres]"), ("mysql://h/d", "[mysql]"), ("mariadb://h/d", "[mysql]")],
)
def test_a_missing_driver_names_the_extra(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        source(url)
    assert f"pip install 's3-reference-manager{extra}'" in str(caught.value)


def test_nothing_shows_the_password() -> None:
    made = source("postgresql://user:s3cret@host:5432/app?sslpassword=s3cret")
    assert "s3cret" not in repr(made) + made.name + repr(made._dialect.target)
    assert made.name == "postgresql://user@host:5432/app"
    assert source("sqlite:///x.db", name="app").name == "app"


def test_columns_are_as_written() -> None:
    made = source("sqlite:///x.db", tables={'"a.b"': ["c", "d"], "s.t": ["e"]})
    assert made.columns() == [Column('"a.b"', "c"), Column('"a.b"', "d"), Column("s.t", "e")]


@pytest.mark.parametrize(
    "tables", [{}, {"t": []}, {"t": "column"}, {"": ["c"]}, {"t": [""]}, {"a.b.c": ["d"]}, None]
)
def test_malformed_tables_are_refused(tables: Any) -> None:
    with pytest.raises(ConfigError):
        source("sqlite:///x.db", tables=tables)


def test_folders_are_columns_of_the_tables_however_they_are_written() -> None:
    tables = {"albums": ["name", "folder"], '"a.b"': ["c"]}
    made = source("sqlite:///x.db", tables=tables, folders={'"albums"': ['"folder"'], "`a.b`": ["c"]})
    assert [t.folders for t in made._tables] == [{1}, {0}]
    assert [t.folders for t in source("sqlite:///x.db")._tables] == [set()]


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({"users": ["avatars"]}, "users.avatars isn't tracked"),
        ({"user": ["avatar"]}, "user.avatar isn't tracked"),
        ({"other.users": ["avatar"]}, "other.users.avatar isn't tracked"),
        ({"users": "avatar"}, "folders: table 'users' needs a list"),
        ({"users": []}, "folders: table 'users' needs a list"),
        (["users"], "folders must map"),
    ],
)
def test_malformed_folders_are_refused(folders: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        source("sqlite:///x.db", folders=folders)


@pytest.mark.parametrize("rows", [0, -1, "10"])
def test_malformed_batch_rows_are_refused(rows: Any) -> None:
    with pytest.raises(ConfigError, match="batch_rows"):
        source("sqlite:///x.db", batch_rows=rows)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("users", ("users",)),
        ("Users", ("Users",)),
        ("public.users", ("public", "users")),
        ('"a.b"', ("a.b",)),
        ('"a""b"."c.d"', ('a"b', "c.d")),
        ("`a.b`.c", ("a.b", "c")),
        ("order", ("order",)),
        ("my table", ("my table",)),
    ],
)
def test_names(spec: str, parts: tuple[str, ...]) -> None:
    assert split_name(spec) == parts


@pytest.mark.parametrize("spec", ["", ".", "a.", ".a", '"a', 'a"b', '"a"b', "a.b.c", "``", 5])
def test_what_is_no_name_is_refused(spec: Any) -> None:
    with pytest.raises(ConfigError):
        split_name(spec)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=2))
def test_names_are_written_as_they_are_read(names: list[str]) -> None:
    assert split_name(written_table(*names)) == tuple(names)
    assert column_name(written_column(names[0])) == names[0]


def test_plain_names_are_written_plainly() -> None:
    assert written_table("public", "my users") == "public.my users"
    assert written_table("a.b") == '"a.b"'
    assert written_column("a.b") == "a.b"


def test_column_names_keep_their_dots() -> None:
    assert [column_name(c) for c in ("a", "a.b", '"a.b"', '"a""b"', "a b")] == [
        "a",
        "a.b",
        "a.b",
        'a"b',
        "a b",
    ]


def test_nearest_names_are_offered() -> None:
    assert "'avatar_key'" in nearest("Avatar", ["id", "avatar_key"])
    assert nearest("xyz", ["id", "avatar"]) == ""


def test_row_ids() -> None:
    assert row_id((5, "x"), 1) == "5"
    assert row_id(("a", "x"), 1) == "a"
    assert row_id((b"\x01", "x"), 1) == "\\x01"
    assert json.loads(row_id((1, "b", None, "x"), 3)) == ["1", "b", None]


parts = st.lists(st.text() | st.integers() | st.none() | st.binary(), min_size=2, max_size=3)


@given(parts, parts)
def test_composite_ids_and_stand_ins_are_unambiguous(one: list[Any], other: list[Any]) -> None:
    def printed(values: list[Any]) -> list[Any]:
        return [v if v is None else "\\x" + v.hex() if isinstance(v, bytes) else str(v) for v in values]

    assert (row_id(one, len(one)) == row_id(other, len(other))) == (printed(one) == printed(other))
    assert (stand_in(one) == stand_in(other)) == (
        [(type(v), v) for v in one] == [(type(v), v) for v in other]
    )


@pytest.mark.anyio
async def test_the_loop_is_its_own_and_a_cancelled_wait_ends() -> None:
    import asyncio

    loop = LoopThread("test")
    ended = threading.Event()

    async def where() -> str:
        return threading.current_thread().name

    async def for_ever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    assert await loop.run(where) == "test"
    with anyio.move_on_after(0.1) as scope:
        await loop.run(for_ever)
    assert scope.cancelled_caught
    assert await anyio.to_thread.run_sync(ended.wait, 30)
    await loop.aclose()
    await loop.aclose()
    assert await loop.run(where) == "test"  # it starts anew
    await loop.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"read_only": "ON"}, "read-only"),
        ({"super_read_only": "1"}, "read-only"),
        ({"wsrep_on": "ON"}, "Galera"),
    ],
)
async def test_servers_whose_writers_are_elsewhere_are_refused(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = source("mysql://h/d")

    async def answer(*_: object) -> dict[str, str]:
        return variables

    monkeypatch.setattr(MysqlDialect, "_variables", answer)
    for method in ("identity", "running"):
        with pytest.raises(SourceError, match=words):
            await getattr(made._dialect, method)(None)
