"""The main job end to end: real databases, an S3 server, execute mode; then everything back, exactly."""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import asyncpg
import pytest

from fixtures_databases import mariadb_server, mariadb_url, postgres_server, postgres_url  # noqa: F401
from fixtures_s3 import ACCESS_KEY, SECRET_KEY, S3Server, bucket, s3_server, truth  # noqa: F401
from s3gc import Collector, Report, Safety, create_config
from s3gc.abc import RESERVED_PREFIX
from s3gc.testing.keys import ODD_KEYS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.anyio

FREE = ["a/b.txt", "a_b.txt", "dir/", "/lead", "a//b", "../up", "k" * 1024, "é.txt", "e\u0301.txt", "empty"]
"""Keys that the issue names, all without a reference."""

REFERENCED = ["dir", "lead", "a/b", "up", "b/a_b.txt", "11.jpg"]
"""Their neighbours, all with one."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def png(side: int) -> bytes:
    """A small valid picture."""
    rows = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9") + b"after the end marker"


def snapshot(truth: S3Client, bucket: str) -> dict[str, Any]:
    """Everything of the application's in the bucket, as boto3 sees it: hash, headers, metadata, tags."""
    found: dict[str, Any] = {}
    for page in truth.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", ()):
            key = entry["Key"]
            if key.startswith(RESERVED_PREFIX):
                continue
            answer = truth.get_object(Bucket=bucket, Key=key)
            tags = truth.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
            names = ["Content" + part for part in ("Type", "Encoding", "Language", "Disposition")]
            found[key] = (
                hashlib.sha256(answer["Body"].read()).hexdigest(),
                {name: answer.get(name) for name in (*names, "CacheControl")},
                answer["Metadata"],
                sorted((tag["Key"], tag["Value"]) for tag in tags),
            )
    return found


def fill(truth: S3Client, bucket: str, keys: list[str]) -> None:
    random_bytes = random.Random(7)
    for number, key in enumerate(keys):
        body = b"" if key == "empty" else random_bytes.randbytes(number * 37 + 1)
        truth.put_object(Bucket=bucket, Key=key, Body=body)
    truth.put_object(
        Bucket=bucket,
        Key="all-attributes.png",
        Body=png(40),
        ContentType="image/png",
        ContentLanguage="de",
        ContentDisposition='attachment; filename="bild.png"',
        CacheControl="max-age=60",
        Metadata={"owner": "7", "note": "two words"},
        Tagging="kind=picture&size=small",
    )
    truth.put_object(Bucket=bucket, Key="photo.jpg", Body=JPEG, ContentType="image/jpeg")


def options(
    s3_server: S3Server, bucket: str, database_url: str, tmp_path: Any, **more: Any
) -> dict[str, Any]:
    known = {
        "bucket": bucket,
        "endpoint_url": s3_server.endpoint_url,
        "database_url": database_url,
        "tables": {"files": ["key"], 'public."Odd Table"': ["select", "doc", "list"]},
        "base_urls": ["https://cdn.example.com/media"],
        "mode": "execute",
        "retention_days": 0,
        "vault_path": str(tmp_path / "vault"),
        "safety": Safety.none(),
    }
    return known | more


async def make_database(url: str) -> None:
    db = await asyncpg.connect(url)
    await db.execute("CREATE TABLE files (id serial PRIMARY KEY, key text)")
    await db.execute('CREATE TABLE "Odd Table" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), '
                     '"select" varchar, doc jsonb, list text[])')  # fmt: skip
    await db.executemany("INSERT INTO files (key) VALUES ($1)", [(key,) for key in REFERENCED])
    await db.execute("INSERT INTO files (key) VALUES (NULL), (''), ('gone-long-ago.txt')")
    await db.execute(
        'INSERT INTO "Odd Table" ("select", doc, list) VALUES ($1, $2, $3)',
        "https://cdn.example.com/media/" + quote("by url/ü+1.jpg"),
        json.dumps({"images": [{"src": "in/json/é.png"}], "html": '<img src="/in/html.gif?v=2">'}),
        ["in/array/1.bin", "in/array/2.bin"],
    )
    await db.close()


REFERENCED_ELSEWHERE = ["by url/ü+1.jpg", "in/json/é.png", "in/html.gif", "in/array/1.bin", "in/array/2.bin"]


