"""Events that lose references if they are taken lightly. After each, rows kept by changes equal a scan.

A test's name says the event; its body shows that the naive reading would have lost a key.
"""

# ruff: noqa: E501 - statements stand on one line

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import asyncpg
import pytest

from cdc_world import App, deadline
from fixtures_databases import postgres_server, postgres_url
from s3gc.errors import SourceError
from s3gc.testing.source_contract import Rows, changed, scanned

__all__ = ["deadline", "postgres_server", "postgres_url"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the contract suite runs on trio, too


@pytest.fixture
async def app(postgres_url: str) -> AsyncIterator[App]:
    app = App(postgres_url)
    yield app
    await app.close()


BIG_DOC = "(SELECT jsonb_build_object('at', 'big/' || {id}, 'more', string_agg(md5(n::text), '')) FROM generate_series(1, 200) n)"
DOCS = (
    "CREATE TABLE docs (id int PRIMARY KEY, doc jsonb, note text, path text)",
    "ALTER TABLE docs ALTER doc SET STORAGE EXTERNAL",
)


def insert_doc(id: int, path: str = "") -> str:
    return f"INSERT INTO docs SELECT {id}, {BIG_DOC.format(id=id)}, 'n', '{path or f'p/{id}'}'"


# --------------------------------------------------------------------------- TOAST


async def test_an_unchanged_value_out_of_line_keeps_its_references(app: App) -> None:
    await app.run(*DOCS, insert_doc(1))
    kept = await app.follow({"docs": ["doc", "path"]})
    await app.run("UPDATE docs SET path = 'p/new'")
    keys = await kept.agrees()
    assert {"big/1", "p/new"} <= keys
    (change,) = [change for batch in kept.batches for change in batch.changes]
    assert change.columns == {"path"}, "the server didn't send doc: a naive reader takes it for NULL"


async def test_a_new_row_id_with_an_unchanged_value_moves_its_references(app: App) -> None:
    await app.run(*DOCS, insert_doc(1), insert_doc(2))
    kept = await app.follow({"docs": ["doc", "path"]})
    await app.run("UPDATE docs SET id = 10 WHERE id = 1")
    assert {"big/1", "big/2"} <= await kept.agrees()
    assert ("10", "big/1") in {(r.row_id, r.key) for r in kept.rows.references}


async def test_a_row_that_moves_under_the_scan_is_seen_with_all_its_values(app: App) -> None:
    """Read in chunks by key, a row may go from a chunk to come to one that was read; doc isn't sent then."""
    await app.run(*DOCS, *(insert_doc(n) for n in range(10, 20)))
    source = app.source({"docs": ["doc", "path"]})
    begun = await source.begin()
    seen = []
    async for batch in source.scan():
        if not seen:
            await app.run("UPDATE docs SET id = 1 WHERE id = 19")
        seen += batch.references
    assert "big/19" not in {r.key for r in seen}, "the scan alone has lost it"
    rows = Rows(seen)
    rows.apply(await changed(source, begun))
    assert rows.references == set(await scanned(source))
    assert "big/19" in {r.key for r in rows.references}


async def test_a_key_that_a_row_names_for_a_moment_is_told(app: App) -> None:
    """A row that has to be read has gone on by then; what its change said itself mustn't be forgotten."""
    await app.run(*DOCS, insert_doc(1))
    kept = await app.follow({"docs": ["doc", "path"]})
    await app.run("UPDATE docs SET id = 10, path = 'for a moment'", "UPDATE docs SET path = 'b'")
    assert {"b", "big/1"} <= await kept.agrees()
    assert "for a moment" in {r.key for b in kept.batches for c in b.changes for r in c.references}


async def test_rows_that_trade_ids_with_unchanged_values(app: App) -> None:
    await app.run(*DOCS, insert_doc(1), insert_doc(2))
    kept = await app.follow({"docs": ["doc", "path"]})
    await app.run(
        "BEGIN", "UPDATE docs SET id = 3 WHERE id = 1", "UPDATE docs SET id = 1 WHERE id = 2",
        "UPDATE docs SET id = 2 WHERE id = 3", "COMMIT",
    )  # fmt: skip
    assert {"big/1", "big/2"} <= await kept.agrees()


async def test_many_new_ids_at_once(app: App) -> None:
    await app.run(*DOCS, *(insert_doc(n) for n in range(50)))
    kept = await app.follow({"docs": ["doc"]}, batch=7)
    await app.run("UPDATE docs SET id = id + 1000")
    await app.run("DELETE FROM docs WHERE id = 1007", "UPDATE docs SET id = 1 WHERE id = 1008")
    assert len([key for key in await kept.agrees() if key.startswith("big/")]) == 49


async def test_a_key_that_is_kept_out_of_line(app: App) -> None:
    """The key itself isn't sent with the new row then; the old row has it."""
    await app.run(
        "CREATE TABLE long (id text PRIMARY KEY, path text, note text)",
        "ALTER TABLE long ALTER id SET STORAGE EXTERNAL",
        "INSERT INTO long SELECT string_agg(md5(n::text), ''), 'a', repeat('x', 1500) FROM generate_series(1, 75) n",
    )
    kept = await app.follow({"long": ["path"]})
    await app.run("UPDATE long SET path = 'b'")
    assert await kept.agrees() == {"b"}


# --------------------------------------------------------------------------- keys


async def test_a_new_row_id(app: App) -> None:
    await app.run("CREATE TABLE files (id int PRIMARY KEY, path text)", "INSERT INTO files VALUES (1, 'a')")
    kept = await app.follow({"files": ["path"]})
    await app.run("UPDATE files SET id = 2", "DELETE FROM files WHERE id = 2")
    assert await kept.agrees() == set(), "a naive reader keeps the row under its old id for ever"


async def test_keys_of_several_columns_of_many_types(app: App) -> None:
    """Scan and stream must print the same, or a change would miss its row."""
    await app.run(
        "CREATE DOMAIN code AS char(6)",
        "CREATE TYPE kind AS ENUM ('it''s', 'other')",
        "CREATE TABLE odd (a bool, b char(5), c inet, d timestamptz, e numeric, f bytea, g uuid, h kind, i float8,"
        " j interval, k code, l date, path text, PRIMARY KEY (k, a, b, c, d, e, f, g, h, i, j, l))",
    )
    row = (
        "(true, 'ab', '10.0.0.1', '2024-02-03 04:05:06.7+02', 1.50, '\\x00ff', gen_random_uuid(), 'it''s',"
        " 0.1::float8 + 0.2, '1 day 02:03', 'k', '2024-01-02', {})"
    )
    await app.run("INSERT INTO odd VALUES " + row.format("'a'"))
    await app.run(
        f"ALTER DATABASE {app.name} SET bytea_output = 'escape'",
        f"ALTER DATABASE {app.name} SET datestyle = 'German'",
        f"ALTER DATABASE {app.name} SET intervalstyle = 'iso_8601'",
        f"ALTER DATABASE {app.name} SET timezone = 'Asia/Tokyo'",
        f"ALTER DATABASE {app.name} SET extra_float_digits = -5",
    )
    kept = await app.follow({"odd": ["path"]})
    await app.run("UPDATE odd SET path = 'b'", "INSERT INTO odd VALUES " + row.format("'c'"))
    assert await kept.agrees() == {"b", "c"}
    await app.run("UPDATE odd SET b = 'x', a = false WHERE path = 'b'")
    assert await kept.agrees() == {"b", "c"}
    await app.run("DELETE FROM odd")
    assert await kept.agrees() == set()


# --------------------------------------------------------------------------- values


async def test_values_of_many_types_mean_the_same_in_scan_and_stream(app: App) -> None:
    await app.run(
        "CREATE DOMAIN url AS text", "CREATE DOMAIN urls AS text[]",
        "CREATE TYPE pair AS (a text, b text)",
        "CREATE EXTENSION hstore",
        "CREATE TABLE t (id int PRIMARY KEY, a text[], b jsonb, c url, d urls, e pair, f hstore, g uuid, h bytea,"
        " i varchar[], j char(30), k name, l json, m uuid[], n bytea[], o text[][], p xml, q pair[])",
    )  # fmt: skip
    values = """{id}, ARRAY['a {id}', 'with,comma', 'with"quote', NULL, '', 'back\\slash', 'é/漢字.txt', '{{x}}'],
        '{{"deep": [{{"at": "https://my-bucket.s3.amazonaws.com/json%20{id}.jpg"}}]}}', 'domain/{id}',
        ARRAY['in/array', 'of/domain {id}'], ROW('in/composite', 'with "quotes", {id}'),
        hstore('k', 'in/hstore/{id}'), 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1{id}', convert_to('in/bytea/{id}', 'UTF8'),
        ARRAY['v/{id}'], 'padded/{id}', 'name/{id}', '["in/json/{id}"]',
        ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a2{id}'::uuid, NULL], ARRAY['\\x6162'::bytea],
        ARRAY[ARRAY['x/1', 'x/2'], ARRAY['y/1', 'y/{id}']], '<a href="in/xml/{id}">x</a>', ARRAY[ROW('q/1','q/2')::pair]
        """
    await app.run(f"INSERT INTO t VALUES ({values.format(id=1)})")
    columns = [chr(c) for c in range(ord("a"), ord("q") + 1)]
    kept = await app.follow({"t": columns})
    await app.run(f"INSERT INTO t VALUES ({values.format(id=2)})", "UPDATE t SET id = 3 WHERE id = 1")
    keys = await kept.agrees()
    assert {
        "a 2", "with,comma", 'with"quote', "json 2.jpg", "domain/2", "of/domain 2", "in/composite", "in/hstore/2",
        "in/bytea/2", "v/2", "padded/2", "in/json/2", "y/2", "in/xml/2", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12",
    } <= keys  # fmt: skip


async def test_folders_are_told_as_folders(app: App) -> None:
    await app.run("CREATE TABLE albums (id int PRIMARY KEY, folder text)")
    kept = await app.follow({"albums": ["folder"]}, folders={"albums": ["folder"]})
    await app.run(
        "INSERT INTO albums VALUES (1, 'photos/7'), (2, 'photos/8')", "DELETE FROM albums WHERE id = 2"
    )
    await kept.agrees()
    assert {r.key for r in kept.rows.references if r.prefix} == {"photos/7/"}


async def test_a_generated_column_is_refused_with_its_cure(app: App) -> None:
    """It isn't in the stream: followed naively its references would never be known."""
    await app.run(
        "CREATE TABLE files (id int PRIMARY KEY, name text, path text GENERATED ALWAYS AS ('p/' || name) STORED)"
    )
    source = app.source({"files": ["path"]})
    for call in (source.check, source.begin):
        with pytest.raises(
            SourceError, match=r"files.path is generated.*track the columns that it is made of"
        ):
            await call()


# --------------------------------------------------------------------------- many rows at once


async def test_truncate_with_what_depends_on_it(app: App) -> None:
    await app.run(
        "CREATE TABLE one (id int PRIMARY KEY, path text)",
        "CREATE TABLE two (id int PRIMARY KEY, one_id int REFERENCES one, path text)",
        "INSERT INTO one VALUES (1, 'a')", "INSERT INTO two VALUES (1, 1, 'b')",
    )  # fmt: skip
    kept = await app.follow({"one": ["path"], "two": ["path"]})
    await app.run(
        "INSERT INTO one VALUES (2, 'c')", "TRUNCATE one CASCADE", "INSERT INTO one VALUES (3, 'd')"
    )
    assert await kept.agrees() == {"d"}
    await app.run("BEGIN", "INSERT INTO one VALUES (4, 'e')", "TRUNCATE two, one", "COMMIT")
    assert await kept.agrees() == set()


async def test_a_truncate_that_is_rolled_back(app: App) -> None:
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'a')")
    kept = await app.follow({"one": ["path"]})
    await app.run("BEGIN", "TRUNCATE one", "INSERT INTO one VALUES (2, 'b')", "ROLLBACK")
    assert await kept.agrees() == {"a"}


