"""``s3gc plan``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread
from rich.console import Console
from rich.text import Text

from s3gc import Collector, Config, Plan
from s3gc.difference import Difference
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD, UsageProblem
from s3gc_cli._out import check_folder, write_out
from s3gc_cli._render.difference import differences, in_one_line, show_differences
from s3gc_cli._render.plan import show_plan, summary
from s3gc_cli._render.replicas import copies_wanted
from s3gc_cli._run import Session


async def plan(session: Session, *, out: Path | None, diff: bool, against: Path | None) -> int:
    """Make a plan, show it, and write it where it is wanted."""
    config, _ = session.config()
    if out is not None:
        check_folder(out)
    async with session.collector(config) as gc:
        before = await _before(gc, against) if diff or against is not None else None
        made = await gc.plan()
        if before is not None:
            if session.watcher is not None:
                session.watcher.display.stage("comparing with the plan before")
            found = [one async for one in gc.differences(before, made)]
        if out is not None:
            write_out(out, lambda part: shutil.copyfile(made.path, part))
        if before is not None:
            session.answer(
                {**differences(before, found), **_documents.plan(made, out)},
                f"{in_one_line(found)}; {summary(made)}",
                lambda console: _show_both(console, session, config, before, found, made, out),
            )
            return HELD if made.held_by else DONE
        session.answer(
            _documents.plan(made, out),
            summary(made),
            lambda console: _show(console, session, config, made, out),
        )
        return HELD if made.held_by else DONE


async def _before(gc: Collector, against: Path | None) -> Plan:
    """The plan to compare with.

    Raises:
        UsageProblem: there is none.
    """
    path = against if against is not None else await gc.latest_plan()
    if path is None:
        raise UsageProblem("there is no plan to compare with: make one, or name a file with --against")
    return await anyio.to_thread.run_sync(Plan.load, path)


def _show_both(
    console: Console,
    session: Session,
    config: Config,
    before: Plan,
    found: Sequence[Difference],
    made: Plan,
    out: Path | None,
) -> None:
    _show(console, session, config, made, out)
    console.print()
    show_differences(console, before, found)


def _show(console: Console, session: Session, config: Config, made: Plan, out: Path | None) -> None:
    show_plan(console, session.output.secrets, made, out)
    if len(made) and (where := copies_wanted(config)):
        console.print(Text(f"Before an object goes, its backup is in {where}.", style="dim"), soft_wrap=True)
