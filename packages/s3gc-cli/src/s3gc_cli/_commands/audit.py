"""``s3gc audit …``."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from attrs import evolve

from s3gc_cli import _documents
from s3gc_cli._commands.vault import opened
from s3gc_cli._errors import DONE, FAILED, UsageProblem
from s3gc_cli._keys import read_key
from s3gc_cli._render.reports import audited, show_audit
from s3gc_cli._run import Session
from s3gc_cli._times import read_moment


async def verify(session: Session, *, checkpoint: Path | None = None, public_key: Path | None = None) -> int:
    """Check journal and vault; 1 when anything isn't as it was written."""
    from s3gc.vault.checkpoints import checkpoints_from

    if checkpoint is not None and public_key is None:
        raise UsageProblem("--checkpoint proves nothing without --public-key")
    kept = [] if checkpoint is None else checkpoints_from(_read(checkpoint).decode("utf-8", "replace"))
    key = None if public_key is None else _read(public_key)
    async with opened(session, "reading journal and vault") as archive:
        journal = await archive.audit(kept, key)
        vault = await archive.vault.verify()
    session.answer(
        _documents.audit(journal, vault),
        audited(journal, vault),
        lambda console: show_audit(console, session.output.secrets, journal, vault),
    )
    return DONE if journal.ok and vault.ok else FAILED


async def checkpoint(session: Session, *, key: Path, out: Path | None) -> int:
    """Sign the journal's end. In every form the answer is the checkpoint, which is JSON."""
    private = _read(key)
    async with opened(session, "signing") as archive:
        made = (await archive.checkpoint(private)).as_json()
    line = json.dumps(made)
    if out is not None:
        try:
            with out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise UsageProblem(
                f"--out {out}: {error.strerror}; the journal has the checkpoint: {line}"
            ) from None
    session.answer(made, line, lambda console: console.print(line, soft_wrap=True))
    return DONE


@dataclass(frozen=True)
class Choice:
    """What the command line chose, as it was written."""

    key: str | None
    key_json: str | None
    prefix: str | None
    operation: str | None
    events: tuple[str, ...]
    since: str | None
    until: str | None


async def export(session: Session, choice: Choice, *, form: str) -> int:
    """Entries on stdout as they are read."""
    from s3gc.journal_events import CATALOGUE
    from s3gc.vault.export import FORMATS, Filters

    if form not in FORMATS:
        raise UsageProblem(f"--format {form!r}: write {' or '.join(FORMATS)}")
    if session.output.settings.json and form != "jsonl":
        raise UsageProblem("--json asks for JSON: leave out --format csv")
    if unknown := set(choice.events) - CATALOGUE.keys():
        raise UsageProblem(f"--event {unknown.pop()!r}: there are {', '.join(CATALOGUE)}")
    try:
        key = read_key(choice.key, choice.key_json)
    except ValueError as error:
        raise UsageProblem(f"--key: {error}") from None
    filters = Filters(key, choice.prefix, choice.operation, choice.events or None)
    if choice.since is not None:
        filters = evolve(filters, since=read_moment("--since", choice.since))
    if choice.until is not None:
        filters = evolve(filters, until=read_moment("--until", choice.until))
    output = session.output
    output.lines = True
    async with (
        opened(session, "reading the journal") as archive,
        aclosing(archive.export(filters, form)) as pieces,  # type: ignore[type-var]
    ):
        if session.watcher is not None:
            session.watcher.display.stop()
        async for piece in pieces:
            output.binary.write(piece.encode())  # UTF-8 whatever the terminal has, and CSV's own line ends
    output.binary.flush()
    return DONE


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageProblem(f"{path}: {error.strerror}") from None
