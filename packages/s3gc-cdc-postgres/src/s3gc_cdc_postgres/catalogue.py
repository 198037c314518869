"""What the catalogue says of the tracked tables, the publication and the slot, at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from s3gc.sources.capture import TrackedTable, all_there, digest, nearest
from s3gc_cdc_postgres.position import Fingerprint, LeafPrint, TablePrint, parse_lsn

_TABLE = """
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
    c.relreplident::text, c.relispartition, c.relfilenode::int8,
    EXISTS (SELECT 1 FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid
        WHERE i.inhparent = c.oid AND NOT k.relispartition),
    EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1::text)
"""
# The key is what the direct read takes: the index of the replica identity, or else the primary key.
_COLUMNS = """
SELECT a.attnum::int4, a.attname::text, a.atttypid::int8, format_type(a.atttypid, a.atttypmod),
    a.attgenerated::text, a.xmin::text, coalesce(array_position(i.indkey::int2[], a.attnum), -1)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_index i ON i.indrelid = a.attrelid
    AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
# CREATE TABLE … PARTITION OF inherits its columns as it makes them: such a row of the catalogue is as old as
# those of the system's columns, which never change, and as old as its place in the tree. ATTACH PARTITION,
# also in the same transaction, writes each of them anew, in a later command.
_LEAVES = """
WITH RECURSIVE tree AS (
    SELECT inhrelid, inhparent, xmin AS version FROM pg_inherits WHERE inhparent = $1::int8::oid
    UNION ALL SELECT i.inhrelid, i.inhparent, i.xmin
    FROM pg_inherits i JOIN tree t ON i.inhparent = t.inhrelid)
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
    c.relreplident::text, c.relfilenode::int8, t.inhparent::int8,
    ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a
        ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
        WHERE i.indrelid = c.oid
        AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END),
    t.version::text,
    EXISTS (SELECT 1 FROM pg_attribute s JOIN pg_attribute a ON a.attrelid = s.attrelid
        WHERE s.attrelid = c.oid AND s.attnum = -1 AND s.xmin = t.version
        AND a.xmin = s.xmin AND a.cmin = s.cmin
        AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attislocal AND a.attinhcount = 1),
    c.relkind = 'r' AND coalesce(pg_relation_size(c.oid::regclass) = 0, false)
FROM tree t JOIN pg_class c ON c.oid = t.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY c.oid
"""
# A unique index that could serve as the identity: of plain columns that are NOT NULL, checked at once.
_UNIQUE = """
SELECT i.indexrelid::regclass::text FROM pg_index i
WHERE i.indrelid = $1::int8::oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
    AND i.indexprs IS NULL AND NOT EXISTS (
        SELECT 1 FROM unnest(i.indkey::int2[]) k
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k WHERE NOT a.attnotnull)
ORDER BY i.indnatts, i.indexrelid LIMIT 1
"""
_PUBLICATION = """
SELECT oid::int8, xmin::text, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot
FROM pg_publication WHERE pubname = $1::text
"""
_PUBLISHED = """
SELECT r.oid::int8, r.xmin::text, r.prrelid::int8, {columns}, {filter}
FROM pg_publication_rel r WHERE r.prpubid = $1::int8::oid
"""
_SERVER = """
SELECT current_setting('server_version_num')::int4, current_setting('wal_level'),
    (SELECT oid::int8 FROM pg_database WHERE datname = current_database()), current_database()::text,
    left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_current_wal_insert_lsn()::text,
    current_setting('max_slot_wal_keep_size'), current_setting('max_replication_slots')::int4,
    current_setting('max_wal_senders')::int4, current_setting('wal_sender_timeout'), current_user::text,
    (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)
    OR EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = 'rds_replication'
        AND pg_has_role(current_user, r.oid, 'member')),
    current_setting('synchronous_standby_names')
"""
_SLOT = """
SELECT plugin::text, slot_type, database::text, active, active_pid, confirmed_flush_lsn::text,
    restart_lsn::text, wal_status,
    (pg_current_wal_insert_lsn() - coalesce(restart_lsn, pg_current_wal_insert_lsn()))::int8,
    (pg_current_wal_insert_lsn() - coalesce(confirmed_flush_lsn, pg_current_wal_insert_lsn()))::int8,
    safe_wal_size::int8, temporary
FROM pg_replication_slots WHERE slot_name = $1::text
"""
# Whoever changes a table or a publication holds one of these locks until the change is visible. Vacuum and
# its like hold one too, for long, and change nothing.
_CHANGING = """
SELECT count(*) FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND ((l.locktype = 'relation' AND l.relation::int8 = ANY ($1::int8[]))
    OR (l.locktype = 'object' AND l.classid IN ('pg_publication'::regclass, 'pg_publication_rel'::regclass)))
  AND coalesce(a.backend_type, '') <> 'autovacuum worker'
  AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_vacuum p WHERE p.pid = l.pid)
  AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_analyze p WHERE p.pid = l.pid)
  AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.pid = l.pid)
"""
COLUMN_LISTS = 150_000
"""The first version whose publications have column lists."""


