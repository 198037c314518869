"""``s3gc acknowledge``."""

from __future__ import annotations

from s3gc.breakers import ACKNOWLEDGEABLE
from s3gc_cli._errors import DONE, UsageProblem
from s3gc_cli._keys import show_text
from s3gc_cli._run import Session


async def acknowledge(session: Session, code: str, *, subject: str, reason: str) -> int:
    """Let a breaker go, on record."""
    config, _ = session.config()
    async with session.collector(config) as gc:
        try:
            await gc.acknowledge(code, reason, subject=subject)
        except ValueError as error:
            raise UsageProblem(str(error)) from None
    about = f" of {subject}" if subject else ""
    if code in ACKNOWLEDGEABLE:
        line = f"{code}{about} may pass for as long as its cause lasts; the journal has the reason"
    else:
        line = (
            f"{code}{about} is let go, and trips again unless its cause is cured; the journal has the reason"
        )
    session.answer(
        {"acknowledged": {"code": code, "subject": subject, "reason": reason}},
        line,
        lambda console: console.print(show_text(line), soft_wrap=True),
    )
    return DONE
