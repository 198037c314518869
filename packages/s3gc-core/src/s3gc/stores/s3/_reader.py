"""An object being read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from s3gc.errors import StoreError
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.stores.s3._checksums import Checks
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._transport import Answer, Lost

_THREAD_HASH_BYTES = 64 * 1024


class S3Reader:
    """The body of one answer to GET. Its length and the checksums that are told of it are checked."""

    def __init__(
        self, client: Client, answer: Answer, info: ObjectInfo, attributes: ObjectAttributes, checks: Checks
    ) -> None:
        self.info = info
        self.attributes = attributes
        self._client = client
        self._answer = answer
        self._checks = checks
        self._begun = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order.

        Raises:
            StoreError: the body ended early, differs from its MD5 or another checksum, or is read twice.
        """
        if self._begun:
            raise StoreError(f"the body of {self.info.key!r} can be read only once: get it again")
        self._begun = True
        checks = self._checks
        rest, chunk = self._answer.rest, self._answer.body
        while True:
            if checks:
                if len(chunk) > _THREAD_HASH_BYTES:
                    await self._client.in_thread(partial(checks.update, chunk))
                else:
                    checks.update(chunk)
            last = rest is None or rest.left == 0
            if last and (wrong := checks.failed()) is not None:
                raise self._unlike(wrong)
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

    def _unlike(self, wrong: str) -> StoreError:
        what = f"the bytes of {self.info.key!r} are not those of its {wrong}"
        if wrong != "ETag":
            return StoreError(f"{what}: read it again; they may be damaged in the store")
        return StoreError(
            f"{what} {self.info.etag!r}: "
            "read it again; if this server's ETags are no MD5 sums, set verify_md5=False in S3Options"
        )
