"""Change capture from PostgreSQL for s3gc: a plugin, found by its entry point, loaded when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3gc.hooks import hookimpl

if TYPE_CHECKING:
    from s3gc.config import Config
    from s3gc.resolver import Resolver
    from s3gc_cdc_postgres.source import PostgresCdcSource

__all__ = ["s3gc_open_source"]

_SCHEMES = frozenset({"cdc+postgresql", "cdc+postgres"})


@hookimpl
def s3gc_open_source(url: str, config: Config, resolver: Resolver) -> PostgresCdcSource | None:
    """``cdc+postgresql://…``, which is what ``cdc_backend="postgres"`` asks for."""
    scheme, _, rest = url.partition("://")
    if "+".join(scheme.split("+")[:2]) not in _SCHEMES:
        return None
    from s3gc_cdc_postgres._names import names_for
    from s3gc_cdc_postgres.source import PostgresCdcSource

    slot, publication = names_for(config)
    return PostgresCdcSource(
        f"postgresql://{rest}",
        config.tables,
        resolver,
        folders=config.folders,
        slot=slot,
        publication=publication,
        resolver_settings=(
            config.store_url,
            config.endpoint_url,
            sorted(config.base_urls),
            *([sorted(config.key_prefixes)] if config.key_prefixes else ()),
        ),
        patience=config.safety.max_transaction_age,
    )
