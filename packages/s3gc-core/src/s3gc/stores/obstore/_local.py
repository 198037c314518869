"""A folder as a bucket. Every name is looked at before obstore may follow it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import uuid4

import obstore
from obstore.store import LocalStore

from s3gc._log import get_logger
from s3gc.abc import RESERVED_PREFIX
from s3gc.errors import AmbiguousKey, NoSuchBucket, StoreError
from s3gc.model import DeleteOutcome, ObjectAttributes, ObjectHead, ObjectInfo
from s3gc.stores.obstore._backend import Opened
from s3gc.stores.obstore._meta import bare, info_of, safely, told
from s3gc.stores.obstore._rules import fits_a_folder

CHUNK = 1024 * 1024
"""Least bytes of one piece of a body but the last."""


class LocalBackend:
    """obstore's local store over one folder; the lock keeps this process's own steps apart."""

    conditional_delete = False

    def __init__(self, path: Path) -> None:
        self._root = path.resolve()
        if not self._root.is_dir():
            raise NoSuchBucket(f"there is no folder {str(path)!r}: create it first")
        self.url = self._root.as_uri()
        self.bucket = self._root.name
        self._store = LocalStore(self._root)
        self._lock = threading.Lock()
        self._folds: bool | None = None  # whether the file system takes 'A' for 'a'; a probe finds out
        self._warned = False

    def addresses(self, key: str) -> bool:
        return fits_a_folder(key)

    # ----------------------------------------------------------------- names

    def _find(self, key: str) -> os.stat_result | None:
        """The regular file that has exactly this name, or None.

        Raises:
            AmbiguousKey: it is a link, a folder or a device, or a link stands on the way.
        """
        path = self._root
        *folders, name = key.split("/")
        for part in [*folders, name]:
            if self._folds is not False and not self._listed(path, part):
                return None
            path = path / part
            try:
                found = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise StoreError(f"could not look at {key!r}: {error.strerror}") from error
            if stat.S_ISLNK(found.st_mode):
                raise AmbiguousKey(f"{key!r} leads through a symbolic link; nothing was done")
        if not stat.S_ISREG(found.st_mode):
            raise AmbiguousKey(f"{key!r} is not a regular file; nothing was done")
        return found

    @staticmethod
    def _listed(folder: Path, name: str) -> bool:
        """Whether the folder has this very name (a file system may find others for it)."""
        try:
            return name in os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreError(f"could not list the folder of {name!r}: {error.strerror}") from error

    # ----------------------------------------------------------------- list

    def walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """In key order, one folder's names in memory at a time.

        obstore's own listing leaves some names out and ends at others, so the names come from the system.
        """
        self.check()
        return self._walk(self._root, "", prefix, start_after)

    def _walk(self, folder: Path, base: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(folder) as found:
                entries = [(e.name, e.is_dir(follow_symlinks=False)) for e in found]
        except FileNotFoundError:
            return  # removed since its parent was read
        except OSError as error:
            raise StoreError(f"could not list the folder {base!r}: {error.strerror}") from error
        for name, is_folder in sorted(entries, key=lambda e: os.fsencode(e[0]) + (b"/" if e[1] else b"")):
            key = base + name
            if is_folder:
                below = key + "/"
                wanted = below.startswith(prefix) or prefix.startswith(below)
                if wanted and (below > after or after.startswith(below)):
                    yield from self._walk(folder / name, below, prefix, after)
            elif key.startswith(prefix) and key > after:
                info = self._info(folder / name, key)
                if info is not None:
                    yield info

    def _info(self, path: Path, key: str) -> ObjectInfo | None:
        try:
            found = os.lstat(path)
            if self.addresses(key) and stat.S_ISREG(found.st_mode):
                with told(f"read what {key!r} is"):
                    return info_of(obstore.head(self._store, key), key)
        except FileNotFoundError:
            return None
        shown = os.fsencode(key).decode("utf-8", "backslashreplace")
        when = datetime.fromtimestamp(found.st_mtime, UTC)
        return ObjectInfo(shown, found.st_size, "", when, ambiguous=True)

    # ----------------------------------------------------------------- one object

    def head(self, key: str) -> ObjectHead | None:
        if self._find(key) is None:
            return None
        try:
            with told(f"read what {key!r} is"):
                return ObjectHead(info_of(obstore.head(self._store, key), key), ObjectAttributes())
        except FileNotFoundError:
            return None

    def open(self, key: str, if_match: str | None) -> Opened:
        if self._find(key) is None:
            raise FileNotFoundError(key)
        with told(f"read {key!r}"):
            result = obstore.get(self._store, key)
            info = info_of(result.meta, key)
            if if_match is not None and info.etag != bare(if_match):
                raise FileNotFoundError(key)
            return Opened(ObjectHead(info, ObjectAttributes()), self._read(key, result))

    @staticmethod
    def _read(key: str, result: obstore.GetResult) -> Iterator[bytes]:
        with told(f"read {key!r}"):
            for chunk in result.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def put(self, key: str, body: IO[bytes], attributes: ObjectAttributes, create: bool) -> ObjectInfo:
        if attributes != ObjectAttributes() and not self._warned:
            self._warned = True
            get_logger().warning("folder_keeps_no_attributes", url=self.url, first_key=key)
        with self._lock:
            exists = self._find(key) is not None
            if create and exists:
                raise FileExistsError(key)
            with told(f"write {key!r} (is a part of its path a file?)"):
                if create:
                    self._create(key, body)
                else:
                    obstore.put(self._store, key, body)
                self._sync(key)
            head = self.head(key)
        if head is None:
            raise StoreError(
                f"{key!r} was written and is gone: someone else writes there", outcome_unknown=True
            )
        return head.info

    def _create(self, key: str, body: IO[bytes]) -> None:
        """Write beside and link in place: obstore's own way needs the whole body in memory."""
        beside = f"{RESERVED_PREFIX}tmp/{uuid4().hex}"
        try:
            obstore.put(self._store, beside, body)
            obstore.rename(self._store, beside, key, overwrite=False)
        finally:
            safely("remove a temporary file", lambda: obstore.delete(self._store, beside))

    def _sync(self, key: str) -> None:
        """obstore doesn't: the file, then each folder up to the root."""
        path = self._root / key
        while True:
            number = os.open(path, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
            if path == self._root:
                return
            path = path.parent

    def delete(self, key: str, if_match: str) -> DeleteOutcome:
        with self._lock:
            head = self.head(key)
            if head is None:
                return DeleteOutcome.MISSING
            if head.info.etag != bare(if_match):
                return DeleteOutcome.CHANGED
            try:
                with told(f"delete {key!r}"):
                    obstore.delete(self._store, key)
            except FileNotFoundError:
                return DeleteOutcome.MISSING
            return DeleteOutcome.DELETED

    # ----------------------------------------------------------------- the store itself

    def check(self) -> None:
        if not self._root.is_dir():
            raise NoSuchBucket(f"the folder {str(self._root)!r} is gone")

    def probe(self, name: str) -> dict[str, str]:
        key, other = f"{name}/Name", f"{name}/nAME"
        with told("write the probe's file"):
            obstore.put(self._store, key, b"s3gc probe: may be deleted at any time\n")
        try:
            self._folds = os.path.lexists(self._root / other)
            if not any(info.key == key for info in self.walk(name, "")):
                raise StoreError("the listing doesn't show a file that was just written")
        finally:
            left = safely("remove the probe's file", lambda: obstore.delete(self._store, key))
            left = left or safely("remove the probe's folder", lambda: os.rmdir(self._root / name))
        return {
            "attributes": "not kept",
            "tags": "not kept",
            "conditional_delete": "compares right before",
            "durability": "fsync of file and folders after each write",
            "names": "case is folded" if self._folds else "exact",
            "cleanup": left or "done",
        }
