"""An object being read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Executor, Future, wait
from functools import partial

import anyio

from s3gc.errors import StoreError
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.stores.s3._checksums import Checks
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._transport import Answer, Lost, Rest

_THREAD_HASH_BYTES = 64 * 1024


class S3Reader:
    """The body of one answer to GET. Its length and the checksums that are told of it are checked."""

    def __init__(
        self,
        client: Client,
        answer: Answer,
        info: ObjectInfo,
        attributes: ObjectAttributes,
        checks: Checks,
        ahead: Executor,
    ) -> None:
        self.info = info
        self.attributes = attributes
        self._client = client
        self._answer = answer
        self._checks = checks
        self._ahead = ahead
        self._next: Future[tuple[bytes, int]] | None = None
        self._begun = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order; the next ones are read and hashed while the caller works on these.

        Raises:
            StoreError: the body ended early, differs from its MD5 or another checksum, or is read twice.
        """
        if self._begun:
            raise StoreError(f"the body of {self.info.key!r} can be read only once: get it again")
        self._begun = True
        rest, chunk = self._answer.rest, self._answer.body
        left = rest.left if rest is not None else 0
        if self._checks:
            if len(chunk) > _THREAD_HASH_BYTES:
                await self._client.in_thread(partial(self._checks.update, chunk))
            else:
                self._checks.update(chunk)
        while rest is not None and left:
            try:
                begun = self._next = self._ahead.submit(self._read, rest)
            except RuntimeError:  # it is shut down
                raise StoreError("the store is closed: open a new one") from None
            if chunk:
                yield chunk
            try:
                chunk, left = await self._client.in_thread(begun.result)
            except Lost as error:
                raise StoreError(
                    f"the body of {self.info.key!r} can't be read to its end: {error}"
                ) from error
        if (wrong := self._checks.failed()) is not None:
            raise self._unlike(wrong)
        if chunk:
            yield chunk

    def _read(self, rest: Rest) -> tuple[bytes, int]:
        data = rest.read(self._client.options.chunk)
        left = rest.left
        self._checks.update(data)
        return data, left

    async def settle(self) -> None:
        """Wait for what is being read: to close a connection that a thread reads from would block."""
        begun, self._next = self._next, None
        if begun is not None and not begun.cancel():
            with anyio.CancelScope(shield=True):
                await self._client.in_thread(partial(wait, [begun]))

    def _unlike(self, wrong: str) -> StoreError:
        what = f"the bytes of {self.info.key!r} are not those of its {wrong}"
        if wrong != "ETag":
            return StoreError(f"{what}: read it again; they may be damaged in the store")
        return StoreError(
            f"{what} {self.info.etag!r}: "
            "read it again; if this server's ETags are no MD5 sums, set verify_md5=False in S3Options"
        )
