"""``s3gc restore``: says what it would do unless told to do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED, UsageProblem
from s3gc_cli._keys import read_key
from s3gc_cli._render.reports import restored, show_restore
from s3gc_cli._run import Session
from s3gc_cli._times import read_moment


@dataclass(frozen=True)
class Choice:
    """What the command line chose, as it was written."""

    key: str | None = None
    key_json: str | None = None
    prefix: str | None = None
    operation: str | None = None
    at: str | None = None
    into: str | None = None


async def restore(session: Session, choice: Choice, *, execute: bool, overwrite: bool) -> int:
    """Bring objects back, or say which would come."""
    try:
        key = read_key(choice.key, choice.key_json)
    except ValueError as error:
        raise UsageProblem(f"--key: {error}") from None
    at = None if choice.at is None else read_moment("--at", choice.at)
    if key is None and choice.prefix is None and choice.operation is None and at is None:
        raise UsageProblem(
            "say what to restore: --key, --prefix, --operation or --at (--prefix '' is everything)"
        )
    config, _ = session.config()
    session.watch().display.stage("restoring" if execute else "comparing")
    what: dict[str, Any] = {
        "key": key,
        "prefix": choice.prefix,
        "operation_id": choice.operation,
        "at": at,
        "dry_run": not execute,
        "overwrite": overwrite,
    }
    if choice.into is None:
        async with session.collector(config) as gc:
            report = await gc.restore(**what)
    else:
        async with session.archive(config) as archive:  # the bucket and the database may be gone
            report = await archive.restore(choice.into, **what)
    session.answer(
        _documents.restored(report),
        restored(report),
        lambda console: show_restore(console, session.output.secrets, report),
    )
    return FAILED if report.errors else DONE
