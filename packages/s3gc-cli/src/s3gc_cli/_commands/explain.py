"""``s3gc explain``."""

from __future__ import annotations

from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED, UsageProblem
from s3gc_cli._keys import read_key
from s3gc_cli._render.explanation import show_explanation
from s3gc_cli._run import Session


async def explain(session: Session, *, key: str | None, key_json: str | None) -> int:
    """Say why a key stays or went; 1 when something could not be read."""
    try:
        asked = read_key(key, key_json)
    except ValueError as error:
        raise UsageProblem(f"KEY: {error}") from None
    if asked is None:
        raise UsageProblem("say which key: s3gc explain KEY, or --key-json '\"...\"'")
    config, _ = session.config()
    async with session.collector(config) as gc:
        found = await gc.explain(asked)
    document = _documents.explanation(found)
    document["problems"] = session.output.secrets.scrub_all(document["problems"])
    document["decision"] = session.output.secrets.scrub(document["decision"])
    session.answer(
        document,
        session.output.secrets.scrub(found.decision),
        lambda console: show_explanation(console, session.output.secrets, found),
    )
    return FAILED if found.problems else DONE
