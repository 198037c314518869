"""The same as :mod:`cdc_world` for MariaDB."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from cdc_world import RESOLVER, App, Kept
from integration.test_source_contract import Session
from s3gc_cdc_mysql.source import MysqlCdcSource

_numbers = itertools.count(700_000)


class MyKept(Kept):
    source: Any


class MyApp(App):
    """An application's side on MariaDB."""

    def source(self, tables: Mapping[str, Sequence[str]], **more: Any) -> Any:
        options: dict[str, Any] = {"server_id": next(_numbers), "chunk_rows": 3} | more
        url, batch = options.pop("url", self.url), options.pop("batch", None)
        source = MysqlCdcSource(url, tables, RESOLVER, **options)
        if batch is not None:
            source._follower.batch = batch
        self._sources.append(source)  # type: ignore[arg-type]
        return source

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a statement gives."""

        async def fetch() -> list[tuple[Any, ...]]:
            if self.session._raw is None:
                self.session._raw = await self.session._connect()
            async with self.session._raw.cursor() as cursor:
                await cursor.execute(sql)
                return list(await cursor.fetchall())

        return await self.session.loop.run(fetch)

    async def ask(self, sql: str) -> Any:
        return (await self.rows(sql))[0][0]


def reopened(app: MyApp) -> Session:
    """A session with the server that was started again."""
    return Session(app.url)
