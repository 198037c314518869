"""A scan of PostgreSQL that is cut off goes on behind a row, if all changes since its beginning can be told."""

# ruff: noqa: E501 - statements stand on one line

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

import pytest

from cdc_world import App, Kept, deadline
from fixtures_databases import postgres_server, postgres_url
from s3gc.errors import PositionLost
from s3gc.model import Reference, ScanBatch
from s3gc.testing.source_contract import Rows, scanned

__all__ = ["deadline", "postgres_server", "postgres_url"]

pytestmark = pytest.mark.anyio

TABLES = {"one": ["path"], "pairs": ["path"], "none": ["path"], "parts": ["path"]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app(postgres_url: str) -> AsyncIterator[App]:
    app = App(postgres_url)
    await app.run(
        "CREATE TABLE one (id text PRIMARY KEY, path text)", "CREATE TABLE pairs (a int, b numeric, path text, PRIMARY KEY (b, a))",
        "CREATE TABLE none (id int PRIMARY KEY, path text)",
        "CREATE TABLE parts (id int PRIMARY KEY, path text) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (5)", "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (5) TO (99)",
        "INSERT INTO one SELECT 'it''s ' || n, 'one/' || n FROM generate_series(1, 10) n",
        "INSERT INTO pairs SELECT n % 3, n + 0.5, 'pairs/' || n FROM generate_series(1, 10) n",
        "INSERT INTO parts SELECT n, 'parts/' || n FROM generate_series(0, 9) n",
        "ANALYZE",
    )  # fmt: skip
    yield app
    await app.close()


async def batches_of(stream: AsyncIterator[ScanBatch]) -> list[ScanBatch]:
    return [batch async for batch in stream]


def references(batches: Sequence[ScanBatch]) -> set[Reference]:
    return {one for batch in batches for one in batch.references}


async def test_a_scan_goes_on_behind_every_batch(app: App) -> None:
    source = app.source(TABLES)
    begun = await source.begin()
    whole = await batches_of(source.scan())
    assert len(references(whole)) == 30
    assert {batch.expected for batch in whole} == {30}
    assert sum(batch.rows for batch in whole) == 30
    for number, batch in enumerate(whole):
        later = app.source(TABLES)
        rest = await batches_of(later.scan_on(begun, batch.mark))
        assert references(rest) == references(whole[number + 1 :])
        await later.aclose()


async def test_what_changes_meanwhile_is_told(app: App) -> None:
    kept = Kept(app, app.source(TABLES))
    kept.position = await kept.source.begin()
    read: list[ScanBatch] = []
    stream = kept.source.scan()
    async for batch in stream:
        read.append(batch)
        if len(read) == 4:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    await app.run(
        "UPDATE one SET path = 'changed'", "DELETE FROM pairs WHERE a = 1", "INSERT INTO one VALUES ('0', 'new')", "UPDATE parts SET id = 90 WHERE id = 1",
        "TRUNCATE none", "UPDATE pairs SET a = 7, b = -1 WHERE b = 3.5",
    )  # fmt: skip
    await kept.source.aclose()
    kept.source = app.source(TABLES)
    read += await batches_of(kept.source.scan_on(kept.position, read[-1].mark))
    kept.rows = Rows(references(read))
    await kept.agrees()


@pytest.mark.parametrize(
    ("statements", "match"),
    [
        (["ALTER PUBLICATION s3gc DROP TABLE one", "ALTER TABLE one ALTER path TYPE varchar(99)", "ALTER PUBLICATION s3gc ADD TABLE one"], "table one was altered"),
        (["SELECT pg_drop_replication_slot('s3gc_{name}')"], "slot .* is gone"),
        (["SELECT pg_drop_replication_slot('s3gc_{name}')", "INSERT INTO one VALUES ('0', 'lost')", "SELECT pg_create_logical_replication_slot('s3gc_{name}', 'pgoutput')"], "it was recreated"),
    ],
)  # fmt: skip
async def test_one_whose_changes_are_lost_must_begin_anew(
    app: App, statements: Sequence[str], match: str
) -> None:
    source = app.source(TABLES)
    begun = await source.begin()
    first = (await batches_of(source.scan()))[0]
    await app.run(*[one.format(name=app.name) for one in statements])
    with pytest.raises(PositionLost, match=match):
        await batches_of(source.scan_on(begun, first.mark))


async def test_one_of_another_configuration_must_begin_anew(app: App) -> None:
    source = app.source(TABLES)
    begun = await source.begin()
    first = (await batches_of(source.scan()))[0]
    later = app.source(dict(reversed(TABLES.items())), resolver_settings="other")
    with pytest.raises(PositionLost, match="configuration"):
        await batches_of(later.scan_on(begun, first.mark))


async def test_the_end_of_a_scan_is_a_place_to_go_on_from(app: App) -> None:
    source = app.source(TABLES)
    begun = await source.begin()
    last = (await batches_of(source.scan()))[-1]
    assert json.loads(last.mark) == [4, None]
    assert await batches_of(source.scan_on(begun, last.mark)) == []
    assert len(await scanned(source)) == 30
