"""What packages that follow MariaDB or MySQL need of the core besides :mod:`s3gc.sources.capture`."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import make_url

from s3gc.sources._mysql import MysqlDialect, binlog_ordinal

__all__ = ["binlog_ordinal", "connect_arguments"]


def connect_arguments(url: str) -> dict[str, Any]:
    """What ``aiomysql.connect`` takes to connect as the direct read does.

    Raises:
        ConfigError: the URL is malformed.
        SourceError: a certificate can't be read.
    """
    return MysqlDialect(make_url(url)).arguments()
