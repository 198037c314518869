"""In-memory stand-ins for tests: a bucket, a place of references, a clock. They keep the contracts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from attrs import evolve, field, frozen, mutable

from s3gc.abc import RESERVED_PREFIX, ObjectReader, ObjectStore, ReferenceSource
from s3gc.clock import Clock
from s3gc.errors import AmbiguousKey, PreconditionFailed, StoreError
from s3gc.model import (
    DeleteOutcome,
    ObjectAttributes,
    ObjectHead,
    ObjectInfo,
    Reference,
    StoreCapabilities,
)

_SURROGATE = re.compile("[\ud800-\udfff]")


@mutable
class FakeClock:
    """A clock that moves only when told to."""

    moment: datetime = field(factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def advance(self, span: timedelta) -> None:
        """Let time pass."""
        self.moment += span


@mutable
class _Reader:
    info: ObjectInfo
    attributes: ObjectAttributes
    body: bytes
    spent: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        if self.spent:
            raise StoreError("a body can be read once")
        self.spent = True
        for start in range(0, len(self.body), 65536):
            yield self.body[start : start + 65536]


@frozen
class _Stored:
    info: ObjectInfo
    attributes: ObjectAttributes
    body: bytes


class FakeStore(ObjectStore):
    """A bucket in a dict. Exact keys, conditional delete and put, a clock of your choice."""

    def __init__(self, clock: Clock, bucket: str = "fake") -> None:
        self.bucket = bucket
        self.url = f"fake://{bucket}"
        self.page_size = 1000
        self._clock = clock
        self._objects: dict[str, _Stored] = {}

    def upload(self, key: str, body: bytes, attributes: ObjectAttributes | None = None) -> ObjectInfo:
        """What an application does: put an object, over whatever is there."""
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        info = ObjectInfo(key, len(body), etag, self._clock.now())
        self._objects[key] = _Stored(info, attributes or ObjectAttributes(), body)
        return info

    def remove(self, key: str) -> None:
        """What an application does: delete an object."""
        self._objects.pop(key, None)

    def contents(self) -> dict[str, bytes]:
        """All keys and their bytes, but for what s3gc keeps there itself."""
        return {
            key: stored.body for key, stored in self._objects.items() if not key.startswith(RESERVED_PREFIX)
        }

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        page: list[ObjectInfo] = []
        for key in sorted(self._objects):
            if key.startswith(prefix) and key > start_after and key in self._objects:
                page.append(self._objects[key].info)
                if len(page) == self.page_size:
                    yield page
                    page = []
        if page:
            yield page

    def can_address(self, key: str) -> bool:
        return 0 < len(key.encode("utf-8", "surrogatepass")) <= 1024 and not _SURROGATE.search(key)

    def _check(self, key: str) -> None:
        if not self.can_address(key):
            raise AmbiguousKey(f"{key!r} is no key")

    async def head(self, key: str) -> ObjectHead | None:
        self._check(key)
        stored = self._objects.get(key)
        return ObjectHead(stored.info, stored.attributes) if stored else None

    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[ObjectReader]:
        self._check(key)
        stored = self._objects.get(key)
        if stored is None or if_match not in (None, stored.info.etag):
            raise PreconditionFailed(f"{key!r} is not the object that was asked for")
        yield _Reader(stored.info, stored.attributes, stored.body)

    async def put(
        self,
        key: str,
        body: bytes | AsyncIterable[bytes],
        *,
        size: int,
        attributes: ObjectAttributes,
        if_none_match: bool = False,
    ) -> ObjectInfo:
        self._check(key)
        if not isinstance(body, bytes):
            body = b"".join([chunk async for chunk in body])
        if len(body) != size:
            raise StoreError(f"{key!r}: {len(body)} bytes came, {size} were announced; nothing was written")
        if if_none_match and key in self._objects:
            raise PreconditionFailed(f"{key!r} exists")
        return self.upload(key, body, evolve(attributes))

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        self._check(key)
        stored = self._objects.get(key)
        if stored is None:
            return DeleteOutcome.MISSING
        if stored.info.etag != if_match:
            return DeleteOutcome.CHANGED
        del self._objects[key]
        return DeleteOutcome.DELETED

    async def probe(self) -> StoreCapabilities:
        return StoreCapabilities(conditional_delete=True, conditional_put=True)

    async def now(self) -> datetime:
        return self._clock.now()


class FakeSource(ReferenceSource):
    """A place of references in a dict: row id → keys. The whole of a plugin is one method."""

    def __init__(self, name: str = "fake", rows: dict[str, list[str]] | None = None) -> None:
        self.name = name
        self.rows = rows if rows is not None else {}

    async def references(self) -> AsyncIterator[Reference]:
        for row_id, keys in list(self.rows.items()):
            for key in keys:
                yield Reference(key, table="rows", row_id=row_id, column="key")
