"""An object being read."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from functools import partial

from s3gc.errors import StoreError
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._transport import Answer, Lost

_THREAD_HASH_BYTES = 64 * 1024


class S3Reader:
    """The body of one answer to GET. Its length and, where the ETag tells it, its MD5 are checked."""

    def __init__(
        self, client: Client, answer: Answer, info: ObjectInfo, attributes: ObjectAttributes, md5: str | None
    ) -> None:
        self.info = info
        self.attributes = attributes
        self._client = client
        self._answer = answer
        self._md5 = md5
        self._begun = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order.

        Raises:
            StoreError: the body ended early, differs from its MD5, or is read twice.
        """
        if self._begun:
            raise StoreError(f"the body of {self.info.key!r} can be read only once: get it again")
        self._begun = True
        digest = hashlib.md5(usedforsecurity=False) if self._md5 is not None else None
        rest, chunk = self._answer.rest, self._answer.body
        while True:
            if digest is not None:
                if len(chunk) > _THREAD_HASH_BYTES:
                    await self._client.in_thread(lambda data=chunk: digest.update(data))  # type: ignore[misc]
                else:
                    digest.update(chunk)
            last = rest is None or rest.left == 0
            if last and digest is not None and digest.hexdigest() != self._md5:
                raise StoreError(
                    f"the bytes of {self.info.key!r} are not those of its ETag {self.info.etag!r}: "
                    "read it again; if this server's ETags are no MD5 sums, set verify_md5=False in S3Options"
                )
            if chunk:
                yield chunk
            if last or rest is None:
                return
            try:
                chunk = await self._client.in_thread(partial(rest.read, self._client.options.chunk))
            except Lost as error:
                raise StoreError(
                    f"the body of {self.info.key!r} can't be read to its end: {error}"
                ) from error
