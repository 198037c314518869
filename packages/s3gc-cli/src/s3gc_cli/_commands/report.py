"""``s3gc report``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio.to_thread
from attrs import frozen

from s3gc import Config, Plan, journal_events
from s3gc.abc import Journal
from s3gc.model import JournalEntry, TrippedBreaker
from s3gc.opening import folder_of
from s3gc.plan import newest_plan
from s3gc_cli._commands.vault import opened
from s3gc_cli._errors import DONE, UsageProblem
from s3gc_cli._out import check_new, write_out
from s3gc_cli._report.gather import Gathered, Item
from s3gc_cli._report.html import Page, page
from s3gc_cli._run import Session
from s3gc_cli._text import count, size


@frozen
class _Made:
    """A report that is ready to be written."""

    told: Page
    found: Gathered


async def report(
    session: Session, *, plan: Path | None, operation: str | None, out: Path | None, force: bool
) -> int:
    """Write a plan, or what an operation did, as one HTML file."""
    if plan is not None and operation is not None:
        raise UsageProblem("--plan and --operation exclude each other: a report is about one of them")
    config, _ = session.config()
    out = Path(f"s3gc-{operation or 'plan'}.html") if out is None else out
    await anyio.to_thread.run_sync(partial(check_new, out, force=force))
    session.watch().display.stage("reading")
    if operation is not None:
        async with opened(session, "reading the journal") as archive:
            made = await _of_operation(archive.vault.journal, operation)
    else:
        made = await anyio.to_thread.run_sync(_of_plan, config, plan)
    text = session.output.secrets.scrub(page(made.told, made.found))
    # A key may hold what UTF-8 doesn't.
    data = text.encode("utf-8", "backslashreplace")
    await anyio.to_thread.run_sync(write_out, out, lambda part: part.write_bytes(data))
    line = f"{out}: {count(made.found.objects, 'object')} {made.told.verb}, {size(made.found.bytes)}"
    document = {"path": str(out), "objects": made.found.objects, "bytes": made.found.bytes}
    session.answer(document, line, lambda console: console.print(line, soft_wrap=True))
    return DONE


# ------------------------------------------------------------------------------------------- a plan


def _of_plan(config: Config, path: Path | None) -> _Made:
    plan = Plan.load(path if path is not None else _newest(config))
    header, footer = plan.header, plan.footer
    now = datetime.now(UTC)
    found = Gathered(header.created_at)
    for entry in plan:
        info = entry.object
        found.add(Item(info.key, info.size, info.last_modified, entry.unreferenced_since, entry.reason))
    warnings = list(_breakers(footer.held_by))
    if now - header.created_at > config.safety.max_plan_age:
        warnings.append(f"the plan is of {_time(header.created_at)}: too old to be executed")
    if header.config_digest != config.digest:
        warnings.append("the configuration was changed since: the plan can't be executed any more")
    facts = [
        ("plan", header.operation_id),
        ("made at", _time(header.created_at)),
        ("mode", header.mode.value),
        ("listed", count(footer.scanned, "object")),
        ("named by no row", count(footer.candidates, "object")),
        ("sources stood at", "; ".join(f"{one.source}: {one.value}" for one in header.positions)),
        ("gates", ", ".join(header.gates)),
        ("SHA-256 of the plan", plan.digest),
    ]
    told = Page(
        heading="What s3gc would delete",
        bucket=header.store_url,
        facts=facts,
        warnings=warnings,
        verb="would be deleted",
        kept=footer.kept,
        examples={code: [(one.key, one.why) for one in some] for code, some in footer.kept_examples.items()},
        missing=footer.missing,
    )
    return _Made(told, found)


def _newest(config: Config) -> Path:
    newest = newest_plan(folder_of(config))
    if newest is None:
        raise UsageProblem("there is no plan yet: run `s3gc plan`, or name a file with --plan")
    return newest


def _breakers(held_by: Iterable[TrippedBreaker]) -> Iterable[str]:
    for breaker in held_by:
        subject = f" ({breaker.subject})" if breaker.subject else ""
        yield f"held by {breaker.code}{subject}: {breaker.reason}"


# ------------------------------------------------------------------------------------------- an operation


async def _of_operation(journal: Journal, operation: str) -> _Made:
    """From the journal alone. What went back in the same operation isn't counted."""
    ends = {
        journal_events.OPERATION_COMPLETED,
        journal_events.OPERATION_FAILED,
        journal_events.OPERATION_RECOVERED,
    }
    started = ended = None
    back: set[str] = set()
    events = {journal_events.OPERATION_STARTED, journal_events.RESURRECTED, *ends}
    async for entry in journal.read(operation_id=operation, events=events):
        if entry.event == journal_events.OPERATION_STARTED:
            started = entry
        elif entry.event in ends:
            ended = entry
        elif entry.key is not None:
            back.add(entry.key)
    if started is None:
        raise UsageProblem(f"the journal has no operation {operation}: `s3gc audit export` lists all")
    found = Gathered(started.at)
    intents: dict[str, JournalEntry] = {}  # of one batch: each is answered before the next begins
    events = {journal_events.DELETE_INTENDED, journal_events.DELETE_SKIPPED, journal_events.DELETED}
    skipped = 0
    async for entry in journal.read(operation_id=operation, events=events):
        if entry.key is None:
            continue
        if entry.event == journal_events.DELETE_INTENDED:
            intents[entry.key] = entry
            continue
        intent = intents.pop(entry.key, None)
        if entry.event == journal_events.DELETE_SKIPPED:
            skipped += 1
        elif entry.key not in back:
            found.add(_deleted(entry, intent))
    return _Made(_told(started, ended, back=len(back), skipped=skipped), found)


def _deleted(entry: JournalEntry, intent: JournalEntry | None) -> Item:
    backup = entry.data["backup"]
    assert entry.key is not None
    since = None if intent is None else datetime.fromisoformat(intent.data["since"])
    return Item(
        entry.key,
        int(backup["size"]),
        datetime.fromisoformat(backup["last_modified"]),
        since,
        "settled after a crash" if intent is None else str(intent.data["reason"]),
    )


def _told(started: JournalEntry, ended: JournalEntry | None, *, back: int, skipped: int) -> Page:
    data = {} if ended is None else ended.data
    warnings = [str(error) for error in data.get("errors", ())]
    if ended is None:
        warnings.append("it began and did not end: the next start settles it")
    elif ended.event == journal_events.OPERATION_FAILED:
        warnings.append(f"it failed: {data.get('error')}")
    elif ended.event == journal_events.OPERATION_RECOVERED:
        warnings.append("it was cut off, and settled by a later start")
    if back:
        warnings.append(f"{count(back, 'object')} went back at once: a row named them after all")
    facts = [
        ("operation", started.operation_id),
        ("kind", str(started.data.get("kind"))),
        ("began at", _time(started.at)),
        ("ended at", "" if ended is None else _time(ended.at)),
        ("by the plan with SHA-256", str(started.data.get("plan_sha256", ""))),
        ("skipped at the last moment", f"{skipped:,}"),
        ("to undo", f"s3gc restore --operation {started.operation_id} --execute"),
    ]
    return Page(
        heading="What s3gc deleted",
        bucket=started.bucket,
        facts=facts,
        warnings=warnings,
        verb="deleted",
        kept=data.get("kept", {}),
    )


# ------------------------------------------------------------------------------------------- both


def _time(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")
