"""How an option is described: once, on its field of the configuration. All else reads it from there."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from attrs import NOTHING, Attribute, field, frozen

from s3gc.errors import ConfigError


@frozen
class Option:
    """One option, for the loaders, the documentation and ``--help``."""

    name: str
    """In code and in ``s3gc.toml``."""
    type: str
    """What it accepts, for people."""
    default: Any
    """``REQUIRED`` when there is none."""
    env: str | None
    """The environment variable, if any."""
    help: str
    """One line."""
    secret: bool
    """May hold a secret: shown redacted, and ``${NAME}`` works in the file."""

    @property
    def toml(self) -> str:
        """The key in ``s3gc.toml``: a table for those that map something, else a plain key."""
        return f"[{self.name}]" if self.name in _TABLES else self.name


_TABLES = frozenset({"tables", "folders", "derived", "s3", "vault_retention_by_prefix", "safety"})


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()
"""Stands for the default of an option that must be given."""


def option(
    check: Callable[[Any], Any],
    default: Any = NOTHING,
    *,
    type: str,
    help: str,
    env: str | None = None,
    secret: bool = False,
) -> Any:
    """A field of the configuration with its check and its description."""
    return field(
        default=default,
        converter=check,
        metadata={"type": type, "help": help, "env": env, "secret": secret},
    )


def describe(attributes: Iterable[Attribute[Any]]) -> tuple[Option, ...]:
    """The options, from the fields of a configuration."""
    return tuple(
        Option(
            name=a.name,
            type=a.metadata["type"],
            default=REQUIRED if a.default is NOTHING else a.default,
            env=a.metadata["env"],
            help=a.metadata["help"],
            secret=a.metadata["secret"],
        )
        for a in attributes
    )


# What people write for what we call otherwise, where spelling alone doesn't lead there.
_SYNONYMS = {
    "db_url": "database_url",
    "dsn": "database_url",
    "connection_url": "database_url",
    "endpoint": "endpoint_url",
    "bucket_name": "bucket",
    "s3_bucket": "bucket",
    "aws_region": "region",
    "dry_run": "mode",
    "execute": "mode",
    "execute_mode": "mode",
    "execution_mode": "mode",
    "grace": "safety",
    "grace_days": "safety",
    "vault": "vault_path",
    "backup_path": "vault_path",
    "cron": "schedule_cron",
    "schedule": "schedule_cron",
    "cdn_urls": "base_urls",
    "api_key": "admin_api_key",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """``: did you mean 'x'?`` for the nearest known name, or nothing when none is near."""
    names = list(known)
    synonym = _SYNONYMS.get(name.lower())
    close = [synonym] if synonym in names else difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f": did you mean {close[0]!r}?" if close else ""


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """
    Raises:
        ConfigError: a name in ``given`` that isn't in ``known``; it names the nearest right one.
    """
    names = list(known)
    unknown = sorted(str(name) for name in given if name not in names)
    if unknown:
        hints = "; ".join(f"{what} {name!r}{nearest(name, names)}" for name in unknown)
        raise ConfigError(f"unknown {hints} (known: {', '.join(names)})")
