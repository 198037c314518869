"""A bucket, and the store through which one process sees it: pages, faults, a clock of its own."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from attrs import Factory, define, field, frozen

from s3gc.abc import ObjectReader, ObjectStore
from s3gc.errors import PreconditionFailed, StoreError, UnreadableObject
from s3gc.model import DeleteOutcome, ObjectAttributes, ObjectHead, ObjectInfo, StoreCapabilities

if TYPE_CHECKING:
    from s3gc.testing.simulator._process import Process
    from s3gc.testing.simulator._world import World

T = TypeVar("T")

URL = "sim://bucket"

REQUEST_LIFE = timedelta(minutes=15)
"""S3 refuses a request whose signature is older (RequestTimeTooSkewed)."""


OWN_FOLDERS = (".s3gc/lease/", ".s3gc/owner/")
"""Where collectors keep objects of their own."""


def _place(key: str) -> str:
    """Requests for a collector's own objects are points of their own."""
    return "own " if key.startswith(OWN_FOLDERS) else ""


@functools.lru_cache(4096)
def digest(body: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(body).hexdigest()


@frozen(eq=False)
class Version:
    """One upload. Each is another one, also with the same bytes."""

    info: ObjectInfo
    body: bytes
    attributes: ObjectAttributes
    tick: int  # when it came
    by: str  # who uploaded it


@define(eq=False)
class Bucket:
    """The truth about the objects."""

    world: World
    page_size: int = 4
    conditional: bool = True  # whether DELETE honours If-Match
    skew: timedelta = timedelta()  # how far the store's clock goes ahead
    objects: dict[str, Version] = Factory(dict)
    last: dict[str, Version] = Factory(dict)  # the newest upload of each key, also of those that are gone
    removed_by_app: dict[str, int] = Factory(dict)  # key → tick
    history: dict[str, list[Version]] = field(factory=dict)  # all versions of each key

    def now(self) -> datetime:
        """By the store's own clock."""
        return self.world.loop.now() + self.skew

    def put(self, key: str, body: bytes, attributes: ObjectAttributes, by: str) -> Version:
        """Write over whatever is there."""
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        info = ObjectInfo(
            key,
            len(body),
            etag,
            self.now(),
            storage_class=attributes.storage_class,
            ambiguous=key.endswith("/"),
        )
        version = Version(info, body, attributes, self.world.tick(), by)
        self.objects[key] = self.last[key] = version
        self.history.setdefault(key, []).append(version)
        return version

    def remove_by_app(self, key: str) -> bool:
        """The application deletes an object by hand."""
        self.removed_by_app[key] = self.world.tick()
        return self.objects.pop(key, None) is not None


@define
class _Reader:
    info: ObjectInfo
    attributes: ObjectAttributes
    body: bytes
    process: Process

    async def chunks(self) -> AsyncIterator[bytes]:
        await self.process.store_call(_place(self.info.key) + "body", lambda: None)
        yield self.body


class SimStore(ObjectStore):
    """The bucket as one process reaches it: every request is a moment at which anything may happen."""

    def __init__(self, process: Process, bucket: Bucket) -> None:
        self.url = URL
        self.bucket = "bucket"
        self._process = process
        self._bucket = bucket

    async def _call(self, what: str, key: str, effect: Callable[[], T], *, writes: bool = False) -> T:
        return await self._process.store_call(_place(key) + what, effect, writes=writes)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        bucket, eyes = self._bucket, self._process.eyes
        after = start_after

        def page() -> list[Version]:
            keys = sorted(key for key in bucket.objects if key.startswith(prefix) and key > after)
            found = [bucket.objects[key] for key in keys[: bucket.page_size]]
            if not prefix:
                eyes.listed_page(after, found, last=len(keys) <= bucket.page_size)
            return found

        while True:
            found = await self._call("list", prefix, page)
            if found:
                yield [version.info for version in found]
                after = found[-1].info.key
            if len(found) < bucket.page_size:
                return

    async def head(self, key: str) -> ObjectHead | None:
        def effect() -> ObjectHead | None:
            found = self._bucket.objects.get(key)
            return ObjectHead(found.info, found.attributes) if found else None

        return await self._call("head", key, effect)

    async def stat(self, key: str) -> ObjectInfo | None:
        def effect() -> ObjectInfo | None:
            self._process.eyes.looked(key)
            found = self._bucket.objects.get(key)
            return found.info if found else None

        return await self._call("stat", key, effect)

    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[ObjectReader]:
        def effect() -> Version:
            found = self._bucket.objects.get(key)
            if found is None or if_match not in (None, found.info.etag):
                raise PreconditionFailed(f"{key!r} is not the object that was asked for")
            if found.info.storage_class == "GLACIER":
                raise UnreadableObject(f"{key!r} is archived")
            return found

        found = await self._call("get", key, effect)
        yield _Reader(found.info, found.attributes, found.body, self._process)

    async def put(
        self,
        key: str,
        body: bytes | AsyncIterable[bytes],
        *,
        size: int,
        attributes: ObjectAttributes,
        if_none_match: bool = False,
    ) -> ObjectInfo:
        if not isinstance(body, bytes):
            body = b"".join([chunk async for chunk in body])
        if len(body) != size:
            raise StoreError(f"{key!r}: {len(body)} bytes came, {size} were announced")
        whole = body

        def effect() -> ObjectInfo:
            found = self._bucket.objects.get(key)
            if if_none_match and found is not None:
                raise PreconditionFailed(f"{key!r} exists")
            if not key.startswith(OWN_FOLDERS):
                self._process.world.oracle.putting(self._process, key, whole, attributes, found)
            if key.startswith(".s3gc/lease/"):
                self._process.renewed_at = self._process.world.loop.time()
            return self._bucket.put(key, whole, attributes, self._process.name).info

        return await self._call("put", key, effect, writes=True)

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        world, bucket = self._process.world, self._bucket
        called = world.tick()

        def effect() -> DeleteOutcome:
            # A client that changes keys would hit the neighbour of such a one.
            target = key.rstrip("/") if key.endswith("/") else key
            found = bucket.objects.get(target)
            if found is None:
                return DeleteOutcome.MISSING
            if bucket.conditional and target == key and found.info.etag != if_match:
                return DeleteOutcome.CHANGED
            own = target.startswith(OWN_FOLDERS) and found.by != "app"
            if not own:
                world.oracle.deleting(self._process, target, found, called)
                world.story.count("deletions")
                world.story.say("bucket", "{} is gone, deleted by {}", target, self._process.name)
            del bucket.objects[target]
            return DeleteOutcome.DELETED

        return await self._call("delete", key, effect, writes=True)

    async def probe(self) -> StoreCapabilities:
        return await self._call(
            "probe", "", lambda: StoreCapabilities(self._bucket.conditional, conditional_put=True)
        )

    async def now(self) -> datetime:
        def effect() -> datetime:
            found = self._bucket.now()
            self._process.eyes.told_time(found, self._process.now())
            return found

        return await self._call("now", "", effect)
