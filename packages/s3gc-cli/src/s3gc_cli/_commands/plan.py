"""``s3gc plan``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD, UsageProblem
from s3gc_cli._render.plan import show_plan, summary
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
            lambda console: show_plan(console, session.output.secrets, made, out),
        )
        return HELD if made.held_by else DONE


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