async def test_cascades_upserts_merges_and_replica_sessions_are_all_told(app: App) -> None:
    await app.run(
        "CREATE TABLE one (id int PRIMARY KEY, path text)",
        "CREATE TABLE two (id int PRIMARY KEY, path text, one_id int REFERENCES one ON DELETE CASCADE ON UPDATE CASCADE)",
        "CREATE TABLE three (id int PRIMARY KEY, path text DEFAULT 'default', "
        " one_id int DEFAULT 1 REFERENCES one ON DELETE SET NULL)",
        "INSERT INTO one VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO two VALUES (1, 'c', 1), (2, 'd', 2)",
    )  # fmt: skip
    kept = await app.follow({"one": ["path"], "two": ["path"], "three": ["path"]})
    await app.run(
        "INSERT INTO three (id) VALUES (1)",
        "DELETE FROM one WHERE id = 1",
        "INSERT INTO one VALUES (2, 'e'), (3, 'f') ON CONFLICT (id) DO UPDATE SET path = excluded.path",
        "MERGE INTO two t USING (VALUES (2, 'g'), (9, 'h')) v (id, path) ON t.id = v.id"
        " WHEN MATCHED THEN UPDATE SET path = v.path WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.path)",
        "SET session_replication_role = replica",
        "INSERT INTO three VALUES (2, 'i', NULL)",
        "RESET session_replication_role",
        "WITH gone AS (DELETE FROM one WHERE id = 3 RETURNING path) INSERT INTO two SELECT 10, path FROM gone",
    )
    assert await kept.agrees() == {"default", "e", "g", "h", "i", "f"}


