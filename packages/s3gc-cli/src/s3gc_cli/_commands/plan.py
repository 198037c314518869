"""``s3gc plan``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rich.console import Console
from rich.text import Text

from s3gc import Config, Plan
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD, UsageProblem
from s3gc_cli._render.plan import show_plan, summary
from s3gc_cli._render.replicas import copies_wanted
from s3gc_cli._run import Session


async def plan(session: Session, *, out: Path | None) -> int:
    """Make a plan, show it, and write it where it is wanted."""
    config, _ = session.config()
    if out is not None:
        _check_folder(out)
    async with session.collector(config) as gc:
        made = await gc.plan()
        if out is not None:
            _write(made.path, out)
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


def _check_folder(out: Path) -> None:
    """Before a long listing, not after it."""
    if not out.absolute().parent.is_dir():
        raise UsageProblem(f"--out {out}: there is no folder {out.absolute().parent}")


def _write(path: Path, out: Path) -> None:
    """Copy a plan; nothing half written ever stands under the name."""
    part = out.with_name(out.name + ".part")
    try:
        shutil.copyfile(path, part)
        os.replace(part, out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageProblem(f"--out {out} can't be written: {error.strerror}") from None
