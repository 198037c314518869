"""The vault for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from s3gc.model import RebuildReport
from s3gc_cli._keys import show_text
from s3gc_cli._text import count


def rebuilt(report: RebuildReport) -> str:
    """A rebuild in one line."""
    line = f"{count(report.backups, 'backup')} found in {count(report.packs, 'pack')}"
    return line + (f", {count(len(report.damaged), 'damaged stretch', 'damaged stretches')}")


def show_rebuilt(console: Console, report: RebuildReport) -> None:
    """What a rebuild found, and what to do next."""
    console.print(rebuilt(report))
    for text in report.damaged:
        console.print(Text(f"  {show_text(text)}", style="red"), soft_wrap=True)
    if report.set_aside is not None:
        console.print(Text(f"what was left of the old journal is in {report.set_aside}"), soft_wrap=True)
    console.print(
        Text(
            "Which of these objects were deleted, packs don't tell: `s3gc missing` lists rows without their "
            "object, `s3gc restore` brings objects back and leaves those alone that are there",
            style="dim",
        ),
        soft_wrap=True,
    )
