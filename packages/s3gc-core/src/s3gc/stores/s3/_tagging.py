"""Tags of an object that was uploaded in parts: looked at, and written again where the server lost them."""

from __future__ import annotations

from collections.abc import Mapping

from s3gc.errors import PreconditionFailed, StoreError
from s3gc.model import ObjectInfo
from s3gc.stores.s3._body import body_of
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import Teller
from s3gc.stores.s3._headers import read_info
from s3gc.stores.s3._lookup import Lookup
from s3gc.stores.s3._traits import Traits
from s3gc.stores.s3._transport import Call
from s3gc.stores.s3._xml import tagging_document


class Tagging:
    """Makes sure of the tags that were given when an upload in parts began.

    Ceph 16 takes the header there and forgets what it says.
    """

    def __init__(self, client: Client, traits: Traits, lookup: Lookup, failed: Teller) -> None:
        self._client = client
        self._traits = traits
        self._lookup = lookup
        self._failed = failed

    async def ensure(self, written: ObjectInfo, tags: Mapping[str, str]) -> None:
        """Return only when the object that was ``written`` has exactly these tags.

        Raises:
            StoreError: it can't be given them, or is another object now.
        """
        key = written.key
        if await self._now(written) == tags:
            return
        # There is no condition on writing tags. Who overwrites in this moment gets ours; the last look tells.
        call = Call("PUT", key, query=(("tagging", None),), body=body_of(tagging_document(tags)))
        answer = (await self._client.request(call)).answer
        if answer.status not in (200, 204):
            raise self._failed(answer, f"write the tags of {key!r}", "s3:PutObjectTagging", True)
        if await self._now(written) != tags:
            raise StoreError(
                f"{key!r} was written, and the store doesn't keep its tags", outcome_unknown=True
            )

    async def _now(self, written: ObjectInfo) -> dict[str, str]:
        answer = await self._lookup.head(written.key)
        if answer is not None and read_info(answer.headers, written.key).etag == written.etag:
            try:
                return await self._lookup.tags(written.key, answer.headers, self._traits.counts_tags_on_head)
            except PreconditionFailed:
                pass
        raise StoreError(
            f"{written.key!r} was written, and is another object or gone now: someone else writes there",
            outcome_unknown=True,
        )
