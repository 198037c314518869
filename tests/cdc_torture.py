"""Writers, DDL, our crashes and the server's at random; at every fence the rows kept by changes are right.

In a test for a minute at most; by hand for as long as you like::

    PYTHONPATH=tests:. python -m cdc_torture --seconds 600 --seed 7
"""

# ruff: noqa: E501, PT017 - statements stand on one line; an error of another kind goes up by itself

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from cdc_world import RESOLVER
from fixtures_databases import Server, run_postgres
from s3gc.errors import PositionLost, SourceError
from s3gc.model import Position, Reference
from s3gc.testing.source_contract import Rows
from s3gc_cdc_postgres.source import PostgresCdcSource

WRITERS = 8
REFUSED = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
FENCE = timedelta(seconds=60)
TABLES = {"files": ["path", "doc"], "parts": ["path"], "whole": ["path", "doc"], "named": ["path"]}

SCHEMA = """
CREATE TABLE files (id int PRIMARY KEY, path text, doc text, note text);
ALTER TABLE files ALTER doc SET STORAGE EXTERNAL;
CREATE TABLE parts (id int, at int, path text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES FROM (0) TO (50);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (50) TO (100);
CREATE TABLE whole (id int PRIMARY KEY, path text, doc text);
ALTER TABLE whole ALTER doc SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
CREATE TABLE named (id int PRIMARY KEY, name text NOT NULL, path text);
CREATE UNIQUE INDEX by_name ON named (name);
ALTER TABLE named REPLICA IDENTITY USING INDEX by_name;
CREATE PUBLICATION s3gc FOR TABLE files, parts, whole, named WITH (publish_via_partition_root = true);
CREATE TABLE elsewhere (v text);
"""

DDL: list[tuple[bool, str]] = [  # whether it is, or may look like, a gap that must be told; the statements
    (False, "ALTER TABLE files ADD extra int DEFAULT 7; ALTER TABLE files DROP extra"),
    (False, "CREATE INDEX ON whole (path); ANALYZE whole"),
    (True, "ALTER TABLE files ALTER path TYPE text USING 'rewritten/' || path"),
    (True, "VACUUM FULL whole"),
    (True, "CREATE TABLE fresh (LIKE parts INCLUDING ALL); INSERT INTO fresh SELECT n, 100 + n, 'attached/' || n || random() FROM generate_series(1, 30) n; ALTER TABLE parts ATTACH PARTITION fresh FOR VALUES FROM (100) TO (200)"),
    (False, "ALTER TABLE parts DETACH PARTITION fresh; DROP TABLE fresh"),
    (False, "CREATE TABLE made PARTITION OF parts FOR VALUES FROM (200) TO (300)"),
    (False, "DROP TABLE made; CREATE TABLE made PARTITION OF parts FOR VALUES FROM (200) TO (300)"),
    (False, "DROP TABLE made"),
    (True, "BEGIN; CREATE TABLE empty (LIKE parts INCLUDING ALL); ALTER TABLE parts ATTACH PARTITION empty FOR VALUES FROM (300) TO (400); COMMIT"),
    (True, "ALTER TABLE parts DETACH PARTITION empty CONCURRENTLY; DROP TABLE empty"),
    (True, "ALTER TABLE parts DETACH PARTITION parts_1; UPDATE parts_1 SET path = 'away/' || id || random(); ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (50) TO (100)"),
    (True, "ALTER PUBLICATION s3gc DROP TABLE named; INSERT INTO named SELECT 900000 + n, 'gap ' || n || random(), 'gap/' || n || random() FROM generate_series(1, 5) n; ALTER PUBLICATION s3gc ADD TABLE named"),
    (True, "DROP TABLE whole; CREATE TABLE whole (id int PRIMARY KEY, path text, doc text); ALTER TABLE whole ALTER doc SET STORAGE EXTERNAL, REPLICA IDENTITY FULL; ALTER PUBLICATION s3gc ADD TABLE whole"),
]  # fmt: skip


