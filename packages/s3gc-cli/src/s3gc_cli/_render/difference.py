"""Two plans side by side, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from s3gc.difference import ADDED, GONE, NEWLY_FREE, WAITED, Difference
from s3gc.plan import Plan
from s3gc_cli import _documents
from s3gc_cli._keys import show_key, show_text
from s3gc_cli._output import Rows
from s3gc_cli._render.plan import REASONS, table, title
from s3gc_cli._text import count, size

FIRST = 10
"""Objects shown of each kind."""

_MEANING = {
    NEWLY_FREE: "became unreferenced since",
    WAITED: "grace, retention or observations are over",
    "changed": "gone from the bucket since",
}


def in_one_line(found: Sequence[Difference]) -> str:
    """How many of each."""
    added = sum(one.change == ADDED for one in found)
    return f"{added:,} added, {len(found) - added:,} gone since the plan before"


def differences(before: Plan, found: Sequence[Difference]) -> dict[str, Any]:
    """The document's part."""
    return {
        "against": {"operation_id": before.operation_id, "sha256": before.digest},
        **{name: Rows(map(_row, [one for one in found if one.change == name])) for name in (ADDED, GONE)},
    }


def _row(one: Difference) -> dict[str, Any]:
    return {**_documents.entry(one.entry), "code": one.code, "why": one.why}


def show_differences(console: Console, before: Plan, found: Sequence[Difference]) -> None:
    """Counts by reason, and a few examples of each kind."""
    console.print(
        title(
            in_one_line(found),
            f"{before.operation_id} of {before.header.created_at.isoformat(sep=' ', timespec='seconds')}",
        ),
        soft_wrap=True,
    )
    for change, heading, style in ((ADDED, "added", "red"), (GONE, "gone", "green")):
        some = [one for one in found if one.change == change]
        if not some:
            continue
        console.print()
        _counts(console, heading, some)
        rows = table(heading, "size", "why", numbers=["size"])
        for one in some[:FIRST]:
            rows.add_row(
                Text(show_key(one.entry.object.key), style=style),
                size(one.entry.object.size),
                Text(show_text(one.why), style="dim"),
            )
        if len(some) > FIRST:
            rows.add_row(Text(f"… and {len(some) - FIRST:,} more", style="dim"))
        console.print(rows)


def _counts(console: Console, heading: str, some: Sequence[Difference]) -> None:
    for code, number in Counter(one.code for one in some).most_common():
        meaning = _MEANING.get(code) or REASONS.get(code, "a gate of a plugin")
        console.print(Text(f"{heading}, {code}: {count(number, 'object')} ({meaning})"), soft_wrap=True)
