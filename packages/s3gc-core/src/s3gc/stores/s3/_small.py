"""Small objects, whole: many answers at once, and most of them tell all that there is to know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress

from attrs import evolve

from s3gc._pool import each
from s3gc.abc import WholeObject
from s3gc.errors import StoreError
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.stores.s3._checksums import CHECKSUM_MODE, Checks
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._headers import quoted_etag, read_attributes
from s3gc.stores.s3._lane import Plain
from s3gc.stores.s3._transport import Answer

_READERS = 8
"""Small objects of one group whose tags or ACLs are asked for at once."""

Told = Callable[[Answer, str, str | None], tuple[ObjectInfo, Checks]]
"""What an answer to GET tells of the object, and what its body must come to. Raises StoreError."""


class SmallReads:
    """Reads many small objects at once.

    Whatever is odd or isn't as it was listed is left out: ``S3Store.get`` asks again and tells why.

    Args:
        told: reads an answer.
        complete: whether an answer's headers tell all attributes.
        ask: reads the attributes where it takes further requests.
    """

    def __init__(
        self,
        client: Client,
        told: Told,
        complete: Callable[[Answer], bool],
        ask: Callable[[Answer, str], Awaitable[ObjectAttributes]],
    ) -> None:
        self._client = client
        self._told = told
        self._complete = complete
        self._ask = ask

    async def read(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        """Groups as they come, in any order."""
        wanted = [(one.key, quoted_etag(one.etag)) for one in objects]

        def opened(group: Sequence[tuple[int, Plain | None]]) -> list[tuple[WholeObject, Answer]]:
            # In the thread that has the answers, not on the host's loop.
            found = [
                self._open(objects[index], Answer(200, *plain)) for index, plain in group if plain is not None
            ]
            return [one for one in found if one is not None]

        async with aclosing(self._client.plain_answers(wanted, CHECKSUM_MODE, opened)) as groups:  # type: ignore[type-var]
            async for group in groups:
                ready = [one for one, answer in group if self._complete(answer)]
                if len(ready) < len(group):
                    ready += await self._asked([pair for pair in group if not self._complete(pair[1])])
                yield ready

    def _open(self, listed: ObjectInfo, answer: Answer) -> tuple[WholeObject, Answer] | None:
        with suppress(StoreError):
            info, checks = self._told(answer, listed.key, listed.etag)
            attributes = read_attributes(answer.headers, listed.key, {})
            checks.update(answer.body)
            if checks.failed() is None:
                return WholeObject(listed, info, attributes, answer.body), answer
        return None

    async def _asked(self, group: Sequence[tuple[WholeObject, Answer]]) -> list[WholeObject]:
        found: list[WholeObject] = []

        async def ask(pair: tuple[WholeObject, Answer]) -> None:
            one, answer = pair
            with suppress(StoreError):
                found.append(evolve(one, attributes=await self._ask(answer, one.listed.key)))

        await each(group, ask, workers=_READERS)
        return found