async def test_rollback_and_savepoints(app: App) -> None:
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'a')")
    kept = await app.follow({"one": ["path"]})
    await app.run(
        "BEGIN", "INSERT INTO one VALUES (2, 'b')", "SAVEPOINT s", "DELETE FROM one WHERE id = 1",
        "INSERT INTO one VALUES (3, 'never')", "ROLLBACK TO s", "UPDATE one SET path = 'c' WHERE id = 2", "COMMIT",
        "BEGIN", "DELETE FROM one", "ROLLBACK",
    )  # fmt: skip
    assert await kept.agrees() == {"a", "c"}
    assert "never" not in {r.key for b in kept.batches for c in b.changes for r in c.references}


async def test_a_transaction_larger_than_a_batch(app: App) -> None:
    """Its parts have the position before it: one can read on from each of them."""
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'a')")
    kept = await app.follow({"one": ["path"]}, batch=10)
    begun, base = kept.position, list(kept.rows.references)
    await app.run("BEGIN", "DELETE FROM one", "INSERT INTO one SELECT n, 'k/' || n FROM generate_series(1, 95) n", "COMMIT")  # fmt: skip
    keys = await kept.agrees()
    assert len(keys) == 95
    parts = [batch for batch in kept.batches if batch.changes]
    assert len(parts) == 10
    assert {part.position for part in parts[:-1]} == {begun}
    for stop in range(1, len(parts)):
        later = app.source({"one": ["path"]}, slot=f"s3gc_{app.name}")
        rows = Rows(base)
        rows.apply(parts[:stop])
        await kept.source._loop.run(kept.source._follower.close)
        rows.apply(await changed(later, parts[stop - 1].position))
        await later.aclose()
        assert {r.key for r in rows.references} == keys


