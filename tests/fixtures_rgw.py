"""A real Ceph S3 gateway for tests: one monitor, one OSD that keeps its objects in memory, one radosgw.

A test module says ``pytest_plugins = ["fixtures_rgw"]``, imports nothing of it at run time, and its tests ask
for ``rgw_server``, ``rgw_bucket`` or ``rgw_truth``. They get the marker ``ceph``: ``pytest -m "not ceph"``
leaves them out.

The cluster starts when a test first asks for it, once for each test process, and takes about three seconds.
It is on loopback, in a temporary folder, and runs as an unprivileged user. A missing program is a failure,
not a skip.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import os
import shutil
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from attrs import define, field, frozen
from botocore.config import Config

from fixtures_databases import _demote, _directory, _free_port
from fixtures_s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Client, S3Server

START_SECONDS = 120.0
"""How long the whole cluster may take; on a machine with nothing else to do it takes two or three."""

STOP_SECONDS = 20.0
LOG_TAIL = 3_000  # bytes of each log that a failure shows

# One copy, one placement group a pool, one shard a log: less to make at the start. No manager: nobody asks
# for statistics. The monitor collects changes for a second before it decides, and the gateway's kernel waits
# 40 ms for more to send with an answer: there is nothing to wait for.
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
admin socket =
log file = {folder}/$type.log
mon data = {folder}/mon
mon allow pool size one = true
paxos propose interval = 0.05
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw frontends = beast endpoint=127.0.0.1:{rgw_port} tcp_nodelay=1
rgw thread pool size = 32
rgw rados pool pg num min = 1
rgw run sync thread = false
rgw num control oids = 1
rgw md log max shards = 1
rgw data log num shards = 1
rgw gc max objs = 1
rgw lc max objs = 1
rgw reshard num logs = 1
"""

_KEYRING = """\
[mon.]
key = {key}
caps mon = "allow *"
[client.admin]
key = {key}
caps mon = "allow *"
caps osd = "allow *"
[osd.0]
key = {key}
caps mon = "allow profile osd"
caps osd = "allow *"
"""


@frozen
class RawReply:
    """An answer as its bytes came over the wire; names of headers in lower case."""

    status: int
    headers: Mapping[str, bytes]
    body: bytes


