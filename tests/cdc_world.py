"""An application's database, a followed source, and rows kept by its changes as the registry keeps them."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from integration.test_source_contract import Session
from s3gc.model import ChangeBatch, Position, Reference
from s3gc.resolver import Resolver
from s3gc.testing.source_contract import PATIENCE, Rows, changed, scanned
from s3gc_cdc_postgres.source import PostgresCdcSource

RESOLVER = Resolver("my-bucket")

DEADLINE_SECONDS = 240
"""Far more than any test here takes, and less than for ever: what waits for the server may wait in vain."""


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A test that hangs fails."""

    def late(*_: object) -> None:
        raise TimeoutError(f"the test hangs: it wasn't over after {DEADLINE_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Kept:
    """A source and what is known of it."""

    def __init__(self, app: App, source: PostgresCdcSource) -> None:
        self.app, self.source = app, source
        self.position = Position("", "")
        self.rows = Rows([])
        self.batches: list[ChangeBatch] = []
        self.scans = 0

    async def begin(self) -> None:
        """As the first cycle does."""
        self.position = await self.source.begin()
        self.rows = Rows(await scanned(self.source))
        await self.follow()

    async def follow(self) -> None:
        """As each cycle does: a fence, and the changes up to it."""
        fence = await self.source.fence(PATIENCE)
        self.batches = list(await changed(self.source, self.position, fence))
        self.rows.apply(self.batches)
        self.position = self.batches[-1].position
        if any(batch.stale for batch in self.batches):  # as a plan does
            self.scans += 1
            self.rows = Rows(await scanned(self.source))
            await self.follow()

    async def up_to_now(self) -> bool:
        """As the follower does. Whether there was anything to tell."""
        tip = await self.source.tip(self.position, PATIENCE)
        if tip is None:
            return False
        self.batches = list(await changed(self.source, self.position, tip))
        self.rows.apply(self.batches)
        self.position = self.batches[-1].position
        return True

    async def release(self) -> None:
        await self.source.applied(self.position)

    @property
    def keys(self) -> set[str]:
        return {reference.key for reference in self.rows.references}

    async def agrees(self) -> set[str]:
        """The keys, after a comparison with a scan: the very same rows, columns and keys."""
        await self.follow()
        now: set[Reference] = set(await scanned(self.source))
        assert self.rows.references == now
        found = {r async for r in self.source.find({r.key for r in now})}
        assert found == now, "the direct read"
        return self.keys


class App:
    """The application's side."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = Session(url)
        self.name = str(make_url(url).database)
        self._sources: list[PostgresCdcSource] = []

    async def run(self, *statements: str) -> None:
        await self.session.run(*statements)

    async def ask(self, sql: str) -> Any:
        async def fetch() -> Any:
            if self.session._raw is None:
                self.session._raw = await self.session._connect()
            return await self.session._raw.fetchval(sql)

        return await self.session.loop.run(fetch)

    def source(self, tables: Mapping[str, Sequence[str]], **more: Any) -> PostgresCdcSource:
        options: dict[str, Any] = {"slot": f"s3gc_{self.name}", "publication": "s3gc", "chunk_rows": 3}
        options |= more
        url, batch = options.pop("url", self.url), options.pop("batch", None)
        source = PostgresCdcSource(url, tables, RESOLVER, **options)
        if batch is not None:
            source._follower.batch = batch
        self._sources.append(source)
        return source

    async def follow(self, tables: Mapping[str, Sequence[str]], **more: Any) -> Kept:
        kept = Kept(self, self.source(tables, **more))
        await kept.begin()
        return kept

    @asynccontextmanager
    async def other(self) -> AsyncIterator[Session]:
        """Another connection."""
        session = Session(self.url)
        try:
            yield session
        finally:
            await session.close()

    async def close(self) -> None:
        for source in self._sources:
            await source.aclose()
        await self.session.close()


BIG = "repeat(md5(random()::text), 400)"
"""SQL for a value that is kept out of line where storage is EXTERNAL."""

SHORT = timedelta(seconds=1)
