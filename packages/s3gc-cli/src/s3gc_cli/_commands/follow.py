"""``s3gc cdc follow``: until somebody stops it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3gc_cli._errors import DONE
from s3gc_cli._run import Session
from s3gc_cli._text import count


async def follow(session: Session) -> int:
    """Follow changes; being stopped is its good end."""
    config, _ = session.config()
    session.endless = True
    applied = 0

    def take(event: str, data: Mapping[str, Any]) -> None:
        nonlocal applied
        if event == "changes_followed":
            applied += data["changes"]

    async with session.collector(config) as gc:
        try:
            with gc.watching(take):
                await gc.follow()
        finally:
            line = f"{count(applied, 'change')} applied"
            session.answer({"changes": applied}, line, lambda console: console.print(line))
    return DONE
