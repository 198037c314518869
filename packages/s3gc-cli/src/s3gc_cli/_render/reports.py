"""Reports for people: what a collect or a restore did, what verifying found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import islice

from rich.console import Console
from rich.text import Text

from s3gc.model import AuditResult, Mode, Report, RestoreReport, VaultCheck
from s3gc_cli._keys import show_key, show_text
from s3gc_cli._output import Secrets
from s3gc_cli._render.plan import show_kept, title
from s3gc_cli._text import count, size, span

FIRST = 10
"""Keys and errors shown of a long list."""


def collected(report: Report) -> str:
    """A collect in one line."""
    if report.mode is Mode.EXECUTE:
        line = (
            f"deleted {count(len(report.deleted), 'object')} ({size(report.bytes_deleted)}), "
            f"backed up {report.backed_up:,}"
        )
        if report.resurrected:
            line += f", put back {len(report.resurrected):,} that a row names after all"
    elif report.mode is Mode.AUDIT_ONLY:
        line = f"audit only: {count(report.planned, 'object')} would go, now in the journal; deleted none"
    else:
        line = f"dry run: would delete {count(report.planned, 'object')}, deleted none"
    return line + (f", {count(len(report.errors), 'error')}" if report.errors else "")


def show_report(console: Console, secrets: Secrets, report: Report) -> None:
    """What a collect did."""
    console.print(title(f"Operation {report.operation_id}", f"{report.mode.value}, {span(report.duration)}"))
    console.print(collected(report))
    if report.mode is Mode.EXECUTE:  # else the plan, shown before, says the same
        console.print()
        show_kept(console, report.kept)
    _show_keys(console, "deleted", report.deleted, "red")
    _show_keys(console, "put back: a row names it after all", report.resurrected, "green")
    _show_errors(console, secrets, report.errors)
    if report.late_window:
        window = span(max(report.late_window, timedelta(seconds=0.1)))
        console.print(Text(f"\nEach batch was confirmed within {window} of its last fence", style="dim"))
    if report.deleted:
        console.print(
            Text(f"\nTo undo: s3gc restore --operation {report.operation_id} --execute", style="dim")
        )


def restored(report: RestoreReport) -> str:
    """A restore in one line."""
    verb = "would restore" if report.dry_run else "restored"
    line = f"{verb} {count(len(report.restored), 'object')}"
    if report.skipped:
        line += f", skipped {len(report.skipped):,}"
    return line + (f", {count(len(report.errors), 'error')}" if report.errors else "")


def show_restore(console: Console, secrets: Secrets, report: RestoreReport) -> None:
    """What a restore did or would do."""
    console.print(title(f"Restore {report.operation_id}", span(report.duration)))
    console.print(restored(report))
    _show_keys(console, "would be restored" if report.dry_run else "restored", report.restored, "green")
    _show_pairs(console, secrets, "skipped", report.skipped)
    _show_pairs(console, secrets, "failed", report.errors)
    if report.dry_run and report.restored:
        console.print(Text("\nNothing was written. Add --execute to restore.", style="dim"))


def audited(journal: AuditResult, vault: VaultCheck) -> str:
    """An audit in one line."""
    line = f"{count(journal.entries, 'journal entry', 'journal entries')}, {count(vault.backups, 'back-up')}"
    problems = len(journal.problems) + len(vault.problems)
    return f"{line}: {'all right' if journal.ok and vault.ok else count(problems, 'problem')}"


def show_audit(console: Console, secrets: Secrets, journal: AuditResult, vault: VaultCheck) -> None:
    """What verifying found."""
    for ok, what in (
        (journal.ok, f"journal: {count(journal.entries, 'entry', 'entries')}, each linked to the one before"),
        (vault.ok, f"vault: {count(vault.backups, 'back-up')}, each read back whole"),
    ):
        console.print(
            verdict(console, ok, what if ok else what.partition(",")[0] + ", NOT as it was written")
        )
    console.print(Text(f"head of the journal: {journal.head}", style="dim"), soft_wrap=True)
    for problem in (*journal.problems, *vault.problems):
        console.print(Text(f"  {show_text(secrets.scrub(problem))}", style="red"), soft_wrap=True)


def verdict(console: Console, ok: bool, text: str) -> Text:
    """A line with a tick or a cross before it, in the letters that the terminal has."""
    fancy = console.encoding.lower().startswith("utf")
    mark = ("✓" if fancy else "ok") if ok else ("✗" if fancy else "FAILED")
    return Text.assemble((mark, "bold green" if ok else "bold red"), f" {show_text(text)}")


def _show_keys(console: Console, heading: str, keys: Sequence[str], style: str) -> None:
    if not keys:
        return
    console.print(Text(f"\n{heading}", style="bold"))
    for key in islice(keys, FIRST):
        console.print(Text(show_key(key), style=style), soft_wrap=True)
    if len(keys) > FIRST:
        console.print(Text(f"… and {len(keys) - FIRST:,} more (--json has them all)", style="dim"))


def _show_pairs(console: Console, secrets: Secrets, heading: str, pairs: Mapping[str, str]) -> None:
    if not pairs:
        return
    console.print(Text(f"\n{heading}", style="bold"))
    for key, why in islice(pairs.items(), FIRST):
        console.print(Text(f"{show_key(key)}: {show_text(secrets.scrub(why))}"), soft_wrap=True)
    if len(pairs) > FIRST:
        console.print(Text(f"… and {len(pairs) - FIRST:,} more (--json has them all)", style="dim"))


def _show_errors(console: Console, secrets: Secrets, errors: Sequence[str]) -> None:
    if errors:
        console.print(Text("\nerrors", style="bold red"))
    for error in errors[:FIRST]:
        console.print(Text(f"  {show_text(secrets.scrub(error))}"), soft_wrap=True)
