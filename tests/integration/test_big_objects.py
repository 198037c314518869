"""A 100 MB object goes into the vault and comes back in bounded memory, byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures_s3 import ACCESS_KEY, SECRET_KEY, S3Server, bucket, s3_server, truth  # noqa: F401

SIZE = 100 * 1024 * 1024
ALLOWED = 80 * 1024 * 1024
"""Memory beyond that of the same cycle over a small object. Holding the object once would take more."""

CHILD = """
import json, sys
import anyio
from s3gc import Collector, Safety, create_config
from s3gc.testing.fakes import FakeSource

async def main(bucket, endpoint, vault):
    config = create_config(bucket=bucket, endpoint_url=endpoint, mode="execute", retention_days=0,
                           vault_path=vault, safety=Safety.none())
    async with Collector.open(config, sources=[FakeSource(rows={"1": ["live"]})]) as gc:
        report = await gc.collect()
        back = await gc.restore(prefix="", dry_run=False)
        journal, checked = await gc.verify()
    # VmHWM, not ru_maxrss: that one inherits the peak of the process that forked us.
    status = open("/proc/self/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps({"deleted": list(report.deleted), "restored": list(back.restored),
                      "errors": back.errors, "ok": journal.ok and checked.ok, "peak": peak}))

anyio.run(main, *sys.argv[1:])
"""


def run(bucket: str, endpoint: str, vault: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, bucket, endpoint, str(vault)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.timeout(600)
def test_a_big_object_in_bounded_memory(
    s3_server: S3Server, bucket: str, truth: object, tmp_path: Path
) -> None:
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="live", Body=b"1")
    client.put_object(Bucket=bucket, Key="small", Body=b"2")
    small = run(bucket, s3_server.endpoint_url, tmp_path / "vault")
    assert small["deleted"] == ["small"]
    client.delete_object(Bucket=bucket, Key="small")

    block = os.urandom(1024 * 1024)
    body = b"".join(block[number:] + block[:number] for number in range(SIZE // len(block)))
    digest = hashlib.sha256(body).hexdigest()
    client.put_object(Bucket=bucket, Key="big", Body=body, ContentType="video/mp4", Metadata={"a": "b"})
    del body
    big = run(bucket, s3_server.endpoint_url, tmp_path / "vault")
    assert (big["deleted"], big["restored"], big["errors"], big["ok"]) == (
        ["big"],
        ["big", "small"],
        {},
        True,
    )
    assert int(str(big["peak"])) - int(str(small["peak"])) < ALLOWED

    answer = client.get_object(Bucket=bucket, Key="big")
    found = hashlib.sha256()
    for chunk in answer["Body"].iter_chunks(1 << 20):
        found.update(chunk)
    assert found.hexdigest() == digest
    assert (answer["ContentType"], answer["Metadata"]) == ("video/mp4", {"a": "b"})
