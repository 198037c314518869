"""Where a replica can be: any store that obstore reaches, or a folder. Names come and go as they are.

All objects are small (8 MiB and the seal, but for giant journal entries), so each is one request: written
whole or not at all, and only where nothing stands. All methods block and run in worker threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

from s3gc.config import redact
from s3gc.errors import ConfigError, StoreError
from s3gc.vault import _fs

PIECE_BYTES = 8 * 1024 * 1024
"""The most bytes of a pack in one object. An upload that is sealed and read back holds six times this."""

OBJECT_MAX_BYTES = 80 * 1024 * 1024
"""Anything larger isn't ours and is never read: a segment of the journal has 64 MiB at most, and a seal."""

REQUEST_SECONDS = 600
"""For one request with its body (FACTS 1: obstore's own 30 seconds include the body)."""

SILENCE_SECONDS = 60
"""Without a byte for so long, a request has failed."""

CREDENTIAL_SECONDS = 600
"""How long credentials are used before botocore is asked again; it renews them 10 minutes before they end."""


class Remote(Protocol):
    """One place of a replica."""

    url: str
    """For people: without secrets."""

    id: str
    """What the local notes call it: the same in every run."""

    def names(self) -> Iterator[tuple[str, int]]:
        """Every object with its size in bytes, in any order.

        Raises:
            StoreError: the place can't be listed to its end.
        """

    def create(self, name: str, data: bytes) -> None:
        """Write an object durably, whole or not at all.

        Raises:
            FileExistsError: something has this name; it is as it was.
            StoreError: it failed, or the answer was lost.
        """

    def remove(self, name: str) -> None:
        """Remove an object; none is fine.

        Raises:
            StoreError: it can't be removed (locked, not allowed), or the answer was lost.
        """

    def read(self, name: str) -> bytes:
        """An object's bytes.

        Raises:
            FileNotFoundError: nothing has this name.
            StoreError: it can't be read, or it is larger than OBJECT_MAX_BYTES.
        """


class FolderRemote:
    """A folder. Files are synced and appear under their names only when they are whole.

    obstore's local store never syncs, so it isn't used here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self.url = self.id = self._folder.as_uri()

    def names(self) -> Iterator[tuple[str, int]]:
        def failed(error: OSError) -> None:
            raise StoreError(f"can't list {self._folder}: {error.strerror}") from error

        if not self._folder.exists():
            return
        for folder, _, files in os.walk(self._folder, onerror=failed):
            for file in files:
                path = Path(folder, file)
                if not file.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        yield path.relative_to(self._folder).as_posix(), path.lstat().st_size

    def create(self, name: str, data: bytes) -> None:
        path = self._folder / name
        try:
            self._make_folders(path.parent)
            if path.exists():
                raise FileExistsError(name)
            temporary = path.with_name(f".{path.name}.{uuid4().hex}")
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _fs.PRIVATE_FILE)
            try:
                _fs.write_at(fd, data, 0)
                _fs.sync_data(fd)
                _fs.drop_cache(fd, 0, len(data))
                os.link(temporary, path)  # fails where a file is, unlike a rename
            finally:
                os.close(fd)
                temporary.unlink()
            _fs.sync_folder(path.parent)
        except FileExistsError:
            _fs.sync_folder(path.parent)  # whoever made it may have been stopped before this
            raise FileExistsError(name) from None
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise StoreError(
                    f"{self._folder}: this file system has no hard links, or is read-only"
                ) from error
            raise StoreError(f"can't write {path}: {error.strerror}") from error

    def _make_folders(self, folder: Path) -> None:
        made: list[Path] = []
        while not folder.exists():
            made.append(folder)
            folder = folder.parent
        for each in reversed(made):
            each.mkdir(exist_ok=True, mode=_fs.PRIVATE_FOLDER)
            _fs.sync_folder(each.parent)

    def remove(self, name: str) -> None:
        path = self._folder / name
        try:
            path.unlink(missing_ok=True)
            if path.parent.exists():
                _fs.sync_folder(path.parent)
        except OSError as error:
            raise StoreError(f"can't remove {path}: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        path = self._folder / name
        try:
            if path.stat().st_size > OBJECT_MAX_BYTES:
                raise StoreError(f"{path} is too large to be of a replica")
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"can't read {path}: {error.strerror}") from error


class ObstoreRemote:
    """A prefix in a store of obstore's.

    Args:
        store: obstore's.
        prefix: ends with ``/``, or is empty.
        url: for people and for the local notes; without secrets.
        writer: gives the store to write with, if that is another one.
    """

    def __init__(self, store: Any, prefix: str, url: str, *, writer: Callable[[], Any] | None = None) -> None:
        self._store = store
        self._writer = writer or (lambda: store)
        self._prefix = prefix
        self.url = self.id = url

    def names(self) -> Iterator[tuple[str, int]]:
        import obstore

        with _told(f"list {self.url}", missing=f"there is no bucket for {self.url}"):
            for page in obstore.list(self._store, prefix=self._prefix.rstrip("/") or None, chunk_size=1000):
                for meta in page:
                    yield meta["path"].removeprefix(self._prefix), meta["size"]

    def create(self, name: str, data: bytes) -> None:
        import obstore

        with _told(f"write {name} to {self.url}"):
            try:
                obstore.put(self._writer(), self._prefix + name, data, mode="create", use_multipart=False)
            except FileNotFoundError:
                raise StoreError(f"there is no bucket for {self.url}") from None

    def remove(self, name: str) -> None:
        import obstore

        with contextlib.suppress(FileNotFoundError), _told(f"remove {name} from {self.url}"):
            obstore.delete(self._store, self._prefix + name)

    def read(self, name: str) -> bytes:
        import obstore

        with _told(f"read {name} from {self.url}"):
            found = obstore.get(self._store, self._prefix + name)
            if found.meta["size"] > OBJECT_MAX_BYTES:
                raise StoreError(f"{name} in {self.url} is too large to be of a replica")
            return bytes(found.bytes())


@contextlib.contextmanager
def _told(doing: str, *, missing: str | None = None) -> Iterator[None]:
    """obstore's errors as ours, without what could hold a secret: their first line only."""
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(doing) from error
    except FileNotFoundError:
        if missing is not None:
            raise StoreError(missing) from None
        raise
    except (FileExistsError, StoreError):
        raise
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        raise StoreError(f"could not {doing}: {_in_short(error)}", outcome_unknown=True) from error


