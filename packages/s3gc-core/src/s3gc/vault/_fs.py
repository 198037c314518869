"""What the vault asks of a file system, with errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from s3gc.errors import VaultError

try:
    import fcntl
except ImportError:  # not POSIX: no locks, so tails of packs are never cut there
    fcntl = None  # type: ignore[assignment]

PRIVATE_FILE = 0o600  # backups hold users' files
PRIVATE_FOLDER = 0o700

_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def vault_error(doing: str, error: OSError) -> VaultError:
    """``error`` in words that say what to do about it."""
    if error.errno in _FULL:
        advice = "the vault's file system is full: free space or move the vault to a larger one"
    elif error.errno in _READ_ONLY:
        advice = "the vault is read-only for this user: check the mount and the owner of the folder"
    else:
        advice = "check the vault's file system"
    return VaultError(f"can't {doing}: {error.strerror or error} ({advice})")


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn OSError into VaultError; ``doing`` completes "can't …"."""
    try:
        yield
    except OSError as error:
        raise vault_error(doing, error) from error


def writable(path: Path) -> bool:
    """Whether this process, as the user it acts for, may write here; a read-only mount counts as no."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Up to ``size`` bytes from ``offset``; fewer only at the end of the file."""
    data = os.pread(fd, size, offset)
    if len(data) == size or not data:
        return data
    parts = [data]
    got = len(data)
    while got < size:
        data = os.pread(fd, size - got, offset + got)
        if not data:
            break
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def sync_data(fd: int) -> None:
    """Make a file's bytes and size durable."""
    if sys.platform == "darwin" and fcntl is not None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there leaves the bytes in the drive's cache
    else:
        getattr(os, "fdatasync", os.fsync)(fd)


def sync_folder(path: Path) -> None:
    """Make names created, replaced or removed in a folder durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def drop_cache(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to forget a range, so that the next read comes from the disk."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, whole."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    try:
        write_at(fd, data, 0)
        sync_data(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    sync_folder(path.parent)


def try_lock(fd: int) -> bool:
    """Take the exclusive lock of an open file if nobody has it; it goes with the descriptor."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # taken, or a file system without locks: unknown means taken
    return True
