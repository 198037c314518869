"""The direct read asks PostgreSQL for the rows that may name a key, and never for fewer."""

# ruff: noqa: E501 - statements stand on one line

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_databases import postgres_server, postgres_url
from s3gc.model import Reference
from s3gc.resolver import Resolver
from s3gc.sources._dialect import TableQuery, TrackedTable
from s3gc.sources._postgres import PostgresDialect
from s3gc.sources._postgres_text import odd_value, two_indexes
from s3gc.sources.sql import SqlSource

__all__ = ["postgres_server", "postgres_url"]

pytestmark = pytest.mark.anyio

RESOLVERS = [
    Resolver("my-bucket"),
    Resolver(
        "b.c", endpoint_hosts=["minio:9000", "s3"], base_urls=["https://cdn.example.org/files", "/media/"]
    ),
    Resolver("odd.*bucket-[x]", base_urls=["/a b/", "x+y"]),
    Resolver("below", key_prefixes=["media/", "a b/", "a"]),
]
PREFIXES = {one.bucket: one._prefixes for one in RESOLVERS}
PIECES = ["a", "B7", "-", "_", ".", "..", "/", "//", "my-bucket", "b.c", "s3", "files", "media", "minio:9000",
          "odd.*bucket-[x]", "%20", "é", " ", "\n", "https:", "?x=a/b", "{", '"', "a b", "x+y", "\\"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=7).map("".join) | st.text(max_size=12).filter(
    lambda text: "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(postgres_url)
    yield made
    await made.close()


@pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda r: r.bucket)
def test_what_postgresql_takes_for_plain_means_itself_and_nothing_else(
    resolver: Resolver, postgres_url: str
) -> None:
    """By the server's own expressions, which aren't Python's."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(TEXTS, min_size=20, max_size=60))
    def each(values: list[str]) -> None:
        async def ask() -> list[str]:
            connection = await asyncpg.connect(postgres_url)
            rows = await connection.fetch(
                f"SELECT v FROM unnest($1::text[]) v WHERE NOT ({odd_value('v', resolver.odd)})",
                values,
            )
            await connection.close()
            return [row[0] for row in rows]

        for value in anyio.run(ask):
            assert resolver.keys(value) <= {prefix + value for prefix in ("", *PREFIXES[resolver.bucket])}

    each()


async def test_most_values_are_plain_or_nothing_is_gained(connection: asyncpg.Connection) -> None:
    values = ["photos/2026/1.jpg", "a", "a.jpg", "a/b/c.tar.gz", "a-b/c_d", "9/x.", "a/"]
    odd = ["my-bucket/a.jpg", "/a", "a//b", "a.b/c.jpg", "./a", "", "a b", "https://x/a.jpg", "é.jpg"]
    rows = await connection.fetch(
        f"SELECT v FROM unnest($1::text[]) v WHERE NOT ({odd_value('v', Resolver('my-bucket').odd)})",
        values + odd,
    )
    assert [row[0] for row in rows] == values


@pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda r: r.bucket)
async def test_nothing_is_found_too_few(
    resolver: Resolver, postgres_url: str, connection: asyncpg.Connection
) -> None:
    """Against all rows, resolved."""
    await connection.execute("CREATE TABLE files (id int PRIMARY KEY, path text, other varchar(99))")
    values = [a + b + c for a in PIECES for b in PIECES for c in ("", "a.jpg", "/x")]
    await connection.executemany(
        "INSERT INTO files VALUES ($1, $2, $3)",
        [(n, value, None if n % 3 else value[::-1]) for n, value in enumerate(values)],
    )
    every = {key for value in values for key in resolver.keys(value)}
    source = SqlSource(postgres_url, {"files": ["path", "other"]}, resolver)
    whole = {one async for batch in source.scan() for one in batch.references}
    for some in (sorted(every)[::7], ["a.jpg", "aa.jpg", "B7/x"], ["not\0there", "\ud800"], []):
        found: set[Reference] = {one async for one in source.find(some)}
        assert found == {one for one in whole if one.key in set(some)}
    await source.aclose()


async def test_columns_that_are_no_texts_are_read_as_a_whole(
    postgres_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "CREATE DOMAIN place AS text; CREATE TABLE files (id int PRIMARY KEY, path text, j jsonb, d place, f text)"
    )
    await connection.execute(
        """INSERT INTO files VALUES (1, 'a', '["b"]', 'c', 'f'), (2, 'x', '{}', 'x', 'x')"""
    )
    source = SqlSource(
        postgres_url, {"files": ["path", "j", "d", "f"]}, Resolver("my-bucket"), folders={"files": ["f"]}
    )
    assert {one.key async for one in source.find(["a", "b", "c", "f/g"])} == {"a", "b", "c", "f/"}
    await source.aclose()


async def test_with_two_indexes_nothing_is_read_but_what_is_looked_for(
    postgres_url: str, connection: asyncpg.Connection
) -> None:
    resolver = Resolver("my-bucket")
    await connection.execute("CREATE TABLE files (id int PRIMARY KEY, path text)")
    await connection.execute(
        "INSERT INTO files SELECT n, 'photos/' || n || '.jpg' FROM generate_series(1, 20000) n"
    )
    await connection.execute("INSERT INTO files VALUES (0, 'https://x.example.org/odd.jpg')")
    dialect = PostgresDialect(SqlSource(postgres_url, {"files": ["path"]}, resolver)._dialect._url)  # type: ignore[attr-defined]
    query = TableQuery(
        TrackedTable("files", ("files",), (("path", "path"),)), "SELECT t.id, t.path FROM files AS t", 1,
        texts=['t."path"'],
    )  # fmt: skip
    keys = [f"free/{n}" for n in range(1000)]
    sql, parameters = dialect.narrowed(query, resolver.plain_values(keys), resolver.odd)
    await connection.execute(
        "; ".join(two_indexes("files", "path", resolver.odd))
        + "; ANALYZE files; SET plan_cache_mode = force_custom_plan; SET enable_seqscan = off"
    )
    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *parameters))
    assert "BitmapOr" in plan, plan
    assert "Seq Scan" not in plan
    assert [row[0] for row in await connection.fetch(sql, *parameters)] == [0], (
        "the odd one may mean anything"
    )


async def test_a_generic_plan_is_not_taken(postgres_url: str) -> None:
    """It would compare each row with each key in turn."""
    source = SqlSource(postgres_url, {"files": ["path"]}, Resolver("my-bucket"))

    async def ask() -> str:
        async with source._connection() as connection:
            await source._dialect.begin(connection)
            row = await connection.exec_driver_sql("SELECT current_setting('plan_cache_mode')")
            return str(row.fetchone()[0])  # type: ignore[index]

    assert await source._loop.run(ask) == "force_custom_plan"
    await source.aclose()


async def test_no_index_is_believed_once_texts_may_be_sorted_otherwise(
    postgres_url: str, connection: asyncpg.Connection
) -> None:
    source = SqlSource(postgres_url, {"files": ["path"]}, Resolver("my-bucket"))

    async def may_use() -> set[str]:
        async with source._connection() as opened:
            await source._dialect.begin(opened)
            names = ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan")
            rows = [await opened.exec_driver_sql(f"SELECT current_setting('{name}')") for name in names]
            return {str(row.fetchone()[0]) for row in rows}  # type: ignore[index]

    assert await may_use() == {"on"}
    await connection.execute('CREATE TABLE other (t text COLLATE "und-x-icu")')
    assert await may_use() == {"on"}
    await connection.execute("UPDATE pg_collation SET collversion = '1' WHERE collname = 'und-x-icu'")
    assert await may_use() == {"off"}
    await connection.execute("DROP TABLE other")
    assert await may_use() == {"on"}
    await connection.execute("UPDATE pg_database SET datcollversion = '1' WHERE datname = current_database()")
    assert await may_use() == {"off"}
    await source.aclose()
