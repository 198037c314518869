"""Which columns of a PostgreSQL database could hold references."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import frozen
from sqlalchemy.ext.asyncio import AsyncConnection

from s3gc.sources._dialect import (
    BLANK,
    LONGEST_BINARY,
    LONGEST_TEXT,
    LONGEST_UUIDS,
    LooseColumn,
    LooseTable,
    Survey,
    TrackedTable,
    fetch,
    no_table,
)
from s3gc.sources._names import written_column, written_table

# Temporary tables are in pg_temp_N.
_OURS = "n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'"
_RELATIONS = f"""
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, pg_table_is_visible(c.oid),
       has_schema_privilege(n.oid, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND {_OURS} ORDER BY n.nspname, c.relname
"""
_PARENTS = """
SELECT i.inhrelid::int8, i.inhparent::int8 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
WHERE c.relkind IN ('r', 'p', 'f')
"""
_COLUMNS = f"""
SELECT a.attrelid::int8, a.attname::text, a.atttypid::int8, format_type(a.atttypid, a.atttypmod),
       has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND {_OURS}
ORDER BY a.attrelid, a.attnum
"""
_TYPES = f"""
WITH RECURSIVE used AS (
    SELECT DISTINCT a.atttypid AS oid
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND {_OURS}
    UNION
    SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END FROM used JOIN pg_type t USING (oid)
    WHERE t.typtype = 'd' OR (t.typcategory = 'A' AND t.typelem <> 0))
SELECT t.oid::int8, t.typname::text, t.typtype::text, t.typcategory::text, t.typbasetype::int8,
       t.typelem::int8
FROM used JOIN pg_type t USING (oid)
"""
_KEYS = f"""
SELECT i.indrelid::int8, a.attname::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indisprimary AND {_OURS} ORDER BY i.indrelid, array_position(i.indkey::int2[], a.attnum)
"""
# Of category U, which json, jsonb, xml, uuid, bytea, hstore and the types of extensions are in.
_NO_TEXT = frozenset({
    "box2d", "box3d", "cid", "geography", "geometry", "gtsvector", "halfvec", "macaddr", "macaddr8",
    "pg_lsn", "pg_snapshot", "raster", "refcursor", "sparsevec", "tid", "tsquery", "tsvector",
    "txid_snapshot", "vector", "xid", "xid8",
})  # fmt: skip
_BLANKS = ", ".join(f"'{text}'" for text in sorted(BLANK))


@frozen
class _Relation:
    oid: int
    schema: str
    name: str
    kind: str
    visible: bool
    usable: bool


@frozen
class _Type:
    name: str
    kind: str
    category: str
    base: int
    element: int


@frozen
class _Attribute:
    name: str
    type: int
    shown: str
    readable: bool


async def survey(
    connection: AsyncConnection, tables: Sequence[TrackedTable], quoted: Callable[..., str]
) -> Survey:
    """Ordinary and partitioned tables of all schemas, without those of the system."""
    relations = {row[0]: _Relation(*row) for row in await fetch(connection, _RELATIONS)}
    types = {oid: _Type(*rest) for oid, *rest in await fetch(connection, _TYPES)}
    columns: dict[int, list[_Attribute]] = defaultdict(list)
    for oid, *rest in await fetch(connection, _COLUMNS):
        columns[oid].append(_Attribute(*rest))
    keys: dict[int, list[str]] = defaultdict(list)
    for oid, name in await fetch(connection, _KEYS):
        keys[oid].append(name)
    parents: dict[int, list[int]] = defaultdict(list)
    for child, parent in await fetch(connection, _PARENTS):
        parents[child].append(parent)

    tracked: dict[int, set[str]] = defaultdict(set)
    specs: dict[int, str] = {}
    for table in tables:
        [(oid,)] = await fetch(connection, "SELECT to_regclass($1::text)::oid::int8", quoted(*table.parts))
        if oid is None:
            raise no_table(table, [relation.name for relation in relations.values()])
        tracked[oid] |= {name for _, name in table.columns}
        specs.setdefault(oid, table.spec)

    far = _with_foreign_children(relations.values(), parents)
    # What a read of this table gives for its children too; a foreign child's server is no part of this one.
    spoken_for: dict[int, set[str]] = {
        oid: tracked[oid]
        | (set() if oid in far else {a.name for a in columns[oid] if _readable(relation, a)})
        for oid, relation in relations.items()
    }
    found: list[LooseTable] = []
    hidden: list[str] = []
    for oid, relation in relations.items():
        if relation.kind == "f" or (relation.kind == "p" and oid in far):
            continue  # no rows of its own
        above = _ancestors(oid, parents)
        done = tracked[oid].union(*(spoken_for.get(ancestor, set()) for ancestor in above))
        loose = [a for a in columns[oid] if a.name not in done and _texts(a.type, types)]
        spec = specs.get(oid) or written_table(
            *(() if relation.visible else (relation.schema,)), relation.name
        )
        hidden += [f"{spec}.{written_column(a.name)}" for a in loose if not _readable(relation, a)]
        readable = [_column(a, types, quoted) for a in loose if _readable(relation, a)]
        if readable:
            open_names = {a.name for a in columns[oid] if a.readable}
            key = keys[oid] if open_names.issuperset(keys[oid]) else []
            source = ("ONLY " if oid in far else "") + quoted(relation.schema, relation.name) + " AS t"
            order = ", ".join(f"t.{quoted(name)} DESC" for name in key)
            found.append(
                LooseTable(
                    spec,
                    source,
                    [f"t.{quoted(name)}::text" for name in key],
                    f"ORDER BY {order}" if order else "",
                    readable,
                )
            )
    return Survey(found, hidden)


def _readable(relation: _Relation, attribute: _Attribute) -> bool:
    return relation.usable and attribute.readable


def _ancestors(oid: int, parents: Mapping[int, Sequence[int]]) -> set[int]:
    found: set[int] = set()
    work = [oid]
    while work:
        for parent in parents.get(work.pop(), ()):
            if parent not in found:
                found.add(parent)
                work.append(parent)
    return found


def _with_foreign_children(relations: Iterable[_Relation], parents: Mapping[int, Sequence[int]]) -> set[int]:
    found: set[int] = set()
    for relation in relations:
        if relation.kind == "f":
            found |= _ancestors(relation.oid, parents)
    return found


def _plain(oid: int, types: Mapping[int, _Type]) -> _Type | None:
    """The type below domains."""
    known = types.get(oid)
    while known is not None and known.kind == "d":
        known = types.get(known.base)
    return known


def _texts(oid: int, types: Mapping[int, _Type]) -> bool:
    """Whether the type's values are texts or contain some."""
    known = _plain(oid, types)
    while known is not None and known.category == "A" and known.element:
        known = _plain(known.element, types)
    if known is None:
        return True  # a type made this very moment
    if known.kind == "c":
        return True
    return known.category == "S" or (known.category == "U" and known.name not in _NO_TEXT)


def _column(attribute: _Attribute, types: Mapping[int, _Type], quoted: Callable[..., str]) -> LooseColumn:
    name = f"t.{quoted(attribute.name)}"
    known = _plain(attribute.type, types)
    of = known.name if known is not None else ""
    if of == "uuid":
        value, filled = name, f"{name} IS NOT NULL"
    elif of == "_uuid":  # not as a text: a scan sees UUIDs too, and they have more than one spelling
        value, filled = f"{name}[:{LONGEST_UUIDS}]", f"cardinality({name}) > 0"
    elif of == "bytea":
        value, filled = f"substring({name} FROM 1 FOR {LONGEST_BINARY})", f"octet_length({name}) > 0"
    else:
        value, filled = f"left({name}::text, {LONGEST_TEXT})", f"left({name}::text, 8) NOT IN ({_BLANKS})"
    return LooseColumn(written_column(attribute.name), attribute.shown, value, filled)
