"""The registry's database: one connection, one thread at a time, from any async backend."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

import anyio

from s3gc import _threads
from s3gc.errors import ConfigError, S3GCError
from s3gc.registry._absences import SCHEMA as ABSENCES_SCHEMA
from s3gc.registry._claims import SCHEMA as CLAIMS_SCHEMA
from s3gc.registry._pages import SCHEMA as PAGES_SCHEMA
from s3gc.registry._scans import SCHEMA as SCANS_SCHEMA

T = TypeVar("T")

CACHE_KIB = 8 * 1024
"""SQLite's page cache. Fixed, so that memory doesn't grow with the bucket."""

SCHEMA_VERSION = 2

_BUSY = timedelta(seconds=30)
"""How long to wait for another process's write."""

# The driver's name (``sqlite+aiosqlite``), a host and options (``?timeout=5``) say nothing here.
_URL = re.compile(r"(?P<kind>\w+)(?:\+\w+)*://[^/?]*(?:/(?P<path>[^?]*))?(?:\?.*)?")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS columns (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL, tbl TEXT NOT NULL, col TEXT NOT NULL,
  folder INTEGER NOT NULL,
  UNIQUE (source, tbl, col, folder));
-- one row per mention of one key (or folder); a 64-bit hash stands for it (a collision only keeps too much)
CREATE TABLE IF NOT EXISTS refs (
  col INTEGER NOT NULL, row_id TEXT NOT NULL, key_hash INTEGER NOT NULL,
  PRIMARY KEY (col, row_id, key_hash)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS refs_by_key ON refs (key_hash);
-- ordinal_good, references_good: as of the last cycle that nothing held; synced: when the position was taken;
-- lost: why changes could not be followed, until a person has been told
CREATE TABLE IF NOT EXISTS sources (
  name TEXT PRIMARY KEY, position TEXT NOT NULL, ordinal INTEGER, followed INTEGER NOT NULL,
  synced INTEGER NOT NULL, references_good INTEGER, ordinal_good INTEGER, lost TEXT) WITHOUT ROWID;
-- keys that a change named since the last cycle: their grace begins at that moment
CREATE TABLE IF NOT EXISTS touched (key_hash INTEGER PRIMARY KEY, at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS unreferenced (
  key TEXT PRIMARY KEY, etag TEXT NOT NULL, modified INTEGER NOT NULL,
  since INTEGER NOT NULL, observations INTEGER NOT NULL, cycle TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS acknowledged (
  code TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (code, subject)) WITHOUT ROWID;
"""
SCHEMA = _SCHEMA + CLAIMS_SCHEMA + ABSENCES_SCHEMA + SCANS_SCHEMA

_SCRATCH = """
CREATE TABLE scratch.stage (col INTEGER NOT NULL, row_id TEXT NOT NULL, key_hash INTEGER NOT NULL);
CREATE TABLE scratch.changed (
  col INTEGER NOT NULL, row_id TEXT NOT NULL, PRIMARY KEY (col, row_id)) WITHOUT ROWID;
-- listed objects that no reference names, in key order; those that only stand apart come last
CREATE TABLE scratch.free (
  n INTEGER PRIMARY KEY, key TEXT NOT NULL, key_hash INTEGER NOT NULL, size INTEGER NOT NULL,
  etag TEXT NOT NULL, modified INTEGER NOT NULL, version_id TEXT, storage_class TEXT,
  ambiguous INTEGER NOT NULL);
-- by column, how many of its references name a listed object
CREATE TABLE scratch.hits (col INTEGER PRIMARY KEY, refs INTEGER NOT NULL);
-- what protects a free object besides references to its own key: its folders and parents
CREATE TABLE scratch.protectors (n INTEGER NOT NULL, key_hash INTEGER NOT NULL);
CREATE TABLE scratch.spared (n INTEGER PRIMARY KEY);
"""
SCRATCH = PAGES_SCHEMA + _SCRATCH


class Database:
    """A SQLite database with a scratch database attached to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scratch = path.with_name(path.name + ".scratch")
        self._limiter: anyio.CapacityLimiter | None = None
        self._connection: Connection | None = None
        self._attached = False

    async def open(self) -> None:
        """Open or create. Raises S3GCError when the file can't be used."""
        self._limiter = anyio.CapacityLimiter(1)
        await _threads.run(self._open, limiter=self._limiter)

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # isolation_level: transactions begin where `run` says so, and nowhere else.
            connection = self._connection = sqlite3.connect(
                self._path, timeout=_BUSY.total_seconds(), isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode=WAL")
            # A followed source releases its changes once they are applied here: by then they are on the disk.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            for statement in _statements(SCHEMA):
                connection.execute(statement)
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found == 0:
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            elif found != SCHEMA_VERSION:
                raise S3GCError(
                    f"registry {self._path} has schema version {found}, this s3gc knows {SCHEMA_VERSION}: "
                    "update s3gc, or move the file away (it is rebuilt from the sources; grace begins anew)"
                )
        except (sqlite3.DatabaseError, OSError) as error:
            raise S3GCError(
                f"registry {self._path} can't be used ({error}): check the folder's permissions, or move "
                "the file away (it is rebuilt from the sources; grace begins anew)"
            ) from None

    async def clear_scratch(self) -> None:
        """Begin with an empty scratch database. It holds one cycle's listing and staged references."""
        await self._in_thread(self._clear_scratch)

    def _clear_scratch(self, connection: Connection) -> None:
        """Outside a transaction: neither attaching nor these pragmas work in one."""
        if self._attached:
            connection.execute("DETACH DATABASE scratch")
            self._attached = False
        for leftover in (self._scratch, self._scratch.with_name(self._scratch.name + "-journal")):
            leftover.unlink(missing_ok=True)
        connection.execute("ATTACH DATABASE ? AS scratch", (str(self._scratch),))
        self._attached = True
        # Scratch only: a crash throws it away, so it needs neither journal nor sync.
        connection.execute("PRAGMA scratch.journal_mode=OFF")
        connection.execute("PRAGMA scratch.synchronous=OFF")
        connection.execute(f"PRAGMA scratch.cache_size=-{CACHE_KIB}")
        for statement in _statements(SCRATCH):
            connection.execute(statement)

    async def run(self, work: Callable[[Connection], T], *, scratch: bool = False, writes: bool = False) -> T:
        """Run ``work`` in the registry's thread, in one transaction.

        Args:
            scratch: it needs the scratch database, even if there was no listing yet.
            writes: take the write lock first, and wait for it. Needed where it looks before it writes: what
                it saw then still holds when it writes, whatever other processes do.
        """

        def transaction(connection: Connection) -> T:
            if scratch and not self._attached:
                self._clear_scratch(connection)
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            result = work(connection)
            connection.commit()
            return result

        return await self._in_thread(transaction)

    async def _in_thread(self, work: Callable[[Connection], T]) -> T:
        """Whatever goes wrong, no transaction stays open."""
        if self._limiter is None:
            raise S3GCError("the registry is not open")

        def guarded() -> T:
            connection = self._connection
            if connection is None:
                raise S3GCError("the registry is closed")
            try:
                return work(connection)
            except sqlite3.DatabaseError as error:
                connection.rollback()
                raise S3GCError(
                    f"the registry {self._path} could not be used ({error}): look after its disk; if "
                    "the file is damaged, move it away (it is rebuilt from the sources; grace begins anew)"
                ) from error
            except BaseException:
                connection.rollback()
                raise

        return await _threads.run(guarded, limiter=self._limiter)

    async def aclose(self) -> None:
        if self._limiter is not None:
            await _threads.run(self._close, limiter=self._limiter)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            if self._attached:  # else it is another process's
                self._scratch.unlink(missing_ok=True)


def _statements(script: str) -> Iterator[str]:
    return (statement for statement in script.split(";\n") if statement.strip())


def path_of(url: str) -> Path:
    """The file of a ``sqlite:///`` URL or a plain path.

    Raises:
        ConfigError: another kind of database (the registry's SQL is SQLite's so far).
    """
    if "://" not in url:
        return Path(url)
    parsed = _URL.fullmatch(url)
    if parsed is None:
        raise ConfigError(f"registry_url {url!r} is not a database URL: write sqlite:///path")
    path = parsed["path"]
    if parsed["kind"] != "sqlite" or not path or path == ":memory:":
        raise ConfigError("registry_url must be sqlite:///path/to/file: other databases aren't supported yet")
    return Path(path)
