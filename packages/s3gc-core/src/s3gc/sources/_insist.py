"""Trying again where a server is away for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from s3gc._log import get_logger
from s3gc.errors import SourceError

T = TypeVar("T")

_FIRST_PAUSE, _LAST_PAUSE = 0.1, 5.0


class Interrupted(Exception):
    """What keeps changes from being followed may pass: the server is away, somebody else has the stream."""


async def insist(name: str, attempt: Callable[[], Awaitable[T]], seconds: float) -> T:
    """The result of ``attempt()``, which is made again after each :class:`Interrupted`. Runs on asyncio.

    Args:
        name: of the source, for messages.
        seconds: after which it is given up.

    Raises:
        SourceError: it was interrupted for as long as that.
    """
    end, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except Interrupted as error:
            if time.monotonic() > end:
                raise SourceError(
                    f"{name}: changes couldn't be followed for {seconds:.0f} seconds: {error}"
                ) from error
            get_logger().warning("changes_interrupted", source=name, error=str(error), again_in=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE)