async def test_transactions_that_overlap_are_told_in_the_order_of_their_commits(app: App) -> None:
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'a')")
    kept = await app.follow({"one": ["path"]})
    async with app.other() as first, app.other() as second:
        await first.run("BEGIN", "INSERT INTO one VALUES (2, 'early, committed last')")
        await second.run("BEGIN", "UPDATE one SET path = 'b' WHERE id = 1", "COMMIT")
        await app.run("UPDATE one SET path = 'c' WHERE id = 1")
        await first.run("UPDATE one SET path = 'd' WHERE id = 1", "COMMIT")
    assert await kept.agrees() >= {"d", "early, committed last"}
    ordinals = [batch.position.ordinal for batch in kept.batches]
    assert ordinals == sorted(ordinals)


async def test_prepared_transactions(app: App) -> None:
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'a')")
    kept = await app.follow({"one": ["path"]})
    gid = f"gid_{app.name}"
    await app.run("BEGIN", "UPDATE one SET path = 'b'", f"PREPARE TRANSACTION '{gid}'")
    with pytest.raises(SourceError, match=r"1 transaction.*1 of them prepared"):
        await kept.source.fence(timedelta(milliseconds=200))
    await app.run(f"COMMIT PREPARED '{gid}'")
    assert await kept.agrees() == {"b"}


# --------------------------------------------------------------------------- fences


async def test_what_was_committed_asynchronously_is_in_the_stream_at_the_fence(app: App) -> None:
    """Visible to SELECT and not on disk yet: a fence at the flushed position would miss it."""
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)")
    kept = await app.follow({"one": ["path"]})
    await app.run("SET synchronous_commit = off")
    behind = 0
    for number in range(60):
        await app.run(f"INSERT INTO one VALUES ({number}, 'k/{number}')")
        behind += await app.ask("SELECT (pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn())::int")
        await kept.follow()
        assert f"k/{number}" in kept.keys
    assert behind > 10, "the trap was there"


