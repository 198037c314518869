"""SIGKILL at any moment of a prune: what stays is readable, and the next one goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.errors import BackupGone
from s3gc.model import JournalDraft, ObjectInfo
from s3gc.testing.fakes import FakeClock
from s3gc.testing.vault_contract import ATTRIBUTES, backed_up, pieces, read
from s3gc.vault import LocalVault, _encode, record_from_json, record_to_json

URL = "s3://kill"
OPERATION = "01K00000000000000000000000"
OBJECTS = 160
KILLS = 10

PRUNER = """
import sys
import anyio
from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.vault import LocalVault, _encode
from s3gc.vault.prune import prune
from s3gc.vault.retention import Retention

_encode.PACK_ROLL_BYTES = 3_000

async def main():
    clock = SystemClock()
    vault = LocalVault(sys.argv[1], compressors=[ZstdCompressor()], clock=clock)
    await vault.open("s3://kill", create=False)
    print("open", flush=True)
    ends = Retention(None, {"old/": 30}).ends(clock.now())
    report = await prune(vault, sys.argv[2], before=ends, reason="its time is over", dry_run=False)
    print("problems", list(report.problems), flush=True)
    await vault.aclose()

anyio.run(main)
"""


def opened(folder: Path, clock: FakeClock | SystemClock) -> LocalVault:
    return LocalVault(folder, compressors=[ZstdCompressor()], clock=clock)


async def fill(folder: Path) -> dict[str, bytes]:
    """A vault of many packs; in each of them half goes and half stays. Some contents are there twice."""
    content = {
        f"{'old' if n % 2 else 'new'}/{n}": random.Random(n // 4 if n % 5 else n).randbytes(500)
        for n in range(OBJECTS)
    }
    vault = opened(folder, FakeClock(datetime(2020, 1, 1, tzinfo=UTC)))
    await vault.open(URL)
    await vault.journal.append([JournalDraft("operation_started", OPERATION, None, {})])
    keys = list(content)
    for start in range(0, OBJECTS, 4):  # a few at a time: a pack is closed between two commits
        async with vault.session(OPERATION) as session:
            for key in keys[start : start + 4]:
                info = ObjectInfo(key, 500, "e", datetime(2019, 1, 1, tzinfo=UTC))
                await session.add(info, ATTRIBUTES, pieces(content[key]))
            records = await session.commit()
        drafts = [JournalDraft(d.event, OPERATION, d.key, d.data) for d in backed_up(records)]
        drafts += [
            JournalDraft("deleted", OPERATION, record.key, {"backup": record_to_json(record)})
            for record in records
        ]
        await vault.journal.append(drafts)
    await vault.journal.append([JournalDraft("operation_completed", OPERATION, None, {})])
    await vault.aclose()
    return content


async def look(folder: Path, content: dict[str, bytes]) -> tuple[set[str], set[str]]:
    """Open and check all of it; the keys whose backups are gone, and the packs that are there."""
    vault = opened(folder, SystemClock())
    await vault.open(URL, create=False)
    assert vault.problems == ()
    audit = await vault.journal.verify()
    assert audit.ok, audit.problems
    gone: set[str] = set()
    async for entry in vault.journal.read(events={"backed_up"}):
        assert entry.key is not None
        try:
            assert await read(vault, record_from_json(entry.data["backup"])) == content[entry.key]
        except BackupGone:
            gone.add(entry.key)
    assert all(key.startswith("old/") for key in gone)
    check = await vault.verify()
    assert check.ok, check.problems
    assert check.backups == len(content) - len(gone)
    told = {entry.key async for entry in vault.journal.read(events={"backup_removed"})}
    assert told == gone
    retired = {str(entry.data["pack"]) async for entry in vault.journal.read(events={"pack_retired"})}
    packs = {path.stem for path in (folder / "packs").glob("*.pack")}
    assert not retired & packs  # unlinked at the opening, at the latest
    await vault.aclose()
    return gone, packs


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_prune_that_is_killed_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encode, "PACK_ROLL_BYTES", 3_000)
    folder = tmp_path / "vault"
    content = anyio.run(fill, folder)
    old = {key for key in content if key.startswith("old/")}
    gone, packs = anyio.run(look, folder, content)
    assert (gone, len(packs) > 20) == (set(), True)
    chance = random.Random(29)
    kills = between = 0
    for turn in range(KILLS + 1):
        process = subprocess.Popen(
            [sys.executable, "-c", PRUNER, str(folder), f"01K{turn:023d}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        while (line := process.stdout.readline()) != b"open\n":
            assert line, process.stderr.read()
        if turn < KILLS:
            wait_for(process, folder, packs, chance.randrange(3))
            time.sleep(chance.uniform(0, 0.03))  # anywhere in what it does to the next pack
            process.send_signal(signal.SIGKILL)
        said, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        before = gone
        gone, packs = anyio.run(look, folder, content)
        assert gone >= before
        if process.returncode:
            kills += 1
            between += set() < gone < old
    assert said.strip() == b"problems []", said
    assert gone == old
    assert kills >= KILLS // 2
    assert between >= 2  # killed in the midst of it, not only before and after


def wait_for(process: subprocess.Popen[bytes], folder: Path, packs: set[str], number: int) -> None:
    """Until so many of these packs are gone, or the process has ended."""
    while process.poll() is None:
        left = {path.stem for path in (folder / "packs").glob("*.pack")}
        if len(packs - left) >= number:
            return
        time.sleep(0.001)
