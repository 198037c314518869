"""Where the configuration comes from: ``--config``, ``$S3GC_CONFIG``, ``./s3gc.toml``, the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3gc_cli._errors import UsageProblem
from s3gc_cli._settings import Settings

if TYPE_CHECKING:
    from s3gc.config import Config

FILE = "s3gc.toml"
VARIABLE = "S3GC_CONFIG"
MISSING = (
    f"there is no configuration: write ./{FILE} (or name a file with --config PATH), or set S3_BUCKET, "
    "DATABASE_URL and S3GC_TABLES in the environment"
)


def find(settings: Settings) -> Path | None:
    """The configuration file; None means the environment."""
    if settings.config is not None:
        return settings.config
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        return Path(named)
    return Path(FILE) if Path(FILE).exists() else None


def load(settings: Settings, **overrides: Any) -> tuple[Config, str]:
    """The configuration, and where it was found, for people.

    Raises:
        UsageProblem: there is none; the text names both ways to give one.
        ConfigError: it is malformed.
    """
    from s3gc.config import create_config_from_env, load_config

    path = find(settings)
    if path is not None:
        return load_config(path, **overrides), str(path)
    if not os.environ.get("S3_BUCKET", "").strip():
        raise UsageProblem(MISSING)
    return create_config_from_env(**overrides), "the environment"
