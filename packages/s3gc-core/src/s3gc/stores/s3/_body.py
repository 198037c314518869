"""Bytes on their way into the bucket: counted and hashed before they are sent, in bounded memory."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from types import TracebackType
from typing import IO, cast

from s3gc.errors import StoreError
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._transport import Body


class Spool:
    """A body or a part of one: in memory while it is small, beyond that in a temporary file."""

    def __init__(self, memory: int) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=memory)  # noqa: SIM115 - closed by __exit__
        self._memory = memory
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def on_disk(self) -> bool:
        return self.size > self._memory

    def write(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self._md5.update(data)
        self.size += len(data)
        self._file.write(data)

    def body(self) -> Body:
        hashes = self._sha256.hexdigest(), self._md5.digest()
        if self.on_disk:
            return _body(cast(IO[bytes], self._file), self.size, *hashes)
        self._file.seek(0)
        return _body(self._file.read(), self.size, *hashes)


def _body(source: bytes | IO[bytes], size: int, sha256: str, md5: bytes) -> Body:
    return Body(source, size, sha256, base64.b64encode(md5).decode(), md5.hex())


def body_of(data: bytes) -> Body:
    """A body that is in memory already."""
    return _body(
        data, len(data), hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).digest()
    )


class Intake:
    """Takes the caller's bytes piece by piece, and counts them against what was announced."""

    def __init__(self, body: bytes | AsyncIterable[bytes], size: int, client: Client) -> None:
        self._chunks = _once(body) if isinstance(body, bytes) else body.__aiter__()
        self._size = size
        self._client = client
        self._over: memoryview = memoryview(b"")
        self._taken = 0
        self._ended = False

    async def fill(self, spool: Spool, most: int) -> None:
        """Put the next ``most`` bytes into ``spool``; fewer only at the end."""
        while spool.size < most:
            if not self._over:
                try:
                    self._over = memoryview(await anext(self._chunks))
                except StopAsyncIteration:
                    self._ended = True
                    return
                self._taken += len(self._over)
                continue
            now, self._over = self._over[: most - spool.size], self._over[most - spool.size :]
            if spool.size + len(now) > self._client.options.spool_memory or len(now) > 64 * 1024:
                await self._client.in_thread(lambda piece=now: spool.write(piece))  # type: ignore[misc]
            else:
                spool.write(now)

    async def finish(self) -> None:
        """Read to the caller's end: there must be nothing left, and nothing missing.

        Raises:
            StoreError: the number of bytes isn't the one announced.
        """
        while not self._ended and self._taken <= self._size and not self._over:
            try:
                self._taken += len(await anext(self._chunks))
            except StopAsyncIteration:
                self._ended = True
        if self._taken != self._size or self._over:
            much = "more" if self._taken >= self._size else f"only {self._taken}"
            raise StoreError(f"the body has {much} bytes, {self._size} were announced; nothing was written")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
