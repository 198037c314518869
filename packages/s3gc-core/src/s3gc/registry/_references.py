"""References by source: scanned or changed, always applied in one transaction together with the position."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection

from attrs import frozen

from s3gc.errors import S3GCError
from s3gc.model import ChangeBatch, Column, Position, Reference
from s3gc.registry import _absences, _pages, _scans
from s3gc.registry._columns import Columns
from s3gc.registry._database import Database
from s3gc.registry._keys import hash_of, key_hash
from s3gc.registry._times import micros, moment

_CHUNK = 500  # values in one IN (…)
_STALE = "stale:"  # in `meta`, with the source's name: why it must be scanned again


@frozen
class SourceState:
    """What the registry holds of one source."""

    position: str
    references: int
    references_good: int | None  # at the last cycle that no breaker held; None before the first
    ordinal: int | None = None  # of the position
    ordinal_good: int | None = None  # at the last cycle that no breaker held
    followed: bool = False  # the position is one that changes can be told from
    lost: str | None = None  # why changes were lost, and nobody has been told yet
    synced: datetime | None = None  # when the position was taken, by the store's clock


@frozen
class Resolved:
    """How many mentions of a column name an object that exists."""

    mentions: int
    resolved: int


class References:
    """The registry's rows: (source, table, row id, column) → key or folder."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._columns = Columns()

    # ------------------------------------------------------------------ a scan

    async def begin(self) -> None:
        """Empty the stage."""

        def work(connection: Connection) -> None:
            connection.execute("DROP INDEX IF EXISTS scratch.staged")
            connection.execute("DELETE FROM scratch.stage")
            self._columns.clear()  # never trust ids of a transaction that may have been undone

        await self._database.run(work, scratch=True)

    async def stage(self, source: str, references: Sequence[Reference]) -> None:
        """Add references of a running scan; they count for nothing before :meth:`apply`."""

        def work(connection: Connection) -> None:
            columns = self._columns
            rows = [
                (
                    columns.id_of(connection, source, reference.table, reference.column, reference.prefix),
                    reference.row_id,
                    hash_of(reference),
                )
                for reference in references
            ]
            connection.executemany("INSERT INTO scratch.stage VALUES (?, ?, ?)", rows)

        if references:
            await self._database.run(work)

    async def apply(self, source: str, position: Position, at: datetime, *, followed: bool = False) -> None:
        """Make the staged rows the source's: delete what differs, insert what is new, note the position.

        Args:
            at: a moment before the position was taken, by the store's clock.
            followed: whether changes are told from this position on.
        """

        def work(connection: Connection) -> None:
            connection.execute("CREATE INDEX scratch.staged ON stage (col, row_id, key_hash)")
            _replace(connection, source, "scratch.stage")
            _move(connection, source, position, at, followed)
            connection.execute("DROP INDEX scratch.staged")

        await self._database.run(work, writes=True)

    async def apply_scanned(self, source: str) -> None:
        """As :meth:`apply`, of a scan that could go on (:class:`Scans`) and is whole now."""

        def work(connection: Connection) -> None:
            row = connection.execute(
                "SELECT position, ordinal, synced FROM scans WHERE source = ?", (source,)
            ).fetchone()
            if row is None:
                raise S3GCError(f"{source}: the scan that was to be applied isn't there any more")
            _replace(connection, source, "scanned")
            position = Position(source, row[0], row[1])
            _move(connection, source, position, moment(row[2]), followed=True)
            _scans.forget(connection, source)

        await self._database.run(work, writes=True)

    # ------------------------------------------------------------------ changes

    async def change(self, source: str, batch: ChangeBatch, at: datetime) -> None:
        """Apply changes and their position in one transaction. What was applied before changes nothing.

        Every key that a change took away or spoke of is noted as touched, at the change's own time: its
        grace begins there. That time is not believed where it lies before the last position (a clock that
        is behind would shorten a grace): until then the key was known to be referenced.

        Args:
            at: when the changes happened: as the source says, or else now.
        """

        def work(connection: Connection) -> None:
            self._columns.clear()
            row = connection.execute("SELECT synced FROM sources WHERE name = ?", (source,)).fetchone()
            moment = max(row[0], micros(at)) if row else micros(at)
            change = _Change(
                connection,
                self._columns,
                source,
                moment,
                touching=not batch.again,
            )
            for table in batch.emptied:
                change.empty(table)
            for one in batch.changes:
                change.add(one.table, one.row_id, one.references, one.columns, one.previous_row_id)
                if one.named:
                    change.touch(key_hash(key) for key in one.named)
            change.flush()
            if batch.stale is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_STALE + source, batch.stale)
                )
            # `synced` stays: more batches of this catching-up may have happened since.
            connection.execute(
                "UPDATE sources SET position = ?, ordinal = ? WHERE name = ?",
                (batch.position.value, batch.position.ordinal, source),
            )

        await self._database.run(work, scratch=True, writes=True)

    async def caught_up(self, source: str, synced: datetime) -> None:
        """All changes up to a fence that was taken after ``synced`` are applied."""

        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE sources SET synced = ? WHERE name = ?",
                (micros(synced), source),
            )

        await self._database.run(work)

    async def lose_position(self, source: str, why: str | None) -> None:
        """What happened to its references is unknown: the next sync scans anew, and every grace begins anew.

        Args:
            why: to be told by a breaker; None if one has told it already.
        """

        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE sources SET followed = 0, lost = COALESCE(?, lost) WHERE name = ?", (why, source)
            )
            connection.execute("DELETE FROM unreferenced")
            _absences.begin_anew(connection)
            connection.execute("DELETE FROM touched")
            _scans.forget(connection, source)

        await self._database.run(work)

    async def loss_told(self, sources: Collection[str]) -> None:
        """A breaker that stays has told these losses."""

        def work(connection: Connection) -> None:
            for source in sources:
                connection.execute("UPDATE sources SET lost = NULL WHERE name = ?", (source,))

        await self._database.run(work)

    async def stale(self, source: str) -> str | None:
        """Why too many of its rows are known, until they are scanned again."""

        def work(connection: Connection) -> str | None:
            row = connection.execute("SELECT value FROM meta WHERE name = ?", (_STALE + source,)).fetchone()
            return None if row is None else str(row[0])

        return await self._database.run(work)

    # ------------------------------------------------------------------ sources

    async def forget_others(self, sources: Collection[str]) -> None:
        """Drop rows of sources that the configuration no longer has."""

        def work(connection: Connection) -> None:
            dropped = False
            for (name,) in connection.execute(
                "SELECT name FROM sources UNION SELECT source FROM columns"
            ).fetchall():
                if name not in sources:
                    connection.execute(
                        "DELETE FROM refs WHERE col IN (SELECT id FROM columns WHERE source = ?)", (name,)
                    )
                    _scans.forget(connection, name)
                    connection.execute("DELETE FROM columns WHERE source = ?", (name,))
                    connection.execute("DELETE FROM sources WHERE name = ?", (name,))
                    dropped = True
            if dropped:  # it may come back under another name, and nobody saw what it said meanwhile
                connection.execute("DELETE FROM unreferenced")
                _absences.begin_anew(connection)
                connection.execute("DELETE FROM touched")
            self._columns.clear()

        await self._database.run(work, writes=True)

    async def states(self) -> Mapping[str, SourceState]:
        """What is held of each source, counted now: there are no counters to drift."""

        def work(connection: Connection) -> dict[str, SourceState]:
            counted: dict[str, int] = dict(
                connection.execute(
                    "SELECT c.source, SUM((SELECT COUNT(*) FROM refs r WHERE r.col = c.id))"
                    " FROM columns c GROUP BY c.source"
                ).fetchall()
            )
            return {
                name: SourceState(
                    position, counted.get(name) or 0, good, ordinal, ordinal_good, bool(followed), lost
                )
                for name, position, ordinal, followed, good, ordinal_good, lost in connection.execute(
                    "SELECT name, position, ordinal, followed, references_good, ordinal_good, lost"
                    " FROM sources"
                )
            }

        return await self._database.run(work)

    async def state(self, source: str) -> SourceState | None:
        """What is held of one source, without counting; None before its first sync."""

        def work(connection: Connection) -> SourceState | None:
            row = connection.execute(
                "SELECT position, ordinal, followed, references_good, ordinal_good, lost, synced FROM sources"
                " WHERE name = ?",
                (source,),
            ).fetchone()
            if row is None:
                return None
            position, ordinal, followed, good, ordinal_good, lost, synced = row
            return SourceState(position, 0, good, ordinal, ordinal_good, bool(followed), lost, moment(synced))

        return await self._database.run(work)

    async def mark_good(self, counts: Mapping[str, int]) -> None:
        """Remember how many references each source had, and where it stood, in a cycle that nothing held."""

        def work(connection: Connection) -> None:
            for name, count in counts.items():
                connection.execute(
                    "UPDATE sources SET references_good = ?, ordinal_good = ordinal WHERE name = ?",
                    (count, name),
                )

        await self._database.run(work)

    # ------------------------------------------------------------------ questions

    async def resolved(self) -> Mapping[tuple[str, Column], Resolved]:
        """By source and column: of all mentions, those which name an object of the last listing, as compared.

        A column of folders is left out: a folder may be empty.
        """

        def work(connection: Connection) -> dict[tuple[str, Column], Resolved]:
            found = {}
            for number, source, table, column, hits in connection.execute(
                "SELECT c.id, c.source, c.tbl, c.col, COALESCE(h.refs, 0) FROM columns c"
                " LEFT JOIN scratch.hits h ON h.col = c.id"
                " WHERE NOT EXISTS (SELECT 1 FROM columns f WHERE f.source = c.source AND f.tbl = c.tbl"
                "  AND f.col = c.col AND f.folder = 1)"
            ).fetchall():
                # Two questions: the second one alone reads the rows in their order, and needs no set of them.
                (count,) = connection.execute("SELECT COUNT(*) FROM refs WHERE col = ?", (number,)).fetchone()
                (mentions,) = connection.execute(
                    "SELECT COUNT(*) FROM (SELECT DISTINCT row_id FROM refs WHERE col = ?)", (number,)
                ).fetchone()
                if count > mentions:  # a row counts once, however many of its readings name an object
                    _pages.index(connection)
                    (hits,) = connection.execute(
                        "SELECT SUM(hit) FROM (SELECT MAX(EXISTS"
                        " (SELECT 1 FROM scratch.listed l WHERE l.key_hash = r.key_hash)) AS hit"
                        " FROM refs r WHERE r.col = ? GROUP BY r.row_id)",
                        (number,),
                    ).fetchone()
                if mentions:
                    # Two listed keys may share a hash.
                    found[source, Column(table, column)] = Resolved(mentions, min(hits, mentions))
            return found

        return await self._database.run(work)

    async def unresolved(self, source: str, column: Column, limit: int) -> Sequence[str]:
        """Ids of some rows whose mention in this column names no object of the last listing."""

        def work(connection: Connection) -> list[str]:
            _pages.index(connection)
            rows = connection.execute(
                "SELECT r.row_id FROM refs r JOIN columns c ON c.id = r.col"
                " WHERE c.source = ? AND c.tbl = ? AND c.col = ? AND c.folder = 0 GROUP BY r.col, r.row_id"
                " HAVING NOT MAX(EXISTS (SELECT 1 FROM scratch.listed l WHERE l.key_hash = r.key_hash))"
                " LIMIT ?",
                (source, column.table, column.column, limit),
            )
            return [str(row[0]) for row in rows]

        return await self._database.run(work)

    async def values(self, source: str) -> Mapping[Column, int]:
        """By column, in how many rows the registry has something of it."""

        def work(connection: Connection) -> dict[Column, int]:
            numbers: dict[Column, list[int]] = {}  # two where some of its rows name keys, and some folders
            for table, column, number in connection.execute(
                "SELECT tbl, col, id FROM columns WHERE source = ?", (source,)
            ):
                numbers.setdefault(Column(table, column), []).append(number)
            found = {}
            for column, some in numbers.items():
                one = "SELECT row_id FROM refs WHERE col = ?"
                rows = one if len(some) == 1 else " UNION ".join([one] * len(some))
                (count,) = connection.execute(f"SELECT COUNT(DISTINCT row_id) FROM ({rows})", some).fetchone()
                if count:
                    found[column] = count
            return found

        return await self._database.run(work)

    async def count_of(self, key: str) -> int:
        """How many mentions of this key the registry holds: a count, never a counter."""
        value = key_hash(key)

        def work(connection: Connection) -> int:
            count = connection.execute("SELECT COUNT(*) FROM refs WHERE key_hash = ?", (value,))
            return int(count.fetchone()[0])

        return await self._database.run(work)

    async def held(self, hashes: Collection[int]) -> frozenset[int]:
        """Those of these hashes that a row names."""
        every = list(hashes)

        def work(connection: Connection) -> frozenset[int]:
            found: set[int] = set()
            for start in range(0, len(every), _CHUNK):
                some = every[start : start + _CHUNK]
                marks = ", ".join("?" * len(some))
                found.update(
                    row[0]
                    for row in connection.execute(
                        f"SELECT DISTINCT key_hash FROM refs WHERE key_hash IN ({marks})",
                        tuple(some),
                    )
                )
            return frozenset(found)

        return await self._database.run(work) if every else frozenset()

    async def has_folders(self) -> bool:
        """Whether any row names, or ever named, a folder."""

        def work(connection: Connection) -> bool:
            return connection.execute("SELECT 1 FROM columns WHERE folder = 1").fetchone() is not None

        return await self._database.run(work)


