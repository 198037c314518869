"""``s3gc status`` and ``s3gc history``."""

from __future__ import annotations

from collections.abc import Sequence

from s3gc.operations import Operation
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD, UsageProblem
from s3gc_cli._render.history import in_one_line, show_history, show_status, what_was_done
from s3gc_cli._run import Session
from s3gc_cli._text import count

KINDS = ("collect", "restore")


async def status(session: Session) -> int:
    """How everything stands; 3 when something isn't well or waits for a person."""
    config, _ = session.config()
    async with session.collector(config) as gc:
        health, metrics = await gc.health(), await gc.metrics()
        last = [one async for one in gc.operations(newest=1)]
    document = {
        "health": _documents.value(health),
        "metrics": _documents.value(metrics),
        "last": _documents.value(last[0]) if last else None,
    }
    session.answer(
        session.output.secrets.scrub_all(document),
        session.output.secrets.scrub(in_one_line(health)),
        lambda console: show_status(
            console, session.output.secrets, health, metrics, last[0] if last else None
        ),
    )
    return DONE if health.ok else HELD


async def history(session: Session, *, kind: str | None, limit: int) -> int:
    """The newest operations."""
    if kind is not None and kind not in KINDS:
        raise UsageProblem(f"--kind {kind!r}: there are {' and '.join(KINDS)}")
    config, _ = session.config()
    kinds: Sequence[str] = () if kind is None else (kind,)
    async with session.collector(config) as gc:
        found = [one async for one in gc.operations(kinds=kinds, newest=limit)]
    session.answer(
        session.output.secrets.scrub_all({"operations": [_documents.value(one) for one in found]}),
        _line(found),
        lambda console: (
            show_history(console, session.output.secrets, found)
            if found
            else console.print("nothing was done yet")
        ),
    )
    return DONE


def _line(found: Sequence[Operation]) -> str:
    if not found:
        return "nothing was done yet"
    newest = found[0]
    told = f"{newest.kind} {newest.operation_id} {newest.state}: {what_was_done(newest)}"
    return f"{count(len(found), 'operation')}, the newest: {told}"
