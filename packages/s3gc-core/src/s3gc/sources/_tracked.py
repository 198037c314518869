"""The tracked tables of a configuration, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3gc.errors import ConfigError
from s3gc.sources._dialect import TrackedTable
from s3gc.sources._names import column_name, split_name


def tracked_tables(
    tables: Mapping[str, Sequence[str]], folders: Mapping[str, Sequence[str]]
) -> tuple[TrackedTable, ...]:
    """Each table with its columns, and which of them name folders.

    Raises:
        ConfigError: a name is malformed, a table has no columns, a folder isn't among the tracked columns.
    """
    if not isinstance(tables, Mapping) or not tables:
        raise ConfigError("tables must map at least one table to its columns: {'users': ['avatar_key']}")
    columns = {spec: _columns("tables", spec, tables[spec]) for spec in tables}
    if not isinstance(folders, Mapping):
        raise ConfigError("folders must map tables to columns: {'albums': ['folder']}")
    marked: set[tuple[tuple[str, ...], str]] = set()
    known = {(split_name(spec), name) for spec in columns for _, name in columns[spec]}
    for spec, names in folders.items():
        for written, name in _columns("folders", spec, names):
            if (split_name(spec), name) not in known:
                raise ConfigError(f"folders: {spec}.{written} isn't tracked; add it to tables too")
            marked.add((split_name(spec), name))
    return tuple(
        TrackedTable(
            spec,
            split_name(spec),
            names,
            frozenset(at for at, (_, name) in enumerate(names) if (split_name(spec), name) in marked),
        )
        for spec, names in columns.items()
    )


def _columns(option: str, spec: str, columns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    if isinstance(columns, str) or not columns:
        raise ConfigError(f"{option}: table {spec!r} needs a list of at least one column")
    return tuple((column, column_name(column)) for column in dict.fromkeys(columns))
