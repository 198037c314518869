"""Which backups have which content: an index beside the journal, made from it, never believed.

It maps the first 8 bytes of a SHA-256 to the numbers of journal entries. What an entry says is held against
the content by whoever asks. The file can be deleted at any time; it is made anew then.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection
from pathlib import Path

from s3gc.journal_events import BACKUPS, REPACKED

CONTENTS_NAME = "contents.sqlite3"

SHARED_MIN_BYTES = 8192
"""Smaller content is not looked for: that takes time, and a frame that shares bytes 600 of its own."""

MOST = 4
"""Entries given for one content, the newest first."""

_PAGE = 10_000
_BUSY_SECONDS = 5.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS contents (hash INTEGER, seq INTEGER, PRIMARY KEY (hash, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (vault_id TEXT, seq INTEGER, entry TEXT);
"""


def short(sha256: bytes) -> int:
    """What the index keeps of a SHA-256."""
    return int.from_bytes(sha256[:8], signed=True)


class Contents:
    """The index of one vault. All methods block and raise sqlite3.Error; one thread at a time.

    Args:
        folder: the vault's.
        journal: the journal's file, which is only read.
    """

    def __init__(self, folder: Path, journal: Path, vault_id: str) -> None:
        self._path = folder / CONTENTS_NAME
        self._vault_id = vault_id
        self._journal = sqlite3.connect(
            f"{journal.as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, check_same_thread=False
        )
        try:
            self._database = self._opened()
        except BaseException:
            self._journal.close()
            raise

    def close(self) -> None:
        """May be called twice."""
        self._database.close()
        self._journal.close()

    def find(self, wanted: Collection[bytes]) -> dict[bytes, list[int]]:
        """SHA-256 -> numbers of journal entries that may be of backups with this content, newest first."""
        self._catch_up()
        by_hash = {short(sha256): sha256 for sha256 in wanted}
        hashes = sorted(by_hash)
        found: dict[bytes, list[int]] = {}
        for begin in range(0, len(hashes), 500):  # SQLite of old takes 999 values
            some = hashes[begin : begin + 500]
            marks = ", ".join("?" * len(some))
            rows = self._database.execute(
                f"SELECT hash, seq FROM contents WHERE hash IN ({marks}) ORDER BY hash, seq DESC", some
            )
            for number, seq in rows:
                numbers = found.setdefault(by_hash[number], [])
                if len(numbers) < MOST:
                    numbers.append(seq)
        return found

    def _opened(self) -> sqlite3.Connection:
        """The database, or a new one when the old one is damaged or of another journal."""
        for _ in range(2):
            database = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                # Nothing is lost with it, so it need not outlive a loss of power.
                for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-8192"):
                    database.execute(f"PRAGMA {pragma}")
                database.executescript(_SCHEMA)
                if self._fits(database):
                    self._path.chmod(0o600)
                    return database
            except sqlite3.DatabaseError:
                pass
            database.close()
            for ending in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self._path.with_name(CONTENTS_NAME + ending).unlink()
        raise sqlite3.DatabaseError(f"{self._path} can't be made")

    def _fits(self, database: sqlite3.Connection) -> bool:
        row = database.execute("SELECT vault_id, seq, entry FROM state").fetchone()
        if row is None:
            database.execute("INSERT INTO state VALUES (?, 0, '')", (self._vault_id,))
            return True
        vault_id, seq, entry = row
        if vault_id != self._vault_id:
            return False
        found = self._journal.execute("SELECT hash FROM entries WHERE seq = ?", (seq,)).fetchone()
        return bool(seq == 0 or found == (entry,))

    def _catch_up(self) -> None:
        (seq,) = self._database.execute("SELECT seq FROM state").fetchone()
        last, entry = self._journal.execute(
            "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"
        ).fetchone() or (0, "")
        if last <= seq:
            return
        events = sorted({*BACKUPS, REPACKED})
        rows = self._journal.execute(
            "SELECT seq, json_extract(data, '$.backup.sha256') FROM entries "
            f"WHERE seq > ? AND seq <= ? AND +event IN ({', '.join('?' * len(events))}) "
            "AND json_extract(data, '$.backup.size') >= ? "
            "AND json_extract(data, '$.backup.same_as') IS NULL",
            (seq, last, *events, SHARED_MIN_BYTES),
        )
        while page := rows.fetchmany(_PAGE):
            made = [(short(bytes.fromhex(sha256)), seq) for seq, sha256 in page]
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR IGNORE INTO contents VALUES (?, ?)", sorted(made))
            self._database.execute("COMMIT")
        self._database.execute("UPDATE state SET seq = ?, entry = ?", (last, entry))
