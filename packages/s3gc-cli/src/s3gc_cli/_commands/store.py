"""``s3gc store``."""

from __future__ import annotations

from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD
from s3gc_cli._render.store import in_one_line, show_store
from s3gc_cli._run import Session


async def store(session: Session, *, probe: bool) -> int:
    """Show what is known of the store, or find out; 3 when that would hold a sweep."""
    config, _ = session.config()
    async with session.collector(config) as gc:
        if probe and session.watcher is not None:
            session.watcher.display.stage("probing the store")
        state = await gc.capabilities(probe=probe)
    session.answer(
        session.output.secrets.scrub_all(_documents.store(state)),
        in_one_line(state),
        lambda console: show_store(console, session.output.secrets, state),
    )
    return HELD if state is not None and state.held_by else DONE
