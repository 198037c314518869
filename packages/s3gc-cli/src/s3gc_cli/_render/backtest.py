"""What the past says of a policy, for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from attrs import evolve
from rich.console import Console
from rich.text import Text

from s3gc.backtest import Absence, Backtest, Judgement, Verdict
from s3gc_cli._keys import show_key
from s3gc_cli._render.plan import table
from s3gc_cli._text import count, span

GRACES = tuple(timedelta(days=days) for days in (0.25, 1, 2, 3, 7, 14, 30, 90))
"""Those that are held against the past besides the one in force."""

HOW = {
    "referenced": "a row named it again",
    "spoken_of": "a reference came and went",
    "found": "the direct read before a delete found a row",
    "claimed": "an application claimed it",
    "after_it_went": "a row names it, and the object is gone",
    "resurrected": "put back in the same operation",
    "restored": "a person put it back",
}
"""What each kind of return means."""

_STYLES = {
    Verdict.SAFE: "green",
    Verdict.UNSAFE: "bold red",
    Verdict.TIGHT: "yellow",
    Verdict.UNKNOWN: "yellow",
}

_SHOWN = 10
_HEAD = ("grace", "would have gone too early", "could have", "")


def policy_in_words(told: Judgement) -> str:
    """A policy's three numbers."""
    policy = told.policy
    return (
        f"grace {span(policy.grace)}, {count(policy.min_observations, 'observation')}, "
        f"retention {span(policy.retention)}"
    )


def in_one_line(found: Backtest) -> str:
    """The verdict, and what it rests on."""
    if found.begun is None:
        return "unknown: no cycle has noted anything yet; absences are noted from the next plan on"
    told = found.judgement
    number = told.would_go or told.could_go
    which = f", {count(number, 'object')} among {count(len(found.absences), 'absence')}" if number else ""
    return f"{told.verdict.value}: {policy_in_words(told)}: {told.why}{which}"


def suggestion(found: Backtest) -> str:
    """The grace that the past suggests."""
    if found.suggested_grace is None:
        return f"no grace is suggested: {found.why}"
    return f"the past suggests a grace of {span(found.suggested_grace)}: {found.why}"


def facts(found: Backtest) -> list[tuple[str, str]]:
    """What is known, by name."""
    if found.begun is None:
        return [("noted", "nothing yet: absences are noted from the next plan on")]
    rows = [
        ("noted since", f"{_time(found.begun)}, in {count(found.cycles, 'cycle')} ({span(found.watched)})"),
        ("came back", _came_back(found)),
        ("still free", f"{count(found.waiting, 'key')}: for how long in the end nobody knows"),
        ("deleted by s3gc", f"{count(found.deleted, 'object')}, of which {found.needed:,} were needed after"),
    ]
    if found.gone:
        rows.append(("watched", f"{count(found.gone, 'object')} that went while nothing named them"))
    if found.dropped:
        rows.append(("only counted", f"{count(found.dropped, 'shorter absence')}"))
    return rows


def _came_back(found: Backtest) -> str:
    by = "; ".join(f"{number:,}: {HOW.get(how, how)}" for how, number in found.by_how.items())
    return f"{count(len(found.absences), 'key')}" + (f" ({by})" if by else "")


def show_backtest(console: Console, found: Backtest, out: Path | None) -> None:
    """Everything in a screen."""
    told = found.judgement
    console.print(Text(in_one_line(found), style=_STYLES[told.verdict]), soft_wrap=True)
    console.print(Text(suggestion(found)), soft_wrap=True)
    console.print()
    for name, value in facts(found):
        console.print(Text.assemble((f"{name:<16}", "dim"), value), soft_wrap=True)
    if found.absences:
        console.print()
        _show_graces(console, found)
        console.print()
        _show_longest(console, "the longest absences", found.absences[:_SHOWN])
    if out is not None:
        console.print(Text(f"written to {out}", style="dim"), soft_wrap=True)


def _show_graces(console: Console, found: Backtest) -> None:
    rows = table(*_HEAD, numbers=_HEAD[1:3])
    policy = found.judgement.policy
    for grace in sorted({*GRACES, policy.grace}):
        one = found.judge(evolve(policy, grace=grace))
        mark = " (asked)" if grace == policy.grace else ""
        rows.add_row(
            span(grace) + mark,
            f"{one.would_go:,}",
            f"{one.could_go:,}",
            Text(one.verdict.value, style=_STYLES[one.verdict]),
        )
    console.print(rows)


def _show_longest(console: Console, heading: str, some: Sequence[Absence]) -> None:
    rows = table(heading, "gone for", "free since", "named again", "", numbers=[])
    for one in some:
        rows.add_row(
            Text(show_key(one.key)), length_in_words(one), _time(one.since), _time(one.back), HOW[one.how]
        )
    console.print(rows)


def length_in_words(one: Absence) -> str:
    """How long it lasted, as exactly as anybody knows."""
    if one.after is None:
        return f"{span(one.length)} or more"
    return f"{span(one.length)} at most"


def _time(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="minutes")
