"""``s3gc breakers``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from s3gc.model import TrippedBreaker
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD
from s3gc_cli._render.plan import show_breakers
from s3gc_cli._run import Session
from s3gc_cli._text import count

NONE = "no breaker waits for an acknowledgement"


async def breakers(session: Session) -> int:
    """Show the breakers that wait for an acknowledgement; 3 when there is one."""
    config, _ = session.config()
    async with session.collector(config) as gc:
        waiting = await gc.breakers()
    session.answer(
        session.output.secrets.scrub_all(_documents.breakers(waiting)),
        _line(waiting),
        lambda console: _show(console, session, waiting),
    )
    return HELD if waiting else DONE


def _line(waiting: Sequence[TrippedBreaker]) -> str:
    if not waiting:
        return NONE
    wait = "waits" if len(waiting) == 1 else "wait"
    codes = ", ".join(sorted({breaker.code for breaker in waiting}))
    return f"{count(len(waiting), 'breaker')} {wait} for an acknowledgement: {codes}"


def _show(console: Console, session: Session, waiting: Sequence[TrippedBreaker]) -> None:
    console.print(_line(waiting))
    if waiting:
        console.print()
        show_breakers(console, session.output.secrets, waiting)
