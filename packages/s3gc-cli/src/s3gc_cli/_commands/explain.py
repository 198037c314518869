"""``s3gc explain``."""

from __future__ import annotations

from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED, UsageProblem
from s3gc_cli._keys import read_key
from s3gc_cli._render.explanation import show_explanation
from s3gc_cli._run import Session
from s3gc_cli._times import read_moment


async def explain(session: Session, *, key: str | None, key_json: str | None, at: str | None) -> int:
    """Say why a key stays or went; 1 when something could not be read. Of the past only the journal is."""
    try:
        asked = read_key(key, key_json)
    except ValueError as error:
        raise UsageProblem(f"KEY: {error}") from None
    if asked is None:
        raise UsageProblem("say which key: s3gc explain KEY, or --key-json '\"...\"'")
    moment = None if at is None else read_moment("--at", at)
    config, _ = session.config()
    async with session.collector(config) as gc:
        found = await gc.explain(asked, at=moment)
    document = _documents.explanation(found, moment)
    document["problems"] = session.output.secrets.scrub_all(document["problems"])
    document["decision"] = session.output.secrets.scrub(document["decision"])
    session.answer(
        document,
        session.output.secrets.scrub(found.decision),
        lambda console: show_explanation(console, session.output.secrets, found, moment),
    )
    return FAILED if found.problems and moment is None else DONE
