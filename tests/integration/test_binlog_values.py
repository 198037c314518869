"""Values of every type, as the binlog has them, beside a direct read over aiomysql. MariaDB."""

from __future__ import annotations

from typing import Any

import pytest

from binlog_world import events, now, session
from fixtures_databases import Server, mariadb_server, mariadb_url
from s3gc_cdc_mysql._charsets import charset_name, decoder
from s3gc_cdc_mysql.events import ABSENT, Delete, Insert, Rows, Table, TableMap, Update
from s3gc_cdc_mysql.values import uuid_text

__all__ = ["mariadb_server", "mariadb_url"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


COLUMNS = {
    "years": ("year", [1901, 2155, 0]),  # before the integers, for it counts among them
    "tiny": ("tinyint", [-128, 127]),
    "tiny_u": ("tinyint unsigned", [255]),
    "small": ("smallint", [-32768, 32767]),
    "small_u": ("smallint unsigned", [65535]),
    "medium": ("mediumint", [-8388608, 8388607]),
    "medium_u": ("mediumint unsigned", [16777215]),
    "whole": ("int", [-(2**31), 2**31 - 1]),
    "whole_u": ("int unsigned", [2**32 - 1]),
    "big": ("bigint", [-(2**63), 2**63 - 1]),
    "big_u": ("bigint unsigned", [2**64 - 1]),
    "flag": ("boolean", [1]),
    "single": ("float", [1.5, -0.25]),
    "twice": ("double", [0.1, -1.7976931348623157e308]),
    "exact": ("decimal(10,2)", ["-12345678.90", "0.01"]),
    "exact_65": ("decimal(65,30)", ["-" + "9" * 35 + "." + "1" * 30, "0"]),
    "exact_9": ("decimal(9,9)", ["0.123456789", "-0.000000001"]),
    "exact_18": ("decimal(18,0)", ["123456789012345678", "-1"]),
    "exact_u": ("decimal(20,3) unsigned", ["12345678901234567.123"]),
    "day": ("date", ["2024-02-29", "1000-01-01", "0000-00-00", "2024-00-10"]),
    "moment": ("datetime", ["2024-02-29 23:59:59", "0000-00-00 00:00:00", "9999-12-31 23:59:59"]),
    "moment_1": ("datetime(1)", ["2024-02-29 23:59:59.9", "0000-00-00 00:00:00"]),
    "moment_3": ("datetime(3)", ["2024-02-29 23:59:59.123"]),
    "moment_6": ("datetime(6)", ["2024-02-29 23:59:59.123456", "2024-00-00 00:00:00.5"]),
    "stamp": ("timestamp null", ["2038-01-19 03:14:07", "1970-01-01 00:00:01", "0000-00-00 00:00:00"]),
    "stamp_2": ("timestamp(2) null", ["2024-02-29 23:59:59.99"]),
    "stamp_4": ("timestamp(4) null", ["2024-02-29 23:59:59.9999"]),
    "stamp_6": ("timestamp(6) null", ["2024-02-29 23:59:59.000001"]),
    "clock": ("time", ["-838:59:59", "00:00:01", "-00:00:01"]),
    "clock_1": ("time(1)", ["-00:00:00.1", "12:34:56.7"]),
    "clock_2": ("time(2)", ["-12:34:56.07"]),
    "clock_3": ("time(3)", ["-12:34:56.789", "00:00:00.001"]),
    "clock_6": ("time(6)", ["-838:59:58.999999", "-00:00:00.000001"]),
    "bits": ("bit(11)", [0b10000000001]),
    "bits_64": ("bit(64)", [2**64 - 1]),
    "bits_8": ("bit(8)", [129]),
    "fixed": ("char(10)", ["ab", "", "grüß  "]),
    "fixed_long": ("char(255)", ["ä" * 255, "x"]),
    "varied": ("varchar(20)", ["photos/é.jpg", "", "  a  "]),
    "varied_long": ("varchar(300)", ["x" * 300]),
    "latin": ("varchar(40) character set latin1", ["Æ€ ‰", "\x81"]),
    "text": ("text", ["t" * 1000, "😀"]),
    "tiny_text": ("tinytext", ["tt"]),
    "medium_text": ("mediumtext", ["m" * 70000]),
    "long_text": ("longtext", ["l" * 70000]),
    "text_utf16": ("text character set utf16", ["grüß 😀"]),
    "text_koi": ("text character set koi8r", ["привет"]),
    "text_sjis": ("text character set sjis", ["日本語"]),
    "text_gbk": ("char(20) character set gbk", ["中文"]),
    "raw_fixed": ("binary(16)", [b"\1\2\0\0", b"", b"\0" * 16]),
    "raw": ("varbinary(20)", [b"\0\xff", b""]),
    "raw_blob": ("blob", [bytes(range(256))]),
    "raw_tiny": ("tinyblob", [b"\0"]),
    "raw_medium": ("mediumblob", [b"\xff" * 70000]),
    "raw_long": ("longblob", [b"\xff" * 70000]),
    "choice": ("enum('ä','b','it''s')", ["ä", "it's"]),
    "choice_latin": ("enum('ß','€') character set latin1", ["€"]),
    "choice_many": ("enum(" + ",".join(f"'v{n}'" for n in range(300)) + ")", ["v0", "v299"]),
    "several": ("set('x','y','ü')", ["x,ü", ""]),
    "several_64": ("set(" + ",".join(f"'s{n}'" for n in range(64)) + ")", ["s0,s63"]),
    "document": ("json", ['{"key": "photos/a.jpg", "n": [1, 2.5, null]}']),
    "packed": ("varchar(2000) compressed", ["p" * 1500, "short", ""]),
    "packed_text": ("text compressed", ["q" * 1500, "größer" * 100]),
    "packed_raw": ("varbinary(2000) compressed", [b"\0" * 1500]),
    "packed_blob": ("mediumblob compressed", [b"\1" * 100000, b"\1"]),
}  # fmt: skip


async def make(run: Any) -> int:
    """A table with all of it, and as many rows as the column with the most values has. Returns how many."""
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    await run(f"CREATE TABLE every (id int PRIMARY KEY, place geometry, {columns}, tail varchar(5))")
    await run("SET sql_mode = '', time_zone = '+00:00'")
    most = max(len(values) for _, values in COLUMNS.values())
    for row in range(most):
        given = {name: values[row] for name, (_, values) in COLUMNS.items() if row < len(values)}
        names = ", ".join(given)
        # Bytes are spelled out: aiomysql looks for a function that newer PyMySQLs don't have there.
        marks = ", ".join(f"X'{v.hex()}'" if isinstance(v, bytes) else "%s" for v in given.values())
        others = [v for v in given.values() if not isinstance(v, bytes)]
        await run(
            f"INSERT INTO every (id, place, tail, {names}) VALUES (%s, POINT(1, 2), 'end', {marks})",
            row, *others,
        )  # fmt: skip
    return most


def of(found: list[Any], table: str) -> list[Rows]:
    return [event for event in found if isinstance(event, Rows) and event.table.name == table]


async def test_a_value_is_what_a_direct_read_gives(mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        most = await make(run)
        read = await run("SELECT * FROM every ORDER BY id")
        names = [row[0] for row in await run("SHOW COLUMNS FROM every")]
    rows = [row for event in of(await events(mariadb_url, start), "every") for row in event.rows]
    assert len(rows) == most == len(read)
    for seen, direct in zip(rows, read, strict=True):
        for name, mine, theirs in zip(names, seen, direct, strict=True):
            assert (mine, type(mine)) == (theirs, type(theirs)), name


async def test_a_table_map_tells_names_types_signs_collations_members_and_the_key(mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await make(run)
    [table, *_] = [e.table for e in await events(mariadb_url, start) if isinstance(e, TableMap)]
    assert table.name == "every"
    assert table.named
    assert [column.name for column in table.columns] == ["id", "place", *COLUMNS, "tail"]
    by_name = {column.name: column for column in table.columns}
    assert by_name["whole_u"].unsigned
    assert not by_name["whole"].unsigned
    assert by_name["choice"].members == ("ä", "b", "it's")
    assert by_name["choice_latin"].members == ("ß", "€")
    assert by_name["several"].members == ("x", "y", "ü")
    assert by_name["raw"].collation == 63
    assert [tuple(part) for part in table.primary_key or ()] == [(0, 0)]


async def test_only_columns_that_are_asked_for_are_read(mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await make(run)
        read = await run("SELECT id, text, packed_blob, tail FROM every ORDER BY id")
    asked: list[str] = []

    def some(table: Table) -> list[int]:
        asked.append(table.name)
        names = [column.name for column in table.columns]
        return [names.index(name) for name in ("tail", "packed_blob", "text", "id")]  # any order

    rows = [row for event in of(await events(mariadb_url, start, some), "every") for row in event.rows]
    assert rows == [tuple(row) for row in read]
    assert asked == ["every"]  # once, however often it is described
    assert of(await events(mariadb_url, start, lambda table: None), "every") == []


async def test_updates_and_deletes_in_full_images(mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("CREATE TABLE t (id int PRIMARY KEY, a varchar(9), b varchar(9))")
        await run("INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', 'x')")
        await run("UPDATE t SET a = NULL WHERE id < 3")
        await run("UPDATE t SET id = 7 WHERE id = 1")
        await run("DELETE FROM t")
    insert, update, key, delete = of(await events(mariadb_url, start), "t")
    assert isinstance(insert, Insert)
    assert insert.rows == [(1, "a", None), (2, "b", "x")]
    assert isinstance(update, Update)
    assert update.rows == [((1, "a", None), (1, None, None)), ((2, "b", "x"), (2, None, "x"))]
    assert isinstance(key, Update)
    assert key.rows == [((1, None, None), (7, None, None))]
    assert isinstance(delete, Delete)
    assert sorted(delete.rows) == [(2, None, "x"), (7, None, None)]
    assert all(event.last_of_statement for event in (insert, update, key, delete))


async def test_absent_is_not_null_in_minimal_images(mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("SET binlog_row_image = MINIMAL")
        await run("CREATE TABLE t (id int PRIMARY KEY, a varchar(9), b varchar(9) DEFAULT 'key')")
        await run("INSERT INTO t (id, a) VALUES (1, 'a')")
        await run("UPDATE t SET a = NULL WHERE id = 1")
        await run("UPDATE t SET id = 2")
        await run("DELETE FROM t")
    insert, update, key, delete = of(await events(mariadb_url, start), "t")
    assert insert.rows == [(1, "a", ABSENT)]  # though the row has 'key' there
    assert update.rows == [((1, ABSENT, ABSENT), (ABSENT, None, ABSENT))]
    assert key.rows == [((1, ABSENT, ABSENT), (2, ABSENT, ABSENT))]
    assert delete.rows == [(2, ABSENT, ABSENT)]


async def test_the_whole_row_is_before_when_there_is_no_key(mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("SET binlog_row_image = MINIMAL")
        await run("CREATE TABLE t (a varchar(9), b varchar(9))")
        await run("INSERT INTO t VALUES ('a', NULL)")
        await run("UPDATE t SET a = 'b'")
        await run("DELETE FROM t")
    insert, update, delete = of(await events(mariadb_url, start), "t")
    assert insert.table.primary_key == ()
    assert update.rows == [(("a", None), ("b", None))]
    assert delete.rows == [("b", None)]


async def test_a_key_with_a_prefix(mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("CREATE TABLE t (a text, b int, c varchar(50), PRIMARY KEY (c, a(7)))")
        await run("INSERT INTO t VALUES ('a', 1, 'c')")
    [insert] = of(await events(mariadb_url, start), "t")
    assert [(p.column, p.prefix) for p in insert.table.primary_key or ()] in (
        [(2, 0), (0, 7)],
        [(2, 50), (0, 7)],
    )


async def test_without_metadata_a_text_is_refused_with_what_to_do(
    mariadb_server: Server, mariadb_url: str
) -> None:
    mariadb_server.admin("SET GLOBAL binlog_row_metadata = NO_LOG")
    try:
        start = await now(mariadb_url)
        async with session(mariadb_url) as run:
            await run("CREATE TABLE t (id int, a varchar(9))")
            await run("INSERT INTO t VALUES (1, 'a')")
    finally:
        mariadb_server.admin("SET GLOBAL binlog_row_metadata = FULL")
    with pytest.raises(Exception, match="binlog_row_metadata = FULL"):
        await events(mariadb_url, start)
    [insert] = of(await events(mariadb_url, start, lambda table: [0]), "t")
    assert insert.rows == [(1,)]
    assert not insert.table.named
    assert insert.table.primary_key is None


async def test_a_uuid_of_mariadb(mariadb_url: str) -> None:
    texts = [
        "3e11fa47-71ca-11e1-9e33-c80aa9429562", "3e11fa47-71ca-41e1-9e33-c80aa9429500",
        "01900000-71ca-7de1-9e33-c80aa9429562", "00000000-0000-0000-0000-000000000000",
    ]  # fmt: skip
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("CREATE TABLE t (id uuid PRIMARY KEY)")
        for one in texts:
            await run("INSERT INTO t VALUES (%s)", one)
    assert [uuid_text(row[0]) for e in of(await events(mariadb_url, start), "t") for row in e.rows] == texts


async def test_texts_in_every_character_set_are_what_the_server_converts_them_to(mariadb_url: str) -> None:
    """All characters of two bytes at most: of both the server and Python's codecs."""
    known: dict[str, int] = {}
    async with session(mariadb_url) as run:
        for number, name in await run(
            "SELECT id, character_set_name FROM information_schema.collation_character_set_applicability"
            " WHERE id IS NOT NULL"
        ):
            if name in NOT_READ:
                with pytest.raises(ValueError, match="character set isn't read"):
                    charset_name(number)
            elif name != "binary":
                assert charset_name(number) == name
                known[name] = number
        assert len(known) == 33
        await run("SET max_recursive_iterations = 70000")
        await run("CREATE TABLE n (raw varbinary(2))")
        await run(
            "INSERT INTO n WITH RECURSIVE r AS (SELECT 0 n UNION ALL SELECT n + 1 FROM r WHERE n < 65535)"
            " SELECT UNHEX(LPAD(HEX(n), IF(n < 256, 2, 4), '0')) FROM r"
        )
        for name, number in known.items():
            read = decoder(number)
            rows = await run(
                f"SELECT raw, CAST(CONVERT(CONVERT(raw USING {name}) USING utf8mb4) AS BINARY) FROM n"
                f" WHERE CHAR_LENGTH(CONVERT(raw USING {name})) = 1"
                f" AND CAST(CONVERT(raw USING {name}) AS BINARY) = raw"
            )
            different = {}
            for raw, converted in rows:
                try:
                    theirs = converted.decode()
                except UnicodeDecodeError:  # half of a pair, which ucs2 allows: nobody can read it as a text
                    continue
                if read(raw) != theirs:
                    different[raw] = (read(raw), theirs)
            assert set(different) == DIFFERENT.get(name, set()), name


NOT_READ = {"dec8", "swe7", "armscii8", "keybcs2", "geostd8", "eucjpms"}
DIFFERENT = {"big5": {bytes.fromhex(one) for one in ("A15A", "A1C3", "A1C5", "A1FE", "A240", "A2CC", "A2CE")}}
"""Seven signs that MariaDB doesn't convert, and Python does."""
