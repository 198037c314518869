"""The followed source against the contract suite, on a real MariaDB, with whole and minimal row images."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from fixtures_databases import Server, mariadb_url, run_mariadb
from integration.test_source_contract import FOLDERS, RESOLVER, TABLES, Session, SqlPlace
from s3gc.abc import ReferenceSource
from s3gc.testing.source_contract import (
    ChangingPlace,
    CoverageContract,
    FolderSourceContract,
    Place,
    TransactionalChangesContract,
)
from s3gc_cdc_mysql.source import MysqlCdcSource

__all__ = ["mariadb_url"]

_numbers = itertools.count(800_000)


@pytest.fixture(scope="module", params=["FULL", "MINIMAL"])
def mariadb_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with run_mariadb(binlog_row_image=request.param) as server:
        yield server


class CdcPlace(SqlPlace, ChangingPlace):
    async def empty(self) -> None:
        await self.session.run("TRUNCATE files")

    async def forget(self) -> None:
        await self.session.run("FLUSH BINARY LOGS", "RESET MASTER")


class TestMysqlCdc(TransactionalChangesContract, FolderSourceContract, CoverageContract):
    @pytest.fixture
    async def place(self, mariadb_url: str) -> AsyncIterator[Place]:
        place = CdcPlace(lambda: Session(mariadb_url))
        await place.session.run(
            "CREATE TABLE files "
            "(id BIGINT PRIMARY KEY, path VARCHAR(1024), folder VARCHAR(99), note VARCHAR(99))"
        )
        yield place
        await place.session.close()

    @pytest.fixture
    def open_source(self, mariadb_url: str, place: Place) -> Callable[[], MysqlCdcSource]:
        number = next(_numbers)
        return lambda: MysqlCdcSource(
            mariadb_url, TABLES, RESOLVER, folders=FOLDERS, server_id=number, chunk_rows=7
        )

    @pytest.fixture
    async def source(self, open_source: Callable[[], ReferenceSource]) -> AsyncIterator[ReferenceSource]:
        source = open_source()
        yield source
        await source.aclose()

    @pytest.fixture
    async def later(self, open_source: Callable[[], ReferenceSource]) -> AsyncIterator[ReferenceSource]:
        source = open_source()
        yield source
        await source.aclose()
