"""One collector at a time. A lock on the vault's folder that ends with its process, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from s3gc.errors import LeaseHeld, VaultError


@asynccontextmanager
async def hold(path: Path) -> AsyncIterator[None]:
    """Hold the lease of the bucket whose lock file is ``path``.

    Raises:
        LeaseHeld: another collector, in this or another process, holds it.
        VaultError: the lock file can't be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise VaultError(f"{path} can't be written ({error.strerror}): is the vault read-only?") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 64, 0).decode("ascii", "replace").strip() or "unknown"
            raise LeaseHeld(
                f"another collector (process {holder}) works with this vault: wait until it has ended"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
