"""What keeps change capture from telling all changes, each with the statement that mends it."""

from __future__ import annotations

from collections.abc import Sequence

from s3gc.capture import CaptureFinding as Finding
from s3gc_cdc_mysql.catalogue import Catalogue, Server, TableInfo, quoted

_KEYS = frozenset(
    {
        "tinyint", "smallint", "mediumint", "int", "bigint", "year", "decimal", "date", "datetime",
        "char", "varchar", "tinytext", "text", "mediumtext", "longtext",
        "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob",
    }
)  # fmt: skip
"""Types of keys that the log and the direct read print alike."""

_OTHERWISE = frozenset({"uuid", "inet4", "inet6", "float", "double", "time", "timestamp", "geometry", "bit"})
"""Types whose values the log tells in another form than a query."""


def findings(found: Catalogue) -> list[Finding]:
    """All that is wrong, worst first. Without a fatal one changes can be followed."""
    tables = [one for table in found.tables for one in _table(table)]
    return sorted([*_server(found.server), *tables], key=lambda one: not one.fatal)


def _server(server: Server) -> Sequence[Finding]:
    values = server.variables
    problems = []

    def wrong(name: str, problem: str, fix: str, *, fatal: bool = True) -> None:
        problems.append(Finding(name, "", problem, fix, fatal=fatal))

    if values.get("log_bin", "OFF").upper() not in ("ON", "1"):
        wrong("log_bin", "the server keeps no binary log", "start it with log_bin")
    if values.get("binlog_format", "ROW").upper() != "ROW":
        wrong(
            "binlog_format",
            f"binlog_format is {values['binlog_format']}, so that rows aren't logged",
            "SET GLOBAL binlog_format = 'ROW', write it into the server's configuration, and connect the "
            "application anew: sessions keep what they began with",
        )
    metadata = values.get("binlog_row_metadata", "")
    if metadata.upper() != "FULL":
        wrong(
            "binlog_row_metadata",
            f"binlog_row_metadata is {metadata or 'unknown to this server'}: the log doesn't name columns",
            "SET GLOBAL binlog_row_metadata = 'FULL' and write it into the server's configuration"
            if metadata
            else "upgrade: MariaDB has it since 10.5, MySQL since 8.0",
        )
    if values.get("binlog_row_value_options", ""):
        wrong(
            "binlog_row_value_options",
            f"binlog_row_value_options is {values['binlog_row_value_options']}, so that parts of JSON are "
            "logged in the place of values",
            "SET GLOBAL binlog_row_value_options = '' and connect the application anew",
        )
    if not server.durable:
        flush, sync = (values.get(n) for n in ("innodb_flush_log_at_trx_commit", "sync_binlog"))
        wrong(
            "durability",
            f"innodb_flush_log_at_trx_commit is {flush} and sync_binlog is {sync}: after a crash of the "
            "server its log and its tables may differ, so that the next cycle holds and all is read anew",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1",
            fatal=False,
        )
    return problems + list(_filters(server))


def _filters(server: Server) -> Sequence[Finding]:
    return [
        Finding(
            name,
            "",
            f"{name} is {server.variables[name]!r}: changes of some databases aren't logged",
            f"remove {name} from the server's configuration",
        )
        for name in ("binlog_do_db", "binlog_ignore_db")
        if server.variables.get(name, "")
    ]


def _table(table: TableInfo | str) -> Sequence[Finding]:
    if isinstance(table, str):
        return [Finding("table", "", table, "")]
    spec, name = table.tracked.spec, quoted(table.database, table.name)
    apart = "scan it from a source of its own: database_url without cdc_backend"
    if table.kind.upper() not in ("BASE TABLE", "SYSTEM VERSIONED"):
        return [Finding("kind", spec, f"{spec} isn't an ordinary table, so it has no changes", apart)]
    problems = []
    if table.engine.lower() != "innodb":
        problems.append(
            Finding(
                "engine",
                spec,
                f"{spec} has the engine {table.engine}: its rows are seen before they are logged",
                f"ALTER TABLE {name} ENGINE = InnoDB",
            )
        )
    if table.versioned:
        problems.append(
            Finding(
                "versioned",
                spec,
                f"{spec} is system-versioned, so that the log has the rows of its past among those of now",
                apart,
            )
        )
    if not table.key:
        problems.append(
            Finding(
                "primary_key",
                spec,
                f"{spec} has no primary key, so that nothing tells its rows apart",
                f"ALTER TABLE {name} ADD PRIMARY KEY (…)",
            )
        )
    problems += [
        Finding(
            "primary_key",
            f"{spec}.{column.name}",
            f"the key of {spec} has the type {column.type}, which the log tells in another form than a query",
            apart,
        )
        for column in table.key
        if column.data_type not in _KEYS | _OTHERWISE
    ]
    mattering = {column.name for column in (*table.key, *table.columns)}
    problems += [
        Finding(
            "cascade",
            spec,
            f"the foreign key of {spec} to {'.'.join(key.parent)} changes "
            f"{', '.join(sorted(mattering & {child for child, _ in key.columns}))} when that table's columns "
            "change, which isn't logged",
            f"make that foreign key ON UPDATE RESTRICT, or {apart}",
        )
        for key in table.above
        if key.updates
        and key.child == (table.database, table.name)
        and mattering & {child for child, _ in key.columns}
    ]
    for column in (*table.key, *table.columns):
        if column.data_type in _OTHERWISE:
            problems.append(
                Finding(
                    "type",
                    f"{spec}.{column.name}",
                    f"{spec}.{column.name} has the type {column.type}, which is logged in another form",
                    f"track a column of another type, or {apart}",
                )
            )
        if column.generated:
            problems.append(
                Finding(
                    "generated",
                    f"{spec}.{column.name}",
                    f"{spec}.{column.name} is generated, and generated columns aren't always logged",
                    "track the columns that it is made of",
                )
            )
    return problems
