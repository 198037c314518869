"""Environment variables → options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from s3gc.config import _checks
from s3gc.config._config import OPTIONS
from s3gc.config._options import refuse_unknown
from s3gc.errors import ConfigError
from s3gc.model import Mode

PREFIX = "S3GC_"
EXECUTE_MODE = "S3GC_EXECUTE_MODE"
CONFIG_FILE = "S3GC_CONFIG"
"""Names the file for the command line; no option of the configuration itself."""

_YES = ("true", "1", "yes", "on")
_NO = ("false", "0", "no", "off")


def read_environment(
    tables: Mapping[str, Iterable[str]] | None,
    environ: Mapping[str, str] | None,
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """The environment's options with ``overrides`` laid over them. Empty variables count as absent."""
    env = {
        name: value for name, value in (os.environ if environ is None else environ).items() if value.strip()
    }
    known = [option.env for option in OPTIONS if option.env]
    refuse_unknown(
        (name for name in env if name.startswith(PREFIX)),
        [name for name in (*known, EXECUTE_MODE, CONFIG_FILE) if name.startswith(PREFIX)],
        "environment variable",
    )
    options: dict[str, Any] = {}
    for option in OPTIONS:
        if option.env and option.env in env:
            parse = _PARSERS.get(option.name, str.strip)
            options[option.name] = parse(env[option.env])
    if EXECUTE_MODE in env:
        options["mode"] = _execute_mode(env[EXECUTE_MODE], options.get("mode"))
    if tables is not None:
        _same_tables(tables, options.get("tables"))
        options["tables"] = tables
    options.update(overrides)
    if options.get("cdc_backend") and "cdc_connection_url" not in options and options.get("database_url"):
        options["cdc_connection_url"] = options["database_url"]
    if "bucket" not in options:
        raise ConfigError("S3_BUCKET is not set: the bucket's name, or a URL such as s3://NAME")
    return options


def _execute_mode(text: str, mode: str | None) -> Mode:
    word = text.strip().lower()
    if word not in (*_YES, *_NO):
        raise ConfigError(f"{EXECUTE_MODE} must be true or false, got {_checks.show(text)}")
    execute = word in _YES
    if mode is None:
        return Mode.EXECUTE if execute else Mode.DRY_RUN
    asked = _checks.mode(mode)
    if execute != (asked is Mode.EXECUTE):
        raise ConfigError(f"{EXECUTE_MODE}={word} contradicts S3GC_MODE={asked.value}: set only one of them")
    return asked


def _same_tables(given: Mapping[str, Iterable[str]], from_env: Mapping[str, Iterable[str]] | None) -> None:
    """A table that one of the two forgot would lose its references, so they must agree."""
    if from_env is None:
        return
    first, second = _checks.tables(given), _checks.tables(from_env)
    if {t: set(c) for t, c in first.items()} != {t: set(c) for t, c in second.items()}:
        raise ConfigError("tables= and S3GC_TABLES differ: give the tables in one place only")


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _number(name: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        """Whole numbers stay whole, so that they are shown as they were written."""
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            raise ConfigError(f"{name} must be a number of days, got {_checks.show(text)}") from None

    return read


def _copies(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"S3GC_BACKUP_COPIES must be a whole number, got {_checks.show(text)}") from None


def _tables(text: str) -> dict[str, list[str]]:
    """``users:avatar_url,cover;posts:body``."""
    return _columns(text, "S3GC_TABLES")


def _folders(text: str) -> dict[str, list[str]]:
    return _columns(text, "S3GC_FOLDERS")


def _derived(text: str) -> dict[str, str]:
    """``thumbs/{key}_200.jpg -> {key}.jpg; …``."""
    rules: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        form, arrow, parent = (piece.strip() for piece in part.partition("->"))
        if not arrow or not form or not parent:
            got = _checks.show(part.strip())
            raise ConfigError(f"S3GC_DERIVED must look like thumbs/{{key}}.jpg -> {{key}}.jpg; …, got {got}")
        rules[form] = parent
    return rules


def _settings(text: str) -> dict[str, str]:
    """``request_payer=requester; acl=keep``."""
    settings: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name in settings:
            got = _checks.show(part.strip())
            raise ConfigError(f"S3GC_S3 must look like request_payer=requester; acl=keep, got {got}")
        settings[name] = value
    return settings


def _days_by_prefix(text: str) -> dict[str, float | str]:
    """``invoices/=3650; legal/=forever``."""
    days: dict[str, float | str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        prefix, equals, number = (piece.strip() for piece in part.rpartition("="))
        if not equals or not prefix or prefix in days:
            got = _checks.show(part.strip())
            raise ConfigError(
                f"S3GC_VAULT_RETENTION_BY_PREFIX must look like invoices/=3650; legal/=forever, got {got}"
            )
        days[prefix] = number if number == "forever" else _number("S3GC_VAULT_RETENTION_BY_PREFIX")(number)
    return days


def _columns(text: str, variable: str) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        table, colon, columns = part.strip().rpartition(":")
        if not colon or not table.strip() or not _list(columns):
            got = _checks.show(part.strip())
            raise ConfigError(f"{variable} must look like users:avatar_url,cover;posts:body, got {got}")
        tables.setdefault(table.strip(), []).extend(_list(columns))
    return tables


_PARSERS: dict[str, Callable[[str], Any]] = {
    "tables": _tables,
    "folders": _folders,
    "derived": _derived,
    "s3": _settings,
    "owned_prefixes": _list,
    "sources": _list,
    "replicas": _list,
    "admin_keys": _list,
    "restore_targets": _list,
    "backup_copies": _copies,
    "base_urls": _list,
    "key_prefixes": _list,
    "exclude_prefixes": _list,
    "retention_days": _number("S3GC_RETENTION_DAYS"),
    "vault_retention_days": _number("S3GC_VAULT_RETENTION_DAYS"),
    "vault_retention_by_prefix": _days_by_prefix,
    "recovery_window_days": _number("S3GC_RECOVERY_WINDOW_DAYS"),
    "mode": lambda text: text.strip().lower(),
    "cdc_backend": lambda text: text.strip().lower(),
}
