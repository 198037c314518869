"""How PostgreSQL's values travel: natively or printed. The direct read and change capture must agree."""

from __future__ import annotations

import re

from s3gc.resolver import Odd

# Types whose binary form asyncpg gives back without loss; all others travel as PostgreSQL prints them,
# which is also how they come through logical decoding.
_SCALARS = ("text", "varchar", "bpchar", "name", "uuid", "bytea")
NATIVE = frozenset(_SCALARS) | {"_" + name for name in _SCALARS}
NATIVE_KEYS = frozenset({"int2", "int4", "int8", "text", "varchar", "uuid", "bytea"})

POSTGRES_TEXT = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
"""Settings that decide how values are printed: the direct read and change capture must print alike."""


def odd_value(column: str, odd: Odd) -> str:
    """SQL for whether a text may mean more than itself.

    Args:
        column: its name as SQL.
        odd: of the resolver.
    """
    text = f'{column} COLLATE "C"'
    begins = [f"{text} LIKE {literal(_LIKE.sub(_escaped, start) + '%')}" for start in odd.beginnings]
    return " OR ".join([f"{text} ~ {literal(odd.regex)}", *begins])


def two_indexes(table: str, column: str, odd: Odd) -> tuple[str, str]:
    """The statements that let a direct read find a column's values without reading all of them.

    Args:
        table, column: their names as SQL.
        odd: of the resolver.
    """
    return (
        f"CREATE INDEX ON {table} ({column})",
        f"CREATE INDEX ON {table} ({column}) WHERE {odd_value(column, odd)}",
    )


_LIKE = re.compile(r"[\\%_]")


def _escaped(found: re.Match[str]) -> str:
    return "\\" + found[0]


def literal(text: str) -> str:
    """A text as SQL, whatever ``standard_conforming_strings`` is."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
