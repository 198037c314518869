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
        self._folders = FolderReader(resolver).folders
        self._wanted = wanted

    def of(self, query: TableQuery, rows: Sequence[Sequence[Any]]) -> ScanBatch:
        """The references of rows as the query gives them: first the key, then the tracked columns."""
        resolve, wanted, table, width = self._resolve, self._wanted, query.table.spec, query.key_columns
        found: list[Reference] = []
        add = found.append
        counts: dict[Column, ColumnCount] = {}
        for at, (name, _) in enumerate(query.table.columns):
            number = width + at
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
            counts[Column(table, name)] = ColumnCount(len(rows), values)
        return ScanBatch(found, counts)
