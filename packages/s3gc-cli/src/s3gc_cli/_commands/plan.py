"""``s3gc plan``."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console
from rich.text import Text

from s3gc import Config, Plan
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD
from s3gc_cli._out import check_folder, write_out
from s3gc_cli._render.plan import show_plan, summary
from s3gc_cli._render.replicas import copies_wanted
from s3gc_cli._run import Session


async def plan(session: Session, *, out: Path | None) -> int:
    """Make a plan, show it, and write it where it is wanted."""
    config, _ = session.config()
    if out is not None:
        check_folder(out)
    async with session.collector(config) as gc:
        made = await gc.plan()
        if out is not None:
            write_out(out, lambda part: shutil.copyfile(made.path, part))
        session.answer(
            _documents.plan(made, out),
            summary(made),
            lambda console: _show(console, session, config, made, out),
        )
        return HELD if made.held_by else DONE


def _show(console: Console, session: Session, config: Config, made: Plan, out: Path | None) -> None:
    show_plan(console, session.output.secrets, made, out)
    if len(made) and (where := copies_wanted(config)):
        console.print(Text(f"Before an object goes, its backup is in {where}.", style="dim"), soft_wrap=True)
