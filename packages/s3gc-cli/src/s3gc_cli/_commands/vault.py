"""``s3gc vault …``."""

from __future__ import annotations

from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED
from s3gc_cli._render.vault import rebuilt, show_rebuilt
from s3gc_cli._run import Session


async def rebuild(session: Session, *, set_aside: bool) -> int:
    """Read the packs of a vault that has lost its journal; 1 when some of them can't be read."""
    from s3gc.archive import Archive

    config, _ = session.config()
    session.watch().display.stage("reading packs")
    report = await Archive.rebuild(config, set_aside=set_aside)
    session.answer(_documents.value(report), rebuilt(report), lambda console: show_rebuilt(console, report))
    return FAILED if report.damaged else DONE
