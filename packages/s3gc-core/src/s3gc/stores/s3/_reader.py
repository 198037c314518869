"""An object being read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Executor
from functools import partial

import anyio
import anyio.lowlevel

from s3gc.errors import StoreError
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.stores.s3._ahead import ReadAhead
from s3gc.stores.s3._checksums import Checks
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._transport import Answer, Lost

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
        self._body: ReadAhead | None = None
        self._begun = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order; the next ones are read and hashed while the caller works on these.

        Raises:
            StoreError: the body ended early, differs from its MD5 or another checksum, or is read twice.
        """
        if self._begun:
            raise StoreError(f"the body of {self.info.key!r} can be read only once: get it again")
        self._begun = True
        answer, checks = self._answer, self._checks
        if answer.rest is None or not answer.rest.left:
            chunk = answer.body
            if checks and len(chunk) > _THREAD_HASH_BYTES:
                await self._client.in_thread(partial(checks.update, chunk))
            else:
                checks.update(chunk)
        else:
            self._body = ReadAhead(answer.body, answer.rest, checks, self._client.options.chunk, self._ahead)
            chunk = await self._next(self._body)
            while following := await self._next(self._body):
                yield chunk
                chunk = following
        if (wrong := checks.failed()) is not None:
            raise self._unlike(wrong)
        if chunk:
            yield chunk

    async def _next(self, body: ReadAhead) -> bytes:
        try:
            piece = body.take_now()
            if piece is None:
                return await self._client.in_thread(body.take)
            await anyio.lowlevel.checkpoint_if_cancelled()
            return piece
        except Lost as error:
            raise StoreError(f"the body of {self.info.key!r} can't be read to its end: {error}") from error

    async def settle(self) -> None:
        """Wait for what is being read: to close a connection that a thread reads from would block."""
        body, self._body = self._body, None
        if body is not None and body.stop():
            with anyio.CancelScope(shield=True):
                await self._client.in_thread(body.wait)

    def _unlike(self, wrong: str) -> StoreError:
        what = f"the bytes of {self.info.key!r} are not those of its {wrong}"
        if wrong != "ETag":
            return StoreError(f"{what}: read it again; they may be damaged in the store")
        return StoreError(
            f"{what} {self.info.etag!r}: "
            "read it again; if this server's ETags are no MD5 sums, set verify_md5=False in S3Options"
        )
