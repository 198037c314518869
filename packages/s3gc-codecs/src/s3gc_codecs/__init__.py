"""Codecs for s3gc's vault that make pictures and documents smaller and give back the very bytes."""

from __future__ import annotations

from collections.abc import Sequence

from s3gc import hookimpl
from s3gc.abc import ObjectCodec, ObjectCoder
from s3gc_codecs.codecs import codecs
from s3gc_codecs.coder import PoolCoder
from s3gc_codecs.policies import POLICIES, Policy, Rule, classify
from s3gc_codecs.pool import Encoded, WorkerPool

__all__ = [
    "POLICIES",
    "Encoded",
    "Policy",
    "PoolCoder",
    "Rule",
    "WorkerPool",
    "classify",
    "codecs",
    "s3gc_codecs",
    "s3gc_open_coder",
]


@hookimpl
def s3gc_codecs() -> Sequence[ObjectCodec]:
    """All that work on this machine."""
    return codecs()


@hookimpl
def s3gc_open_coder(policy: str) -> ObjectCoder | None:
    """Workers that encode by this policy; None for one that isn't ours."""
    return PoolCoder(POLICIES[policy]) if policy in POLICIES else None
