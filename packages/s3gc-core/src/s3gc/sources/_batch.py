"""From rows to references: the same for every reader of rows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from s3gc.abc import Wanted
from s3gc.model import Column, ColumnCount, Reference, ScanBatch
from s3gc.resolver import Resolver
from s3gc.sources._dialect import TableQuery
from s3gc.sources._names import row_id, stand_in
from s3gc.sources.folders import FolderReader

_EMPTY = (str, bytes, list)  # the number 0 is a value, an empty text is none


class BatchReader:
    """Turns rows into references. ``wanted`` limits them to those that protect these keys; None means all."""

    def __init__(self, resolver: Resolver, wanted: Wanted | None) -> None:
        self._resolve = resolver.keys
        self._only_keys = resolver.only_keys
        self._folders = FolderReader(resolver).folders
        self._wanted = wanted

    def of(self, query: TableQuery, rows: Sequence[Sequence[Any]]) -> ScanBatch:
        """The references of rows as the query gives them: first the key, then the tracked columns."""
        found: list[Reference] = []
        counts: dict[Column, ColumnCount] = {}
        for at, (name, _) in enumerate(query.table.columns):
            values = self._among_wanted(query, rows, at, found)
            if values is None:
                values = self._each(query, rows, at, found)
            counts[Column(query.table.spec, name)] = ColumnCount(len(rows), values)
        return ScanBatch(found, counts)

    def _each(self, query: TableQuery, rows: Sequence[Sequence[Any]], at: int, into: list[Reference]) -> int:
        """Read a column value by value. Returns how many there are."""
        resolve, wanted, table, width = self._resolve, self._wanted, query.table.spec, query.key_columns
        name, number, add = query.table.columns[at][0], width + at, into.append
        is_uuid = at in query.uuids
        is_folder = at in query.table.folders
        folders: frozenset[str] = frozenset()
        values = 0
        for row in rows:
            value = row[number]
            if value is None or (not value and isinstance(value, _EMPTY)):
                continue
            values += 1
            keys = resolve(uuid.UUID(value) if is_uuid else value)
            if is_folder:
                folders = self._folders(keys)
            if wanted is not None:
                if wanted.keys.isdisjoint(keys) and (not folders or wanted.folders.isdisjoint(folders)):
                    continue
                keys &= wanted.keys
                if folders:
                    folders &= wanted.folders
            identity = row_id(row, width) if width else stand_in(row)
            for key in keys:
                add(Reference(key, table, identity, name))
            for key in folders:
                add(Reference(key, table, identity, name, prefix=True))
        return values

    def _among_wanted(
        self, query: TableQuery, rows: Sequence[Sequence[Any]], at: int, into: list[Reference]
    ) -> int | None:
        """The same where each value is text that means itself alone, as in most columns, thrice as quick.

        None: it isn't so, and nothing was read.
        """
        if self._wanted is None or at in query.uuids or at in query.table.folders:
            return None
        width = query.key_columns
        number, wanted = width + at, self._wanted.keys
        there = [value for row in rows if (value := row[number]) is not None and value != ""]
        if not all(type(value) is str for value in there) or not self._only_keys(there):
            return None
        if not wanted.isdisjoint(there):
            into += [
                Reference(
                    row[number],
                    query.table.spec,
                    row_id(row, width) if width else stand_in(row),
                    query.table.columns[at][0],
                )
                for row in rows
                if row[number] in wanted
            ]
        return len(there)