@frozen
class ColumnInfo:
    """A column of a tracked table."""

    number: int
    name: str
    type_oid: int
    type: str
    generated: bool
    version: str  # of its row in the catalogue


@frozen
class Leaf:
    """A partition."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    identity: str
    storage: int
    parent: int
    key: frozenset[str]
    attached: str  # version of its place in the tree
    created: bool  # it was made as a partition, and has been one ever since
    empty: bool  # there is nothing in its file

    def prints(self, key: frozenset[str]) -> LeafPrint:
        """
        Args:
            key: the root's.
        """
        alike = self.identity == "f" or (self.identity != "n" and (self.key == key or self.kind == "p"))
        usual = self.kind in ("r", "p") and self.persistence == "p" and alike
        return LeafPrint(
            digest(self.kind, self.persistence, self.identity, self.parent, sorted(self.key), self.attached),
            digest(self.storage),
            told=usual and (self.created or self.empty),
        )


@frozen
class Published:
    """How a table stands in the publication."""

    version: str
    columns: frozenset[int] | None  # None: all
    filtered: bool


@frozen
class TableInfo:
    """A tracked table as it is now."""

    tracked: TrackedTable
    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    identity: str
    is_partition: bool
    storage: int
    has_children: bool
    has_parent: bool
    key: Sequence[ColumnInfo]
    columns: Sequence[ColumnInfo]  # the tracked ones, in order
    leaves: Sequence[Leaf]
    unique: str | None
    published: Published | None

    @property
    def whole_identity(self) -> bool:
        """Whether the old row is sent as a whole, from anywhere."""
        return self.identity == "f" or any(leaf.identity == "f" for leaf in self.leaves)

    def prints(self) -> TablePrint:
        published = self.published
        columns = (*self.key, *self.columns)
        shape = digest(
            self.oid, self.schema, self.name, self.kind, self.persistence, self.identity,
            [(c.number, c.name, c.type_oid, c.type, c.generated, c.version) for c in columns],
            published and (published.version, sorted(published.columns or ()), published.filtered),
        )  # fmt: skip
        key = frozenset(column.name for column in self.key)
        return TablePrint(shape, digest(self.storage), {leaf.oid: leaf.prints(key) for leaf in self.leaves})


@frozen
class Publication:
    """The publication as it is now."""

    oid: int
    version: str
    all_tables: bool
    events: frozenset[str]
    via_root: bool


@frozen
class Slot:
    """The slot as it is now. Sizes in bytes."""

    plugin: str
    kind: str
    database: str
    active_pid: int | None
    confirmed: int
    restart: int | None
    wal_status: str
    held: int
    lag: int
    safe: int | None


@frozen
class Server:
    """The server's settings and this user's rights, as far as change capture needs them."""

    version: int
    wal_level: str
    database_oid: int
    database: str
    timeline: str
    lsn: int
    max_slot_wal_keep_size: str
    max_replication_slots: int
    max_wal_senders: int
    wal_sender_timeout: str
    user: str
    may_replicate: bool
    synchronous_standby_names: str


@frozen
class Catalogue:
    """All of it."""

    server: Server
    tables: Sequence[TableInfo | str]  # a text says why a table isn't there
    publication: Publication | None
    slot: Slot | None

    def prints(self, configuration: str) -> Fingerprint:
        found = self.publication
        return Fingerprint(
            digest(self.server.timeline, self.server.database_oid),
            configuration,
            digest(found and (found.oid, found.version)),
            tuple(
                TablePrint(digest("missing"), digest("missing")) if isinstance(table, str) else table.prints()
                for table in self.tables
            ),
        )

    @property
    def known(self) -> Sequence[TableInfo]:
        """The tables that are there.

        Raises:
            SourceError: one is missing.
        """
        return all_there(self.tables)


def quoted(*parts: str) -> str:
    """Names as SQL."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


