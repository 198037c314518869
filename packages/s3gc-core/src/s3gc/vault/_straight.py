"""A file's bytes to the disk and back past the page cache, where the system can do that.

Through the page cache each byte is copied twice more, into pages that are dropped at once: for a large backup
that costs more than hashing it. And what was read past the cache can't have come from it.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from s3gc.vault import _fs

BLOCK_BYTES = 4096
"""Offsets, lengths and addresses are multiples of this: enough for sectors of 512 and of 4,096 bytes."""

_CANT = {errno.EINVAL, errno.EOPNOTSUPP}


class Straight:
    """Positioned reads and writes of one open file. Reading and writing may happen in two threads.

    Args:
        path: the file.
        fd: its descriptor for what can't go straight: ends that fill no block, and file systems without it.

    Raises:
        OSError: from every method, as the system gives it.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._fd = fd
        self._direct = -1
        self._can = False
        if flag := getattr(os, "O_DIRECT", 0):
            try:
                self._direct = os.open(path, os.O_RDWR | flag)
                self._can = True
            except OSError as error:
                if error.errno not in _CANT:
                    raise

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of ``data``, which lies in memory from :func:`room`."""
        whole = len(data) - len(data) % BLOCK_BYTES if self._can else 0
        if whole:
            try:
                _fs.write_at(self._direct, data[:whole], offset)
            except OSError as error:
                self._cant(error)
                whole = 0
        if whole < len(data):
            _fs.write_at(self._fd, data[whole:], offset + whole)

    def read_into(self, memory: memoryview, size: int, offset: int) -> int:
        """Read ``size`` bytes into memory from :func:`room`; how many: fewer only at the file's end."""
        whole = -(-size // BLOCK_BYTES) * BLOCK_BYTES
        done = 0
        while done < size:
            can = self._can
            try:
                got = os.preadv(self._direct if can else self._fd, [memory[done:whole]], offset + done)
            except OSError as error:
                if not can:
                    raise
                self._cant(error)
                continue
            if not got:
                break
            done += got
        return min(done, size)

    def _cant(self, error: OSError) -> None:
        if error.errno not in _CANT:
            raise error
        self._can = False

    def close(self) -> None:
        """Close what this opened itself. May be called twice."""
        direct, self._direct, self._can = self._direct, -1, False
        if direct >= 0:
            os.close(direct)


def room(size: int) -> mmap.mmap:
    """Memory for whole blocks of ``size`` bytes, where straight reads and writes may go."""
    return mmap.mmap(-1, -(-size // BLOCK_BYTES) * BLOCK_BYTES)
