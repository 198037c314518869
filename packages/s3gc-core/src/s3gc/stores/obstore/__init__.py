"""Stores that obstore serves, behind a guard for the keys that obstore would change.

There is no registry of memory stores: :func:`open_memory_store` makes a fresh one, and who wants to share
one passes the store object around.
"""

from __future__ import annotations

from pathlib import Path

from s3gc.clock import Clock
from s3gc.stores.obstore._guard import GuardedStore
from s3gc.stores.obstore._local import LocalBackend
from s3gc.stores.obstore._memory import MemoryBackend

__all__ = ["GuardedStore", "open_file_store", "open_memory_store"]


def open_file_store(path: str | Path, *, clock: Clock | None = None) -> GuardedStore:
    """The folder at ``path`` as a bucket: each regular file is an object.

    A folder can't do all that a bucket can. Content types, metadata and tags are not kept. There is no
    conditional delete: the ETag is compared right before, so what is written in between is lost. ``a`` and
    ``a/b`` can't both be.
    Symbolic links, names that aren't UTF-8 and other odd files are listed as ambiguous and never touched.

    Raises:
        NoSuchBucket: there is no such folder.
    """
    return GuardedStore(LocalBackend(Path(path)), clock=clock)


def open_memory_store(name: str, *, clock: Clock | None = None) -> GuardedStore:
    """A fresh bucket in the memory of this process, with conditional delete, attributes and tags."""
    return GuardedStore(MemoryBackend(name), clock=clock)