async def test_collect_and_restore_everything(
    s3_server: S3Server, bucket: str, truth: S3Client, postgres_url: str, tmp_path: Any
) -> None:
    taken = FREE + REFERENCED + REFERENCED_ELSEWHERE
    odd = [key for key in ODD_KEYS if key not in taken and "\n" not in key]  # moto can't route a line feed
    fill(truth, bucket, FREE + REFERENCED + REFERENCED_ELSEWHERE + odd)
    await make_database(postgres_url)
    before = snapshot(truth, bucket)
    live = set(REFERENCED + REFERENCED_ELSEWHERE)
    # A value protects all its readings, so near relatives of referenced keys may stay; never the reverse.
    config = create_config(**options(s3_server, bucket, postgres_url, tmp_path))

    async with Collector.open(config) as gc:
        plan = await gc.plan()
        planned = set(plan.keys())
        assert not planned & live
        assert set(FREE) <= planned
        assert snapshot(truth, bucket) == before, "a plan must touch nothing"

        report = await gc.collect(plan)
        assert report.errors == ()
        assert set(report.deleted) == planned
        assert report.backed_up == len(planned)
        after = snapshot(truth, bucket)
        assert after == {key: value for key, value in before.items() if key not in planned}

        journal, vault = await gc.verify()
        assert journal.ok, journal.problems
        assert vault.ok, vault.problems

        dry = await gc.restore(operation_id=report.operation_id)
        assert dry.errors == {}
        assert set(dry.restored) == planned
        assert snapshot(truth, bucket) == after, "a dry-run restore must touch nothing"

        back = await gc.restore(operation_id=report.operation_id, dry_run=False)
        assert set(back.restored) == planned
        assert back.errors == {}
        assert snapshot(truth, bucket) == before

        metrics = await gc.metrics()
        for total in ("total_deleted", "total_backed_up", "total_restored"):
            assert metrics[total] == len(planned)
        assert metrics["last_error"] is None


async def test_the_same_on_mariadb(
    s3_server: S3Server, bucket: str, truth: S3Client, mariadb_url: str, tmp_path: Any
) -> None:
    import aiomysql
    from sqlalchemy.engine import make_url

    where = make_url(mariadb_url)
    fill(truth, bucket, FREE + REFERENCED)
    db = await aiomysql.connect(
        host=where.host, port=where.port, user=where.username, password=where.password, db=where.database
    )
    async with db.cursor() as cursor:
        await cursor.execute(
            "CREATE TABLE files (id int AUTO_INCREMENT PRIMARY KEY, `key` text, `order` json)"
        )
        for key in REFERENCED:
            await cursor.execute(
                "INSERT INTO files (`key`, `order`) VALUES (%s, %s)",
                (key, json.dumps({"file": "in/json/é.png"})),
            )
    await db.commit()
    db.close()
    truth.put_object(Bucket=bucket, Key="in/json/é.png", Body=b"1")
    before = snapshot(truth, bucket)
    config = create_config(
        **options(s3_server, bucket, mariadb_url, tmp_path, tables={"files": ["key", "order"]})
    )
    async with Collector.open(config) as gc:
        report = await gc.collect()
        assert set(report.deleted) == set(FREE) | {"all-attributes.png", "photo.jpg"}
        assert set(REFERENCED) | {"in/json/é.png"} <= set(snapshot(truth, bucket))
        back = await gc.restore(prefix="", dry_run=False)
        assert back.errors == {}
        assert snapshot(truth, bucket) == before


async def test_a_row_that_commits_in_the_middle_is_seen(
    s3_server: S3Server, bucket: str, truth: S3Client, postgres_url: str, tmp_path: Any
) -> None:
    """Between the plan and the sweep an application references a candidate."""
    fill(truth, bucket, [*FREE, *REFERENCED, *REFERENCED_ELSEWHERE])
    await make_database(postgres_url)
    config = create_config(**options(s3_server, bucket, postgres_url, tmp_path))
    async with Collector.open(config) as gc:
        plan = await gc.plan()
        assert "a/b.txt" in set(plan.keys())
        db = await asyncpg.connect(postgres_url)
        await db.execute("INSERT INTO files (key) VALUES ('a/b.txt')")
        await db.close()
        report = await gc.collect(plan)
        assert "a/b.txt" not in report.deleted
        assert report.kept["referenced_now"] == 1
        explained = await gc.explain("a/b.txt")
        assert explained.decision.startswith("kept")
        assert [reference.table for _, reference in explained.references] == ["files"]


async def test_an_overwrite_in_the_middle_is_kept(
    s3_server: S3Server, bucket: str, truth: S3Client, postgres_url: str, tmp_path: Any
) -> None:
    fill(truth, bucket, [*FREE, *REFERENCED, *REFERENCED_ELSEWHERE])
    await make_database(postgres_url)
    config = create_config(**options(s3_server, bucket, postgres_url, tmp_path))
    async with Collector.open(config) as gc:
        plan = await gc.plan()
        truth.put_object(Bucket=bucket, Key="a/b.txt", Body=b"a newer one")
        report: Report = await gc.collect(plan)
        assert "a/b.txt" not in report.deleted
        assert report.kept["changed"] == 1
        assert truth.get_object(Bucket=bucket, Key="a/b.txt")["Body"].read() == b"a newer one"
