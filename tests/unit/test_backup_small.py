"""Objects that a store reads in groups are looked at as all others are; the others are read by get."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from attrs import evolve

from s3gc import gates
from s3gc.abc import BackupSession, WholeObject
from s3gc.backup import back_up
from s3gc.clock import SystemClock
from s3gc.errors import VaultError
from s3gc.model import BackupRecord, JournalDraft, ObjectAttributes, ObjectInfo
from s3gc.testing.fakes import FakeStore

pytestmark = pytest.mark.anyio


class GroupStore(FakeStore):
    """Brings what the test says in groups of two."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.found: dict[str, ObjectInfo] = {}

    async def get_small(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        whole = [
            WholeObject(one, self.found[one.key], ObjectAttributes(), b"from the group")
            for one in objects
            if one.key in self.found
        ]
        for start in range(0, len(whole), 2):
            yield whole[start : start + 2]


class Session(BackupSession):
    def __init__(self) -> None:
        self.taken: dict[str, bytes] = {}
        self.refuses = ""

    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        assert info.key not in self.taken
        if info.key == self.refuses:
            raise VaultError("full")
        self.taken[info.key] = b"".join([chunk async for chunk in chunks])

    async def commit(self) -> Sequence[BackupRecord]:
        return []


class Journal:
    async def append(self, drafts: Sequence[JournalDraft]) -> None:
        assert not drafts


async def test_each_is_looked_at() -> None:
    store, session = GroupStore(), Session()
    for key in ("a", "b", "c", "locked", "later", "bigger", "single"):
        store.upload(key, b"from a get")
    listed = [info async for page in store.list() for info in page]
    store.found = {info.key: info for info in listed if info.key != "single"}
    store.found["locked"] = evolve(store.found["locked"], locked="a legal hold is on it")
    later = store.found["later"].last_modified + timedelta(seconds=2)
    store.found["later"] = evolve(store.found["later"], last_modified=later)
    store.found["bigger"] = evolve(store.found["bigger"], size=11)
    parts = cast(
        Any,
        SimpleNamespace(
            store=store, vault=SimpleNamespace(journal=Journal()), config=SimpleNamespace(backup_copies=1)
        ),
    )
    _, kept = await back_up(parts, session, listed, "op")
    assert session.taken == {**dict.fromkeys("abc", b"from the group"), "single": b"from a get"}
    assert {key: code for key, (code, _) in kept.items()} == {
        "locked": gates.LOCKED,
        "later": gates.CHANGED,
        "bigger": gates.CHANGED,
    }


async def test_an_error_of_the_vault_ends_it_as_it_is() -> None:
    store, session = GroupStore(), Session()
    for key in "abcdefghij":
        store.upload(key, b"x")
    listed = [info async for page in store.list() for info in page]
    store.found = {info.key: info for info in listed}
    session.refuses = "c"
    parts = cast(
        Any,
        SimpleNamespace(
            store=store, vault=SimpleNamespace(journal=Journal()), config=SimpleNamespace(backup_copies=1)
        ),
    )
    with anyio.fail_after(5), pytest.raises(VaultError, match="full"):
        await back_up(parts, session, listed, "op")
