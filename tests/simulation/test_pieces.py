"""The simulator's pieces: its loop, its database, its disk, its store."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import anyio
import pytest

from s3gc.testing.simulator import Settings, schedule_of
from s3gc.testing.simulator.__main__ import main, summary
from s3gc.testing.simulator._chooser import SeedChooser
from s3gc.testing.simulator._database import Database
from s3gc.testing.simulator._loop import Stuck, VirtualLoop
from s3gc.testing.simulator._run import Totals
from s3gc.testing.simulator._vault import Disk, watched


def test_time_jumps_and_nobody_waits() -> None:
    loop, told = VirtualLoop(), []

    async def one(name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        told.append((name, loop.time()))

    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(one, "late", 86_400.0)
            group.start_soon(one, "soon", 0.5)
            with anyio.move_on_after(10):
                await loop.pause(1_000)
            told.append(("timed out", loop.time()))

    loop.run_to_end(all_of_them())
    assert told == [("soon", 0.5), ("timed out", 10.0), ("late", 86_400.0)]


def test_a_deadlock_and_a_circle_are_noticed() -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    async def circle() -> None:
        while True:  # noqa: ASYNC110 - going round is what is tested
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="deadlock"):
        VirtualLoop().run_to_end(for_ever())
    with pytest.raises(Stuck, match="circles"):
        VirtualLoop().run_to_end(circle())


def _database() -> Database:
    ticks = itertools.count(1)
    return Database("main", "main-1", lambda: next(ticks), lambda: 0.0)


def test_a_transaction_shows_when_it_commits_and_claims_before() -> None:
    database = _database()
    transaction = database.begin()
    assert database.write(transaction, "files", "1", {"key": "a"})
    assert not database.at_once("files", "1", {"key": "b"})  # the row is locked
    assert [began for _, began in database.claims("a")] == [transaction.began]
    assert not list(database.stakes("a"))
    database.prepare(transaction)
    assert transaction.name in database.open
    assert database.commit(transaction)
    assert [began for _, began, _ in database.stakes("a")] == [transaction.began]
    assert not database.roll_back(transaction)


def test_a_value_that_stays_is_as_old_as_its_first_statement() -> None:
    database = _database()
    database.at_once("files", "1", {"key": "a"})
    first = next(database.stakes("a"))[1]
    database.at_once("files", "1", {"key": "a", "size": "2"})
    assert next(database.stakes("a"))[1] == first
    database.at_once("files", "1", {"key": "b"})
    database.at_once("files", "1", {"key": "a"})
    assert next(database.stakes("a"))[1] > first


def test_a_database_goes_back_to_its_past() -> None:
    database = _database()
    database.at_once("files", "1", {"key": "a"})
    then = database.lsn
    database.at_once("files", "1", {"key": "b"})
    database.empty("files")
    database.back_to(then)
    assert database.lsn == then
    assert list(database.stakes("a"))
    assert not list(database.stakes("b"))


def test_a_disk_loses_what_was_not_synced(tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    packs.mkdir()
    whole, torn, unnamed = (packs / f"{name}.pack" for name in ("whole", "torn", "unnamed"))
    disk = Disk()
    with watched(disk):
        for path in (whole, torn):
            fd = os.open(path, os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"synced")
            os.fsync(fd)
            if path is torn:
                os.write(fd, b" and more")
            os.close(fd)
        folder = os.open(packs, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        fd = os.open(unnamed, os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"synced")
        os.fdatasync(fd)
        os.close(fd)
    assert disk.durable(whole) == 6
    assert len(disk.lose_power(tmp_path)) == 2
    assert torn.read_bytes() == b"synced"
    assert whole.read_bytes() == b"synced"
    assert not unnamed.exists()


def test_a_seed_is_a_schedule() -> None:
    assert schedule_of(5) == schedule_of(5)
    assert schedule_of(5) != schedule_of(6)
    assert schedule_of(5, "quiet").world == "quiet"
    assert any("settings:" in line for line in schedule_of(5).lines())
    assert Settings().mode == "execute"


def test_choices_keep_to_their_weights() -> None:
    chooser = SeedChooser(1)
    picked = [chooser.weighted({"often": 9, "seldom": 1, "never": 0}) for _ in range(1_000)]
    assert picked.count("never") == 0
    assert 50 < picked.count("seldom") < 200
    assert {chooser.integer(1, 3) for _ in range(100)} == {1, 2, 3}


def test_the_command_tells_what_it_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["simulator", "--schedules", "5", "--jobs", "1", "--world", "quiet"])
    assert main() == 0
    assert "5 schedules from seed 0 on" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["simulator", "--story", "--seed", "3", "--world", "quiet"])
    assert main() == 0
    assert "begins to collect" in capsys.readouterr().out
    assert "0 broken promises" in summary(Totals(), 0)
