"""What the server says of itself, of the tracked tables, and of those that take rows of them along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from s3gc.sources.capture import TrackedTable, all_there, digest, nearest
from s3gc_cdc_mysql.flavour import Flavour, ForeignKey, fetch, flavour_of
from s3gc_cdc_mysql.position import Fingerprint, TablePrint

_VARIABLES = """
log_bin binlog_format binlog_row_image binlog_row_metadata binlog_row_value_options server_id server_uuid
server_uid innodb_flush_log_at_trx_commit sync_binlog gtid_mode expire_logs_days binlog_expire_logs_seconds
log_bin_compress binlog_transaction_compression max_binlog_size lower_case_table_names binlog_do_db
binlog_ignore_db
"""
_TABLES = """
SELECT table_name, table_type, engine, create_options, table_rows FROM information_schema.tables
WHERE table_schema = %s
"""
_COLUMNS = """
SELECT table_name, column_name, ordinal_position, data_type, column_type, character_set_name, collation_name,
    extra, generation_expression
FROM information_schema.columns WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position
"""
_KEY = """
SELECT table_name, column_name FROM information_schema.key_column_usage
WHERE table_schema = %s AND table_name = %s AND constraint_name = 'PRIMARY' ORDER BY ordinal_position
"""


@frozen
class ColumnInfo:
    """A column of a tracked table."""

    number: int
    name: str
    data_type: str
    type: str
    charset: str
    generated: bool
    compressed: bool


@frozen
class Watched:
    """A table whose deleted rows take rows or values of tracked tables along, without a word in the log."""

    database: str
    name: str
    tables: frozenset[int]  # numbers of the tracked ones


@frozen
class TableInfo:
    """A tracked table as it is now."""

    tracked: TrackedTable
    database: str
    name: str
    kind: str
    engine: str
    versioned: bool
    key: Sequence[ColumnInfo]
    columns: Sequence[ColumnInfo]  # the tracked ones, in order
    storage: Sequence[int]
    above: Sequence[ForeignKey]  # by which changes of other tables reach its rows
    rows: int  # about

    def prints(self) -> TablePrint:
        shape = digest(
            self.database, self.name, self.kind, self.engine,
            [(c.number, c.name, c.type, c.charset, c.generated) for c in (*self.key, *self.columns)],
            self.above,
        )  # fmt: skip
        return TablePrint(shape, digest(self.storage))


@frozen
class Server:
    """The server as far as change capture needs it."""

    flavour: Flavour
    version: str
    variables: dict[str, str]
    user: str
    database: str
    logs: Sequence[
        tuple[str, int]
    ]  # the files of its log and their sizes; none if this user may not see them

    @property
    def durable(self) -> bool:
        """Whether a crash leaves tables and log the same."""
        flush, sync = (self.variables.get(n) for n in ("innodb_flush_log_at_trx_commit", "sync_binlog"))
        return flush == "1" and sync == "1"

    @property
    def identity(self) -> str:
        return digest(*(self.variables.get(name, "") for name in ("server_uuid", "server_uid", "server_id")))


@frozen
class Catalogue:
    """All of it."""

    server: Server
    tables: Sequence[TableInfo | str]  # a text says why a table isn't there
    watched: Sequence[Watched]

    def prints(self, configuration: str) -> Fingerprint:
        return Fingerprint(
            digest(self.server.identity, self.server.database),
            configuration,
            self.server.durable,
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
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


async def variables(connection: Any, names: str = _VARIABLES) -> dict[str, str]:
    """Global variables, those that this server has."""
    listed = ", ".join(f"'{name}'" for name in names.split())
    rows = await fetch(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")
    return {str(name).lower(): str(value) for name, value in rows}


async def load(connection: Any, tracked: Sequence[TrackedTable]) -> Catalogue:
    """Read the catalogue."""
    [(version, user, database)] = await fetch(connection, "SELECT VERSION(), CURRENT_USER(), DATABASE()")
    flavour = flavour_of(str(version))
    server = Server(
        flavour,
        str(version),
        await variables(connection),
        str(user),
        str(database or ""),
        await flavour.logs(connection),
    )
    keys = await flavour.foreign_keys(connection)
    storage = await flavour.storage(connection)
    tables: list[TableInfo | str] = []
    for table in tracked:
        tables.append(await _table(connection, table, server.database, keys, storage))
    return Catalogue(server, tables, watched(tables))


async def _table(
    connection: Any,
    tracked: TrackedTable,
    database: str,
    keys: Sequence[ForeignKey],
    storage: dict[tuple[str, str], list[int]],
) -> TableInfo | str:
    database = tracked.parts[0] if len(tracked.parts) == 2 else database
    name = tracked.parts[-1]
    if not database:
        return "the URL names no database: end it with /name or write database.table"
    every = await fetch(connection, _TABLES, database)
    found = [row for row in every if row[0] == name]
    if not found:
        hint = nearest(name, [str(row[0]) for row in every])
        return f"there is no table {tracked.spec!r}, or this user may not see it{hint}"
    [(_, kind, engine, options, rows)] = found
    infos: dict[str, ColumnInfo] = {}
    for of, column, number, data_type, type_name, charset, collation, extra, expression in await fetch(
        connection, _COLUMNS, database, name
    ):
        if of == name:
            infos[str(column)] = ColumnInfo(
                int(number), str(column), str(data_type).lower(), str(type_name), f"{charset} {collation}",
                bool(expression) or "GENERATED" in str(extra).upper().replace("DEFAULT_GENERATED", ""),
                "COMPRESSED" in f"{type_name} {extra}".upper(),
            )  # fmt: skip
    for spec, column in tracked.columns:
        if column not in infos:
            return f"table {tracked.spec!r} has no column {spec!r}{nearest(column, infos)}"
    # A system-versioned table has a hidden column in its key.
    parts = [str(column) for of, column in await fetch(connection, _KEY, database, name) if of == name]
    key = [infos[column] for column in parts if column in infos]
    columns = [infos[column] for _, column in tracked.columns]
    mattering = {column.name for column in (*key, *columns)}
    above = sorted(_leading((database, name), mattering, keys), key=repr)
    return TableInfo(
        tracked, database, name, str(kind), str(engine or ""),
        "VERSIONED" in f"{kind} {options}".upper(), key, columns, storage.get((database, name), []), above,
        int(rows or 0),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------- foreign keys


def _acts(key: ForeignKey, columns: set[str] | None) -> bool:
    """Whether it does something to these columns of its child; to any if None."""
    if columns is None:
        return key.deletes or key.nulls or key.updates
    return key.deletes or ((key.nulls or key.updates) and any(child in columns for child, _ in key.columns))


def _leading(child: tuple[str, str], columns: set[str], keys: Sequence[ForeignKey]) -> set[ForeignKey]:
    """The foreign keys by which changes of other tables reach this one, over any number of steps."""
    found = {key for key in keys if key.child == child and _acts(key, columns)}
    queue = [key.parent for key in found]
    while queue:
        at = queue.pop()
        for key in keys:
            if key.child == at and key not in found and _acts(key, None):
                found.add(key)
                queue.append(key.parent)
    return found


def watched(tables: Sequence[TableInfo | str]) -> list[Watched]:
    """The tables above the tracked ones."""
    found: dict[tuple[str, str], set[int]] = {}
    for number, table in enumerate(tables):
        if not isinstance(table, str):
            for key in table.above:
                if key.deletes or key.nulls:
                    found.setdefault(key.parent, set()).add(number)
    return [Watched(*name, frozenset(numbers)) for name, numbers in sorted(found.items())]