async def test_a_fence_on_an_idle_server_comes_through(app: App) -> None:
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'a')")
    kept = await app.follow({"one": ["path"]})
    await app.run("CHECKPOINT")
    with anyio.fail_after(20):
        for _ in range(5):
            assert await kept.agrees() == {"a"}
            await kept.release()


async def test_idle_and_busy_elsewhere_the_server_may_forget_its_wal(app: App) -> None:
    """Traffic that nobody tracks would be held for ever by a slot that is never confirmed."""
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)", "CREATE TABLE busy (v text)")
    kept = await app.follow({"one": ["path"]})
    for _ in range(4):
        await app.run("INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 5000)", "CHECKPOINT")
        await kept.agrees()
        await kept.release()
        await app.run("CHECKPOINT")
    await kept.agrees()
    await kept.release()
    await anyio.sleep(0.5)
    held = await app.ask(
        "SELECT (pg_current_wal_insert_lsn() - restart_lsn)::int8 FROM pg_replication_slots"
        f" WHERE slot_name = 's3gc_{app.name}'"
    )
    assert held < 8_000_000, "four times 5.6 MB were written"


async def test_a_default_of_reading_only_keeps_no_fence_from_its_message(app: App) -> None:
    await app.run(
        "CREATE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'a')",
        f"ALTER DATABASE {app.name} SET default_transaction_read_only = on",
        f"ALTER DATABASE {app.name} SET default_transaction_isolation = 'serializable'",
    )  # fmt: skip
    kept = await app.follow({"one": ["path"]}, publication="s3gc")
    assert await kept.agrees() == {"a"}


# --------------------------------------------------------------------------- replica identities


