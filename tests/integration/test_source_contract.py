"""SqlSource on three databases, and a source of one method, against the contract suite."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomysql  # type: ignore[import-untyped]
import anyio
import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy.engine import make_url

from fixtures_databases import mariadb_server, mariadb_url, postgres_server, postgres_url
from s3gc.abc import ReferenceSource
from s3gc.model import Reference
from s3gc.resolver import Resolver
from s3gc.sources._loop import LoopThread
from s3gc.sources.sql import SqlSource
from s3gc.testing.source_contract import (
    CoverageContract,
    CoveredPlace,
    FolderPlace,
    FolderSourceContract,
    Place,
    SourceContract,
    Transaction,
    TransactionalPlace,
    TransactionalSourceContract,
)

__all__ = ["mariadb_server", "mariadb_url", "postgres_server", "postgres_url"]

RESOLVER = Resolver("my-bucket")
TABLES = {"files": ["path", "folder"]}
FOLDERS = {"files": ["folder"]}


class Session:
    """One connection of a test's own, on a loop of its own."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.loop = LoopThread("test")
        self._raw: Any = None

    async def run(self, *statements: str) -> None:
        await self.loop.run(self._run, statements)

    async def close(self) -> None:
        await self.loop.run(self._close)
        await self.loop.aclose()

    async def _run(self, statements: tuple[str, ...]) -> None:
        if self._raw is None:
            self._raw = await self._connect()
        for sql in statements:
            if isinstance(self._raw, asyncpg.Connection):
                await self._raw.execute(sql)
            else:
                await self._raw.query(sql)

    async def _connect(self) -> Any:
        if self.url.drivername == "postgresql":
            return await asyncpg.connect(self.url.render_as_string(hide_password=False))
        u = self.url
        return await aiomysql.connect(
            host=u.host, port=u.port, user=u.username, password=u.password, db=u.database, autocommit=True,
            charset="utf8mb4",
        )  # fmt: skip

    async def _close(self) -> None:
        if self._raw is not None:
            if isinstance(self._raw, asyncpg.Connection):
                await self._raw.close()
            else:
                self._raw.close()


class SqliteSession(Session):
    """The same for SQLite, whose calls are quick enough to be made at once."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)

    async def run(self, *statements: str) -> None:
        for sql in statements:
            await anyio.to_thread.run_sync(self._connection.execute, sql)

    async def close(self) -> None:
        self._connection.close()


def literal(text: str) -> str:
    return "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"


class SqlTransaction(Transaction):
    def __init__(self, session: Session, number: Callable[[], int]) -> None:
        self._session, self._number = session, number

    async def add(self, value: str) -> None:
        await self._session.run(f"INSERT INTO files (id, path) VALUES ({self._number()}, {literal(value)})")

    async def commit(self) -> None:
        await self._session.run("COMMIT")


class SqlPlace(TransactionalPlace, FolderPlace, CoveredPlace):
    def __init__(self, connect: Callable[[], Session]) -> None:
        self._connect = connect
        self.session = connect()
        self._last = 0

    def _number(self) -> int:
        self._last += 1
        return self._last

    async def add(self, value: str) -> str:
        return await self._insert("path", value)

    async def add_folder(self, value: str) -> str:
        return await self._insert("folder", value)

    async def add_loose(self, value: str) -> tuple[str, str]:
        await self._insert("note", value)
        return "files", "note"

    async def _insert(self, column: str, value: str) -> str:
        number = self._number()
        await self.session.run(f"INSERT INTO files (id, {column}) VALUES ({number}, {literal(value)})")
        return str(number)

    async def change(self, row: str, value: str) -> None:
        await self.session.run(f"UPDATE files SET path = {literal(value)} WHERE id = {row}")

    async def remove(self, row: str) -> None:
        await self.session.run(f"DELETE FROM files WHERE id = {row}")

    async def break_down(self) -> None:
        await self.session.run("DROP TABLE files")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        session = self._connect()
        try:
            await session.run("BEGIN", f"INSERT INTO files (id) VALUES ({self._number()})")
            yield SqlTransaction(session, self._number)
        finally:
            with anyio.CancelScope(shield=True):
                await session.close()


class _Sql(TransactionalSourceContract, FolderSourceContract, CoverageContract):
    @pytest.fixture
    def connect(self) -> Callable[[], Session]:
        raise NotImplementedError

    @pytest.fixture
    async def place(self, connect: Callable[[], Session]) -> AsyncIterator[Place]:
        place = SqlPlace(connect)
        await place.session.run(
            "CREATE TABLE files "
            "(id BIGINT PRIMARY KEY, path VARCHAR(1024), folder VARCHAR(99), note VARCHAR(99))"
        )
        yield place
        await place.session.close()

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    async def source(self, place: Place, url: str) -> AsyncIterator[ReferenceSource]:
        source = SqlSource(url, TABLES, RESOLVER, folders=FOLDERS, batch_rows=7)
        yield source
        await source.aclose()

    async def test_a_scan_sees_one_state_of_all_tables(self, place: Place, url: str) -> None:
        """A key that moves into a table that was read already is seen where it was."""
        assert isinstance(place, SqlPlace)
        await place.session.run("CREATE TABLE later (id BIGINT PRIMARY KEY, path VARCHAR(99))")
        await place.session.run("INSERT INTO later VALUES (1, 'moved.jpg')")
        await place.add("first.jpg")
        source = SqlSource(url, {"files": ["path"], "later": ["path"]}, RESOLVER)
        keys: set[str] = set()
        try:
            async for batch in source.scan():
                if not keys:
                    await place.add("moved.jpg")
                    await place.session.run("DELETE FROM later")
                keys |= {r.key for r in batch.references}
        finally:
            await source.aclose()
        assert keys == {"first.jpg", "moved.jpg"}


class TestSqlite(_Sql):
    concurrent_writers = False

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Callable[[], Session]:
        sqlite3.connect(tmp_path / "app.db").execute("PRAGMA journal_mode = WAL").connection.close()
        return lambda: SqliteSession(tmp_path / "app.db")

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'app.db'}"


class TestPostgres(_Sql):
    @pytest.fixture
    def connect(self, postgres_url: str) -> Callable[[], Session]:
        return lambda: Session(postgres_url)

    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url


class TestMariadb(_Sql):
    @pytest.fixture
    def connect(self, mariadb_url: str) -> Callable[[], Session]:
        return lambda: Session(mariadb_url)

    @pytest.fixture
    def url(self, mariadb_url: str) -> str:
        return mariadb_url


class Shelf(Place):
    """A dict as a place of references."""

    def __init__(self) -> None:
        self.rows: dict[str, str] | None = {}
        self._last = 0

    async def add(self, value: str) -> str:
        self._last += 1
        await self.change(str(self._last), value)
        return str(self._last)

    async def change(self, row: str, value: str) -> None:
        assert self.rows is not None
        self.rows[row] = value

    async def remove(self, row: str) -> None:
        assert self.rows is not None
        del self.rows[row]

    async def break_down(self) -> None:
        self.rows = None


class ShelfSource(ReferenceSource):
    """A source of one method."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def references(self) -> AsyncIterator[Reference]:
        if self._shelf.rows is None:
            raise ConnectionError("the shelf is gone")
        for row, value in self._shelf.rows.items():
            yield Reference(value, row_id=row)


class TestOneMethod(SourceContract):
    @pytest.fixture
    async def place(self) -> Place:
        return Shelf()

    @pytest.fixture
    async def source(self, place: Place) -> ReferenceSource:
        assert isinstance(place, Shelf)
        return ShelfSource(place)
