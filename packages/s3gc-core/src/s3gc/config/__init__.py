"""The configuration: what to look at, what to leave alone, how careful to be.

Three ways lead here: :func:`create_config` (code), :func:`create_config_from_env` (environment) and
:func:`load_config` (``s3gc.toml``). A fourth, :mod:`s3gc.builder`, builds it step by step. All of them check
the same things, and none opens a connection.

A configuration without any place of references (no ``database_url``, ``cdc_connection_url`` or ``sources``)
is legal here, because sources can be handed to ``Collector.open`` as objects: the collector refuses to run
without one.
"""

from s3gc.config._config import (
    OPTIONS,
    REGISTRY_FILE,
    Config,
    Draft,
    create_config,
    create_config_from_env,
    load_config,
)
from s3gc.config._options import Option, nearest
from s3gc.config._redact import redact, scrub

__all__ = [
    "OPTIONS",
    "REGISTRY_FILE",
    "Config",
    "Draft",
    "Option",
    "create_config",
    "create_config_from_env",
    "load_config",
    "nearest",
    "redact",
    "scrub",
]
