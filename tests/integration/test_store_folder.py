"""A folder as a bucket: odd files are seen, reported and never touched."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from s3gc.errors import AmbiguousKey, NoSuchBucket, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes
from s3gc.stores.obstore import GuardedStore, open_file_store, open_memory_store
from s3gc.stores.obstore._backend import Opened
from s3gc.stores.obstore._memory import MemoryBackend
from s3gc.stores.obstore._meta import info_of

if TYPE_CHECKING:
    from obstore import ObjectMeta

pytestmark = pytest.mark.anyio
NONE = ObjectAttributes()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def _entries(store: GuardedStore, prefix: str = "", after: str = "") -> dict[str, bool]:
    return {info.key: info.ambiguous async for page in store.list(prefix, after) for info in page}


async def test_files_that_others_put_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "fine.txt").write_bytes(b"x")
    (tmp_path / "staged#1").write_bytes(b"half")
    (tmp_path / "new\nline").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "fine.txt")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    os.close(os.open(os.fsencode(tmp_path) + b"/bad\xff", os.O_CREAT))
    store = open_file_store(tmp_path)
    assert await _entries(store) == {
        "bad\\xff": True,
        "folder/fine.txt": False,
        "link": True,
        "loop": True,
        "new\nline": True,
        "pipe": True,
        "staged#1": True,
    }
    for key in ("link", "loop/folder/fine.txt", "pipe", "staged#1", "new\nline", "folder"):
        with pytest.raises(AmbiguousKey):
            await store.head(key)
        with pytest.raises(AmbiguousKey):
            await store.delete(key, if_match="x")
        with pytest.raises(AmbiguousKey):
            async with store.get(key):
                pass
        with pytest.raises(AmbiguousKey):
            await store.put(key, b"", size=0, attributes=NONE)
    assert (tmp_path / "folder" / "fine.txt").read_bytes() == b"x"
    assert (tmp_path / "link").is_symlink()


async def test_a_folder_that_cannot_be_read_ends_the_listing_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "z").write_bytes(b"")
    real = os.scandir

    def denied(path: object) -> object:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(StoreError, match="Permission denied"):
        await _entries(open_file_store(tmp_path))


async def test_case_that_the_file_system_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo").write_bytes(b"x")
    store = open_file_store(tmp_path)
    info = await store.stat("photo")
    assert info is not None
    # Such a file system opens 'photo' for a file that the folder calls 'Photo'.
    monkeypatch.setattr(os, "listdir", lambda path: ["Photo"])
    assert await store.stat("photo") is None
    assert await store.delete("photo", if_match=info.etag) is DeleteOutcome.MISSING
    assert (tmp_path / "photo").exists()
    await store.probe()  # finds that this one tells them apart
    assert await store.stat("photo") is not None


async def test_order_prefix_and_pages(tmp_path: Path) -> None:
    names = ["a.txt", "a/x", "a/y/z", "a0", "a-", "b/1", "é", "\U0001f600", "z" * 100]
    names += [f"many/{number:04d}" for number in range(1100)]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    store = open_file_store(tmp_path)
    assert list(await _entries(store)) == sorted(names)
    assert [len(page) async for page in store.list()] == [1000, 109]
    for after in ("a", "a/", "a/x", "a/y", "a/y/z", "b", "many/0500", "z", "\U0001f600"):
        assert list(await _entries(store, "", after)) == sorted(name for name in names if name > after)
    for prefix in ("a", "a/", "a/y", "many/00", "b/", "é", "nothing"):
        assert list(await _entries(store, prefix)) == sorted(n for n in names if n.startswith(prefix))


async def test_a_name_in_the_way(tmp_path: Path) -> None:
    store = open_file_store(tmp_path)
    await store.put("a", b"x", size=1, attributes=NONE)
    with pytest.raises(StoreError, match="is a part of its path a file"):
        await store.put("a/b", b"x", size=1, attributes=NONE)
    assert await store.stat("a/b") is None
    assert await store.delete("a/b", if_match="x") is DeleteOutcome.MISSING
    await store.put("d/e", b"x", size=1, attributes=NONE)
    with pytest.raises(AmbiguousKey):
        await store.put("d", b"x", size=1, attributes=NONE)
    assert await _entries(store) == {"a": False, "d/e": False}


async def test_nothing_is_left_beside(tmp_path: Path) -> None:
    store = open_file_store(tmp_path)
    await store.put("new", b"x", size=1, attributes=NONE, if_none_match=True)
    await store.probe()
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == ["new"]


async def test_writes_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(number: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{number}"))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    await open_file_store(tmp_path).put("a/b", b"x", size=1, attributes=NONE)
    assert synced == [str(tmp_path / "a/b"), str(tmp_path / "a"), str(tmp_path)]


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoSuchBucket, match="create it first"):
        open_file_store(tmp_path / "none")
    (tmp_path / "some").mkdir()
    store = open_file_store(tmp_path / "some")
    (tmp_path / "some").rmdir()
    with pytest.raises(NoSuchBucket):
        await store.now()
    with pytest.raises(NoSuchBucket):
        await _entries(store)


async def test_capabilities(tmp_path: Path) -> None:
    folder = await open_file_store(tmp_path).probe()
    assert not folder.conditional_delete
    assert folder.details["attributes"] == "not kept"
    assert (await open_memory_store("m").probe()).conditional_delete


async def test_memory_stores_share_nothing() -> None:
    one, two = open_memory_store("same"), open_memory_store("same")
    await one.put("k", b"x", size=1, attributes=NONE)
    assert await two.stat("k") is None


async def test_a_body_that_is_not_as_long_as_announced() -> None:
    class Short(MemoryBackend):
        def open(self, key: str, if_match: str | None) -> Opened:
            return evolve(super().open(key, if_match), chunks=iter([b"ab"]))

    store = GuardedStore(Short("m"))
    await store.put("k", b"abc", size=3, attributes=NONE)
    with pytest.raises(StoreError, match="-1 bytes off"):
        async with store.get("k") as reader:
            assert [chunk async for chunk in reader.chunks()] == []


def test_another_key_than_the_one_asked_for() -> None:
    meta: ObjectMeta = {
        "path": "dir",
        "last_modified": datetime.now(UTC),
        "size": 1,
        "e_tag": '"e"',
        "version": None,
    }
    assert info_of(meta, "dir").etag == "e"
    with pytest.raises(AmbiguousKey):
        info_of(meta, "dir/")
    with pytest.raises(StoreError, match="no ETag"):
        info_of({**meta, "e_tag": None}, "dir")
