"""Whose turn it is to read changes: the follower's, or an operation's. In one process or in several.

A slot and a replica's number have one reader at a time, and what is staged for the registry has one writer.
So whoever follows changes holds a lock on a file beside ``collector.lock``, with these two:

- ``follow.lock``: held by the one that reads changes now. Between two operations that is the follower, while
  one runs it is the operation. A second follower waits for it, and goes on where the first one died.
- ``follow.wish``: an operation holds it shared, from before it asks for its turn until it ends. The follower
  tries again and again to have it alone for an instant. When it can't, it lets go of everything.

Both end with their process, however it ends. An operation waits for its turn, for a follower gives way within
a batch; one that doesn't holds the operation, which then reads nothing and deletes nothing.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio

from s3gc.errors import LeaseHeld, VaultError

LOCK, WISH = "follow.lock", "follow.wish"

GIVES_WAY_SECONDS = 60.0
"""How long an operation waits for the follower to give way."""

_LOOK_SECONDS = 0.02


@asynccontextmanager
async def operation_turn(folder: Path) -> AsyncIterator[None]:
    """Changes are read by this operation alone. It must hold ``collector.lock``.

    Raises:
        LeaseHeld: a follower doesn't give way.
        VaultError: the lock files can't be made.
    """
    end = time.monotonic() + GIVES_WAY_SECONDS
    with _opened(folder / WISH) as wish, _opened(folder / LOCK) as turn:
        for handle, how in ((wish, fcntl.LOCK_SH), (turn, fcntl.LOCK_EX)):
            while not _taken(handle, how):
                if time.monotonic() > end:
                    raise LeaseHeld(
                        f"the follower (process {_owner(turn)}) reads changes with this vault and doesn't "
                        f"give way within {GIVES_WAY_SECONDS:.0f} seconds: end it, and try again"
                    )
                await anyio.sleep(_LOOK_SECONDS)
        _sign(turn)
        yield


class FollowerTurn:
    """The right to follow changes until an operation wants it."""

    def __init__(self, wish: int) -> None:
        self._wish = wish

    @property
    def wanted(self) -> bool:
        """Whether an operation waits for us to let go."""
        if not _taken(self._wish, fcntl.LOCK_EX):
            return True
        fcntl.flock(self._wish, fcntl.LOCK_UN)
        return False


@contextmanager
def follower_turn(folder: Path) -> Iterator[FollowerTurn | None]:
    """The turn, or None when an operation or another follower has it, or wants it.

    Raises:
        VaultError: the lock files can't be made.
    """
    with _opened(folder / WISH) as wish, _opened(folder / LOCK) as lock:
        turn = FollowerTurn(wish)
        # Only who has the lock asks for the wish: two followers never take each other for an operation.
        if not _taken(lock, fcntl.LOCK_EX) or turn.wanted:
            yield None
            return
        _sign(lock)
        yield turn


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise VaultError(f"{path} can't be written ({error.strerror}): is the vault read-only?") from None
    try:
        yield handle
    finally:
        os.close(handle)


def _taken(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(handle: int) -> None:
    """Who has it, for others to tell."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)


def _owner(handle: int) -> str:
    return os.pread(handle, 64, 0).decode("ascii", "replace") or "unknown"
