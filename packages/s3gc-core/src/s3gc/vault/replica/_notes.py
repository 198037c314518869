"""``replicas.sqlite3``: what was verified where. A saving of work, never the truth: it may be lost.

The truth is what the remote lists and what the vault holds. Without the notes every object of the remote is
read once more before it counts.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from s3gc._log import get_logger
from s3gc.errors import VaultError

NOTES_NAME = "replicas.sqlite3"
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE verified (remote TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (remote, name)) WITHOUT ROWID;
CREATE TABLE packs (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE scanned (seq INTEGER NOT NULL, hash TEXT NOT NULL);
PRAGMA user_version={_VERSION};
"""


class Notes:
    """Used in worker threads. A damaged file is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            get_logger().warning("replica_notes_begun_anew", path=str(path), problem=str(error))
            for end in ("", "-wal", "-shm", "-journal"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as again:
                raise VaultError(f"can't use {path}: {again}") from again

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30.0)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not tables:
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            elif version != _VERSION:
                raise sqlite3.DatabaseError(f"it is of version {version}")
            self._path.chmod(0o600)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("SELECT count(*) FROM scanned").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def verified(self, remote: str) -> set[str]:
        """The names that were read back from this remote and found right."""
        sql = "SELECT name FROM verified WHERE remote = ?"
        with self._lock:
            return {name for (name,) in self._connection.execute(sql, (remote,))}

    def note(self, remote: str, names: Iterable[str]) -> None:
        sql = "INSERT OR IGNORE INTO verified VALUES (?, ?)"
        self._written(sql, [(remote, name) for name in names])

    def forget(self, remote: str, names: Iterable[str]) -> None:
        sql = "DELETE FROM verified WHERE remote = ? AND name = ?"
        self._written(sql, [(remote, name) for name in names])

    def scanned(self) -> tuple[int, str, dict[str, int]]:
        """(number and hash of an entry, pack → bytes that the entries up to it name)."""
        with self._lock:
            row = self._connection.execute("SELECT seq, hash FROM scanned").fetchone()
            if row is None:
                return 0, "", {}
            return row[0], row[1], dict(self._connection.execute("SELECT name, bytes FROM packs").fetchall())

    def note_scanned(self, seq: int, entry_hash: str, packs: Mapping[str, int]) -> None:
        """``packs``: those that changed."""
        with self._transaction():
            self._connection.execute("DELETE FROM scanned")
            self._connection.execute("INSERT INTO scanned VALUES (?, ?)", (seq, entry_hash))
            self._connection.executemany("INSERT OR REPLACE INTO packs VALUES (?, ?)", list(packs.items()))

    def forget_scanned(self) -> None:
        with self._transaction():
            self._connection.execute("DELETE FROM scanned")
            self._connection.execute("DELETE FROM packs")

    def close(self) -> None:
        self._connection.close()

    def _written(self, sql: str, rows: list[tuple[str, str]]) -> None:
        if rows:
            with self._transaction():
                self._connection.executemany(sql, rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
