"""SIGKILL at any moment: the vault opens again, and every backup in the journal gives back its bytes."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.vault import LocalVault, record_from_json

KILLS = 20

WRITER = """
import sys, itertools, random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
import anyio
from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.model import JournalDraft, ObjectAttributes, ObjectInfo
from s3gc.vault import LocalVault, record_to_json
from s3gc.vault import _encode, _session

_session.SMALL_OBJECT_BYTES = 200_000   # so that large ones are frequent and quick
_encode.PACK_ROLL_BYTES = 500_000       # and packs are rolled

async def body(data):
    for begin in range(0, len(data), 50_000):
        yield data[begin:begin + 50_000]

async def main():
    vault = LocalVault(sys.argv[1], compressors=[ZstdCompressor()], clock=SystemClock())
    await vault.open("s3://kill")
    seed = random.Random(sys.argv[2])
    print("open", flush=True)
    for turn in itertools.count():
        async with vault.session("op") as session:
            async with anyio.create_task_group() as group:
                for n in range(12):
                    key = f"{sys.argv[2]}/{turn}/{n}"
                    size = seed.choice([0, 10, 4_000, 60_000, 400_000])
                    data = seed.randbytes(size // 2) + key.encode() * size
                    data = data[:size]
                    info = ObjectInfo(key, size, "e", datetime.now(UTC))
                    group.start_soon(session.add, info, ObjectAttributes(metadata={"seed": key}), body(data))
            records = await session.commit()
        await vault.journal.append(
            [JournalDraft("backed_up", "op", r.key, {"backup": record_to_json(r)}) for r in records]
        )
        print("done", flush=True)  # from here on these backups are promised

anyio.run(main)
"""


async def look(folder: Path) -> int:
    """Open and check everything; how many backups there are."""
    vault = LocalVault(folder, compressors=[ZstdCompressor()], clock=SystemClock())
    await vault.open("s3://kill", create=False)
    assert vault.problems == ()
    audit = await vault.journal.verify()
    assert audit.ok, audit.problems
    count = 0
    async for entry in vault.journal.read(events={"backed_up"}):
        record = record_from_json(entry.data["backup"])
        sha = hashlib.sha256()
        size = 0
        async for piece in vault.read(record):
            sha.update(piece)
            size += len(piece)
        assert (size, sha.hexdigest()) == (record.size, record.sha256)
        count += 1
    assert (await vault.verify()).ok
    await vault.check(max_fill=1.0)
    await vault.aclose()
    return count


@pytest.mark.slow
def test_killed_twenty_times(tmp_path: Path) -> None:
    seed = random.Random(23)
    promised = 0
    for turn in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "vault"), str(turn)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        # The log of a cut tail goes to stdout too, before the vault is open.
        while (line := process.stdout.readline()) != b"open\n":
            assert line, process.stderr.read()
        time.sleep(seed.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        rest, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        promised += rest.count(b"done\n") * 12
        # A batch is in the journal as a whole or not at all.
        count = anyio.run(look, tmp_path / "vault")
        assert count % 12 == 0
        assert count >= promised
        promised = count
    assert promised > 0