class Torture:
    """One run. ``counts`` tells what was done. What is PostgreSQL's can be had otherwise by a subclass."""

    refused: tuple[type[Exception], ...] = REFUSED
    schema: Sequence[str] = (SCHEMA,)
    ddl = DDL
    patience = "SET lock_timeout = '5s'"  # of DDL
    tables = TABLES

    def __init__(self, server: Server, seconds: float, seed: int) -> None:
        self._server = server
        self._end = time.monotonic() + seconds
        self._random = random.Random(seed)
        self._url = self._address()
        self._quiet = asyncio.Lock()  # held while nobody may write
        self._writing: set[int] = set()
        self._still = asyncio.Event()
        self._restarts = 0
        self._gap = False
        self._number = 0
        self._stale = False
        self.counts: Counter[str] = Counter()
        self.source = self._open()
        self.position = Position("", "")
        self.rows = Rows([])

    def _address(self) -> str:
        return f"postgresql://s3gc_admin:{self._server.password}@127.0.0.1:{self._server.port}/postgres"

    async def _connect(self) -> Any:
        return await asyncpg.connect(self._url, timeout=5)

    def _open(self) -> Any:
        source = PostgresCdcSource(
            self._url, TABLES, RESOLVER, slot="s3gc_torture", publication="s3gc", chunk_rows=50,
            patience=timedelta(seconds=60),
        )  # fmt: skip
        source._follower.batch = self._random.choice([3, 50, 1000])
        return source

    @property
    def going_on(self) -> bool:
        return time.monotonic() < self._end

    async def run(self) -> None:
        connection = await self._connect()
        for statement in self.schema:
            await connection.execute(statement)
        await connection.close()
        writers = [asyncio.create_task(self._writer(n)) for n in range(WRITERS)]
        others = [asyncio.create_task(self._ddl()), asyncio.create_task(self._restart())]
        try:
            await self._begin()
            while self.going_on:
                await self._step()
            self._end = 0
            await asyncio.gather(*others)
            await self._check_still()
        finally:
            self._end = 0
            for task in [*writers, *others]:
                task.cancel()
            done = await asyncio.gather(*writers, *others, return_exceptions=True)
            await self.source.aclose()
        for error in done:
            if isinstance(error, Exception) and not isinstance(error, asyncio.CancelledError):
                raise error

    # ------------------------------------------------------------------ ours

    async def _step(self) -> None:
        kind = self._random.choice(
            ["follow", "watch", "watch", "crash", "still", "release", "tip", "tip", "tip", "let go"]
        )
        self.counts[kind] += 1
        try:
            if kind == "follow":
                await self._follow()
            elif kind == "watch":
                await self._watched()
            elif kind == "crash":
                await self._crash()
            elif kind == "release":
                await self.source.applied(self.position)
            elif kind == "tip":
                await self._up_to_now()
            elif kind == "let go":
                await self.source.let_go()
            else:
                await self._check_still()
        except PositionLost as error:
            assert self._gap, f"a gap that nobody made: {error}"
            self.counts["lost"] += 1
            await self._begin()
        except SourceError as error:
            # The server was away. Anything else would come again, and the end would tell.
            self.counts["away"] += 1
            self.last_error = str(error)
            await asyncio.sleep(0.2)

    async def _begin(self) -> None:
        while True:
            try:
                self._gap = False
                self.position = await self.source.begin()
                self.rows = Rows(await self._scanned())
                self._stale = False
            except PositionLost as error:
                assert self._gap, f"a gap that nobody made: {error}"
                self.counts["scan lost"] += 1
            except SourceError as error:
                self._gap = True
                self.counts["begun again"] += 1
                self.last_error = str(error)
                await asyncio.sleep(0.2)
            else:
                return

    async def _scanned(self) -> list[Reference]:
        """All rows, by a scan that is cut off now and then and goes on in another process."""
        found: list[Reference] = []
        stream, mark = self.source.scan(), ""
        while True:
            left = self._random.choice([1, 3, 1000])
            async for batch in stream:
                found += batch.references
                mark = batch.mark
                left -= 1
                if not left:
                    break
            await stream.aclose()  # type: ignore[attr-defined]
            if left:
                return found
            self.counts["scan resumed"] += 1
            await self.source.aclose()
            self.source = self._open()
            stream = self.source.scan_on(self.position, mark)

    async def _follow(self, stop_after: int | None = None) -> set[str]:
        """Up to a fence, each batch with its position at once, as the registry does. Returns all keys told."""
        told = await self._apply(await self.source.fence(FENCE), stop_after)
        if self._stale and stop_after is None:  # as a plan does
            rows = Rows([r async for batch in self.source.scan() for r in batch.references])
            self.rows, self._stale = rows, False
            self.counts["scanned again"] += 1
            told |= await self._apply(await self.source.fence(FENCE), None)
        return told

    async def _up_to_now(self) -> None:
        """As the follower does."""
        tip = await self.source.tip(self.position, FENCE)
        if tip is None:
            self.counts["nothing new"] += 1
        else:
            await self._apply(tip, None)

    async def _apply(self, until: Position, stop_after: int | None) -> set[str]:
        told: set[str] = set()
        stream = self.source.changes(self.position, until)
        try:
            async for batch in stream:
                self.rows.apply([batch])
                self.position = batch.position
                self._stale = self._stale or batch.stale is not None
                self.counts["changes"] += len(batch.changes)
                told |= {reference.key for change in batch.changes for reference in change.references}
                if stop_after is not None:
                    stop_after -= 1
                    if stop_after < 0:
                        break
        finally:
            await stream.aclose()  # type: ignore[attr-defined]
        return told

    async def _crash(self) -> None:
        """In the middle of a stream; the next process has what was applied."""
        try:
            await self._follow(stop_after=self._random.randrange(4))
        finally:
            await self.source.aclose()
            self.source = self._open()

    async def _watched(self) -> None:
        """While writers write: what a reader saw before the fence is known after it, or was spoken of."""
        restarts, gap = self._restarts, self._gap
        before = {r.key for r in self.rows.references}
        seen = await self._keys()
        told = await self._follow()
        if restarts == self._restarts and not gap and not self._gap:
            self.counts["watched"] += 1
            lost = seen - before - told - {r.key for r in self.rows.references}
            assert not lost, f"seen before the fence and never told: {sorted(lost)[:5]}"

    async def _keys(self) -> set[str]:
        # Visible is durable here only for those who wait for it: see `restarts` above.
        return {r.key async for batch in self.source._sql.scan() for r in batch.references}

    async def _check_still(self) -> None:
        """With all writers between two transactions the rows are the very same as those of a scan."""
        async with self._quiet:
            while self._writing:
                self._still.clear()
                await self._still.wait()
            while True:
                try:
                    await self._follow()
                    now = {r async for batch in self.source._sql.scan() for r in batch.references}
                except PositionLost as error:
                    assert self._gap, f"a gap that nobody made: {error}"
                    self.counts["lost"] += 1
                    await self._begin()
                except SourceError as error:
                    self.counts["away"] += 1
                    self.last_error = str(error)
                    await asyncio.sleep(0.2)
                else:
                    break
            self.counts["compared"] += 1
            kept = self.rows.references
            assert kept == now, (
                f"lost {sorted(map(str, now - kept))[:5]}, too many {sorted(map(str, kept - now))[:5]}"
            )

    # ------------------------------------------------------------------ the application

    async def _writer(self, number: int) -> None:
        connection: Any = None
        while self.going_on:
            async with self._quiet:
                self._writing.add(number)
            try:
                if connection is None or connection.is_closed():
                    connection = await self._connect()
                await self._transaction(connection)
            except self.refused as error:
                self.counts[f"refused: {type(error).__name__}"] += 1
                if connection is not None:
                    connection.terminate()
                connection = None
                await asyncio.sleep(0.1)
            finally:
                self._writing.discard(number)
                if not self._writing:
                    self._still.set()
            await asyncio.sleep(self._random.random() * 0.02)
        if connection is not None:
            await connection.close()

    async def _transaction(self, connection: Any) -> None:
        ends = self._random.choice(["commit"] * 6 + ["rollback"])
        lazily = self._random.random() < 0.3
        await connection.execute("BEGIN; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '20s'")
        if lazily:
            await connection.execute("SET LOCAL synchronous_commit = off")
        for _ in range(self._random.choice([1, 1, 2, 5])):
            nested = self._random.random() < 0.2
            if nested:
                await connection.execute("SAVEPOINT s")
            await connection.execute(self._random.choice(self._events)())
            if nested:
                await connection.execute(self._random.choice(["ROLLBACK TO s", "RELEASE s"]))
        await connection.execute(ends)
        self.counts["transactions"] += 1

    @property
    def _events(self) -> list[Callable[[], str]]:
        return [
            lambda: f"INSERT INTO files VALUES ({self._id()}, {self._key()}, {self._big()}) ON CONFLICT (id) DO UPDATE SET path = excluded.path",
            lambda: f"INSERT INTO whole VALUES ({self._id()}, {self._key()}, {self._big()}) ON CONFLICT (id) DO NOTHING",
            lambda: f"INSERT INTO named VALUES ({self._id()}, 'n{self._id()}', {self._key()}) ON CONFLICT DO NOTHING",
            lambda: f"INSERT INTO parts VALUES ({self._id()}, {self._at()}, {self._key()}) ON CONFLICT DO NOTHING",
            lambda: f"UPDATE files SET path = {self._key()} WHERE id = {self._id()}",
            lambda: f"UPDATE files SET note = 'x' WHERE id % 7 = {self._random.randrange(7)}",
            lambda: f"UPDATE files SET id = {self._id()} + 400 WHERE id = {self._id()}",
            lambda: f"UPDATE files SET id = id - 400 WHERE id = {self._id()} + 400 AND NOT EXISTS (SELECT 1 FROM files f WHERE f.id = files.id - 400)",
            lambda: f"UPDATE files SET doc = {self._big()} WHERE id = {self._id()}",
            lambda: f"UPDATE whole SET id = {self._id()} + 1000000 + {self._next()} WHERE id = {self._id()}",
            lambda: f"UPDATE whole SET path = NULL WHERE id = {self._id()}",
            lambda: f"UPDATE named SET name = name || '+' WHERE id = {self._id()}",
            lambda: f"UPDATE named SET id = id + 2000000 + {self._next()}, path = {self._key()} WHERE id = {self._id()}",
            lambda: f"UPDATE parts SET at = {self._at()} WHERE id = {self._id()}",
            lambda: f"UPDATE parts SET id = {self._id()} + 3000000 + {self._next()} WHERE id = {self._id()}",
            lambda: f"DELETE FROM files WHERE id = {self._id()}",
            lambda: f"DELETE FROM whole WHERE id = {self._id()}",
            lambda: f"DELETE FROM named WHERE id = {self._id()}",
            lambda: f"DELETE FROM parts WHERE id = {self._id()}",
            lambda: f"DELETE FROM {self._random.choice(list(TABLES))} WHERE id > {400 + 10 * self._random.randrange(100)}",
            lambda: f"INSERT INTO files SELECT n, 'bulk/{self._next()}/' || n FROM generate_series(100000, {100000 + self._random.randrange(300)}) n ON CONFLICT (id) DO UPDATE SET path = excluded.path",
            lambda: "TRUNCATE " + self._random.choice(["files", "parts", "whole, named", "named"]) if self._random.random() < 0.05 else "SELECT 1",
            lambda: f"SELECT pg_logical_emit_message({self._random.choice(['true', 'false'])}, 's3gc', 'not a fence')",
            lambda: "INSERT INTO elsewhere SELECT repeat('x', 500) FROM generate_series(1, 20)",
        ]  # fmt: skip

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _id(self) -> int:
        return self._random.randrange(300)

    def _at(self) -> int:
        return self._random.randrange(100) + self._random.choice([0] * 20 + [200, 300])

    def _key(self) -> str:
        return f"'k/{self._next()}'"

    def _big(self) -> str:
        return f"'big/{self._next()} ' || repeat('0123456789', 300)"

    async def _ddl(self) -> None:
        while self.going_on:
            await asyncio.sleep(2 + self._random.random() * 10)
            gap, statements = self._random.choice(self.ddl)
            async with self._quiet:
                self._writing.add(-1)
            try:
                connection = await self._connect()
                await connection.execute(self.patience)
                if gap:
                    self._gap = True
                for statement in statements.split(";"):
                    await connection.execute(statement)
                self.counts["ddl"] += 1
                await connection.close()
            except self.refused as error:
                self.counts[f"ddl refused: {type(error).__name__}"] += 1
                await self._mend()
            finally:
                self._writing.discard(-1)
                if not self._writing:
                    self._still.set()

    async def _mend(self) -> None:
        """A statement that failed in the middle may have left a table out of the publication, or away."""
        self._gap = True  # also where it can't be mended: the server may have done it all the same
        try:
            connection = await asyncpg.connect(self._url, timeout=5)
            for statement in (
                "CREATE TABLE IF NOT EXISTS whole (id int PRIMARY KEY, path text, doc text)",
                "ALTER TABLE whole REPLICA IDENTITY FULL",
                "ALTER PUBLICATION s3gc SET TABLE files, parts, whole, named",
                "DO $$ BEGIN ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (50) TO (100);"
                " EXCEPTION WHEN OTHERS THEN NULL; END $$",
            ):
                self._gap = True
                await connection.execute(statement)
            await connection.close()
        except REFUSED:
            self.counts["mending refused"] += 1

    async def _restart(self) -> None:
        process = self._server.process
        assert process is not None
        while self.going_on:
            await asyncio.sleep(5 + self._random.random() * 15)
            self._restarts += 1
            crash = self._random.random() < 0.5
            clean = await asyncio.to_thread(process.kill if crash else process.stop)
            assert crash or clean, "a stream kept the server from stopping"
            await asyncio.to_thread(process.start)
            self._restarts += 1
            self.counts["server crashes" if crash else "server restarts"] += 1


async def torture(seconds: float, seed: int) -> Counter[str]:
    """Run it on a server of its own."""
    with run_postgres(autovacuum="on", log_min_messages="fatal") as server:
        one = Torture(server, seconds, seed)
        try:
            await one.run()
        finally:
            print(dict(one.counts))
        return one.counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    asyncio.run(torture(arguments.seconds, arguments.seed))
