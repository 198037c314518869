"""Names of tables as people write them, and of rows as the registry keeps them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from s3gc.errors import ConfigError

_PART = re.compile(r'"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|([^."`]+)')
_QUOTED = re.compile(r'[."`]').search


def split_name(spec: str) -> tuple[str, ...]:
    """``public.users`` or ``"my.schema"."Users"`` as its parts; names are taken exactly as written.

    Raises:
        ConfigError: it isn't a name.
    """
    parts: list[str] = []
    position = 0
    while isinstance(spec, str):
        match = _PART.match(spec, position)
        if match is None:
            break
        parts.append(_unquoted(match))
        position = match.end()
        if position == len(spec) and all(parts) and len(parts) <= 2:
            return tuple(parts)
        if spec[position : position + 1] != ".":
            break
        position += 1
    raise ConfigError(f'no table name: {spec!r}; write table, schema.table, or "odd.schema"."odd.table"')


def column_name(spec: str) -> str:
    """A column as written; quotes around the whole name are taken away, dots belong to the name.

    Raises:
        ConfigError: it is empty.
    """
    if not isinstance(spec, str) or not spec:
        raise ConfigError(f"{spec!r} isn't a column's name")
    match = _PART.fullmatch(spec)
    return spec if match is None else _unquoted(match)


def _unquoted(match: re.Match[str]) -> str:
    double, back, bare = match.groups()
    if double:
        return str(double).replace('""', '"')
    return str(back).replace("``", "`") if back else str(bare)


def written_table(*parts: str) -> str:
    """Names as :func:`split_name` reads them, quoted where they must be."""
    return ".".join('"' + part.replace('"', '""') + '"' if _QUOTED(part) else part for part in parts)


def written_column(name: str) -> str:
    """A name as :func:`column_name` reads it."""
    return name if column_name(name) == name else '"' + name.replace('"', '""') + '"'


def nearest(name: str, existing: Iterable[str]) -> str:
    """A hint for a message: the existing name that is most like this one, or nothing."""
    folded = {other.casefold(): other for other in existing}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[found[0]]!r}?" if found else ""


def row_id(row: Sequence[object], width: int) -> str:
    """A row's id from its primary key, its first ``width`` values: one as text, several as a JSON list.

    Change capture has to build the same: texts as PostgreSQL and MySQL print them, bytes as ``\\x`` and hex.
    """
    if width == 1:
        value = row[0]
        return str(value) if isinstance(value, (int, str)) else _text(value)
    parts = [None if v is None else _text(v) for v in row[:width]]
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def stand_in(values: Sequence[object]) -> str:
    """An id for a row of a table without primary key: a digest of its tracked values.

    Rows with equal values share it; they refer to the same keys, so nothing is lost.
    """
    text = "\0".join("n" if v is None else f"{type(v).__name__}{len(t := _text(v))}:{t}" for v in values)
    return "~" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _text(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "\\x" + bytes(value).hex()
    return str(value)
