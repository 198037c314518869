"""P5: a real SIGKILL at many steps of a cycle; the next start recovers, and nothing is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures_s3 import ACCESS_KEY, SECRET_KEY, S3Server, s3_server, truth  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))
from kill_child import configuration

from s3gc import Collector
from s3gc.abc import RESERVED_PREFIX
from s3gc.vault.records import record_from_json

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.anyio

LIVE = {"live/1": b"one", "live/2": b"two"}
FREE = {f"free/{number}": bytes([number]) * 100 for number in range(7)}
POINTS = int(os.environ.get("S3GC_KILL_POINTS", "24"))
"""Steps at which a process is killed, spread over the cycle; 0 means every step."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def world(folder: Path, truth: S3Client) -> str:
    """A bucket and a database of their own."""
    bucket = f"s3gc-{uuid.uuid4().hex}"
    truth.create_bucket(Bucket=bucket)
    for key, body in (LIVE | FREE).items():
        truth.put_object(Bucket=bucket, Key=key, Body=body, Metadata={"was": "here"})
    database = sqlite3.connect(folder / "app.sqlite3")
    database.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, key TEXT)")
    database.executemany("INSERT INTO files (key) VALUES (?)", [(key,) for key in LIVE])
    database.commit()
    database.close()
    return bucket


def child(folder: Path, bucket: str, endpoint: str, die_at: int) -> tuple[int, list[str]]:
    script = Path(__file__).parent / "kill_child.py"
    done = subprocess.run(
        [sys.executable, str(script), str(folder), bucket, endpoint, str(die_at)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.splitlines()


def contents(truth: S3Client, bucket: str) -> dict[str, bytes]:
    listed = truth.list_objects_v2(Bucket=bucket).get("Contents", ())
    keys = [one["Key"] for one in listed if not one["Key"].startswith(RESERVED_PREFIX)]
    return {key: truth.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@pytest.mark.timeout(1800)
async def test_a_kill_at_any_step_loses_nothing(s3_server: S3Server, truth: S3Client, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    code, names = child(whole, world(whole, truth), s3_server.endpoint_url, 0)
    assert code == 0
    assert len(names) >= 60
    stride = max(1, len(names) // POINTS) if POINTS else 1
    points = range(1, len(names) + 1, stride)
    assert len(points) >= min(20, len(names))

    died_at = set()
    for point in points:
        folder = tmp_path / str(point)
        folder.mkdir()
        bucket = world(folder, truth)
        code, printed = child(folder, bucket, s3_server.endpoint_url, point)
        assert code == -signal.SIGKILL
        died_at.add(printed[0])
        await check_recovery(folder, bucket, s3_server.endpoint_url, truth, printed[0])
    assert {"after delete", "after append", "before commit"} & died_at


async def check_recovery(folder: Path, bucket: str, endpoint: str, truth: S3Client, where: str) -> None:
    left = contents(truth, bucket)
    assert {key: left.get(key) for key in LIVE} == LIVE, where
    config = configuration(folder, bucket, endpoint)
    async with Collector.open(config) as gc:
        # Opening has settled what was open: each missing object is journalled and in the vault.
        there = contents(truth, bucket)
        records = {}
        async for entry in gc.history(events={"deleted", "resurrected"}):
            if entry.event == "deleted":
                records[entry.key] = record_from_json(entry.data["backup"])
        gone = set(FREE) - set(there)
        assert gone <= set(records), where
        for key in gone:
            body = b"".join([chunk async for chunk in gc._parts.vault.read(records[key])])
            assert body == FREE[key], where
        journal, vault = await gc.verify()
        assert journal.ok, (where, journal.problems)
        assert vault.ok, (where, vault.problems)

        # The next cycle ends the work, and everything can come back.
        await gc.collect()
        assert contents(truth, bucket) == LIVE, where
        back = await gc.restore(prefix="", dry_run=False)
        assert back.errors == {}, where
        assert contents(truth, bucket) == LIVE | FREE, where
        journal, _ = await gc.verify()
        assert journal.ok, (where, journal.problems)
        metrics = await gc.metrics()
        assert metrics["total_restored"] >= len(FREE), where
