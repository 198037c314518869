"""Which columns of a SQLite file could hold references."""

from __future__ import annotations

import re
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

# A virtual table's rows are in tables of its own, or of others, which are looked at.
_TABLES = """
SELECT name, type, type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
       AND sql NOT LIKE 'create virtual%'
FROM main.sqlite_master WHERE type IN ('table', 'view') ORDER BY name
"""
_TEXT = re.compile(r"CHAR|CLOB|TEXT|JSON|BLOB|STRING", re.IGNORECASE).search
_NUMBER = re.compile(r"INT|REAL|FLOA|DOUB|NUM|DEC|BOOL|DATE|TIME|YEAR|MONEY", re.IGNORECASE).search
_BLANKS = ", ".join(f"'{text}'" for text in sorted(BLANK))


async def survey(
    connection: AsyncConnection, tables: Sequence[TrackedTable], quoted: Callable[..., str]
) -> Survey:
    """All tables of the file. A column without a known type could hold anything."""
    listed = [(str(name), bool(own)) for name, _, own in await fetch(connection, _TABLES)]
    by_case = {name.lower(): name for name, _ in listed}
    tracked: dict[str, set[str]] = defaultdict(set)
    specs: dict[str, str] = {}
    for table in tables:
        name = by_case.get(table.parts[-1].lower())
        if name is None:
            raise no_table(table, list(by_case.values()))
        tracked[name] |= {column.lower() for _, column in table.columns}
        specs.setdefault(name, table.spec)
    found: list[LooseTable] = []
    for name, own in listed:
        if not own:
            continue
        info = await fetch(connection, "SELECT name, type, pk FROM pragma_table_xinfo(?)", name)
        columns = [
            _column(str(column), str(declared or ""), quoted)
            for column, declared, _ in info
            if str(column).lower() not in tracked[name] and _could_hold_texts(str(declared or ""))
        ]
        if not columns:
            continue
        source = f"{quoted('main', name)} AS t"
        row = await _row_number(connection, source, {str(column).lower() for column, _, _ in info})
        by_order = sorted(info, key=lambda one: int(one[2]))
        key = [row] if row else [f"t.{quoted(str(column))}" for column, _, order in by_order if order]
        order = ", ".join(f"{part} DESC" for part in key)
        found.append(
            LooseTable(
                specs.get(name) or written_table(name),
                source,
                key,
                f"ORDER BY {order}" if order else "",
                columns,
            )
        )
    return Survey(found, ())


def _could_hold_texts(declared: str) -> bool:
    return _TEXT(declared) is not None or _NUMBER(declared) is None


async def _row_number(connection: AsyncConnection, source: str, columns: set[str]) -> str:
    """The name of the number that every row has by age, unless the table is WITHOUT ROWID or hides it."""
    name = next((name for name in ("rowid", "_rowid_", "oid") if name not in columns), None)
    if name is None:
        return ""
    try:
        await fetch(connection, f"SELECT t.{name} FROM {source} LIMIT 0")
    except Exception as error:
        if "no such column" not in str(error):
            raise
        return ""
    return f"t.{name}"


def _column(column: str, declared: str, quoted: Callable[..., str]) -> LooseColumn:
    name = f"t.{quoted(column)}"
    value = (
        f"CASE typeof({name}) WHEN 'blob' THEN substr({name}, 1, {LONGEST_BINARY}) "
        f"WHEN 'text' THEN substr({name}, 1, {LONGEST_TEXT}) ELSE {name} END"
    )
    return LooseColumn(written_column(column), declared, value, f"substr({name}, 1, 8) NOT IN ({_BLANKS})")
