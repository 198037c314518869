"""The registry: references, listings, observations and acknowledgements. It can always be made again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from sqlite3 import Connection

from s3gc.errors import S3GCError
from s3gc.registry._absences import AFTER_IT_WENT, Absences, NotedAbsence, NotedAbsences
from s3gc.registry._claims import Claim, Claims
from s3gc.registry._database import Database, path_of
from s3gc.registry._keys import folder_hash, key_hash
from s3gc.registry._listing import CandidatePage, Listing
from s3gc.registry._references import References, Resolved, SourceState
from s3gc.registry._scans import CutOff, Scans

__all__ = [
    "AFTER_IT_WENT",
    "Absences",
    "CandidatePage",
    "Claim",
    "Claims",
    "CutOff",
    "Listing",
    "NotedAbsence",
    "NotedAbsences",
    "References",
    "Registry",
    "Resolved",
    "Scans",
    "SourceState",
    "folder_hash",
    "key_hash",
    "path_of",
]


class Registry:
    """One bucket's registry. Every call runs in a worker thread, one at a time."""

    def __init__(self, url: str) -> None:
        self._database = Database(path_of(url))
        self.references = References(self._database)
        self.listing = Listing(self._database)
        self.claims = Claims(self._database)
        self.scans = Scans(self._database)
        self.absences = Absences(self._database)

    async def open(self, store_url: str) -> None:
        """Open or create the registry of this bucket.

        Raises:
            S3GCError: it can't be used, or belongs to another bucket.
        """
        await self._database.open()
        pinned = await self._pin(store_url)
        if pinned != store_url:
            await self.aclose()
            raise S3GCError(
                f"this registry belongs to {pinned}, not to {store_url}: give each bucket a vault_path or a "
                "registry_url of its own"
            )

    async def _pin(self, store_url: str) -> str:
        def work(connection: Connection) -> str:
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('store', ?)", (store_url,))
            return str(connection.execute("SELECT value FROM meta WHERE name = 'store'").fetchone()[0])

        return await self._database.run(work)

    async def acknowledge(self, code: str, subject: str, reason: str, at: datetime) -> None:
        """Let one breaker pass as long as its cause lasts."""

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?)",
                (code, subject, reason, at.isoformat()),
            )

        await self._database.run(work)

    async def acknowledged(self) -> frozenset[tuple[str, str]]:
        """The (code, subject) pairs that were acknowledged."""

        def work(connection: Connection) -> frozenset[tuple[str, str]]:
            rows = connection.execute("SELECT code, subject FROM acknowledged").fetchall()
            return frozenset((code, subject) for code, subject in rows)

        return await self._database.run(work)

    async def end_acknowledgements(self, still_tripped: Collection[tuple[str, str]]) -> None:
        """Forget acknowledgements whose cause is over: the next time it needs a new decision."""

        def work(connection: Connection) -> None:
            for code, subject in connection.execute("SELECT code, subject FROM acknowledged").fetchall():
                if (code, subject) not in still_tripped:
                    connection.execute(
                        "DELETE FROM acknowledged WHERE code = ? AND subject = ?", (code, subject)
                    )

        await self._database.run(work, writes=True)

    async def aclose(self) -> None:
        await self._database.aclose()
