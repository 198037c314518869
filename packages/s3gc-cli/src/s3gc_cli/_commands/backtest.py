"""``s3gc backtest``."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from attrs import evolve

from s3gc import Config
from s3gc.backtest import Absence, Backtest, Policy, Verdict
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD
from s3gc_cli._out import check_new, write_out
from s3gc_cli._output import Rows
from s3gc_cli._render.backtest import GRACES, in_one_line, show_backtest
from s3gc_cli._report.backtest import backtest_page
from s3gc_cli._run import Session


async def backtest(
    session: Session,
    *,
    grace: float | None,
    observations: int | None,
    retention: float | None,
    out: Path | None,
    force: bool,
) -> int:
    """Hold a policy against the past; 3 when objects would have gone that were named again later."""
    config, _ = session.config()
    if out is not None:
        await anyio.to_thread.run_sync(partial(check_new, out, force=force))
    policy = _policy(config, grace, observations, retention)
    session.watch().display.stage("reading the registry and the journal")
    async with session.collector(config) as gc:
        found = await gc.backtest(policy)
    if out is not None:
        text = session.output.secrets.scrub(backtest_page(found, config.bucket))
        data = text.encode("utf-8", "backslashreplace")  # a key may hold what UTF-8 doesn't
        await anyio.to_thread.run_sync(write_out, out, lambda part: part.write_bytes(data))
    session.answer(
        _document(found, out), in_one_line(found), lambda console: show_backtest(console, found, out)
    )
    return HELD if found.judgement.verdict in (Verdict.UNSAFE, Verdict.TIGHT) else DONE


def _policy(config: Config, grace: float | None, observations: int | None, retention: float | None) -> Policy:
    """The policy in force, with what was given instead."""
    policy = Policy(config.safety.grace, config.safety.min_observations, config.retention)
    if grace is not None:
        policy = evolve(policy, grace=timedelta(days=grace))
    if observations is not None:
        policy = evolve(policy, min_observations=observations)
    if retention is not None:
        policy = evolve(policy, retention=timedelta(days=retention))
    return policy


def _document(found: Backtest, out: Path | None) -> dict[str, Any]:
    whole = evolve(found, absences=())
    document: dict[str, Any] = _documents.value(whole)
    others = (found.judge(evolve(found.judgement.policy, grace=grace)) for grace in GRACES)
    return {
        **document,
        "watched": _documents.value(found.watched),
        "path": None if out is None else str(out),
        "graces": [
            {
                "grace": _documents.value(one.policy.grace),
                "verdict": one.verdict.value,
                "would_go": one.would_go,
                "could_go": one.could_go,
            }
            for one in others
        ],
        "absences": Rows(map(_row, found.absences)),
    }


def _row(one: Absence) -> dict[str, Any]:
    row: dict[str, Any] = _documents.value(one)
    return {**row, "length": _documents.value(one.length)}
