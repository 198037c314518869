"""``s3gc backtest``: the past as text, as JSON and as a page with a plot."""

from __future__ import annotations

import html
import sqlite3
from datetime import UTC, datetime, timedelta

from acceptance.test_cli_commands import Command, place, s3gc  # noqa: F401
from fixtures_cli import Place


def micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def add_a_past(place: Place) -> None:
    """Sixty days of cycles, and a key that was gone for five of them."""
    with sqlite3.connect(place.folder / "vault" / "registry.sqlite3") as registry:
        now = datetime.now(UTC)
        for day in range(60):
            registry.execute("INSERT INTO observed VALUES (?)", (micros(now - timedelta(days=day + 1)),))
        since, back = now - timedelta(days=20), now - timedelta(days=15)
        registry.execute(
            "INSERT INTO absences VALUES ('images/<b>.jpg', ?, ?, ?, 5, ?, 'referenced')",
            (
                micros(since),
                micros(back - timedelta(hours=1)),
                micros(back),
                micros(now - timedelta(days=99)),
            ),
        )
    registry.close()


def test_without_a_past_nothing_is_said_to_be_safe(s3gc: Command) -> None:
    run = s3gc("backtest")
    assert run.code == 0, run.stderr
    assert "no cycle has noted anything yet" in run.stdout
    assert s3gc("plan").code == 0
    document = s3gc("backtest", "--json", "--grace", "3").document
    assert document["judgement"]["verdict"] == "unknown"
    assert document["cycles"] == 1


def test_a_grace_that_would_have_hurt_is_told(s3gc: Command, place: Place) -> None:
    s3gc("plan")
    add_a_past(place)
    run = s3gc("backtest", "--grace", "3", "-o", "past.html")
    assert run.code == 3
    assert "unsafe" in run.stdout
    assert "suggests a grace of 12 days" in run.stdout
    page = (place.folder / "past.html").read_text(encoding="utf-8")
    assert "images/<b>.jpg" in html.unescape(page)
    assert "<b>" not in page, "a key is text, never a tag"
    assert '<svg class="left"' in page
    assert "http" not in page.replace("http-equiv", ""), "the page loads nothing"
    assert s3gc("backtest", "-o", "past.html").code == 2, "it is there already"
    assert s3gc("backtest", "-o", "past.html", "--force").code in (0, 3)

    document = s3gc("backtest", "--json", "--grace", "12").document
    assert document["judgement"]["verdict"] == "safe"
    assert document["suggested_grace"] == 12 * 86_400
    assert [one["key"] for one in document["absences"]] == ["images/<b>.jpg"]
    verdicts = {one["grace"] / 86_400: one["verdict"] for one in document["graces"]}
    assert (verdicts[3.0], verdicts[14.0], verdicts[90.0]) == ("unsafe", "safe", "unknown")
