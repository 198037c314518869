"""The codecs at work for a vault: those of a policy encode, all of them decode, in workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import anyio
import anyio.to_thread

from s3gc.abc import EncodedObject, ObjectCodec, ObjectCoder
from s3gc.errors import VaultError
from s3gc_codecs._limits import MAX_OBJECT_BYTES, MIN_XZ_BYTES
from s3gc_codecs.codecs import Xz, codecs
from s3gc_codecs.policies import Policy, classify, starts_of
from s3gc_codecs.pool import WorkerPool


class PoolCoder(ObjectCoder):
    """A :class:`WorkerPool` that starts when it is needed.

    Args:
        policy: what is tried on which class.
        pool: made with the same policy.
        offered: gives the codecs that the pool's workers have; called in a thread, once.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        pool: WorkerPool | None = None,
        offered: Callable[[], Sequence[ObjectCodec]] = codecs,
    ) -> None:
        self._policy = policy
        self._starts = starts_of(policy)
        self._pool = pool or WorkerPool(policy)
        self._offered = offered
        self._requires: Mapping[str, Mapping[str, str]] | None = None
        self._begun = False
        self._beginning = anyio.Lock()

    def takes(self, data: bytes) -> bool:
        if not 0 < len(data) <= MAX_OBJECT_BYTES:
            return False
        if self._starts is not None and not data.startswith(self._starts):
            return False
        return any(
            rule.codec != Xz.name or len(data) >= MIN_XZ_BYTES
            for rule in self._policy.codecs_for(classify(data))
        )

    async def encode(self, data: bytes) -> EncodedObject | None:
        requires = await self._ready()
        made = await self._pool.encode(data)
        if made is None:
            return None
        if made.name not in requires:
            raise VaultError(f"a worker encodes by {made.name}, which isn't known here")
        return EncodedObject(made.name, made.body, requires[made.name])

    async def decodes(self) -> Collection[str]:
        return (await self._ready()).keys()

    async def decode(self, codec: str, body: bytes, size: int) -> bytes:
        await self._ready()
        return await self._pool.decode(codec, body, size)

    async def aclose(self) -> None:
        if self._begun:
            self._begun = False
            await self._pool.__aexit__(None, None, None)

    async def _ready(self) -> Mapping[str, Mapping[str, str]]:
        """Begin, if that wasn't done; what each codec here requires."""
        async with self._beginning:
            if self._requires is None:  # in a thread: it imports libraries
                found = await anyio.to_thread.run_sync(self._offered)
                self._requires = {codec.name: dict(codec.requires) for codec in found}
            if not self._begun:
                await self._pool.__aenter__()
                self._begun = True
        return self._requires
