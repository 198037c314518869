"""Real processes that share a vault and a registry: some claim and write rows, one sweeps as fast as it can.

What must hold: an object that was claimed is there until the claim ends, and from the moment in which a row
was written under a claim it is never missing, not even for a moment.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from s3gc import Collector, Safety, create_config, create_plugin_manager

ROUNDS = 40
"""Claims of each process."""

KEYS = [f"free/{number:02d}" for number in range(12)]
CLAIM = timedelta(seconds=20)  # longer than a process of this test may be held up


def body(key: str) -> bytes:
    return (key * 50).encode()


def collector(folder: Path) -> Any:
    return Collector.open(
        create_config(
            bucket=(folder / "bucket").as_uri(),
            database_url=f"sqlite:///{folder / 'app.sqlite3'}",
            tables={"files": ["key"]},
            mode="execute",
            retention_days=0,
            vault_path=str(folder / "vault"),
            safety=Safety.demo().but(batch_objects=4),
        ),
        plugins=create_plugin_manager(entry_points=False),
    )


# --------------------------------------------------------------------------- the other processes


async def sweep(folder: Path) -> None:
    """Collect again and again."""
    slowness = random.Random("sweep")
    counts = {"cycles": 0, "deleted": 0, "resurrected": 0, "claimed": 0}
    async with collector(folder) as gc:
        delete = gc._parts.store.delete

        async def slowly(key: str, **options: Any) -> Any:
            await anyio.sleep(slowness.choice([0, 0, 0.25]))  # as over a network: somebody claims meanwhile
            return await delete(key, **options)

        gc._parts.store.delete = slowly
        while not (folder / "stop").exists():
            report = await gc.collect()
            counts["cycles"] += 1
            counts["deleted"] += len(report.deleted)
            counts["resurrected"] += len(report.resurrected)
            counts["claimed"] += report.kept.get("claimed", 0)
    sys.stdout.write(json.dumps(counts))


async def claim(folder: Path, name: str) -> None:
    """Claim, look, write the row, look, delete the row; the object of a key that is gone is uploaded anew."""
    rng = random.Random(name)
    counts = {"granted": 0, "refused": 0, "missing": 0}
    database = sqlite3.connect(folder / "app.sqlite3", timeout=30, isolation_level=None)
    async with collector(folder) as gc:
        for _ in range(ROUNDS):
            key = rng.choice(KEYS)
            path = folder / "bucket" / key
            if not await gc.claim(key, CLAIM):
                counts["refused"] += 1
                continue
            counts["granted"] += 1
            writes = rng.random() < 0.7
            row = None
            for step in range(6):
                if step == 2 and writes:
                    row = database.execute("INSERT INTO files (key) VALUES (?)", (key,)).lastrowid
                if step == 3 and rng.random() < 0.5:
                    # Without a row nothing protects it any more.
                    await gc.release(key)
                    if row is None:
                        break
                if path.read_bytes() != body(key):
                    counts["missing"] += 1
                await anyio.sleep(rng.uniform(0, 0.06))
            else:
                await gc.release(key)
            if row is not None:
                database.execute("DELETE FROM files WHERE id = ?", (row,))
    sys.stdout.write(json.dumps(counts))


# --------------------------------------------------------------------------- the test


def world(folder: Path) -> None:
    (folder / "bucket" / "free").mkdir(parents=True)
    for key in [*KEYS, "live"]:
        (folder / "bucket" / key).write_bytes(body(key))
    database = sqlite3.connect(folder / "app.sqlite3")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, key TEXT)")
    database.execute("INSERT INTO files (key) VALUES ('live')")
    database.commit()
    database.close()


class Process:
    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.output: tuple[str, str] = ("", "")
        # Both pipes are emptied all the time, or a talkative process would stand still.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.output = self.process.communicate()

    def join(self) -> None:
        self._reader.join(200)

    def result(self) -> dict[str, int]:
        self.join()
        output, errors = self.output
        assert self.process.returncode == 0, errors
        found: dict[str, int] = json.loads(output)
        return found


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    begun: list[Process] = []
    yield begun
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
        one.join()


@pytest.mark.slow
def test_nobody_who_was_told_that_it_stays_misses_it(tmp_path: Path, processes: list[Process]) -> None:
    world(tmp_path)
    anyio.run(first_cycle, tmp_path)
    processes.append(Process("sweep", str(tmp_path)))
    processes += [Process("claim", str(tmp_path), name) for name in ("one", "two")]
    claimers = [one.result() for one in processes[1:]]
    (tmp_path / "stop").touch()
    swept = processes[0].result()
    total = {name: sum(one[name] for one in claimers) for name in claimers[0]}
    assert total == {"granted": 2 * ROUNDS, "refused": 0, "missing": 0}, swept
    assert swept["deleted"] > 10, swept
    assert swept["claimed"] + swept["resurrected"] > 2, swept
    anyio.run(check_vault, tmp_path)


async def first_cycle(folder: Path) -> None:
    """Bind the bucket before others look."""
    async with collector(folder) as gc:
        await gc.plan()


async def check_vault(folder: Path) -> None:
    async with collector(folder) as gc:
        journal, vault = await gc.verify()
        assert journal.ok, journal.problems
        assert vault.ok, vault.problems
        for key in KEYS:
            assert await gc.claim(key, CLAIM), "every deleted object can be had again"
            assert (folder / "bucket" / key).read_bytes() == body(key)


@pytest.mark.slow
def test_a_collector_that_is_killed_breaks_no_promise(tmp_path: Path, processes: list[Process]) -> None:
    """Killed at no chosen place, three times; its next start settles what it had taken, and claims go on."""
    world(tmp_path)
    anyio.run(first_cycle, tmp_path)
    rng = random.Random(3)
    processes.append(Process("claim", str(tmp_path), "one"))
    for _ in range(3):
        processes.append(Process("sweep", str(tmp_path)))
        time.sleep(rng.uniform(3, 6))
        processes[-1].process.kill()
        processes[-1].join()
        assert processes[-1].process.returncode == -signal.SIGKILL, processes[-1].output
    processes.append(Process("sweep", str(tmp_path)))
    assert processes[0].result() == {"granted": ROUNDS, "refused": 0, "missing": 0}
    (tmp_path / "stop").touch()
    processes[-1].result()
    anyio.run(check_vault, tmp_path)


if __name__ == "__main__":
    act, *rest = sys.argv[1:]
    if act == "sweep":
        anyio.run(sweep, Path(rest[0]))
    else:
        anyio.run(claim, Path(rest[0]), rest[1])
