"""Build a configuration step by step. Each function takes a configuration and returns a new one.

:func:`create_empty_config` gives a :class:`~s3gc.config.Draft`: everything but a bucket. :func:`with_bucket`
makes it a :class:`~s3gc.config.Config`, which can be used at once. All other steps keep what they get: a
draft stays a draft, a configuration stays one. Every step checks the whole and raises
:class:`~s3gc.errors.ConfigError`, so an error shows at the line that made it.

    config = enable_vault(
        scan_table(with_bucket(create_empty_config(), "my-bucket"), "users", ["avatar_url"]),
        Path("/var/lib/s3gc"),
    )
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from attrs import evolve, fields

from s3gc.config import Config, Draft, _checks
from s3gc.errors import ConfigError
from s3gc.model import Mode
from s3gc.safety import Safety

__all__ = [
    "build_config",
    "create_empty_config",
    "enable_vault",
    "exclude_prefixes",
    "scan_table",
    "with_bucket",
    "with_cdc",
    "with_database",
    "with_endpoint",
    "with_mode",
    "with_safety",
]

C = TypeVar("C", bound=Draft)


def create_empty_config() -> Draft:
    """A draft with every option at its default and no bucket."""
    return Draft()


def build_config(draft: Draft) -> Config:
    """The finished configuration.

    Raises:
        ConfigError: no bucket was given.
    """
    if isinstance(draft, Config):
        return draft
    if not isinstance(draft, Draft):
        raise ConfigError(f"build_config takes what the builder functions return, got {type(draft).__name__}")
    raise ConfigError('there is no bucket yet: with_bucket(config, "my-bucket")')


def with_bucket(config: Draft, bucket: str) -> Config:
    """Look at this bucket: a name or a URL."""
    if isinstance(config, Config):
        return _changed(config, bucket=bucket)
    options: dict[str, Any] = {a.name: getattr(config, a.name) for a in fields(Draft)}
    return Config(bucket=bucket, **options)


def scan_table(config: C, table: str, columns: Iterable[str]) -> C:
    """Read references from these columns. A second call for the same table adds columns."""
    added = _checks.tables({table: columns})
    return _changed(config, tables={**config.tables, table: (*config.tables.get(table, ()), *added[table])})


def exclude_prefixes(config: C, prefixes: Iterable[str]) -> C:
    """Leave these prefixes alone, besides those already left alone."""
    return _changed(config, exclude_prefixes=(*config.exclude_prefixes, *_checks.exclude_prefixes(prefixes)))


def enable_vault(config: C, path: str | Path) -> C:
    """Keep backups and journal here. (There always is a vault; this says where.)"""
    return _changed(config, vault_path=path)


def with_database(config: C, url: str) -> C:
    """Scan this database."""
    return _changed(config, database_url=url)


def with_cdc(config: C, backend: Literal["postgres", "mysql"], connection_url: str) -> C:
    """Follow the changes of this database."""
    return _changed(config, cdc_backend=backend, cdc_connection_url=connection_url)


def with_endpoint(config: C, endpoint_url: str, region: str | None = None) -> C:
    """Talk to this S3 server instead of AWS."""
    changes = {"endpoint_url": endpoint_url} | ({"region": region} if region is not None else {})
    return _changed(config, **changes)


def with_mode(config: C, mode: Mode | Literal["dry_run", "audit_only", "execute"]) -> C:
    """What a cycle may do."""
    return _changed(config, mode=mode)


def with_safety(config: C, safety: Safety) -> C:
    """How careful to be."""
    return _changed(config, safety=safety)


def _changed(config: C, **changes: Any) -> C:
    return evolve(config, **changes)
