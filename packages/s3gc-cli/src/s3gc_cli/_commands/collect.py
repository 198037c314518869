"""``s3gc collect``: with a question before anything is deleted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio.to_thread
from rich.console import Console
from rich.text import Text

from s3gc import Plan
from s3gc.model import Mode, Report
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED, UsageProblem
from s3gc_cli._render.plan import show_plan
from s3gc_cli._render.replicas import copies_wanted
from s3gc_cli._render.reports import collected, show_report
from s3gc_cli._run import Session
from s3gc_cli._text import count, size


async def collect(session: Session, *, file: Path | None, mode: str | None, yes: bool) -> int:
    """Plan (or read a plan), ask if it deletes, do it, report."""
    overrides: dict[str, Any] = {} if mode is None else {"mode": mode}
    config, _ = session.config(**overrides)
    asks = config.mode is Mode.EXECUTE and not yes
    if asks and not (sys.stdin.isatty() and session.output.err.is_terminal):
        raise UsageProblem("mode is execute and there is no terminal to ask on: add --yes to delete")
    plan = Plan.load(file) if file is not None else None
    async with session.collector(config) as gc:
        if plan is None:
            plan = await gc.plan()
        if asks and len(plan) and not plan.held_by:
            show_plan(session.output.err, session.output.secrets, plan)
            if not await _agreed(session, plan, copies_wanted(config) or config.vault_path):
                session.output.error(
                    "not confirmed: nothing was deleted",
                    {
                        "error": {
                            "type": "NotConfirmed",
                            "message": "nothing was deleted",
                            "exit_code": FAILED,
                        }
                    },
                )
                return FAILED
        if session.watcher is not None and config.mode is Mode.EXECUTE:
            session.watcher.planned = len(plan)
            session.watcher.display.stage("sweeping", total=len(plan))
        report = await gc.collect(plan)
        session.answer(
            _documents.collect(report, plan),
            collected(report),
            lambda console: _show(console, session, plan, report),
        )
    return FAILED if report.errors else DONE


def _show(console: Console, session: Session, plan: Plan, report: Report) -> None:
    """What was done; where nothing was, what would be."""
    if report.mode is not Mode.EXECUTE:
        show_plan(console, session.output.secrets, plan)
        console.print()
    show_report(console, session.output.secrets, report)


async def _agreed(session: Session, plan: Plan, vault: str) -> bool:
    """Whether the person at the terminal says yes. Anything but ``yes`` is no."""
    question = Text(
        f"Back up to {vault} and delete {count(len(plan), 'object')} ({size(plan.bytes)})? Type yes: ",
        style="bold",
    )

    def ask() -> str:
        session.output.err.print(question, end="", soft_wrap=True)
        return sys.stdin.readline()

    # A signal must not wait for an answer: the thread is left behind, reading.
    return (await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)).strip().lower() == "yes"
