"""The vault for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from s3gc.model import (
    DrillReport,
    ExtractReport,
    RebuildReport,
    RemovalReport,
    ScrubReport,
    TranscodeReport,
    VaultStats,
)
from s3gc.vault.browse import Stored
from s3gc_cli._keys import show_key, show_text
from s3gc_cli._text import count, size


def sentence(stored: Stored) -> Text:
    """One backup in one line: when it was uploaded, how large it is, its key, who backed it up."""
    record = stored.record
    said = Text(f"{record.last_modified.isoformat(timespec='seconds')}  {size(record.size):>12}  ")
    said.append(show_key(record.key), style="yellow")
    return said.append(f"  {show_text(stored.operation_id)}", style="dim")


def extracted(report: ExtractReport) -> str:
    """An extraction in one line."""
    line = f"wrote {count(report.objects, 'object')} ({size(report.bytes)}) into {show_text(report.folder)}"
    return line + (f", {count(len(report.errors), 'error')}" if report.errors else "")


def show_errors(console: Console, line: str, errors: Mapping[str, str]) -> None:
    """A line, and what went wrong by key."""
    console.print(Text(line), soft_wrap=True)
    for key, why in errors.items():
        console.print(Text(f"  {show_key(key)}: {show_text(why)}", style="red"), soft_wrap=True)


def scrubbed(report: ScrubReport) -> str:
    """A check of backups in one line."""
    share = f" (share {report.share.number + 1} of {report.share.of})" if report.share else ""
    return f"read {count(report.backups, 'backup')}{share}: {_sum_up(report.problems)}"


def drilled(report: DrillReport) -> str:
    """A drill in one line."""
    line = f"restored {report.restored:,} of {count(report.objects, 'object')} exactly ({size(report.bytes)})"
    return f"{line}, and removed them again: {_sum_up(report.problems)}"


def _sum_up(problems: Sequence[str]) -> str:
    return count(len(problems), "problem") if problems else "all as they were"


def show_problems(console: Console, line: str, problems: Sequence[str]) -> None:
    """A line, and what went wrong."""
    console.print(Text(line), soft_wrap=True)
    for problem in problems:
        console.print(Text(f"  {show_text(problem)}", style="red"), soft_wrap=True)


def removed(report: RemovalReport) -> str:
    """A removal in one line."""
    verb = "would remove" if report.dry_run else "removed"
    line = f"{verb} {count(report.removed, 'backup')} ({size(report.freed)})"
    line += f", {count(report.packs, 'pack')} written anew or unlinked"
    if report.shared:
        line += f"; the bytes of {report.shared} stay, because other backups share them"
    return line + (f", {count(len(report.problems), 'problem')}" if report.problems else "")


def transcoded(report: TranscodeReport) -> str:
    """A re-encoding in one line."""
    verb = "would re-encode" if report.dry_run else "re-encoded"
    line = f"{verb} {count(report.encoded, 'backup')} in {count(report.packs, 'pack')} to plain zstd"
    line += f", {count(report.moved, 'other')} moved; {size(report.bytes_before)}"
    line += "" if report.dry_run else f" became {size(report.bytes_after)}"
    return line + (f", {count(len(report.problems), 'problem')}" if report.problems else "")


def totals(stats: VaultStats) -> str:
    """A vault in one line."""
    return (
        f"{count(stats.backups, 'backup')} of {size(stats.original_bytes)} in "
        f"{count(stats.packs, 'pack')} of {size(stats.stored_bytes)}"
    )


def show_stats(console: Console, stats: VaultStats) -> None:
    """A vault in numbers."""
    console.print(totals(stats))
    if stats.stored_bytes:
        console.print(f"ratio {stats.original_bytes / stats.stored_bytes:.2f}, all that frames add included")
    console.print(count(stats.journal_entries, "journal entry", "journal entries"))


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
