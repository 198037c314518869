"""Which columns of a MariaDB or MySQL server could hold references."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from s3gc.sources._dialect import (
    BLANK,
    LONGEST_BINARY,
    LONGEST_TEXT,
    LooseColumn,
    LooseTable,
    Survey,
    TrackedTable,
    fetch,
    no_table,
)
from s3gc.sources._names import written_column, written_table

_OURS = "table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')"
_TABLES = f"SELECT table_schema, table_name, table_type, engine FROM information_schema.tables WHERE {_OURS}"
_COLUMNS = (
    "SELECT table_schema, table_name, column_name, data_type, column_type, privileges "
    f"FROM information_schema.columns WHERE {_OURS} ORDER BY table_schema, table_name, ordinal_position"
)
# A key on a column's first characters doesn't sort the column.
_KEYS = (
    "SELECT table_schema, table_name, column_name, sub_part FROM information_schema.statistics "
    f"WHERE index_name = 'PRIMARY' AND {_OURS} ORDER BY table_schema, table_name, seq_in_index"
)
_BASE = frozenset({"BASE TABLE", "SYSTEM VERSIONED"})
_ELSEWHERE = frozenset({"federated", "connect", "spider"})  # engines whose rows are on another server
_TEXTS = frozenset(
    ["char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json", "uuid", "xmltype"]
)
_BINARIES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_BLANKS = ", ".join(f"'{text}'" for text in sorted(BLANK))

_Table = tuple[str, str]


async def survey(
    connection: AsyncConnection, tables: Sequence[TrackedTable], quoted: Callable[..., str]
) -> Survey:
    """Tables of all databases that this user may read, without those of the server."""
    [(current,)] = await fetch(connection, "SELECT DATABASE()")
    listed = await fetch(connection, _TABLES)
    existing = {(str(schema), str(name)) for schema, name, _, _ in listed}
    tracked: dict[_Table, set[str]] = defaultdict(set)
    specs: dict[_Table, str] = {}
    for table in tables:
        at = (table.parts[0] if len(table.parts) == 2 else str(current), table.parts[-1])
        if at not in existing:
            raise no_table(table, [name for schema, name in existing if schema == at[0]])
        tracked[at] |= {name for _, name in table.columns}
        specs.setdefault(at, table.spec)

    keys: dict[_Table, list[str]] = defaultdict(list)
    cut: set[_Table] = set()
    for schema, table_name, column, part in await fetch(connection, _KEYS):
        keys[str(schema), str(table_name)].append(str(column))
        if part is not None:
            cut.add((str(schema), str(table_name)))
    columns: dict[_Table, list[tuple[str, str, str, bool]]] = defaultdict(list)
    for schema, table_name, column, data_type, shown, privileges in await fetch(connection, _COLUMNS):
        readable = "select" in str(privileges).lower().split(",")
        columns[str(schema), str(table_name)].append(
            (str(column), str(data_type).lower(), str(shown), readable)
        )

    found: list[LooseTable] = []
    hidden: list[str] = []
    for schema, table_name, kind, engine in listed:
        at = (str(schema), str(table_name))
        if str(kind) not in _BASE or str(engine).lower() in _ELSEWHERE:
            continue
        spec = specs.get(at) or written_table(*(at[1:] if at[0] == current else at))
        loose = [c for c in columns[at] if c[0] not in tracked[at] and c[1] in _TEXTS | _BINARIES]
        hidden += [f"{spec}.{written_column(name)}" for name, _, _, readable in loose if not readable]
        to_read = [_column(name, of, shown, quoted) for name, of, shown, readable in loose if readable]
        if to_read:
            open_names = {name for name, _, _, readable in columns[at] if readable}
            key = [f"t.{quoted(name)}" for name in keys[at]] if open_names.issuperset(keys[at]) else []
            order = ", ".join(f"{name} DESC" for name in key) if at not in cut else ""
            found.append(
                LooseTable(spec, f"{quoted(*at)} AS t", key, f"ORDER BY {order}" if order else "", to_read)
            )
    return Survey(found, hidden)


def _column(column: str, data_type: str, shown: str, quoted: Callable[..., str]) -> LooseColumn:
    name = f"t.{quoted(column)}"
    longest = LONGEST_BINARY if data_type in _BINARIES else LONGEST_TEXT
    if data_type == "uuid":
        return LooseColumn(written_column(column), shown, name, f"{name} IS NOT NULL", is_uuid=True)
    filled = f"LEFT({name}, 8) NOT IN ({_BLANKS})"
    return LooseColumn(written_column(column), shown, f"LEFT({name}, {longest})", filled)
