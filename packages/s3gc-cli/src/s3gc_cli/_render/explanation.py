"""An explanation for people: the decision first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from s3gc import journal_events
from s3gc.model import Explanation, JournalEntry
from s3gc_cli._keys import show_key, show_text
from s3gc_cli._output import Secrets
from s3gc_cli._render.plan import table, title
from s3gc_cli._text import size


def show_explanation(
    console: Console, secrets: Secrets, found: Explanation, at: datetime | None = None
) -> None:
    """All that is known of a key; with ``at``, that was known of it then."""
    then = f"as of {at.isoformat(sep=' ', timespec='seconds')}" if at else ""
    console.print(title(show_key(found.key), then), soft_wrap=True)
    console.print(Text(show_text(secrets.scrub(found.decision))), soft_wrap=True)
    if found.object is not None:
        seen = found.object
        console.print(
            Text(
                f"{size(seen.size)}, last modified "
                f"{seen.last_modified.isoformat(sep=' ', timespec='seconds')}, ETag {show_text(seen.etag)}",
                style="dim",
            ),
            soft_wrap=True,
        )
    for problem in found.problems:
        what = "" if at else "could not be read: "
        console.print(Text(f"{what}{show_text(secrets.scrub(problem))}", style="yellow"), soft_wrap=True)
    if found.verdicts:
        _show_verdicts(console, found)
    if at is None:
        _show_references(console, found)
    _show_history(console, secrets, found)


def _show_verdicts(console: Console, found: Explanation) -> None:
    rows = table("gate", "says", "because")
    for verdict in found.verdicts:
        says = Text("keep", style="bold green") if verdict.keep else Text("pass", style="dim")
        rows.add_row(show_text(verdict.gate), says, Text(show_text(verdict.detail)))
    console.print()
    console.print(rows)


def _show_references(console: Console, found: Explanation) -> None:
    if not found.references:
        console.print("\nNo row that could be read names it." if found.problems else "\nNo row names it now.")
        return
    rows = table("named by", "table", "row", "column", "names")
    for source, reference in found.references:
        names = show_key(reference.key)
        if reference.prefix:
            names = f"the folder {names}" if reference.key else "the whole bucket"
        cells = (source, reference.table, reference.row_id, reference.column)
        rows.add_row(*(Text(show_text(cell)) for cell in cells), Text(names))
    console.print()
    console.print(rows)


def _show_history(console: Console, secrets: Secrets, found: Explanation) -> None:
    if not found.history:
        console.print("\nThe journal has nothing on it.")
        return
    rows = table("when", "what s3gc did", "entry", numbers=["entry"])
    for entry in found.history:
        what = Text(show_text(entry.event.replace("_", " ")))
        detail = show_text(secrets.scrub(_detail(entry)))
        if detail:
            what.append(f"\n{detail}", style="dim")
        rows.add_row(entry.at.isoformat(sep=" ", timespec="seconds"), what, str(entry.seq))
    console.print()
    console.print(rows)


def _detail(entry: JournalEntry) -> str:
    """The part of an entry's data that people ask for. The journal has the rest (``--json`` shows it)."""
    data: Mapping[str, Any] = entry.data
    match entry.event:
        case journal_events.BACKED_UP | journal_events.OVERWRITTEN:
            backup = data["backup"]
            return f"{size(int(backup['size']))}, SHA-256 {backup['sha256']}, at {backup['location']}"
        case journal_events.DELETE_INTENDED | journal_events.WOULD_DELETE:
            return str(data["reason"])
        case journal_events.DELETE_SKIPPED:
            return f"{data['reason']}: {data['detail']}"
        case journal_events.DELETED:
            return f"operation {entry.operation_id}"
        case journal_events.RESURRECTED:
            return str(data["why"])
        case journal_events.RESTORED:
            return f"SHA-256 {data['sha256']}, undoes entry {data['deleted_seq']}"
        case journal_events.RESTORED_ELSEWHERE:
            return f"as {data['as']} into {data['into']}, from entry {data['deleted_seq']}"
        case journal_events.STORE_PROBED:
            able = data["capabilities"]
            proven = "proven" if able["conditional_delete"] else "not proven"
            return f"conditional delete {proven}, versioning {able['versioning']}, at {data['probed_at']}"
        case journal_events.CLAIMED:
            return f"until {data['until']}"
    return ""
