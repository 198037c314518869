"""What every object store must promise, as tests. Subclass :class:`StoreContract` and give it a ``store``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from s3gc.abc import RESERVED_PREFIX, ObjectStore
from s3gc.errors import AmbiguousKey, PreconditionFailed, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes, ObjectInfo
from s3gc.testing.keys import ODD_KEYS, PLAIN_KEYS, without_nesting

_NONE = ObjectAttributes()
_MIB = 1024 * 1024
_IN_FLIGHT = 8  # requests at the same time where a test needs many


def _bytes_of(key: str) -> bytes:
    return b"the bytes of " + key.encode("utf-8")


async def _pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def _put(store: ObjectStore, key: str, data: bytes, attributes: ObjectAttributes = _NONE) -> ObjectInfo:
    return await store.put(key, data, size=len(data), attributes=attributes)


async def _read(store: ObjectStore, key: str, if_match: str | None = None) -> bytes:
    async with store.get(key, if_match=if_match) as reader:
        return b"".join([chunk async for chunk in reader.chunks()])


async def _listed(store: ObjectStore, prefix: str = "", start_after: str = "") -> list[ObjectInfo]:
    return [info async for page in store.list(prefix, start_after) for info in page]


async def _keys(store: ObjectStore, prefix: str = "", start_after: str = "") -> list[str]:
    return [info.key for info in await _listed(store, prefix, start_after)]


@pytest.mark.anyio
class StoreContract:
    """The contract of :class:`s3gc.abc.ObjectStore`.

    A subclass defines the fixture ``store``: an empty store, new for each test, and closed after it. It may
    be async. Say with the class attributes what the store is not able to keep; nothing else is negotiable.
    """

    keeps_attributes = True
    """Content type, metadata and so on come back as they were given."""

    keeps_tags = True

    holds_nested = True
    """``a`` and ``a/b`` can both be objects."""

    odd_keys: Sequence[str] = ODD_KEYS

    big_object = 9 * _MIB
    """Bytes of the object that must be streamed."""

    def _corpus(self) -> tuple[str, ...]:
        return tuple(self.odd_keys) if self.holds_nested else without_nesting(self.odd_keys)

    async def _fill(self, store: ObjectStore) -> dict[str, ObjectInfo]:
        """Every addressable key of the corpus with bytes of its own."""
        written: dict[str, ObjectInfo] = {}
        limit = anyio.Semaphore(_IN_FLIGHT)

        async def write(key: str) -> None:
            async with limit:
                written[key] = await _put(store, key, _bytes_of(key))

        async with anyio.create_task_group() as group:
            for key in self._corpus():
                if store.can_address(key):
                    group.start_soon(write, key)
        return written

    # ----------------------------------------------------------------- keys

    async def test_plain_keys_can_be_addressed(self, store: ObjectStore) -> None:
        assert [key for key in PLAIN_KEYS if not store.can_address(key)] == []

    async def test_a_store_has_a_url_and_a_name(self, store: ObjectStore) -> None:
        assert "://" in store.url
        assert store.bucket
        assert store.bucket in store.url

    async def test_odd_keys_are_listed_read_and_deleted_exactly(self, store: ObjectStore) -> None:
        written = await self._fill(store)
        found = await _listed(store)
        assert [info.key for info in found] == sorted(written)
        assert not any(info.ambiguous for info in found)
        for info in found:
            assert await _read(store, info.key, info.etag) == _bytes_of(info.key)
        gone = [info for info in found if hash_of(info.key) % 2]
        for info in gone:
            assert await store.delete(info.key, if_match=info.etag) is DeleteOutcome.DELETED
        left = [info for info in found if not hash_of(info.key) % 2]
        assert [info.key for info in await _listed(store)] == [info.key for info in left]
        for info in left:
            assert await _read(store, info.key, info.etag) == _bytes_of(info.key)

    async def test_small_reads_bring_what_get_brings(self, store: ObjectStore) -> None:
        written = await self._fill(store)
        found = await _listed(store)
        await _put(store, found[0].key, b"another")
        seen: set[str] = set()
        async for group in store.get_small(found):
            for one in group:
                assert one.listed.key not in seen
                seen.add(one.listed.key)
                assert (one.info.etag, one.data) == (one.listed.etag, _bytes_of(one.listed.key))
                async with store.get(one.listed.key) as reader:
                    assert (one.info, one.attributes) == (reader.info, reader.attributes)
        assert found[0].key not in seen
        assert seen <= set(written)

    @pytest.mark.parametrize(
        ("key", "neighbour"),
        [
            ("dir/", "dir"),
            ("/lead", "lead"),
            ("a//b", "a/b"),
            ("a/b", "a_b"),
            ("./x", "x"),
            ("a/../b", "b"),
            ("%2F", "/"),
            ("a%20b", "a b"),
            ("a+b", "a b"),
            ("e\u0301", "é"),
            ("A", "a"),
            ("x ", "x"),
        ],
    )
    async def test_a_delete_leaves_the_neighbour_alone(
        self, store: ObjectStore, key: str, neighbour: str
    ) -> None:
        if not store.can_address(neighbour):
            key, neighbour = neighbour, key
        if not store.can_address(neighbour):
            for unreachable in (key, neighbour):
                with pytest.raises(AmbiguousKey):
                    await _put(store, unreachable, b"same")
            return
        stays = await _put(store, neighbour, b"same")
        if store.can_address(key):
            goes = await _put(store, key, b"same")
            assert await store.delete(key, if_match=goes.etag) is DeleteOutcome.DELETED
        else:
            with pytest.raises(AmbiguousKey):
                await store.delete(key, if_match=stays.etag)
        assert await _keys(store) == [neighbour]
        assert await _read(store, neighbour) == b"same"

    async def test_keys_that_cannot_be_addressed_are_refused_everywhere(self, store: ObjectStore) -> None:
        refused = [key for key in (*self._corpus(), "", "\ud800") if not store.can_address(key)]
        assert refused, "the empty key names no object"
        for key in refused:
            with pytest.raises(AmbiguousKey):
                await _put(store, key, b"x")
            with pytest.raises(AmbiguousKey):
                await store.head(key)
            with pytest.raises(AmbiguousKey):
                await store.stat(key)
            with pytest.raises(AmbiguousKey):
                await _read(store, key)
            with pytest.raises(AmbiguousKey):
                await store.delete(key, if_match="x")
        assert await _keys(store) == []

    # ----------------------------------------------------------------- list

    async def test_an_empty_store_lists_nothing(self, store: ObjectStore) -> None:
        assert await _listed(store) == []

    async def test_a_listing_is_in_key_order_by_code_point(self, store: ObjectStore) -> None:
        names = ["b", "a", "ab", "a-b", "a.b", "B", "a/c", "é", "\ue000", "\U0001f600", "\uffee", "z"]
        names = list(names if self.holds_nested else without_nesting(names))
        for name in names:
            await _put(store, name, b"x")
        assert await _keys(store) == sorted(names)

    async def test_a_prefix_is_text_not_a_folder(self, store: ObjectStore) -> None:
        for key in ("images/a", "images2/a", "image", "other"):
            await _put(store, key, b"x")
        assert await _keys(store, "images") == ["images/a", "images2/a"]
        assert await _keys(store, "images/") == ["images/a"]
        assert await _keys(store, "imag") == ["image", "images/a", "images2/a"]
        assert await _keys(store, "none") == []

    async def test_a_scan_finds_what_a_list_finds(self, store: ObjectStore) -> None:
        """Each key once, in pages that rise in themselves and don't overlap."""
        assert [info async for page in store.scan() for info in page] == []
        written = await self._fill(store)
        pages = [[info for info in page if not info.ambiguous] async for page in store.scan()]
        ordered = sorted((page for page in pages if page), key=lambda page: page[0].key)
        found = [info for page in ordered for info in page]
        assert [info.key for info in found] == sorted(written)
        assert found == await _listed(store)

    async def test_start_after_is_exclusive_and_need_not_exist(self, store: ObjectStore) -> None:
        for key in ("a/1", "a/2", "a0", "b/1", "b/2"):
            await _put(store, key, b"x")
        assert await _keys(store, start_after="a/2") == ["a0", "b/1", "b/2"]
        assert await _keys(store, start_after="a/15") == ["a/2", "a0", "b/1", "b/2"]
        assert await _keys(store, start_after="a") == ["a/1", "a/2", "a0", "b/1", "b/2"]
        assert await _keys(store, "b/", "b/1") == ["b/2"]
        assert await _keys(store, start_after="b/2") == []

    async def test_a_listing_tells_what_stat_tells(self, store: ObjectStore) -> None:
        put = await _put(store, "k", b"four")
        [listed] = await _listed(store)
        stat = await store.stat("k")
        assert stat is not None
        for info in (listed, stat):
            assert (info.key, info.size, info.etag) == ("k", 4, put.etag)
            assert info.last_modified == stat.last_modified
            assert info.last_modified.tzinfo is not None
        assert '"' not in put.etag

    # ----------------------------------------------------------------- read

    async def test_what_is_not_there(self, store: ObjectStore) -> None:
        assert await store.head("nothing") is None
        assert await store.stat("nothing") is None
        with pytest.raises(PreconditionFailed):
            await _read(store, "nothing")
        with pytest.raises(PreconditionFailed):
            await _read(store, "nothing", "0" * 32)

    async def test_get_gives_only_the_version_asked_for(self, store: ObjectStore) -> None:
        old = await _put(store, "k", b"old")
        new = await _put(store, "k", b"new!")
        assert old.etag != new.etag
        with pytest.raises(PreconditionFailed):
            await _read(store, "k", old.etag)
        assert await _read(store, "k", new.etag) == b"new!"
        assert await _read(store, "k") == b"new!"

    async def test_an_empty_object(self, store: ObjectStore) -> None:
        info = await _put(store, "empty", b"")
        assert info.size == 0
        assert await _read(store, "empty", info.etag) == b""
        assert await store.delete("empty", if_match=info.etag) is DeleteOutcome.DELETED

    async def test_a_body_can_be_read_once(self, store: ObjectStore) -> None:
        await _put(store, "k", b"once")
        async with store.get("k") as reader:
            assert b"".join([chunk async for chunk in reader.chunks()]) == b"once"
            with pytest.raises(StoreError):
                [chunk async for chunk in reader.chunks()]

    async def test_a_big_object_is_streamed(self, store: ObjectStore) -> None:
        data = bytes(range(251)) * (self.big_object // 251)
        info = await store.put(
            "big", _pieces(data, 300_000), size=len(data), attributes=_NONE, if_none_match=True
        )
        assert info.size == len(data)
        chunks: list[bytes] = []
        async with store.get("big", if_match=info.etag) as reader:
            async for chunk in reader.chunks():
                assert len(chunk) <= 4 * _MIB
                chunks.append(chunk)
        assert len(chunks) > 1
        assert b"".join(chunks) == data
        async with store.get("big") as reader:  # who stops early breaks nothing
            async for _ in reader.chunks():
                break
        assert await store.stat("big") is not None

    # ----------------------------------------------------------------- write

    async def test_put_replaces(self, store: ObjectStore) -> None:
        await _put(store, "k", b"one")
        info = await _put(store, "k", b"three")
        assert (info.key, info.size) == ("k", 5)
        assert await _read(store, "k") == b"three"
        assert await _keys(store) == ["k"]

    async def test_put_only_if_there_is_none(self, store: ObjectStore) -> None:
        first = await store.put("k", b"first", size=5, attributes=_NONE, if_none_match=True)
        with pytest.raises(PreconditionFailed):
            await store.put("k", b"second", size=6, attributes=_NONE, if_none_match=True)
        assert await _read(store, "k", first.etag) == b"first"

    @pytest.mark.parametrize("announced", [0, 3, 5, 1_000_000])
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_a_wrong_size_writes_nothing(
        self, store: ObjectStore, announced: int, streamed: bool
    ) -> None:
        with pytest.raises(StoreError):
            await store.put(
                "k", _pieces(b"four", 3) if streamed else b"four", size=announced, attributes=_NONE
            )
        assert await _keys(store) == []

    async def test_a_body_that_fails_writes_nothing(self, store: ObjectStore) -> None:
        class Broken(Exception):
            pass

        async def broken() -> AsyncIterator[bytes]:
            yield b"half"
            raise Broken

        with pytest.raises(Broken):
            await store.put("k", broken(), size=8, attributes=_NONE)
        assert await _keys(store) == []

    async def test_attributes_come_back_as_they_were(self, store: ObjectStore) -> None:
        given = ObjectAttributes(
            content_type="text/html; charset=utf-8",
            content_encoding="gzip",
            content_language="de, en",
            content_disposition="attachment; filename=\"Über 日.html\"; filename*=UTF-8''%C3%9Cber.html",
            cache_control="max-age=60, private",
            expires="Thu, 01 Dec 2033 16:00:00 GMT",
            website_redirect="/elsewhere",
            metadata={
                "plain": "value",
                "mixed-case": "Value",
                "umlaut": "größe",
                "rfc2047": "=?UTF-8?B?w6k=?=",
            },
            tags={"team": "a", "with space": "x+y=z", "empty": ""} if self.keeps_tags else {},
        )
        await _put(store, "k", b"body", given)
        head = await store.head("k")
        assert head is not None
        async with store.get("k") as reader:
            assert reader.attributes == head.attributes
        if self.keeps_attributes:
            assert head.attributes == given
        await _put(store, "copy", b"body", head.attributes)  # what was read can be put back
        copy = await store.head("copy")
        assert copy is not None
        assert copy.attributes == head.attributes

    async def test_put_replaces_attributes_too(self, store: ObjectStore) -> None:
        tags = {"a": "b"} if self.keeps_tags else {}
        await _put(
            store, "k", b"x", ObjectAttributes(cache_control="no-cache", metadata={"a": "b"}, tags=tags)
        )
        await _put(store, "k", b"x", ObjectAttributes(content_type="text/plain"))
        head = await store.head("k")
        assert head is not None
        assert head.attributes.cache_control is None
        assert head.attributes.metadata == {}
        assert head.attributes.tags == {}

    # ----------------------------------------------------------------- delete

    @pytest.mark.parametrize("probed", [False, True])
    async def test_outcomes_of_a_delete(self, store: ObjectStore, probed: bool) -> None:
        if probed:
            await store.probe()
        old = await _put(store, "k", b"old")
        new = await _put(store, "k", b"newer")
        assert await store.delete("k", if_match=old.etag) is DeleteOutcome.CHANGED
        assert await _read(store, "k", new.etag) == b"newer"
        assert await store.delete("k", if_match=new.etag) is DeleteOutcome.DELETED
        assert await store.stat("k") is None
        assert await store.delete("k", if_match=new.etag) in (DeleteOutcome.MISSING,)
        assert await store.delete("never", if_match=new.etag) is DeleteOutcome.MISSING

    @pytest.mark.parametrize("probed", [False, True])
    async def test_each_of_many_is_deleted_on_its_own_condition(
        self, store: ObjectStore, probed: bool
    ) -> None:
        if probed:
            await store.probe()
        keys = [key for key in self._corpus() if store.can_address(key)]
        wanted = {key: (await _put(store, key, b"old")).etag for key in keys}
        changed = {key for key in keys if hash_of(key) % 3 == 0}
        kept = {key: (await _put(store, key, b"newer")).etag for key in changed}
        wanted["never"] = wanted[keys[0]]
        assert store.delete_most >= 1
        ended: dict[str, DeleteOutcome | StoreError] = {}
        for start in range(0, len(wanted), store.delete_most):
            some = list(wanted.items())[start : start + store.delete_most]
            ended |= await store.delete_many(dict(some))
        assert ended == {
            key: DeleteOutcome.MISSING
            if key == "never"
            else DeleteOutcome.CHANGED
            if key in changed
            else DeleteOutcome.DELETED
            for key in wanted
        }
        assert {info.key: info.etag for info in await _listed(store)} == kept

    # ----------------------------------------------------------------- the store itself

    async def test_a_probe_leaves_nothing_and_touches_nothing(self, store: ObjectStore) -> None:
        info = await _put(store, "k", b"bystander")
        capabilities = await store.probe()
        assert await _keys(store) == ["k"]
        assert await _keys(store, RESERVED_PREFIX) == []
        assert await _read(store, "k", info.etag) == b"bystander"
        assert all(isinstance(value, str) for value in capabilities.details.values())

    async def test_the_clock_is_about_right(self, store: ObjectStore) -> None:
        now = await store.now()
        assert abs(now - datetime.now(UTC)) < timedelta(hours=1)

    async def test_many_at_once(self, store: ObjectStore) -> None:
        outcomes: list[DeleteOutcome] = []

        async def life(number: int) -> None:
            key = f"many/{number}"
            info = await _put(store, key, _bytes_of(key))
            assert await _read(store, key, info.etag) == _bytes_of(key)
            outcomes.append(await store.delete(key, if_match=info.etag))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(life, number)
        assert outcomes == [DeleteOutcome.DELETED] * 20
        assert await _keys(store) == []

    async def test_closing_twice_is_fine(self, store: ObjectStore) -> None:
        await store.aclose()
        await store.aclose()


def hash_of(key: str) -> int:
    """The same for a key in every run, unlike ``hash``."""
    return sum(key.encode("utf-8"))
