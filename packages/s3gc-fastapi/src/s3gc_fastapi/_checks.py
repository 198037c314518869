"""What checks found, as JSON that is never long: all is counted, the first are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from s3gc import Collector, Config
from s3gc.config import scrub
from s3gc.model import DrillReport, ScrubReport
from s3gc_fastapi._values import clean

KINDS = frozenset({"missing", "verify", "drill"})

ROWS = 200
"""Rows that name nothing, and that an answer names."""

PROBLEMS = 20
"""The same of problems."""


async def missing(gc: Collector) -> Mapping[str, Any]:
    """Look for rows that name objects which don't exist."""
    columns: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    async with aclosing(gc.missing()) as found:  # type: ignore[type-var]
        async for one in found:
            columns[f"{one.source}:{one.table}.{one.column}"] += 1
            if len(rows) < ROWS:
                rows.append(
                    {
                        "source": clean(one.source),
                        "table": clean(one.table),
                        "column": clean(one.column),
                        "row_id": clean(one.row_id),
                        "keys": [clean(key) for key in sorted(one.keys, key=len)[:PROBLEMS]],
                    }
                )
    return {"total": columns.total(), "columns": clean(dict(sorted(columns.items()))), "rows": rows}


def verified(report: ScrubReport, config: Config) -> Mapping[str, Any]:
    """What reading backups found."""
    share = report.share
    return {
        "ok": report.ok,
        "backups": report.backups,
        **_problems(report.problems, config),
        "share": None if share is None else f"{share.number + 1} of {share.of}",
        "seconds": report.seconds,
    }


def drilled(report: DrillReport, config: Config) -> Mapping[str, Any]:
    """What a drill found."""
    return {
        "ok": report.ok,
        "objects": report.objects,
        "restored": report.restored,
        "bytes": report.bytes,
        **_problems(report.problems, config),
        "seconds": report.seconds,
    }


def _problems(problems: Sequence[str], config: Config) -> dict[str, Any]:
    first = [clean(scrub(each, config)) for each in problems[:PROBLEMS]]
    return {"problems": len(problems), "first_problems": first}
