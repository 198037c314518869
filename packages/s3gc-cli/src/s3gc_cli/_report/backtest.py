"""The backtest as a page: how long references were gone, and which grace would have been too short."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from html import escape

from attrs import evolve

from s3gc.backtest import Absence, Backtest
from s3gc_cli._keys import show_key
from s3gc_cli._render.backtest import (
    GRACES,
    HOW,
    facts,
    in_one_line,
    length_in_words,
    policy_in_words,
    suggestion,
)
from s3gc_cli._report import svg
from s3gc_cli._report.html import definitions, rows_of, whole
from s3gc_cli._text import span

_HOUR = timedelta(hours=1)
_LIMITS = (
    (_HOUR, "an hour"),
    (6 * _HOUR, "6 hours"),
    (24 * _HOUR, "a day"),
    (72 * _HOUR, "3 days"),
    (timedelta(days=7), "a week"),
    (timedelta(days=14), "2 weeks"),
    (timedelta(days=30), "a month"),
    (timedelta(days=91), "a quarter"),
)

_LONGEST = 50


def backtest_page(found: Backtest, bucket: str) -> str:
    """The whole file."""
    sections = [
        f"<p class=total>{escape(in_one_line(found))}</p>",
        f"<p>{escape(suggestion(found))}</p>",
        definitions([("policy", policy_in_words(found.judgement)), *facts(found)]),
        _pictures(found),
        _graces(found),
        _longest("Too early", found.judgement.examples),
        _longest("The longest absences", found.absences[:_LONGEST]),
    ]
    return whole("How long references were gone", bucket, sections)


def _pictures(found: Backtest) -> str:
    if not found.absences:
        return ""
    lengths = [one.length for one in found.absences]
    marks = [("grace asked about", found.judgement.policy.grace)]
    if found.suggested_grace is not None:
        marks.append(("suggested", found.suggested_grace))
    day = timedelta(days=1)
    curve = svg.left_over(
        [one / day for one in lengths],
        [(f"{name}: {span(at)}", at / day) for name, at in marks],
        title="Absences that lasted longer than so many days",
    )
    bars = svg.bars(_bands(lengths), title="How long references were gone before they came back")
    return (
        "<h2>How long references were gone before they came back</h2>\n"
        f"<figure><figcaption>Absences that lasted longer than so many days</figcaption>{curve}</figure>\n"
        f"<figure><figcaption>By length</figcaption>{bars}</figure>"
    )


def _bands(lengths: Sequence[timedelta]) -> list[tuple[str, int]]:
    counted = []
    before = timedelta(-1)
    for limit, name in _LIMITS:
        counted.append((f"less than {name}", sum(before <= one < limit for one in lengths)))
        before = limit
    counted.append((f"{_LIMITS[-1][1]} or more", sum(one >= before for one in lengths)))
    return counted


def _graces(found: Backtest) -> str:
    policy = found.judgement.policy
    judged = [found.judge(evolve(policy, grace=grace)) for grace in sorted({*GRACES, policy.grace})]
    rows = (
        (span(one.policy.grace), f"{one.would_go:,}", f"{one.could_go:,}", one.verdict.value, one.why)
        for one in judged
    )
    head = ("grace", "would have gone too early", "could have, at other moments", "verdict", "because")
    return f"<h2>Other graces</h2>\n{rows_of(head, rows)}"


def _longest(heading: str, some: Sequence[Absence]) -> str:
    if not some:
        return ""
    rows = (
        (
            show_key(one.key),
            length_in_words(one),
            one.since.isoformat(sep=" ", timespec="minutes"),
            one.back.isoformat(sep=" ", timespec="minutes"),
            HOW[one.how],
        )
        for one in some
    )
    head = ("key", "gone for", "free since", "named again", "how")
    return f"<h2>{escape(heading)}</h2>\n{rows_of(head, rows)}"
