"""Replicas for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from s3gc.config import Config
from s3gc.vault.replica import FetchReport, ReplicaStatus
from s3gc_cli._keys import show_text
from s3gc_cli._output import Secrets
from s3gc_cli._text import count, size, span


def copies_wanted(config: Config) -> str | None:
    """What must have a backup before its object is deleted; None when the vault alone is enough."""
    further = config.backup_copies - 1
    if not further:
        return None
    return f"the vault and {further} of {count(len(config.replicas), 'replica')}"


def summed_up(found: Sequence[ReplicaStatus]) -> str:
    """All replicas in one line."""
    whole = sum(status.whole for status in found)
    return f"{whole} of {count(len(found), 'replica')} up to date"


def show_replicas(console: Console, secrets: Secrets, found: Sequence[ReplicaStatus]) -> None:
    """Each replica with what it lacks."""
    for status in found:
        console.print(Text(f"{show_text(secrets.scrub(status.url))}: {_how_far(status)}"), soft_wrap=True)
        for problem in (*([status.error] if status.error else []), *status.problems):
            console.print(Text(f"  {show_text(secrets.scrub(problem))}", style="red"), soft_wrap=True)


def _how_far(status: ReplicaStatus) -> str:
    if not status.entries_behind and not status.bytes_behind:
        return f"up to date, {count(status.seq, 'journal entry', 'journal entries')}"
    behind = f"{count(status.entries_behind, 'journal entry', 'journal entries')}"
    line = f"{behind} and {size(status.bytes_behind)} behind"
    if status.lag is not None:
        line += f", since {span(status.lag)}"
    if status.unverified:
        line += f" ({count(status.unverified, 'object')} there and not read back yet)"
    return line


def fetched(report: FetchReport) -> str:
    """A fetch in one line."""
    line = (
        f"{count(report.entries, 'journal entry', 'journal entries')} and {count(report.packs, 'pack')} "
        f"({size(report.pack_bytes)})"
    )
    return line + (f", {count(len(report.problems), 'problem')}" if report.problems else ", all as written")


def show_fetched(console: Console, report: FetchReport) -> None:
    """What came back, and what didn't."""
    console.print(fetched(report))
    for problem in report.problems:
        console.print(Text(f"  {show_text(problem)}", style="red"), soft_wrap=True)
    if report.unnamed_bytes:
        console.print(
            Text(f"{size(report.unnamed_bytes)} of packs are named by no journal entry", style="dim")
        )
    console.print(Text(f"the vault of {show_text(report.store_url)}, {report.vault_id}"), soft_wrap=True)
