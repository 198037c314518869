"""The registry's database: one connection, one thread at a time, from any async backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import StaticPool

from s3gc import _threads
from s3gc.errors import ConfigError, S3GCError
from s3gc.registry._claims import SCHEMA as CLAIMS_SCHEMA

T = TypeVar("T")

CACHE_KIB = 8 * 1024
"""SQLite's page cache. Fixed, so that memory doesn't grow with the bucket."""

SCHEMA_VERSION = 2

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
SCHEMA = _SCHEMA + CLAIMS_SCHEMA

SCRATCH = """
CREATE TABLE scratch.listing (
  n INTEGER PRIMARY KEY, key TEXT NOT NULL, key_hash INTEGER NOT NULL, size INTEGER NOT NULL,
  etag TEXT NOT NULL, modified INTEGER NOT NULL, version_id TEXT, storage_class TEXT,
  ambiguous INTEGER NOT NULL);
CREATE TABLE scratch.observed (n INTEGER PRIMARY KEY, since INTEGER NOT NULL, observations INTEGER NOT NULL);
CREATE TABLE scratch.stage (col INTEGER NOT NULL, row_id TEXT NOT NULL, key_hash INTEGER NOT NULL);
CREATE TABLE scratch.changed (
  col INTEGER NOT NULL, row_id TEXT NOT NULL, PRIMARY KEY (col, row_id)) WITHOUT ROWID;
-- what protects a listed object besides references to its own key: its folders and parents
CREATE TABLE scratch.protectors (n INTEGER NOT NULL, key_hash INTEGER NOT NULL);
CREATE TABLE scratch.spared (n INTEGER PRIMARY KEY, derived INTEGER NOT NULL);
"""


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
        engine = create_engine(
            f"sqlite:///{self._path}", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )

        @event.listens_for(engine, "connect")
        def _pragmas(dbapi: object, _record: object) -> None:
            cursor = dbapi.cursor()  # type: ignore[attr-defined]
            cursor.execute("PRAGMA journal_mode=WAL")
            # A followed source releases its changes once they are applied here: by then they are on the disk.
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            cursor.execute("PRAGMA busy_timeout=30000")
            cursor.close()

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = engine.connect()
            for statement in SCHEMA.split(";\n"):
                if statement.strip():
                    self._connection.exec_driver_sql(statement)
            self._connection.commit()
            found = self._connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found == 0:
                self._connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
                self._connection.commit()
            elif found != SCHEMA_VERSION:
                raise S3GCError(
                    f"registry {self._path} has schema version {found}, this s3gc knows {SCHEMA_VERSION}: "
                    "update s3gc, or move the file away (it is rebuilt from the sources; grace begins anew)"
                )
        except (DatabaseError, OSError) as error:
            why = error.orig if isinstance(error, DatabaseError) else error
            raise S3GCError(
                f"registry {self._path} can't be used ({why}): check the folder's permissions, or move "
                "the file away (it is rebuilt from the sources; grace begins anew)"
            ) from None

    def reset_scratch(self, connection: Connection) -> None:
        """Begin with an empty scratch database. It holds one cycle's listing and staged references."""
        connection.commit()
        attached = [row[1] for row in connection.exec_driver_sql("PRAGMA database_list")]
        connection.commit()
        if "scratch" in attached:
            connection.exec_driver_sql("DETACH DATABASE scratch")
            connection.commit()
        for leftover in (self._scratch, self._scratch.with_name(self._scratch.name + "-journal")):
            leftover.unlink(missing_ok=True)
        connection.exec_driver_sql("ATTACH DATABASE ? AS scratch", (str(self._scratch),))
        self._attached = True
        # Scratch only: a crash throws it away, so it needs neither journal nor sync.
        connection.exec_driver_sql("PRAGMA scratch.journal_mode=OFF")
        connection.exec_driver_sql("PRAGMA scratch.synchronous=OFF")
        connection.exec_driver_sql(f"PRAGMA scratch.cache_size=-{CACHE_KIB}")
        for statement in SCRATCH.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        connection.commit()

    async def run(self, work: Callable[[Connection], T], *, scratch: bool = False) -> T:
        """Run ``work`` in the registry's thread, in one transaction; the scratch database if asked for."""
        if self._limiter is None:
            raise S3GCError("the registry is not open")

        def transaction() -> T:
            connection = self._connection
            if connection is None:
                raise S3GCError("the registry is closed")
            try:
                if scratch and not self._attached:
                    self.reset_scratch(connection)
                result = work(connection)
                connection.commit()
            except DatabaseError as error:
                connection.rollback()
                raise S3GCError(
                    f"the registry {self._path} could not be used ({error.orig}): look after its disk; if "
                    "the file is damaged, move it away (it is rebuilt from the sources; grace begins anew)"
                ) from error
            except BaseException:
                connection.rollback()
                raise
            return result

        return await _threads.run(transaction, limiter=self._limiter)

    async def aclose(self) -> None:
        if self._limiter is not None:
            await _threads.run(self._close, limiter=self._limiter)

    def _close(self) -> None:
        if self._connection is not None:
            engine = self._connection.engine
            self._connection.close()
            engine.dispose()
            self._connection = None
            if self._attached:  # else it is another process's
                self._scratch.unlink(missing_ok=True)


def path_of(url: str) -> Path:
    """The file of a ``sqlite:///`` URL or a plain path.

    Raises:
        ConfigError: another kind of database (the registry's SQL is SQLite's so far).
    """
    if "://" not in url:
        return Path(url)
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(f"registry_url {url!r} is not a database URL: write sqlite:///path") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ConfigError("registry_url must be sqlite:///path/to/file: other databases aren't supported yet")
    return Path(parsed.database)
