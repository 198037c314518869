"""The application of test_random_schedule.py: its bucket, its rows, and what it did when.

The world remembers each *naming*: one row's mention of one key, from the statement that made it to the one
that took it away, with the position in PostgreSQL's log and the times. By these the checks decide what was
promised.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import asyncpg
import boto3
from attrs import Factory, define, field
from botocore.config import Config

from s3gc.hooks import hookimpl

APPLICATION, COLLECTOR = "AKIDAPPLICATION", "AKIDCOLLECTOR"
"""Access keys: by them the server knows who writes."""

BASE_URL = "https://cdn.example.com/media"

TABLES = {"files": ["key"], "posts": ["doc"]}
SCHEMA = """
CREATE TABLE files (id serial PRIMARY KEY, key text);
CREATE TABLE posts (id serial PRIMARY KEY, doc jsonb);
"""
NAMED = f"""
SELECT 'files', id, key FROM files
UNION ALL SELECT 'posts', id, substr(doc #>> '{{images,0,src}}', {len(BASE_URL) + 2}) FROM posts
"""
"""Every row that is committed: table, id, key."""

_LOG_END = "(pg_current_wal_insert_lsn() - '0/0')::int8"
_INSERT = {
    "files": f"INSERT INTO files (key) VALUES ($1) RETURNING id, {_LOG_END}",
    "posts": f"INSERT INTO posts (doc) VALUES ($1) RETURNING id, {_LOG_END}",
}
_UPDATE = {
    "files": f"UPDATE files SET key = $1 WHERE id = $2 RETURNING id, {_LOG_END}",
    "posts": f"UPDATE posts SET doc = $1 WHERE id = $2 RETURNING id, {_LOG_END}",
}

ENDS = ("gc_cycle_completed", "gc_cycle_failed")
"""Events of the collector that end a cycle."""

FREED = 40
"""Keys without rows that the application remembers."""


def now() -> int:
    """Nanoseconds of the clock that the server uses too."""
    return time.monotonic_ns()


# --------------------------------------------------------------------------- the bucket


@contextmanager
def run_server() -> Iterator[str]:
    """Start the server of random_schedule_server.py; its URL."""
    script = Path(__file__).with_name("random_schedule_server.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the server didn't start"
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@define
class Bucket:
    """The bucket, as the application uses it: by boto3."""

    endpoint_url: str
    name: str
    client: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=APPLICATION,
            aws_secret_access_key="secret",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
        )
        self.client.create_bucket(Bucket=self.name)

    def read(self, key: str) -> tuple[bytes, dict[str, str]]:
        """Bytes and metadata."""
        answer = self.client.get_object(Bucket=self.name, Key=key)
        return answer["Body"].read(), answer["Metadata"]

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    async def put(self, key: str, body: bytes) -> None:
        await anyio.to_thread.run_sync(
            lambda: self.client.put_object(Bucket=self.name, Key=key, Body=body, Metadata={"by": "the-app"})
        )

    async def exists(self, key: str) -> bool:
        def look() -> bool:
            try:
                self.client.head_object(Bucket=self.name, Key=key)
            except self.client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                return False
            return True

        return await anyio.to_thread.run_sync(look)

    async def report(self, after: int) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """Digest by key of all that the bucket holds, and the writes from the ``after``-th on."""

        def fetch() -> Any:
            url = f"{self.endpoint_url}/-/report?after={after}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)

        found = await anyio.to_thread.run_sync(fetch)
        return found["buckets"][self.name], found["writes"]


# --------------------------------------------------------------------------- who waits for whom


@define
class _Wait:
    over: anyio.Event = Factory(anyio.Event)
    met: bool = False


class Phases:
    """A plugin that tells the writers where the collector is, so that they can get in its way."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []
        self._waiting: dict[str, _Wait] = {}
        self._closed = False

    @hookimpl
    def s3gc_event(self, event: str) -> None:
        self.told.append((now(), event))
        if event in self._waiting:
            wait = self._waiting.pop(event)
            wait.met = True
            wait.over.set()
        if event in ENDS:
            self._release()

    async def wait(self, event: str) -> bool:
        """Until the event happens, which is true, or the cycle ends without it."""
        if self._closed:
            return False
        wait = self._waiting.setdefault(event, _Wait())
        await wait.over.wait()
        return wait.met

    def close(self) -> None:
        """There are no more cycles to wait for."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        for wait in self._waiting.values():
            wait.over.set()
        self._waiting.clear()


class Turnstile:
    """Writers pass it for each step; while it is stopped no step is under way, though transactions are."""

    def __init__(self) -> None:
        self._inside = 0
        self._open: anyio.Event | None = None
        self._empty = anyio.Event()

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        while self._open is not None:
            await self._open.wait()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        self._open = anyio.Event()
        while self._inside:
            self._empty = anyio.Event()
            await self._empty.wait()
        try:
            yield
        finally:
            self._open.set()
            self._open = None


# --------------------------------------------------------------------------- what was done


@define(eq=False)
class Naming:
    """One row's mention of one key. Times are of :func:`now`."""

    key: str
    table: str
    row: int
    hand: str  # who made it, doing what
    began: int  # its transaction was open by then
    lsn: int  # the log's end when the row was just written
    state: str = "open"  # open, committed, undone
    ended: int | None = None  # when its transaction had ended
    removed: int | None = None  # when the statement that took it away was sent, unless that was undone

    def __str__(self) -> str:
        gone = "" if self.removed is None else f", removed at {self.removed}"
        return (
            f"row {self.row} of {self.table} by {self.hand}, transaction from {self.began} to {self.ended}, "
            f"{self.state}, log {self.lsn:x}{gone}"
        )


@define
class World:
    """The application's state, shared by its writers."""

    bucket: Bucket
    seed: str
    phases: Phases = Factory(Phases)
    turnstile: Turnstile = Factory(Turnstile)
    cycle: int = 0
    collecting: bool = False
    stopping: bool = False
    namings: dict[str, list[Naming]] = Factory(dict)  # by key: all that ever were
    bodies: dict[str, bytes] = Factory(dict)  # by digest: all that was ever uploaded
    latest: dict[str, bytes] = Factory(dict)  # by key: about what was uploaded last
    freed: deque[str] = field(factory=lambda: deque(maxlen=FREED))  # keys without rows, newest last
    acts: Counter[str] = Factory(Counter)  # while the collector collected
    _keys: int = 0
    _rng: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def count(self, what: str) -> None:
        if self.collecting:
            self.acts[what] += 1

    def new_key(self) -> str:
        self._keys += 1
        return f"up/{self._keys % 7}/{self._keys:05}.bin"

    def new_body(self, rng: random.Random) -> bytes:
        body = rng.randbytes(rng.randint(20, 400)).hex().encode()
        self.bodies[hashlib.sha256(body).hexdigest()] = body
        return body

    async def put(self, key: str, body: bytes) -> None:
        async with self.turnstile.step():
            await self.bucket.put(key, body)
        self.latest[key] = body

    async def exists(self, key: str) -> bool:
        async with self.turnstile.step():
            return await self.bucket.exists(key)

    def name(self, naming: Naming) -> None:
        """A row names the key from now on."""
        self.namings.setdefault(naming.key, []).append(naming)
        if naming.key in self.freed:
            self.freed.remove(naming.key)

    def is_named(self, key: str) -> bool:
        """Whether a row names the key, or may do so soon."""
        return any(one.state != "undone" and one.removed is None for one in self.namings.get(key, ()))

    def free(self, key: str) -> None:
        """A row doesn't name the key any more, or didn't come to it."""
        if not self.is_named(key) and key not in self.freed:
            self.freed.append(key)

    def forget_gone(self, there: Collection[str]) -> None:
        """Only these objects are there: the application learns it of most that are gone."""
        for key in list(self.freed):
            if key not in there and self._rng.random() < 0.8:
                self.freed.remove(key)


class Transaction:
    """A transaction of one writer, and what it does to namings."""

    def __init__(self, world: World, connection: asyncpg.Connection[Any], hand: str) -> None:
        self.made: list[Naming] = []
        self.removed: list[Naming] = []
        self._world = world
        self._connection = connection
        self._hand = hand
        self._began = 0
        self._name: str | None = None

    async def begin(self) -> None:
        await self._run("BEGIN")
        self._began = now()

    async def insert(self, table: str, key: str) -> None:
        await self._write(_INSERT[table], table, key)

    async def move(self, naming: Naming, key: str) -> None:
        """The naming's row names another key."""
        self._remove(naming)
        await self._write(_UPDATE[naming.table], naming.table, key, naming.row)

    async def delete(self, naming: Naming) -> None:
        self._remove(naming)
        await self._run(f"DELETE FROM {naming.table} WHERE id = {naming.row}")

    async def prepare(self, name: str) -> None:
        await self._run(f"PREPARE TRANSACTION '{name}'")
        self._name = name

    async def commit(self) -> None:
        await self._run(f"COMMIT PREPARED '{self._name}'" if self._name else "COMMIT")
        self._end("committed")
        for naming in self.removed:
            self._world.free(naming.key)

    async def rollback(self) -> None:
        await self._run(f"ROLLBACK PREPARED '{self._name}'" if self._name else "ROLLBACK")
        self._end("undone")
        for naming in self.removed:
            naming.removed = None
        for naming in self.made:
            self._world.free(naming.key)

    def _end(self, state: str) -> None:
        for naming in self.made:
            naming.state, naming.ended = state, now()

    def _remove(self, naming: Naming) -> None:
        naming.removed = now()
        self.removed.append(naming)

    async def _write(self, sql: str, table: str, key: str, *row: int) -> None:
        value = key if table == "files" else json.dumps({"images": [{"src": f"{BASE_URL}/{key}"}]})
        async with self._world.turnstile.step():
            number, lsn = await self._connection.fetchrow(sql, value, *row)
            naming = Naming(key, table, number, self._hand, self._began, lsn)
            self._world.name(naming)
        self.made.append(naming)

    async def _run(self, sql: str) -> None:
        async with self._world.turnstile.step():
            await self._connection.execute(sql)
