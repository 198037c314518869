"""s3gc: find, back up, delete and bring back the objects of a bucket that no database row refers to."""

from s3gc import errors
from s3gc.abc import Compressor, Gate, Journal, ObjectStore, ReferenceSource, Vault
from s3gc.collector import Collector
from s3gc.config import Config, create_config, create_config_from_env, load_config
from s3gc.hooks import create_plugin_manager, hookimpl, plugin_manager
from s3gc.model import (
    Candidate,
    Explanation,
    Mode,
    Moment,
    ObjectAttributes,
    ObjectInfo,
    Position,
    Reference,
    Report,
    RestoreReport,
    Verdict,
)
from s3gc.plan import Plan
from s3gc.resolver import Resolver
from s3gc.safety import Safety

__version__ = "0.1.0"

__all__ = [
    "Candidate",
    "Collector",
    "Compressor",
    "Config",
    "Explanation",
    "Gate",
    "Journal",
    "Mode",
    "Moment",
    "ObjectAttributes",
    "ObjectInfo",
    "ObjectStore",
    "Plan",
    "Position",
    "Reference",
    "ReferenceSource",
    "Report",
    "Resolver",
    "RestoreReport",
    "Safety",
    "Vault",
    "Verdict",
    "create_config",
    "create_config_from_env",
    "create_plugin_manager",
    "errors",
    "hookimpl",
    "load_config",
    "plugin_manager",
]
