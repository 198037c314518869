"""The configuration of s3gc that the workers share."""

from __future__ import annotations

import argparse

import structlog

from benchmarks.application import COLUMN, TABLE
from s3gc import Config, Safety, create_config


def configuration(options: argparse.Namespace) -> Config:
    """Execute mode, nothing to wait for; verification, back-ups, fences and confirmation are always on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    return create_config(
        bucket=options.bucket,
        endpoint_url=options.endpoint,
        database_url=f"sqlite:///{options.database}",
        tables={TABLE: [COLUMN]},
        mode="execute",
        retention_days=0,
        vault_path=options.vault,
        safety=Safety.none(),
    )
