"""Our own stores keep the contract: S3 against moto and a Ceph gateway, memory and a folder."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures_s3 import S3Server, bucket, s3_server, truth
from s3gc.abc import ObjectStore
from s3gc.clock import SystemClock
from s3gc.stores.obstore import open_file_store, open_memory_store
from s3gc.testing.fakes import FakeStore
from s3gc.testing.keys import ODD_KEYS
from s3gc.testing.store_contract import StoreContract

if TYPE_CHECKING:  # a plugin must not be imported before pytest does it
    from fixtures_rgw import RgwServer

pytest_plugins = ["fixtures_rgw"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# moto's router stops at a line feed, whoever asks (test_store_s3_keys.py shows it with boto3).
MOTO_KEYS = tuple(key for key in ODD_KEYS if "\n" not in key)


class TestS3(StoreContract):
    odd_keys = MOTO_KEYS

    @pytest.fixture
    async def store(self, s3_server: S3Server, bucket: str) -> AsyncIterator[ObjectStore]:
        store = s3_server.store(bucket)
        yield store
        await store.aclose()


# Ceph refuses NUL, whoever asks (test_store_rgw.py shows it with boto3).
CEPH_KEYS = tuple(key for key in ODD_KEYS if "\0" not in key)


class TestCeph(StoreContract):
    odd_keys = CEPH_KEYS

    @pytest.fixture
    async def store(self, rgw_server: RgwServer, rgw_bucket: str) -> AsyncIterator[ObjectStore]:
        store = rgw_server.store(rgw_bucket)
        yield store
        await store.aclose()


class TestMemory(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[ObjectStore]:
        store = open_memory_store("contract")
        yield store
        await store.aclose()


class TestFolder(StoreContract):
    keeps_attributes = False
    keeps_tags = False
    holds_nested = False

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        store = open_file_store(tmp_path)
        yield store
        await store.aclose()


class TestFake(StoreContract):
    """The store that users test with keeps the contract, too."""

    @pytest.fixture
    async def store(self) -> ObjectStore:
        return FakeStore(SystemClock())
