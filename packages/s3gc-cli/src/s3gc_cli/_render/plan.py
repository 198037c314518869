"""A plan for people: what stays and why, what would go, what holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from s3gc.breakers import ACKNOWLEDGEABLE, NEVER_STAYS
from s3gc.model import KeptExample, TrippedBreaker
from s3gc.plan import Plan
from s3gc_cli._keys import shell_word, show_key, show_text
from s3gc_cli._output import Secrets
from s3gc_cli._text import count, size

FIRST = 10
"""Objects shown of what a plan would delete."""

REASONS: Mapping[str, str] = {
    "referenced": "a row names it, or its folder",
    "derived": "a row names what it is derived from",
    "referenced_now": "a row named it at the last look",
    "claimed": "an application has claimed it",
    "excluded_prefix": "below an excluded prefix",
    "not_owned": "outside of the owned prefixes",
    "unclear_parent": "the rules of derived read its key in too many ways",
    "too_young": "younger than the retention",
    "in_grace": "not unreferenced for long enough",
    "too_few_observations": "not seen unreferenced in enough cycles",
    "ambiguous_key": "the store can't address this key exactly",
    "locked": "an object lock or a legal hold is on it",
    "archived": "in an archive class, can't be read back",
    "changed": "changed or gone since it was listed",
    "unreadable": "can't be read, so can't be backed up",
    "vetoed": "a plugin's last word",
    "batch_failed": "an error ended its batch before the deletes",
    "interrupted": "a crash came before the delete",
    "delete_failed": "the store didn't delete it",
}
"""The core's reason codes in words; a plugin's code speaks for itself."""


def table(*headings: str, numbers: Sequence[str] = ()) -> Table:
    """A table as all of them look."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        right = heading in numbers
        made.add_column(heading, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return made


def title(text: str, aside: str = "") -> Text:
    """A heading with a remark behind it."""
    return Text.assemble((show_text(text), "bold"), (f"  {show_text(aside)}" if aside else "", "dim"))


def summary(plan: Plan) -> str:
    """A plan in one line."""
    line = f"would delete {count(len(plan), 'object')} ({size(plan.bytes)}) of {plan.scanned:,}"
    held = ", ".join(breaker.code for breaker in plan.held_by)
    return f"held by {held}: {line}" if held else line


def show_plan(console: Console, secrets: Secrets, plan: Plan, path: Path | None = None) -> None:
    """All of it, with a few examples of everything."""
    console.print(title(f"Plan {plan.operation_id}", plan.header.store_url), soft_wrap=True)
    console.print(
        f"{count(plan.scanned, 'object')} listed, {plan.candidates:,} named by no row, "
        f"{len(plan):,} would be deleted ({size(plan.bytes)})"
    )
    console.print()
    show_kept(console, plan.kept, plan.footer.kept_examples)
    if len(plan):
        console.print()
        _show_doomed(console, plan)
    console.print()
    if plan.footer.missing:
        show_missing(console, plan.footer.missing)
        console.print()
    if plan.held_by:
        show_breakers(console, secrets, plan.held_by)
    console.print(Text(f"The whole plan: {show_text(str(path or plan.path))}", style="dim"), soft_wrap=True)


def show_kept(
    console: Console, kept: Mapping[str, int], examples: Mapping[str, Sequence[KeptExample]] | None = None
) -> None:
    """Objects kept, by reason."""
    rows = table("kept because", "objects", "which means", numbers=["objects"])
    for code, number in sorted(kept.items(), key=lambda item: -item[1]):
        meaning = Text(REASONS.get(code, "a gate of a plugin"))
        for example in (examples or {}).get(code, ())[:2]:
            meaning.append(f"\n{show_key(example.key)}: {show_text(example.why)}", style="dim")
        rows.add_row(Text(show_text(code), style="green"), f"{number:,}", meaning)
    console.print(rows)


def _show_doomed(console: Console, plan: Plan) -> None:
    rows = table("would be deleted", "size", "unreferenced since", "cycles", numbers=["size", "cycles"])
    for entry in islice(plan, FIRST):
        rows.add_row(
            Text(show_key(entry.object.key), style="red"),
            size(entry.object.size),
            entry.unreferenced_since.isoformat(sep=" ", timespec="seconds"),
            str(entry.observations),
        )
    if len(plan) > FIRST:
        rows.add_row(Text(f"… and {len(plan) - FIRST:,} more", style="dim"))
    console.print(rows)


def show_missing(console: Console, missing: Mapping[str, int], *, listed: bool = False) -> None:
    """Mentions of objects that don't exist, by column; ``listed`` when each of them was told already."""
    rows = table("names what doesn't exist", "mentions", numbers=["mentions"])
    for column, number in sorted(missing.items(), key=lambda item: (-item[1], item[0])):
        rows.add_row(Text(show_text(column), style="yellow"), f"{number:,}")
    console.print(rows)
    if not listed:
        console.print(Text("s3gc missing lists each of them", style="dim"))


def show_breakers(console: Console, secrets: Secrets, breakers: Sequence[TrippedBreaker]) -> None:
    """What holds a cycle, and what to do about it."""
    for breaker in breakers:
        line = Text.assemble((f"held by {show_text(breaker.code)}", "bold yellow"))
        if breaker.subject:
            line.append(f" ({show_text(secrets.scrub(breaker.subject))})")
        console.print(line, soft_wrap=True)
        console.print(Text(f"  {show_text(secrets.scrub(breaker.reason))}"), soft_wrap=True)
        if breaker.code not in NEVER_STAYS:
            advice = f"  {_when(breaker)}: {acknowledgement(breaker)}"
            console.print(Text(show_text(secrets.scrub(advice)), style="dim"), soft_wrap=True)
        console.print()


def _when(breaker: TrippedBreaker) -> str:
    if breaker.code in ACKNOWLEDGEABLE:
        return "if that is right"
    return "once it is cured" if breaker.since else "once it is cured, if it still holds"


def acknowledgement(breaker: TrippedBreaker) -> str:
    """The command that acknowledges a breaker, but for the reason."""
    subject = f" --subject {shell_word(breaker.subject)}" if breaker.subject else ""
    return f"s3gc acknowledge {breaker.code}{subject} --reason '…'"
