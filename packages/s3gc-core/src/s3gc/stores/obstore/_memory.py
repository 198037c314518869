"""Objects in memory, each operation under one lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import IO

import obstore
from obstore.store import MemoryStore

from s3gc.errors import ConfigError, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes, ObjectHead, ObjectInfo
from s3gc.stores.obstore._backend import Opened
from s3gc.stores.obstore._meta import bare, info_of, told
from s3gc.stores.obstore._rules import round_trips

CHUNK = 1024 * 1024
"""Bytes of one piece of a body."""


class MemoryBackend:
    """obstore's memory store. Attributes are kept beside it: obstore doesn't give tags back.

    The lock makes compare-and-delete one step: nobody else can reach the store.
    """

    conditional_delete = True

    def __init__(self, name: str) -> None:
        if not name or "/" in name:
            raise ConfigError(f"{name!r} is not a name for a memory store: use one word, as in memory://name")
        self.url = f"memory://{name}"
        self.bucket = name
        self._store = MemoryStore()
        self._attributes: dict[str, ObjectAttributes] = {}
        self._lock = threading.Lock()

    def addresses(self, key: str) -> bool:
        return round_trips(key)

    def walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """A listing of the moment it begins, all of it in memory."""
        with self._lock, told(f"list {self.url}"):
            # obstore's own prefix ends at a slash: it isn't the prefix of S3
            metas = [meta for page in obstore.list(self._store) for meta in page]
        infos = [info_of(meta, meta["path"]) for meta in metas]
        infos.sort(key=lambda info: info.key)
        return (info for info in infos if info.key.startswith(prefix) and info.key > start_after)

    def head(self, key: str) -> ObjectHead | None:
        with self._lock:
            return self._head(key)

    def _head(self, key: str) -> ObjectHead | None:
        try:
            with told(f"read what {key!r} is"):
                meta = obstore.head(self._store, key)
        except FileNotFoundError:
            return None
        return ObjectHead(info_of(meta, key), self._attributes[key])

    def open(self, key: str, if_match: str | None) -> Opened:
        with self._lock:
            head = self._head(key)
            if head is None or (if_match is not None and head.info.etag != bare(if_match)):
                raise FileNotFoundError(key)
            with told(f"read {key!r}"):
                data = bytes(obstore.get(self._store, key).bytes())
        return Opened(head, (data[start : start + CHUNK] for start in range(0, len(data), CHUNK)))

    def put(self, key: str, body: IO[bytes], attributes: ObjectAttributes, create: bool) -> ObjectInfo:
        data = body.read()
        with self._lock:
            with told(f"write {key!r}"):
                mode = "create" if create else "overwrite"
                obstore.put(self._store, key, data, mode=mode, use_multipart=False)  # type: ignore[arg-type]
            self._attributes[key] = attributes
            head = self._head(key)
        if head is None:
            raise StoreError(f"{key!r} was written and isn't there")
        return head.info

    def delete(self, key: str, if_match: str) -> DeleteOutcome:
        with self._lock:
            head = self._head(key)
            if head is None:
                return DeleteOutcome.MISSING
            if head.info.etag != bare(if_match):
                return DeleteOutcome.CHANGED
            with told(f"delete {key!r}"):
                obstore.delete(self._store, key)
            del self._attributes[key]
            return DeleteOutcome.DELETED

    def check(self) -> None:
        """A memory store is always there."""

    def probe(self, name: str) -> dict[str, str]:
        return {"attributes": "kept", "tags": "kept", "durability": "until the process ends"}
