"""The followed source against the contract suite, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from fixtures_databases import postgres_server, postgres_url
from integration.test_source_contract import FOLDERS, RESOLVER, TABLES, Session, SqlPlace
from s3gc.abc import ReferenceSource
from s3gc.testing.source_contract import (
    ChangingPlace,
    CoverageContract,
    FolderSourceContract,
    Place,
    TransactionalChangesContract,
)
from s3gc_cdc_postgres.source import PostgresCdcSource

__all__ = ["postgres_server", "postgres_url"]


class CdcPlace(SqlPlace, ChangingPlace):
    slot = "s3gc_contract"

    async def empty(self) -> None:
        await self.session.run("TRUNCATE files")

    async def forget(self) -> None:
        await self.session.run(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL"
            " AND database = current_database()",
            "SELECT pg_sleep(0.2)",
            f"SELECT pg_drop_replication_slot('{self.slot}')",
        )


class TestPostgresCdc(TransactionalChangesContract, FolderSourceContract, CoverageContract):
    @pytest.fixture
    async def place(self, postgres_url: str) -> AsyncIterator[Place]:
        place = CdcPlace(lambda: Session(postgres_url))
        # Slots are the server's, not a database's.
        place.slot = "s3gc_" + postgres_url.rpartition("/")[2]
        await place.session.run(
            "CREATE TABLE files "
            "(id BIGINT PRIMARY KEY, path VARCHAR(1024), folder VARCHAR(99), note VARCHAR(99))"
        )
        yield place
        await place.session.close()

    @pytest.fixture
    def open_source(self, postgres_url: str, place: Place) -> Callable[[], PostgresCdcSource]:
        assert isinstance(place, CdcPlace)
        slot = place.slot
        return lambda: PostgresCdcSource(
            postgres_url, TABLES, RESOLVER, folders=FOLDERS, slot=slot, publication="s3gc", chunk_rows=7
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