def _in_short(error: Exception) -> str:
    """What the server said, or the first line of what obstore says."""
    text = str(error).strip()
    told = [
        found[1]
        for tag in ("Code", "Message")
        if (found := re.search(f"<{tag}>([^<]{{1,300}})</{tag}>", text))
    ]
    return ": ".join(told) or text.partition("\n")[0] or type(error).__name__


_memory: dict[str, Any] = {}
_memory_lock = threading.Lock()

_S3_SETTINGS = ("endpoint", "lock_days", "lock_mode", "profile", "region")
_CHECKSUM = {"x-amz-sdk-checksum-algorithm": "SHA256"}
"""Says which of the checksum's headers is meant, as every SDK does; needed for what is locked."""
_LOCK_MODES = ("COMPLIANCE", "GOVERNANCE")


def open_remote(url: str) -> Remote:
    """The place of a URL: a folder (a path or ``file://``), ``s3://``, ``gs://``, ``az://``, ``memory://``.

    ``s3://BUCKET/PREFIX?region=…&endpoint=…&profile=…`` takes its credentials as the collected bucket does,
    by botocore; with ``&lock_mode=COMPLIANCE&lock_days=365`` each object is locked for so long (Object Lock).
    For the others obstore looks for credentials in the environment.

    Raises:
        ConfigError: the URL is malformed.
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        path = unquote(parts.path) if parts.scheme else url
        if not path or parts.netloc not in ("", "localhost"):
            raise ConfigError(f"{redact(url)} is not a folder: write file:///PATH")
        return FolderRemote(Path(path))
    if parts.fragment or not parts.netloc:
        raise ConfigError(f"{redact(url)} is not a replica's URL: write s3://BUCKET/PREFIX")
    prefix = unquote(parts.path).strip("/")
    if "//" in prefix or {".", ".."} & set(prefix.split("/")):
        raise ConfigError(f"the prefix of {redact(url)} has an empty, '.' or '..' part")
    prefix += "/" if prefix else ""
    shown = f"{parts.scheme}://{parts.netloc}/{prefix}"
    if parts.scheme == "memory":
        from obstore.store import MemoryStore

        with _memory_lock:
            return ObstoreRemote(_memory.setdefault(parts.netloc, MemoryStore()), prefix, shown)
    if "@" in parts.netloc:
        raise ConfigError(f"{redact(url)}: credentials don't belong into a replica's URL")
    if parts.scheme in ("s3", "s3a"):
        store, writer = _s3(url, parts.netloc, dict(parse_qsl(parts.query, keep_blank_values=True)))
        return ObstoreRemote(store, prefix, shown, writer=writer)
    if parts.query:
        raise ConfigError(f"{redact(url)}: only s3:// takes settings behind a question mark")
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    try:
        store = from_url(f"{parts.scheme}://{parts.netloc}", client_options=_client({}))
    except (BaseError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ConfigError(f"no replica can be opened at {redact(url)}: {first}") from None
    return ObstoreRemote(store, prefix, shown)


def _client(more: dict[str, Any]) -> Any:
    spans = {
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": timedelta(seconds=SILENCE_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }
    return {**spans, **more}


def _s3(url: str, bucket: str, settings: dict[str, str]) -> tuple[Any, Callable[[], Any]]:
    """A store to read with, and what gives the one to write with."""
    from obstore.store import S3Store

    from s3gc.stores.s3._credentials import BotocoreCredentials, open_session, session_setting

    unknown = ", ".join(sorted(settings.keys() - set(_S3_SETTINGS)))
    if unknown:
        known = ", ".join(_S3_SETTINGS)
        raise ConfigError(f"{redact(url)}: unknown setting {unknown} (known: {known})")
    session = open_session(settings.get("profile"))
    source = BotocoreCredentials(session)

    def credentials() -> Any:
        found = source.current()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": datetime.now(UTC) + timedelta(seconds=CREDENTIAL_SECONDS),
        }

    endpoint = settings.get("endpoint")
    config: dict[str, Any] = {
        "region": settings.get("region") or session_setting(session, "region") or "us-east-1",
        # The server compares it with what it received; a bucket with a default retention asks for one.
        "checksum_algorithm": "SHA256",
        "conditional_put": "etag",
    }
    if endpoint:
        config["endpoint"] = endpoint.rstrip("/")
    more = {"allow_http": True} if endpoint and endpoint.startswith("http://") else {}

    def made(headers: dict[str, str]) -> Any:
        options = _client({**more, "default_headers": headers} if headers else more)
        return S3Store(
            bucket, config=cast(Any, config), client_options=options, credential_provider=credentials
        )

    lock = _lock(url, settings)
    if lock is None:
        writer = made(_CHECKSUM)
        return made({}), lambda: writer
    return made({}), _Locked(made, *lock)


def _lock(url: str, settings: dict[str, str]) -> tuple[str, int] | None:
    mode, days = settings.get("lock_mode"), settings.get("lock_days")
    if mode is None and days is None:
        return None
    if mode not in _LOCK_MODES or not (days or "").isdecimal() or not 0 < int(days or 0) <= 36_500:
        raise ConfigError(
            f"{redact(url)}: a lock needs lock_mode ({' or '.join(_LOCK_MODES)}) and lock_days (1 to 36500)"
        )
    return mode, int(days or 0)


class _Locked:
    """Gives a store whose uploads are locked for some days.

    obstore sends (and signs) the same headers with each request, so the moment is the store's, which is made
    anew every hour.
    """

    def __init__(self, made: Callable[[dict[str, str]], Any], mode: str, days: int) -> None:
        self._made = made
        self._mode = mode
        self._span = timedelta(days=days)
        self._lock = threading.Lock()
        self._store: Any = None
        self._until = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> Any:
        with self._lock:
            now = datetime.now(UTC)
            if now >= self._until:
                # An hour more, so that the last upload by this store is locked for the whole span as well.
                self._until = now + timedelta(hours=1)
                last = (self._until + self._span).strftime("%Y-%m-%dT%H:%M:%SZ")
                lock = {"x-amz-object-lock-mode": self._mode, "x-amz-object-lock-retain-until-date": last}
                self._store = self._made({**_CHECKSUM, **lock})
            return self._store
