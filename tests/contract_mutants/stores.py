"""Stores that break one clause of their contract each: the suite must fail for all but the sound one."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import anyio.lowlevel
import pytest
from attrs import evolve

from s3gc.abc import RESERVED_PREFIX, ObjectStore, WholeObject
from s3gc.clock import SystemClock
from s3gc.errors import PreconditionFailed, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes, ObjectHead, ObjectInfo
from s3gc.testing.fakes import FakeStore
from s3gc.testing.store_contract import StoreContract


class Sound(FakeStore):
    """Reads small objects together, too: the fake leaves that to `get`."""

    async def get_small(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        found = []
        for listed in objects:
            stored = self._objects.get(listed.key)
            if stored is not None and stored.info.etag == listed.etag:
                found.append(WholeObject(listed, stored.info, stored.attributes, stored.body))
        yield found


# ------------------------------------------------------------------ list


class ListsBackwards(Sound):
    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        pages = [page async for page in super().list(prefix, start_after)]
        for page in reversed(pages):
            yield list(reversed(page))


class ListsByLocale(Sound):
    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        for page in [page async for page in super().list(prefix, start_after)]:
            yield sorted(page, key=lambda info: info.key.lower())


class LosesTheLast(Sound):
    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in super().list(prefix, start_after):
            yield page[:-1] if len(page) > 3 else page


class StripsSlashes(Sound):
    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in super().list(prefix, start_after):
            yield [evolve(info, key=info.key.strip("/") or info.key) for info in page]


class PrefixIsAFolder(Sound):
    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        folder = prefix if not prefix or prefix.endswith("/") else prefix + "/"
        async for page in super().list(folder, start_after):
            yield page


class StartsAtInsteadOfAfter(Sound):
    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        if start_after in self._objects and start_after.startswith(prefix):
            yield [self._objects[start_after].info]
        async for page in super().list(prefix, start_after):
            yield page


class ListsAnotherTime(Sound):
    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in super().list(prefix, start_after):
            yield [evolve(info, last_modified=info.last_modified - timedelta(hours=1)) for info in page]


class ListsAnotherSize(Sound):
    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in super().list(prefix, start_after):
            yield [evolve(info, size=info.size + 1) for info in page]


class CallsAllAmbiguous(Sound):
    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in super().list(prefix, start_after):
            yield [evolve(info, ambiguous=True) for info in page]


class ScansTwice(Sound):
    async def scan(self) -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in self.list():
            yield page
            yield page[:1]


class ScanLosesAPage(Sound):
    async def scan(self) -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in self.list():
            yield page[len(page) // 2 :]


class ScanPagesOverlap(Sound):
    async def scan(self) -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in self.list():
            yield page[::2]
            yield page[1::2]


# ------------------------------------------------------------------ keys


class AddressesEverything(Sound):
    def can_address(self, key: str) -> bool:
        return True


class AddressesNothingOdd(Sound):
    def can_address(self, key: str) -> bool:
        return key.isalnum()


class StatsWhatItCantAddress(Sound):
    async def stat(self, key: str) -> ObjectInfo | None:
        return None if not self.can_address(key) else await super().stat(key)


class DeletesTheNeighbour(Sound):
    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        return await super().delete(key.rstrip("/") or key, if_match=if_match)


class ComposesKeys(Sound):
    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        return await super().delete(unicodedata.normalize("NFC", key), if_match=if_match)


class HasAnotherUrl(Sound):
    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.url = "other://place"


# ------------------------------------------------------------------ read


class _Once:
    """A reader whose body is what a mutant makes of it."""

    def __init__(self, inner: Any, again: bool = False, one: bool = False, cut: bool = False) -> None:
        self.info, self.attributes = inner.info, inner.attributes
        self._inner, self._again, self._one, self._cut = inner, again, one, cut

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._again:
            self._inner.spent = False
        body = [chunk async for chunk in self._inner.chunks()]
        if self._cut:
            body = body[:1]
        for chunk in [b"".join(body)] if self._one else body:
            yield chunk


class IgnoresIfMatch(Sound):
    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[Any]:
        async with super().get(key) as reader:
            yield reader


class MissingIsEmpty(Sound):
    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[Any]:
        if self.can_address(key) and key not in self._objects:
            other = Sound(self._clock)
            other.upload(key, b"")
            async with other.get(key) as reader:
                yield reader
            return
        async with super().get(key, if_match=if_match) as reader:
            yield reader


class ReadsTwice(Sound):
    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[Any]:
        async with super().get(key, if_match=if_match) as reader:
            yield _Once(reader, again=True)


class ReadsAllAtOnce(Sound):
    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[Any]:
        async with super().get(key, if_match=if_match) as reader:
            yield _Once(reader, one=True)


class CutsBodies(Sound):
    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[Any]:
        async with super().get(key, if_match=if_match) as reader:
            yield _Once(reader, cut=True)


class HeadRaises(Sound):
    async def head(self, key: str) -> ObjectHead | None:
        found = await super().head(key)
        if found is None:
            raise StoreError("404")
        return found


class QuotesTags(Sound):
    async def head(self, key: str) -> ObjectHead | None:
        found = await super().head(key)
        return found and evolve(found, info=evolve(found.info, etag=f'"{found.info.etag}"'))


class SmallOnesChanged(Sound):
    async def get_small(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        for listed in objects:
            stored = self._objects[listed.key]
            yield [WholeObject(listed, stored.info, stored.attributes, stored.body)]


class SmallOnesTwice(Sound):
    async def get_small(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        async for group in super().get_small(objects):
            yield group
            yield group[:1]


class SmallOnesSwapped(Sound):
    async def get_small(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        async for group in super().get_small(objects):
            yield [evolve(one, data=one.data[::-1] + b"!") for one in group]


class SmallOnesBare(Sound):
    async def get_small(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        async for group in super().get_small(objects):
            yield [evolve(one, attributes=ObjectAttributes(content_type="x/y")) for one in group]


# ------------------------------------------------------------------ write


class _Puts(Sound):
    """What a mutant changes of a put."""

    async def put(
        self,
        key: str,
        body: bytes | AsyncIterable[bytes],
        *,
        size: int,
        attributes: ObjectAttributes,
        if_none_match: bool = False,
    ) -> ObjectInfo:
        return await super().put(
            key, body, size=size, attributes=self.kept(attributes), if_none_match=if_none_match
        )

    def kept(self, attributes: ObjectAttributes) -> ObjectAttributes:
        return attributes


class LosesTheType(_Puts):
    def kept(self, attributes: ObjectAttributes) -> ObjectAttributes:
        return evolve(attributes, content_type=None)


class LosesMetadata(_Puts):
    def kept(self, attributes: ObjectAttributes) -> ObjectAttributes:
        return evolve(attributes, metadata={})


class LosesTags(_Puts):
    def kept(self, attributes: ObjectAttributes) -> ObjectAttributes:
        return evolve(attributes, tags={})


class LosesHeaders(_Puts):
    def kept(self, attributes: ObjectAttributes) -> ObjectAttributes:
        return evolve(attributes, cache_control=None, expires=None, website_redirect=None)


class KeepsOldAttributes(Sound):
    async def put(self, key: str, body: Any, **given: Any) -> ObjectInfo:
        before = self._objects.get(key)
        if before is not None:
            given["attributes"] = evolve(given["attributes"], cache_control=before.attributes.cache_control)
        return await super().put(key, body, **given)


class IgnoresIfNoneMatch(Sound):
    async def put(self, key: str, body: Any, **given: Any) -> ObjectInfo:
        return await super().put(key, body, **given | {"if_none_match": False})


class BelievesTheSize(Sound):
    async def put(self, key: str, body: Any, **given: Any) -> ObjectInfo:
        if not isinstance(body, bytes):
            body = b"".join([chunk async for chunk in body])
        return await super().put(key, body, **given | {"size": len(body)})


class WritesThenMeasures(Sound):
    async def put(self, key: str, body: Any, **given: Any) -> ObjectInfo:
        if isinstance(body, bytes) and len(body) != given["size"] and self.can_address(key):
            self.upload(key, body)
        return await super().put(key, body, **given)


class KeepsHalf(Sound):
    async def put(self, key: str, body: Any, **given: Any) -> ObjectInfo:
        if not isinstance(body, bytes):
            taken = b""
            try:
                async for chunk in body:
                    taken += chunk
            except BaseException:
                self.upload(key, taken)
                raise
            body = taken
        return await super().put(key, body, **given)


class OneEtagForAll(Sound):
    def upload(self, key: str, body: bytes, attributes: ObjectAttributes | None = None) -> ObjectInfo:
        info = evolve(super().upload(key, body, attributes), etag="0" * 32)
        self._objects[key] = evolve(self._objects[key], info=info)
        return info


# ------------------------------------------------------------------ delete


class DeletesAnything(Sound):
    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        self._check(key)
        return DeleteOutcome.MISSING if self._objects.pop(key, None) is None else DeleteOutcome.DELETED


class OnlySaysDeleted(Sound):
    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        stored = self._objects.get(key)
        outcome = await super().delete(key, if_match=if_match)
        if outcome is DeleteOutcome.DELETED and stored is not None:
            self._objects[key] = stored
        return outcome


class MissingIsDeleted(Sound):
    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        outcome = await super().delete(key, if_match=if_match)
        return DeleteOutcome.DELETED if outcome is DeleteOutcome.MISSING else outcome


class ChangedIsMissing(Sound):
    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        outcome = await super().delete(key, if_match=if_match)
        return DeleteOutcome.MISSING if outcome is DeleteOutcome.CHANGED else outcome


class ConditionalUntilProbed(Sound):
    """As a client that believes a probe that lied."""

    probed = False

    async def probe(self) -> Any:
        self.probed = True
        return await super().probe()

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        stored = self._objects.get(key)
        if self.probed and stored is not None:
            if_match = stored.info.etag
        return await super().delete(key, if_match=if_match)


class ManyWithoutCondition(Sound):
    async def delete_many(self, wanted: Mapping[str, str]) -> Mapping[str, DeleteOutcome | StoreError]:
        return {
            key: DeleteOutcome.MISSING if self._objects.pop(key, None) is None else DeleteOutcome.DELETED
            for key in wanted
        }


class ManyForgetsOne(Sound):
    async def delete_many(self, wanted: Mapping[str, str]) -> Mapping[str, DeleteOutcome | StoreError]:
        ended = dict(await super().delete_many(wanted))
        ended.popitem()
        return ended


class ManyOfNone(Sound):
    @property
    def delete_most(self) -> int:
        return 0


# ------------------------------------------------------------------ itself


class ProbeLeavesSomething(Sound):
    async def probe(self) -> Any:
        self.upload(f"{RESERVED_PREFIX}probe/1", b"x")
        return await super().probe()


class ProbeTouchesOthers(Sound):
    async def probe(self) -> Any:
        for key in list(self._objects):
            self.upload(key, b"probed")
        return await super().probe()


class ClockIsOff(Sound):
    async def now(self) -> datetime:
        return await super().now() - timedelta(hours=2)


class ClosesOnce(Sound):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise StoreError("closed already")
        self.closed = True


class OneAtATime(Sound):
    busy = False

    async def put(self, key: str, body: Any, **given: Any) -> ObjectInfo:

        if self.busy:
            raise PreconditionFailed("busy")
        self.busy = True
        try:
            await anyio.lowlevel.checkpoint()
            return await super().put(key, body, **given)
        finally:
            self.busy = False


def _suite(store: type[Sound]) -> type:
    class Suite(StoreContract):
        @pytest.fixture
        def anyio_backend(self) -> str:
            return "asyncio"

        @pytest.fixture
        async def store(self) -> ObjectStore:
            return store(SystemClock())

    return Suite


for _one in [one for one in list(globals().values()) if isinstance(one, type) and issubclass(one, Sound)]:
    if not _one.__name__.startswith("_"):
        globals()[f"Test{_one.__name__}"] = _suite(_one)
