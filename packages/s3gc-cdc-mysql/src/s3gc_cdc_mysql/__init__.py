"""Change capture from MySQL and MariaDB for s3gc: a plugin, found by its entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3gc.hooks import hookimpl

if TYPE_CHECKING:
    from s3gc.config import Config
    from s3gc.resolver import Resolver
    from s3gc_cdc_mysql.source import MysqlCdcSource

__all__ = ["s3gc_open_source"]

_SCHEMES = frozenset({"cdc+mysql", "cdc+mariadb"})


@hookimpl
def s3gc_open_source(url: str, config: Config, resolver: Resolver) -> MysqlCdcSource | None:
    """``cdc+mysql://…`` and ``cdc+mariadb://…``, which is what ``cdc_backend="mysql"`` asks for."""
    scheme, _, rest = url.partition("://")
    if "+".join(scheme.split("+")[:2]) not in _SCHEMES:
        return None
    from s3gc_cdc_mysql._names import server_id_for
    from s3gc_cdc_mysql.source import MysqlCdcSource

    return MysqlCdcSource(
        f"mysql://{rest}",
        config.tables,
        resolver,
        folders=config.folders,
        server_id=server_id_for(config),
        resolver_settings=(
            config.store_url,
            config.endpoint_url,
            sorted(config.base_urls),
            *([sorted(config.key_prefixes)] if config.key_prefixes else ()),
        ),
        patience=config.safety.max_transaction_age,
    )
