"""A database of which no column is tracked yet: there is nothing to read, only to look through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3gc.resolver import Resolver
from s3gc.sources._dialect import TrackedTable
from s3gc.sources.sql import SqlSource


class SchemaSource(SqlSource):
    """As :class:`~s3gc.sources.sql.SqlSource`, for :meth:`untracked` alone. It protects nothing.

    Args:
        url, resolver: as there.

    Raises:
        ConfigError: the URL is malformed, or its driver isn't installed.
    """

    def __init__(self, url: str, resolver: Resolver) -> None:
        super().__init__(url, {}, resolver)

    def _tracked(
        self, tables: Mapping[str, Sequence[str]], folders: Mapping[str, Sequence[str]]
    ) -> tuple[TrackedTable, ...]:
        return ()
