"""Codecs for s3gc's vault that make pictures and documents smaller and give back the very bytes."""

from __future__ import annotations

from collections.abc import Sequence

from s3gc import hookimpl
from s3gc.abc import ObjectCodec
from s3gc_codecs.codecs import codecs
from s3gc_codecs.policies import POLICIES, Policy, Rule, classify
from s3gc_codecs.pool import Encoded, WorkerPool

__all__ = ["POLICIES", "Encoded", "Policy", "Rule", "WorkerPool", "classify", "codecs", "s3gc_codecs"]


@hookimpl
def s3gc_codecs() -> Sequence[ObjectCodec]:
    """All that work on this machine."""
    return codecs()
