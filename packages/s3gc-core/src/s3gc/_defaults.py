"""The core's own back ends, as a plugin like any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import fields

from s3gc.abc import Compressor, ObjectCoder, ObjectStore, ReferenceSource, Vault
from s3gc.clock import Clock
from s3gc.config import Config
from s3gc.hooks import hookimpl
from s3gc.resolver import Resolver

_DATABASES = frozenset({"sqlite", "postgresql", "postgres", "mysql", "mariadb"})


@hookimpl
def s3gc_open_store(url: str, config: Config, clock: Clock) -> ObjectStore | None:
    """``s3://``, ``file://`` and ``memory://``."""
    scheme, _, rest = url.partition("://")
    if scheme == "s3":
        from s3gc.stores.s3 import S3Store

        settings: dict[str, Any] = dict(config.s3)
        if "listers" in settings:
            settings["listers"] = int(settings["listers"])
        return S3Store(
            rest.rstrip("/"),
            region=config.region,
            adopt_region=config.region == fields(Config).region.default,  # nobody gave another
            endpoint_url=config.endpoint_url,
            clock=clock,
            **settings,
        )
    if scheme == "file":
        from s3gc.stores.obstore import open_file_store

        return open_file_store(Path(unquote(urlsplit(url).path)), clock=clock)
    if scheme == "memory":
        from s3gc.stores.obstore import open_memory_store

        return open_memory_store(rest.rstrip("/"), clock=clock)
    return None


@hookimpl
def s3gc_open_source(url: str, config: Config, resolver: Resolver) -> ReferenceSource | None:
    """Any database that SQLAlchemy's asyncio reaches, by scan."""
    if url.partition(":")[0].partition("+")[0] not in _DATABASES:
        return None
    from s3gc.sources.sql import SqlSource

    return SqlSource(url, config.tables, resolver, folders=config.folders)


@hookimpl
def s3gc_open_vault(
    url: str, config: Config, compressors: Sequence[Compressor], coder: ObjectCoder | None, clock: Clock
) -> Vault | None:
    """A local folder."""
    if "://" in url and not url.startswith("file://"):
        return None
    from s3gc.compressors.policies import block_codec, by_policy
    from s3gc.vault.local import LocalVault

    path = unquote(urlsplit(url).path) if url.startswith("file://") else url
    codecs, codec = by_policy(compressors, config.compression)
    solid = block_codec(config.compression)
    return LocalVault(Path(path), compressors=codecs, clock=clock, codec=codec, coder=coder, solid=solid)


@hookimpl
def s3gc_compressors() -> Sequence[Compressor]:
    """zstd, and none at all."""
    from s3gc.compressors.store import StoreCompressor
    from s3gc.compressors.zstd import ZstdCompressor

    return (ZstdCompressor(), StoreCompressor())
