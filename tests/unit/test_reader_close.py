"""A reader that is closed holds nobody up for ever."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from s3gc.resolver import Resolver
from s3gc.sources import _reader
from s3gc.sources._reader import Reader

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # readers run on the drivers' loop


class Stuck:
    """A connection whose driver waits for a thread of its own that has ended."""

    async def invalidate(self) -> None:
        await anyio.sleep_forever()


async def test_a_connection_that_cannot_be_closed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reader, "_CLOSE_SECONDS", 0.05)
    dialect: Any = object()
    reader = Reader(dialect, [], Resolver("my-bucket"), 1, None)
    reader._connection = Stuck()  # type: ignore[assignment]
    with anyio.fail_after(20):
        await reader.close()
