"""Real PostgreSQL rows, an S3 server, the real collector, and four writers in its way (P1 to P4).

Retention and grace are zero: every object without a row goes in the next cycle, so that nothing but the
direct reads, the fences, the conditions and the confirmation stands between the writers and a loss.

``S3GC_SEED`` gives the writers other dice; how they interleave with the collector is up to the machine, so a
seed doesn't repeat a run: a failure tells its story instead. ``S3GC_CYCLES`` makes it longer.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from fixtures_databases import postgres_server, postgres_url  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))
from random_schedule_checks import Broken, Checks
from random_schedule_world import BASE_URL, COLLECTOR, SCHEMA, TABLES, Bucket, World, run_server
from random_schedule_writers import Writer

from s3gc import Collector, Config, Safety, create_config, create_plugin_manager

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SEED = os.environ.get("S3GC_SEED", "20")
CYCLES = int(os.environ.get("S3GC_CYCLES", "200"))
WRITERS = 4
RESTORED = 20
"""Deleted objects that are restored at the end and compared."""

ACTS = (
    *("publish", "announce", "upload_again", "abandon", "overwrite", "refresh", "adopt", "undo", "move"),
    *("forget", "ended at once", "held", "prepared", "rolled back"),
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", COLLECTOR)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with run_server() as url:
        yield World(Bucket(url, "the-bucket"), SEED)


def configuration(world: World, database_url: str, folder: Path) -> Config:
    return create_config(
        bucket=world.bucket.name,
        endpoint_url=world.bucket.endpoint_url,
        database_url=database_url,
        tables=TABLES,
        base_urls=[BASE_URL],
        mode="execute",
        retention_days=0,
        vault_path=str(folder / "vault"),
        safety=Safety.none().but(batch_objects=3),
    )


@pytest.mark.timeout(1800)
async def test_no_schedule_loses_a_referenced_object(world: World, postgres_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:

        async def connect() -> asyncpg.Connection[Any]:
            connection = await asyncpg.connect(postgres_url)
            stack.push_async_callback(connection.close)
            return connection

        database = await connect()
        await database.execute(SCHEMA)
        writers = [Writer(world, number, await connect()) for number in range(WRITERS)]
        for writer in writers:
            await writer.settle()
        plugins = create_plugin_manager(entry_points=False)
        plugins.register(world.phases)
        config = configuration(world, postgres_url, tmp_path)
        gc = await stack.enter_async_context(Collector.open(config, plugins=plugins))
        checks = Checks(world, gc, database)
        await collect_among_writers(world, writers, checks)

        await anyio.sleep(1.1)  # the store tells whole seconds: younger objects aren't born yet to it
        await checks.at_the_end(await gc.collect())
        await check_the_vault(checks)
        check_that_it_was_a_test(checks)


async def collect_among_writers(world: World, writers: list[Writer], checks: Checks) -> None:
    """CYCLES cycles, each checked while the writers rest. They end what they are at."""
    broken: Broken | None = None
    async with anyio.create_task_group() as tasks:
        for writer in writers:
            tasks.start_soon(writer.run)
        for world.cycle in range(CYCLES):
            world.collecting = True
            try:
                report = await checks.gc.collect()
            except BaseException as error:
                error.add_note(f"seed {SEED}, cycle {world.cycle + 1}")
                raise
            world.collecting = False
            async with world.turnstile.stopped():
                try:
                    await checks.after_cycle(report)
                except Broken as error:
                    broken = error
                    tasks.cancel_scope.cancel()
                    break
        world.stopping = True
        world.phases.close()
    if broken:
        raise broken


async def check_the_vault(checks: Checks) -> None:
    """All backups decode to their bytes; some are restored, and are what was deleted."""
    journal, vault = await checks.gc.verify()
    assert journal.ok, journal.problems
    assert vault.ok, vault.problems
    gone = sorted(checks.gone.keys() - checks.objects.keys())
    for key in random.Random(SEED).sample(gone, min(len(gone), RESTORED)):
        back = await checks.gc.restore(key=key, dry_run=False)
        assert list(back.restored) == [key], back
        digest, _ = checks.gone[key]
        assert checks.world.bucket.read(key) == (checks.world.bodies[digest], {"by": "the-app"})


def check_that_it_was_a_test(checks: Checks) -> None:
    """The collector had work, and the writers were in its way."""
    world = checks.world
    acts = {act: world.acts[act] for act in ACTS}
    fences = [at for at, event in world.phases.told if event == "batch_backed_up"]
    over_a_fence = sum(
        any(one.began < at < (one.ended or one.began) for at in fences)
        for some in world.namings.values()
        for one in some
    )
    seen = {
        "deleted": checks.deleted,
        "kept by a direct read": checks.seen_by_direct_read,
        "resurrected": checks.resurrected,
        "open over a fence": over_a_fence,
        "late": checks.late,
    }
    print(f"seed {SEED}, {CYCLES} cycles: {seen}, {acts}")
    assert all(acts.values()), acts
    assert checks.deleted >= CYCLES / 2, seen
    assert checks.seen_by_direct_read, seen
    assert over_a_fence, seen
    if CYCLES >= 100:
        assert checks.resurrected, seen
