"""``s3gc vault …``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from s3gc.archive import Archive
from s3gc.errors import VaultError
from s3gc.model import RemovalReport
from s3gc.vault.browse import Wanted
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED, UsageProblem
from s3gc_cli._keys import read_key, show_key
from s3gc_cli._render.vault import (
    drilled,
    extracted,
    rebuilt,
    removed,
    scrubbed,
    sentence,
    show_errors,
    show_problems,
    show_rebuilt,
    show_stats,
    totals,
    transcoded,
)
from s3gc_cli._run import Session
from s3gc_cli._text import count, size
from s3gc_cli._times import read_moment


@dataclass(frozen=True)
class Choice:
    """What the command line chose, as it was written."""

    key: str | None = None
    key_json: str | None = None
    prefix: str | None = None
    operation: str | None = None
    at: str | None = None

    def wanted(self) -> Wanted:
        """The same as values.

        Raises:
            UsageProblem: it can't be meant.
        """
        try:
            key = read_key(self.key, self.key_json)
        except ValueError as error:
            raise UsageProblem(f"--key: {error}") from None
        at = None if self.at is None else read_moment("--at", self.at)
        return Wanted(key, self.prefix, self.operation, at)


@asynccontextmanager
async def opened(session: Session, doing: str) -> AsyncIterator[Archive]:
    """The vault of the configuration, by itself."""
    config, _ = session.config()
    session.watch().display.stage(doing)
    async with Archive.open(config) as archive:
        yield archive


async def ls(session: Session, choice: Choice) -> int:
    """Tell each backup, then how many there are."""
    wanted, output = choice.wanted(), session.output
    output.lines = True
    backups = total = 0
    async with (
        opened(session, "reading the journal") as archive,
        aclosing(archive.versions(wanted)) as found,  # type: ignore[type-var]
    ):
        async for stored in found:
            if not backups and session.watcher is not None:
                session.watcher.display.stop()  # a moving line would be torn apart by what follows
            backups += 1
            total += stored.record.size
            if output.settings.json:
                output.line(_documents.value(stored))
            elif output.for_people:
                output.out.print(sentence(stored), soft_wrap=True)
    line = f"{count(backups, 'backup')} of {size(total)}"
    if output.settings.json:
        output.line({"total": backups, "bytes": total})
    else:
        session.answer({}, line, lambda console: console.print(line))
    return DONE


async def cat(session: Session, choice: Choice) -> int:
    """The bytes of one object. An error may come behind some of them: then they don't count."""
    wanted = choice.wanted()
    if wanted.key is None:
        raise UsageProblem("say which object: KEY or --key-json")
    if session.output.settings.json:
        raise UsageProblem("the answer is the object's bytes, not JSON; `s3gc vault ls --json` tells of it")
    async with opened(session, "reading the vault") as archive:
        found = [stored async for stored in archive.latest(wanted)]
        if not found:
            raise VaultError(f"the vault holds no version of {show_key(wanted.key)} that matches")
        if session.watcher is not None:
            session.watcher.display.stop()
        async with aclosing(archive.read(found[0].record)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                session.output.binary.write(chunk)
    session.output.binary.flush()
    return DONE


async def extract(session: Session, choice: Choice, folder: Path) -> int:
    """Objects as files; 1 when one could not be read."""
    async with opened(session, "reading the vault") as archive:
        report = await archive.extract(choice.wanted(), folder)
    line = extracted(report)
    session.answer(_documents.value(report), line, lambda console: show_errors(console, line, report.errors))
    return FAILED if report.errors else DONE


async def stats(session: Session) -> int:
    """The vault in numbers."""
    async with opened(session, "reading the vault") as archive:
        found = await archive.stats()
    session.answer(_documents.value(found), totals(found), lambda console: show_stats(console, found))
    return DONE


async def verify(session: Session, *, share: str | None) -> int:
    """Read backups; 1 when one isn't as it was written."""
    of = None if share is None else _share_of(share)
    async with opened(session, "reading backups") as archive:
        report = await archive.verify(share_of=of)
    line = scrubbed(report)
    session.answer(
        _documents.value(report), line, lambda console: show_problems(console, line, report.problems)
    )
    return DONE if report.ok else FAILED


def _share_of(text: str) -> int:
    one, _, of = text.partition("/")
    if one != "1" or not of.isascii() or not of.isdigit() or int(of) < 1:
        raise UsageProblem(f"--share {text!r}: write 1/30 for the next of thirty shares")
    return int(of)


async def drill(session: Session, *, objects: int) -> int:
    """Restore some backups by way of trial; 1 when one didn't come back exactly."""
    config, _ = session.config()
    async with session.collector(config) as gc:
        if session.watcher is not None:
            session.watcher.display.stage("restoring and comparing")
        report = await gc.drill(objects)
    line = drilled(report)
    session.answer(
        _documents.value(report), line, lambda console: show_problems(console, line, report.problems)
    )
    return DONE if report.ok else FAILED


async def prune(session: Session, *, execute: bool) -> int:
    """Remove what is over its time; 1 when a pack had to stay."""
    async with opened(session, "reading the journal") as archive:
        return _removed(session, await archive.prune(dry_run=not execute))


async def forget(session: Session, choice: Choice, *, reason: str, execute: bool) -> int:
    """Erase one object's backups; 1 when a pack had to stay."""
    wanted = choice.wanted()
    if wanted.key is None:
        raise UsageProblem("say which object: KEY or --key-json")
    async with opened(session, "reading the journal") as archive:
        return _removed(session, await archive.forget(wanted.key, reason, dry_run=not execute))


def _removed(session: Session, report: RemovalReport) -> int:
    line = removed(report)
    session.answer(
        _documents.value(report), line, lambda console: show_problems(console, line, report.problems)
    )
    return FAILED if report.problems else DONE


async def transcode(session: Session, *, execute: bool) -> int:
    """Re-encode to plain zstd; 1 when a pack had to stay."""
    async with opened(session, "reading the journal") as archive:
        report = await archive.transcode(dry_run=not execute)
    line = transcoded(report)
    session.answer(
        _documents.value(report), line, lambda console: show_problems(console, line, report.problems)
    )
    return FAILED if report.problems else DONE


async def rebuild(session: Session, *, set_aside: bool) -> int:
    """Read the packs of a vault that has lost its journal; 1 when some of them can't be read."""
    config, _ = session.config()
    session.watch().display.stage("reading packs")
    report = await Archive.rebuild(config, set_aside=set_aside)
    session.answer(_documents.value(report), rebuilt(report), lambda console: show_rebuilt(console, report))
    return FAILED if report.damaged else DONE