def _replace(connection: Connection, source: str, stage: str) -> None:
    """What a scan has read, in the place of all that is known of a source. ``stage`` has an index by row."""
    own = "col IN (SELECT id FROM columns WHERE source = ?)"
    connection.execute(
        f"DELETE FROM refs WHERE {own} AND NOT EXISTS (SELECT 1 FROM {stage} s"
        " WHERE s.col = refs.col AND s.row_id = refs.row_id AND s.key_hash = refs.key_hash)",
        (source,),
    )
    connection.execute(
        f"INSERT OR IGNORE INTO refs SELECT col, row_id, key_hash FROM {stage}"
        f" WHERE {own} ORDER BY col, row_id, key_hash",
        (source,),
    )
    connection.execute("DELETE FROM meta WHERE name = ?", (_STALE + source,))


def _move(connection: Connection, source: str, position: Position, at: datetime, followed: bool) -> None:
    connection.execute(
        "INSERT INTO sources (name, position, ordinal, followed, synced) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET position = excluded.position, ordinal = excluded.ordinal,"
        " followed = excluded.followed, synced = excluded.synced",
        (source, position.value, position.ordinal, followed, micros(at)),
    )


class _Change:
    """A batch of changes on its way into the registry: gathered by row, written by sets of rows."""

    def __init__(
        self,
        connection: Connection,
        columns: Columns,
        source: str,
        moment: int,
        *,
        touching: bool,
    ) -> None:
        self._connection = connection
        self._columns = columns
        self._source = source
        self._moment = moment
        self._touching = touching  # else the changes were told before
        self._rows: dict[tuple[int, str], set[int]] = {}  # (column, row) → all that it names afterwards
        self._touched: set[int] = set()

    def touch(self, hashes: Iterable[int]) -> None:
        self._touched.update(hashes)

    def empty(self, table: str) -> None:
        """All rows of a table are gone."""
        self.flush()
        for column in self._columns.of_table(self._connection, self._source, table):
            self.touch(
                row[0]
                for row in self._connection.execute("SELECT key_hash FROM refs WHERE col = ?", (column,))
            )
            self._connection.execute("DELETE FROM refs WHERE col = ?", (column,))

    def add(
        self,
        table: str,
        row_id: str,
        references: Sequence[Reference],
        columns: frozenset[str] | None,
        previous: str | None,
    ) -> None:
        """One row's change."""
        named: dict[int, set[int]] = {
            column: set()
            for name, column in self._columns.named(self._connection, self._source, table)
            if columns is None or name in columns
        }
        for one in references:
            column = self._columns.id_of(self._connection, self._source, table, one.column, one.prefix)
            named.setdefault(column, set()).add(hash_of(one))
        if previous is not None and previous != row_id:
            self._rename(table, previous, row_id, named)
        for column, hashes in named.items():
            before = self._rows.get((column, row_id))
            if before is not None:  # a change of this batch that another one has replaced
                self._touched |= before - hashes
            self._rows[column, row_id] = hashes

    def _rename(self, table: str, previous: str, row_id: str, named: Collection[int]) -> None:
        """The row got another id: what the change doesn't tell goes with it."""
        self.flush()
        for _, column in self._columns.named(self._connection, self._source, table):
            if column in named:
                self._rows[column, previous] = set()
            else:
                self._connection.execute(
                    "INSERT OR IGNORE INTO refs SELECT col, ?, key_hash FROM refs"
                    " WHERE col = ? AND row_id = ?",
                    (row_id, column, previous),
                )
                self._connection.execute("DELETE FROM refs WHERE col = ? AND row_id = ?", (column, previous))

    def flush(self) -> None:
        """Write what was gathered: delete what differs, insert what is new, note what was spoken of."""
        run, run_each = self._connection.execute, self._connection.executemany
        if self._rows:
            run("DELETE FROM scratch.changed")
            run("DELETE FROM scratch.stage")
            run_each("INSERT INTO scratch.changed VALUES (?, ?)", list(self._rows))
            staged = [(*at, value) for at, hashes in self._rows.items() for value in hashes]
            if staged:
                run_each("INSERT INTO scratch.stage VALUES (?, ?, ?)", staged)
            run("CREATE INDEX scratch.staged ON stage (col, row_id, key_hash)")
            gone = run(
                "SELECT r.col, r.row_id, r.key_hash FROM scratch.changed c"
                # CROSS: in this order. The other one reads all that is known, batch after batch.
                " CROSS JOIN refs r ON r.col = c.col AND r.row_id = c.row_id"
                " WHERE NOT EXISTS (SELECT 1 FROM scratch.stage s"
                "  WHERE s.col = r.col AND s.row_id = r.row_id AND s.key_hash = r.key_hash)"
            ).fetchall()
            if gone:
                self.touch(row[2] for row in gone)
                run_each("DELETE FROM refs WHERE col = ? AND row_id = ? AND key_hash = ?", gone)
            run(
                "INSERT OR IGNORE INTO refs SELECT col, row_id, key_hash FROM scratch.stage ORDER BY key_hash"
            )
            run("DROP INDEX scratch.staged")
            self._rows.clear()
        if not self._touching:
            self._touched.clear()
        if self._touched:
            run_each(
                "INSERT INTO touched VALUES (?, ?)"
                " ON CONFLICT (key_hash) DO UPDATE SET at = MAX(at, excluded.at)",
                [(value, self._moment) for value in self._touched],
            )
            self._touched.clear()
