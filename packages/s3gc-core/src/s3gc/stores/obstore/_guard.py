"""The guard: no key reaches obstore that obstore would change."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import IO, TypeVar, cast
from uuid import uuid4

import anyio
import anyio.to_thread

from s3gc.abc import RESERVED_PREFIX, ObjectReader, ObjectStore
from s3gc.clock import Clock, SystemClock
from s3gc.errors import AmbiguousKey, PreconditionFailed, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes, ObjectHead, ObjectInfo, StoreCapabilities, Versioning
from s3gc.stores.obstore._backend import Backend, Opened

PAGE_OBJECTS = 1_000
"""Objects on one page of a listing."""

SPOOL_BYTES = 4 * 1024 * 1024
"""Bytes of a body to be written that are kept in memory; what is more goes to a temporary file."""

THREADS = 16
"""Most operations of one store at the same time."""

T = TypeVar("T")


class GuardedStore(ObjectStore):
    """A store behind obstore. Keys that wouldn't come back as they are are refused, and listed as ambiguous.

    obstore's async API needs asyncio; this uses the blocking one in threads and runs on trio as well.
    """

    def __init__(self, backend: Backend, *, clock: Clock | None = None) -> None:
        self._backend = backend
        self._clock = clock or SystemClock()
        self._limiter: anyio.CapacityLimiter | None = None
        self.url = backend.url
        self.bucket = backend.bucket

    def __repr__(self) -> str:
        return f"GuardedStore({self.url!r})"

    async def _run(self, work: Callable[[], T]) -> T:
        if self._limiter is None:  # made here: it belongs to the event loop
            self._limiter = anyio.CapacityLimiter(THREADS)
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)

    def can_address(self, key: str) -> bool:
        return self._backend.addresses(key)

    def _check(self, key: str) -> None:
        if not self._backend.addresses(key):
            raise AmbiguousKey(f"{key!a} can't be addressed exactly in {self.url}; nothing was done")

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        entries = self._backend.walk(prefix, start_after)
        while page := await self._run(lambda: tuple(islice(entries, PAGE_OBJECTS))):
            yield page

    async def head(self, key: str) -> ObjectHead | None:
        self._check(key)
        return await self._run(lambda: self._backend.head(key))

    def get(self, key: str, *, if_match: str | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        return self._get(key, if_match)

    @asynccontextmanager
    async def _get(self, key: str, if_match: str | None) -> AsyncIterator[ObjectReader]:
        self._check(key)
        try:
            opened = await self._run(lambda: self._backend.open(key, if_match))
        except FileNotFoundError:
            raise PreconditionFailed(f"there is no {key!r} in {self.url}, or it is another one now") from None
        yield _Reader(opened)

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
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            taken = 0
            async for chunk in _chunks(body):
                taken += len(chunk)
                if taken > size:
                    break
                await self._run(partial(spool.write, chunk))
            if taken != size:
                much = "more" if taken > size else f"only {taken}"
                raise StoreError(f"the body has {much} bytes, {size} were announced; nothing was written")
            spool.seek(0)
            file = cast(IO[bytes], spool)
            try:
                return await self._run(lambda: self._backend.put(key, file, attributes, if_none_match))
            except FileExistsError:
                raise PreconditionFailed(f"{key!r} exists already; nothing was written") from None

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        self._check(key)
        return await self._run(lambda: self._backend.delete(key, if_match))

    async def probe(self) -> StoreCapabilities:
        details = await self._run(lambda: self._backend.probe(f"{RESERVED_PREFIX}probe/{uuid4().hex}"))
        return StoreCapabilities(
            conditional_delete=self._backend.conditional_delete,
            conditional_put=True,
            read_after_write=True,
            list_order=True,
            versioning=Versioning.NEVER,
            object_lock=False,
            clock_difference=timedelta(0),  # its clock is ours
            details=details,
        )

    async def now(self) -> datetime:
        await self._run(self._backend.check)
        return self._clock.now()


async def _chunks(body: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    async for chunk in body:
        yield chunk


class _Reader:
    """An object being read in threads."""

    def __init__(self, opened: Opened) -> None:
        self.info = opened.head.info
        self.attributes = opened.head.attributes
        self._chunks: Iterator[bytes] = opened.chunks
        self._begun = False

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._begun:
            raise StoreError(f"the body of {self.info.key!r} can be read only once: get it again")
        self._begun = True
        left = self.info.size
        while chunk := await anyio.to_thread.run_sync(next, self._chunks, b""):
            left -= len(chunk)
            yield chunk
        if left != 0:
            raise StoreError(f"the body of {self.info.key!r} is {-left:+d} bytes off what was announced")
