"""The commands below ``s3gc claims``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from s3gc.registry import Claim
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED, UsageProblem
from s3gc_cli._keys import read_key, show_key, show_text
from s3gc_cli._render.plan import table
from s3gc_cli._run import Session
from s3gc_cli._text import count, span


async def list_(session: Session, *, prefix: str) -> int:
    """The claims that still run."""
    config, _ = session.config()
    async with session.collector(config) as gc:
        found = [one for one in await gc.claims() if one.key.startswith(prefix)]
    now = datetime.now(UTC)
    session.answer(
        {"claims": [_documents.value(one) for one in found]},
        _line(found),
        lambda console: _show(console, found, now),
    )
    return DONE


async def release(
    session: Session, *, key: str | None, key_json: str | None, id: str | None, reason: str
) -> int:
    """End claims, on record; 1 when none runs."""
    try:
        wanted = read_key(key, key_json)
    except ValueError as error:
        raise UsageProblem(f"KEY: {error}") from None
    if wanted is None:
        raise UsageProblem("say which key: s3gc claims release KEY, or --key-json '\"...\"'")
    config, _ = session.config()
    async with session.collector(config) as gc:
        try:
            ended = await gc.end_claims(wanted, reason, id=id)
        except ValueError as error:
            raise UsageProblem(f"--reason: {error}") from None
    line = f"{count(len(ended), 'claim')} on {show_key(wanted)} ended"
    if ended:
        line += "; the journal has the reason"
    session.answer(
        {"key": wanted, "ended": [_documents.value(one) for one in ended]},
        line,
        lambda console: console.print(line, soft_wrap=True),
    )
    return DONE if ended else FAILED


def _line(found: Sequence[Claim]) -> str:
    return f"{count(len(found), 'claim')} on {count(len({one.key for one in found}), 'key')}"


def _show(console: Console, found: Sequence[Claim], now: datetime) -> None:
    console.print(_line(found))
    if not found:
        return
    console.print()
    rows = table("claimed", "until", "which is in", "id")
    for one in found:
        rows.add_row(
            Text(show_key(one.key)),
            one.until.isoformat(sep=" ", timespec="seconds"),
            span(one.until - now),
            Text(show_text(one.id), style="dim"),
        )
    console.print(rows)
