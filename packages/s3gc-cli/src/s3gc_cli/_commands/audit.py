"""``s3gc audit verify``."""

from __future__ import annotations

from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED
from s3gc_cli._render.reports import audited, show_audit
from s3gc_cli._run import Session


async def verify(session: Session) -> int:
    """Check journal and vault; 1 when anything isn't as it was written."""
    config, _ = session.config()
    async with session.collector(config) as gc:
        if session.watcher is not None:
            session.watcher.display.stage("reading journal and vault")
        journal, vault = await gc.verify()
    session.answer(
        _documents.audit(journal, vault),
        audited(journal, vault),
        lambda console: show_audit(console, session.output.secrets, journal, vault),
    )
    return DONE if journal.ok and vault.ok else FAILED
