"""Codecs of whole objects in a vault: proved before they are written, compared when they are read."""

from __future__ import annotations

from collections.abc import Collection

from s3gc._log import get_logger
from s3gc.abc import EncodedObject, ObjectCoder
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.vault._frames import Coded, missing_codec

CODED_MAX_BYTES = 64 * 1024 * 1024
"""No object above it has such a codec: they work in memory."""


class Coding:
    """What a vault asks to encode and to decode whole objects. Without a coder it encodes nothing.

    ``streaming`` are the names of the codecs that it has beside these, for errors.
    """

    def __init__(self, coder: ObjectCoder | None, streaming: Collection[str] = ()) -> None:
        self._coder = coder
        self._streaming = streaming

    def takes(self, data: bytes) -> bool:
        """Whether :meth:`encode` may give something."""
        return self._coder is not None and 0 < len(data) <= CODED_MAX_BYTES and self._coder.takes(data)

    async def encode(self, data: bytes) -> EncodedObject | None:
        """A body of which this process has seen that the very bytes come out of it; None: leave it to zstd.

        Whoever writes it needs to compare no more than whether the file has this body. A codec that fails is
        no reason not to back an object up.
        """
        if self._coder is None:
            return None
        try:
            made = await self._coder.encode(data)
            if made is None:
                return None
            if await self._coder.decode(made.codec, made.body, len(data)) == data:
                return made
            why = "other bytes come out than went in"
        except VaultError as error:
            why = str(error)
        get_logger().warning("codec_failed", size=len(data), why=why)
        return None

    async def decode(self, coded: Coded) -> bytes:
        """The object's bytes.

        Raises:
            VaultCorrupt: they aren't the very bytes.
            CodecMissing: the codec isn't installed here.
        """
        if self._coder is None:
            raise missing_codec(coded.codec, coded.requires, self._streaming)
        if coded.codec not in (known := await self._coder.decodes()):
            raise missing_codec(coded.codec, coded.requires, {*self._streaming, *known})
        try:
            data = await self._coder.decode(coded.codec, coded.body, coded.size)
        except VaultCorrupt as error:
            raise VaultCorrupt(f"{coded.what}: {error}") from error
        return coded.checked(data)

    async def aclose(self) -> None:
        """End the workers."""
        if self._coder is not None:
            await self._coder.aclose()