async def load(connection: Any, tracked: Sequence[TrackedTable], publication: str, slot: str) -> Catalogue:
    """Read the catalogue in one transaction."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        server = _server(await connection.fetchrow(_SERVER))
        found = await connection.fetchrow(_PUBLICATION, publication)
        published: dict[int, Published] = {}
        if found is not None:
            lists = server.version >= COLUMN_LISTS
            sql = _PUBLISHED.format(
                columns="r.prattrs::int2[]" if lists else "NULL::int2[]",
                filter="r.prqual IS NOT NULL" if lists else "false",
            )
            for oid, version, table, columns, filtered in await connection.fetch(sql, found[0]):
                numbers = None if columns is None else frozenset(columns)
                published[table] = Published(f"{oid}.{version}", numbers, filtered)
        tables = [await _table(connection, table, published) for table in tracked]
        row = await connection.fetchrow(_SLOT, slot)
    return Catalogue(server, tables, found and _publication(found), row and _slot(row))


async def changing(connection: Any, oids: Sequence[int]) -> int:
    """How many are changing one of these tables or a publication at this moment."""
    return int(await connection.fetchval(_CHANGING, list(oids)))


async def _table(connection: Any, tracked: TrackedTable, published: dict[int, Published]) -> TableInfo | str:
    row = await connection.fetchrow(_TABLE, quoted(*tracked.parts))
    if row is None:
        return f"there is no table {tracked.spec!r}, or this user may not see it"
    oid, schema, name, kind, persistence, identity, is_partition, storage, has_children, has_parent = row
    infos: dict[str, ColumnInfo] = {}
    key: list[tuple[int, ColumnInfo]] = []
    for number, column, type_oid, type_name, generated, version, order in await connection.fetch(
        _COLUMNS, oid
    ):
        infos[column] = ColumnInfo(number, column, type_oid, type_name, bool(generated.strip("\0")), version)
        if order >= 0:
            key.append((order, infos[column]))
    for spec, column in tracked.columns:
        if column not in infos:
            return f"table {tracked.spec!r} has no column {spec!r}{nearest(column, infos)}"
    leaves = [
        Leaf(*[*values[:8], frozenset(values[8]), *values[9:]])
        for values in await connection.fetch(_LEAVES, oid)
    ]
    return TableInfo(
        tracked, oid, schema, name, kind, persistence, identity, is_partition, storage, has_children,
        has_parent, [column for _, column in sorted(key, key=lambda one: one[0])],
        [infos[column] for _, column in tracked.columns], leaves, await connection.fetchval(_UNIQUE, oid),
        published.get(oid),
    )  # fmt: skip


def _publication(row: Any) -> Publication:
    oid, version, all_tables, insert, update, delete, truncate, via_root = row
    events = {"insert": insert, "update": update, "delete": delete, "truncate": truncate}
    return Publication(oid, version, all_tables, frozenset(e for e, on in events.items() if on), via_root)


def _slot(row: Any) -> Slot:
    plugin, kind, database, _, pid, confirmed, restart, wal_status, held, lag, safe, _ = row
    return Slot(
        plugin or "", kind, database or "", pid, parse_lsn(confirmed or "0/0"),
        None if restart is None else parse_lsn(restart), wal_status or "lost", held, lag, safe,
    )  # fmt: skip


def _server(row: Any) -> Server:
    values = list(row)
    values[5] = parse_lsn(values[5])
    return Server(*values)