async def test_a_table_without_a_key_is_refused_before_the_application_breaks(app: App) -> None:
    await app.run("CREATE TABLE bare (path text NOT NULL, n int)", "INSERT INTO bare VALUES ('a', 1)")
    source = app.source({"bare": ["path"]})
    for call in (source.check, source.begin):
        with pytest.raises(SourceError, match=r'ALTER TABLE "public"."bare" ADD PRIMARY KEY'):
            await call()
    assert await app.ask("SELECT count(*) FROM pg_publication") == 0
    assert (
        await app.ask(f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = 's3gc_{app.name}'") == 0
    )
    await app.run("UPDATE bare SET n = 2")  # the application goes on
    await app.run("CREATE UNIQUE INDEX nullable ON bare (n)", 'CREATE UNIQUE INDEX "Good One" ON bare (path)')
    with pytest.raises(SourceError, match=r'REPLICA IDENTITY USING INDEX "Good One"') as error:
        await source.check()
    await app.run("ALTER TABLE" + str(error.value).partition("ALTER TABLE")[2])
    kept = await app.follow({"bare": ["path"]})
    await app.run("UPDATE bare SET path = 'b'")
    assert await kept.agrees() == {"b"}


async def test_the_statement_of_the_refusal_is_the_one_that_would_have_broken(app: App) -> None:
    """What the test above rests on."""
    await app.run(
        "CREATE TABLE bare (path text)",
        "INSERT INTO bare VALUES ('a')",
        "CREATE PUBLICATION p FOR TABLE bare",
    )
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
        await app.run("UPDATE bare SET path = 'b'")


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL", "USING INDEX by_name"])
async def test_every_usable_replica_identity(app: App, identity: str) -> None:
    await app.run(
        "CREATE TABLE docs (id int PRIMARY KEY, name text NOT NULL, doc text, path text)",
        "ALTER TABLE docs ALTER doc SET STORAGE EXTERNAL",
        "CREATE UNIQUE INDEX by_name ON docs (name)", f"ALTER TABLE docs REPLICA IDENTITY {identity}",
        "INSERT INTO docs SELECT n, 'name ' || n, 'big/' || n || ' ' || repeat('x', 9000), 'p/' || n"
        " FROM generate_series(1, 9) n",
    )  # fmt: skip
    kept = await app.follow({"docs": ["doc", "path"]})
    await app.run(
        "UPDATE docs SET path = 'q/1' WHERE id = 1", "UPDATE docs SET id = 102 WHERE id = 2",
        "UPDATE docs SET name = 'other' WHERE id = 3", "DELETE FROM docs WHERE id = 4",
        "UPDATE docs SET id = 5000, name = 'all', path = 'q/5' WHERE id = 5", "INSERT INTO docs VALUES (4, 'n', 'd', 'e')",
    )  # fmt: skip
    assert {"big/1", "big/2", "big/3", "big/5", "q/1", "q/5", "e"} <= {
        word for key in await kept.agrees() for word in key.split(" ")[:1]
    }


async def test_the_identity_nothing_is_refused(app: App) -> None:
    await app.run(
        "CREATE TABLE one (id int PRIMARY KEY, path text)", "ALTER TABLE one REPLICA IDENTITY NOTHING"
    )
    with pytest.raises(SourceError, match=r'ALTER TABLE "public"."one" REPLICA IDENTITY DEFAULT'):
        await app.source({"one": ["path"]}).begin()


@pytest.mark.parametrize(
    ("make", "table", "message"),
    [
        ("CREATE UNLOGGED TABLE t (id int PRIMARY KEY, path text)", "t", "SET LOGGED"),
        ("CREATE TABLE b (id int PRIMARY KEY, path text); CREATE VIEW t AS SELECT * FROM b", "t", "isn't an ordinary"),
        ("CREATE TABLE t (id int PRIMARY KEY, path text); CREATE TABLE c () INHERITS (t)", "t", "inherits"),
        ("CREATE TABLE b (id int PRIMARY KEY, path text); CREATE TABLE t () INHERITS (b)", "t", "inherits|nothing"),
        ("CREATE TABLE b (id int PRIMARY KEY, path text) PARTITION BY RANGE (id);"
         " CREATE TABLE t PARTITION OF b FOR VALUES FROM (0) TO (9)", "t", "is a partition"),
    ],
)  # fmt: skip
async def test_tables_whose_changes_are_not_told_are_refused(
    app: App, make: str, table: str, message: str
) -> None:
    await app.run(make)
    with pytest.raises(SourceError, match=message):
        await app.source({table: ["path"]}).begin()


# --------------------------------------------------------------------------- partitions

PARTITIONED = (
    "CREATE TABLE parts (id int, at int, path text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
    # Its columns stand in another order.
    "CREATE TABLE parts_2 (path text, at int NOT NULL, gone int, id int NOT NULL, PRIMARY KEY (id, at))",
    "ALTER TABLE parts_2 DROP gone",
    "ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20)",
)


async def test_partitions_are_told_as_their_root(app: App) -> None:
    await app.run(*PARTITIONED, "INSERT INTO parts VALUES (1, 1, 'a'), (2, 11, 'b')")
    kept = await app.follow({"parts": ["path"]})
    await app.run(
        "INSERT INTO parts VALUES (3, 2, 'c'), (4, 12, 'd')", "INSERT INTO parts_2 (id, at, path) VALUES (5, 13, 'e')",
        "UPDATE parts SET at = 15 WHERE id = 3",  # it moves to the other partition
        "UPDATE parts SET path = 'f' WHERE id = 2", "DELETE FROM parts WHERE id = 4",
    )  # fmt: skip
    assert await kept.agrees() == {"a", "c", "e", "f"}
    await app.run("TRUNCATE parts", "INSERT INTO parts VALUES (9, 9, 'z')")
    assert await kept.agrees() == {"z"}


async def test_a_partition_with_another_identity_is_refused(app: App) -> None:
    await app.run(*PARTITIONED, "ALTER TABLE parts_2 REPLICA IDENTITY NOTHING")
    with pytest.raises(SourceError, match=r'ALTER TABLE "public"."parts_2" REPLICA IDENTITY FULL'):
        await app.source({"parts": ["path"]}).begin()
    await app.run(
        "ALTER TABLE parts_2 REPLICA IDENTITY FULL", "INSERT INTO parts VALUES (1, 11, 'a'), (2, 1, 'b')"
    )
    kept = await app.follow({"parts": ["path"]})
    await app.run("UPDATE parts SET path = 'c' WHERE id = 1", "DELETE FROM parts WHERE id = 2")
    assert await kept.agrees() == {"c"}
