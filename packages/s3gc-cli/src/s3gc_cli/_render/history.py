"""What was done, and how things stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.text import Text

from s3gc.health import Health
from s3gc.operations import Operation
from s3gc_cli._keys import show_text
from s3gc_cli._output import Secrets
from s3gc_cli._render.plan import show_breakers, table, title
from s3gc_cli._text import count, size, span

_STYLES = {"completed": "green", "failed": "red", "open": "yellow", "recovered": "yellow"}


def show_history(console: Console, secrets: Secrets, found: Sequence[Operation]) -> None:
    """A line for each operation, newest first, and the error below it."""
    rows = table("began", "operation", "what", "how it ended", "", numbers=[])
    for one in found:
        told = Text(what_was_done(one))
        if one.error:
            told.append(f"\n{show_text(secrets.scrub(one.error))}", style="dim")
        rows.add_row(
            one.started_at.isoformat(sep=" ", timespec="seconds"),
            one.operation_id,
            f"{one.kind} {one.mode or ''}".strip(),
            Text(one.state, style=_STYLES.get(one.state, "")),
            told,
        )
    console.print(rows)


def what_was_done(one: Operation) -> str:
    """Its counts in words."""
    counts = one.counts
    parts = []
    if deleted := int(counts.get("deleted", 0)):
        amount = counts.get("bytes_deleted")
        parts.append(f"deleted {count(deleted, 'object')}" + (f" ({size(int(amount))})" if amount else ""))
    for name, verb in (("restored", "restored"), ("resurrected", "put back"), ("skipped", "skipped")):
        if number := int(counts.get(name, 0)):
            parts.append(f"{verb} {number:,}")
    if not parts and one.mode in ("dry_run", "audit_only") and (planned := int(counts.get("planned", 0))):
        parts.append(f"would delete {planned:,}")
    if (seconds := counts.get("seconds")) is not None:
        parts.append(f"in {span(timedelta(seconds=seconds))}")
    return ", ".join(parts) if parts else "nothing"


def show_status(
    console: Console,
    secrets: Secrets,
    health: Health,
    metrics: Mapping[str, Any],
    last: Operation | None,
) -> None:
    """How everything stands."""
    rows = table("", "", "")
    for name, part in (("vault", health.vault), ("store", health.store)):
        rows.add_row(name, _word(part.ok), Text(show_text(secrets.scrub(part.detail)), style="dim"))
    for source in health.sources:
        told = source.detail
        if source.lag is not None:
            told += f"; read {span(source.lag)} ago"
        rows.add_row(
            show_text(secrets.scrub(source.name)),
            _word(source.ok),
            Text(show_text(secrets.scrub(told)), style="dim"),
        )
    console.print(rows)
    console.print()
    if last is not None:
        began = last.started_at.isoformat(sep=" ", timespec="seconds")
        console.print(title(f"Last: {last.kind} {last.operation_id}", began), soft_wrap=True)
        console.print(f"{last.state}: {what_was_done(last)}", soft_wrap=True)
        console.print()
    console.print(_totals(metrics), soft_wrap=True)
    for what in ("verify", "drill"):
        at = metrics[f"last_{what}_at"]
        if at is not None:
            problems = metrics[f"last_{what}_problems"]
            when = datetime.fromisoformat(at).isoformat(sep=" ", timespec="seconds")
            found = count(problems, "problem") if problems else "all well"
            console.print(Text(f"last vault {what}: {when}, {found}", style="dim"), soft_wrap=True)
    if health.waiting:
        console.print()
        show_breakers(console, secrets, health.waiting)


def _totals(metrics: Mapping[str, Any]) -> str:
    parts = [
        f"in all {count(metrics['total_runs'], 'collect')}",
        f"{metrics['total_deleted']:,} deleted",
        f"{metrics['total_restored']:,} restored",
        f"the vault takes {size(metrics['vault_size_bytes'])}",
    ]
    return ", ".join(parts)


def in_one_line(health: Health) -> str:
    """Whether all is well, or what isn't."""
    wrong = [name for name, part in (("vault", health.vault), ("store", health.store)) if not part.ok]
    wrong += [source.name for source in health.sources if not source.ok]
    wrong += [f"breaker {breaker.code}" for breaker in health.waiting]
    if not health.sources:
        wrong.append("no source of references")
    return "all is well" if not wrong else f"to look at: {', '.join(wrong)}"


def _word(ok: bool) -> Text:
    return Text("well", style="green") if ok else Text("not well", style="bold red")