@frozen
class RgwServer(S3Server):
    """The gateway, and how to talk to it."""

    version: str
    started_in: float  # seconds

    def exchange(
        self,
        action: str,
        bucket: str,
        key: str,
        *,
        headers: Mapping[str, bytes] | None = None,
        body: bytes = b"",
    ) -> RawReply:
        """One request whose headers go out, and come back, byte by byte; ``action`` as boto3 names it."""
        url = self.client().generate_presigned_url(action, Params={"Bucket": bucket, "Key": key})
        target = url.removeprefix(self.endpoint_url)
        connection = http.client.HTTPConnection(self.endpoint_url.removeprefix("http://"), timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(action.partition("_")[0].upper(), target, skip_accept_encoding=True)
            for name, value in {"Content-Length": b"%d" % len(body), **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            told = {name.lower(): value.encode("latin-1") for name, value in answer.getheaders()}
            return RawReply(answer.status, told, answer.read())

    def client(self) -> S3Client:
        """A boto3 client, always the same."""
        return _client(self.endpoint_url)


@functools.cache
def _client(endpoint_url: str) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(
            s3={"addressing_style": "path"},
            signature_version="s3v4",
            retries={"total_max_attempts": 3},
            # The gateway is older than the checksums that boto3 sends by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


class ClusterFailed(Exception):
    """The cluster didn't start; the text holds the ends of its logs."""


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if found is None:
        pytest.fail(f"{name} isn't installed: these tests need radosgw, ceph-mon and ceph-osd", pytrace=False)
    return found


def _secret() -> str:
    """A key as cephx writes it: type, time, length, 16 random bytes."""
    head = struct.pack("<HIIH", 1, int(time.time()), 0, 16)
    return base64.b64encode(head + os.urandom(16)).decode()


@define
class _Cluster:
    folder: Path
    demote: dict[str, Any]
    end: float
    processes: list[subprocess.Popen[bytes]] = field(factory=list)

    def start(self) -> str:
        """Start everything, wait until the gateway answers, and return its address."""
        mon_port, rgw_port, fsid = _free_port(), _free_port(), str(uuid.uuid4())
        for name in ("mon", "osd"):
            (self.folder / name).mkdir()
            if self.demote:
                os.chown(self.folder / name, self.demote["user"], self.demote["group"])
        self._write(
            "ceph.conf",
            _CONFIGURATION.format(folder=self.folder, fsid=fsid, mon_port=mon_port, rgw_port=rgw_port),
        )
        self._write("keyring", _KEYRING.format(key=_secret()))
        self._run(
            "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "monmap"
        )
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap")
        self._serve("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd)  # waits for the monitor
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)
        self._serve("ceph-osd", "-i", "0")
        names = ("--uid", "s3gc", "--display-name", "s3gc")
        keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
        self._run("radosgw-admin", "user", "create", *names, *keys)  # waits for the OSD, and makes the pools
        self._serve("radosgw", "-n", "client.admin")
        self._wait_for(rgw_port)
        return f"http://127.0.0.1:{rgw_port}"

    def stop(self) -> None:
        """End the daemons and remove everything. Nothing is worth saving, and a polite end takes seconds."""
        for process in reversed(self.processes):
            process.kill()
            process.wait(STOP_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self) -> str:
        """The ends of all logs."""
        files = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-LOG_TAIL:]}" for f in files)

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o644)

    def _command(self, program: str, *arguments: str) -> list[str]:
        configured = () if program == "monmaptool" else ("-c", str(self.folder / "ceph.conf"))
        return [_program(program), *configured, *arguments]

    def _options(self) -> dict[str, Any]:
        """What all programs are run with; CEPH_ARGS and the like of the caller must not reach them."""
        return {"cwd": self.folder, "env": {"PATH": os.environ.get("PATH", os.defpath)}, **self.demote}

    def _run(self, program: str, *arguments: str) -> None:
        """Run one command to its end."""
        left = max(self.end - time.monotonic(), 1.0)
        with (self.folder / f"{program}.out").open("wb") as out:
            try:
                subprocess.run(
                    self._command(program, *arguments),
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, timeout=left,
                    **self._options(),
                )  # fmt: skip
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                raise ClusterFailed(f"{error}\n{self.logs()}") from None

    def _serve(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.out").open("ab") as out:
            process = subprocess.Popen(
                self._command(program, "-f", *arguments),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, **self._options(),
            )  # fmt: skip
        self.processes.append(process)

    def _wait_for(self, port: int) -> None:
        while time.monotonic() < self.end:
            ended = [process for process in self.processes if process.poll() is not None]
            if ended:
                raise ClusterFailed(f"{ended[0].args[0]} ended: {ended[0].returncode}\n{self.logs()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise ClusterFailed(f"no answer within {START_SECONDS:.0f} s\n{self.logs()}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ceph: needs a Ceph S3 gateway (still part of `make test`)")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "rgw_server" in getattr(item, "fixturenames", ()):
            item.add_marker("ceph")


@pytest.fixture(scope="session")
def rgw_server() -> Iterator[RgwServer]:
    """A gateway for the whole run; its buckets are apart by their names."""
    version = subprocess.run([_program("radosgw"), "--version"], capture_output=True, text=True, check=True)
    demote = _demote("ceph")
    failures: list[str] = []
    for _ in range(2):  # a free port may be taken by someone else before it is ours
        began = time.monotonic()
        cluster = _Cluster(_directory("s3gc-rgw-", demote), demote, began + START_SECONDS)
        try:
            endpoint = cluster.start()
            yield RgwServer(endpoint, version.stdout.split()[2], time.monotonic() - began)
            return
        except ClusterFailed as error:
            failures.append(str(error))
        finally:
            cluster.stop()
    pytest.fail("Ceph didn't start:\n" + "\n=== again\n".join(failures), pytrace=False)


@pytest.fixture
def rgw_truth(rgw_server: RgwServer) -> S3Client:
    """boto3: what it says is so."""
    return rgw_server.client()


@pytest.fixture
def rgw_bucket(rgw_truth: S3Client) -> str:
    """An empty bucket of a name of its own."""
    name = f"s3gc-{uuid.uuid4().hex}"
    rgw_truth.create_bucket(Bucket=name)
    return name
