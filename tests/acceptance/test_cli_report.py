"""``s3gc report``: a plan, or an operation, as one file."""

from __future__ import annotations

import html

from acceptance.test_cli_commands import Command, place, s3gc  # noqa: F401
from fixtures_cli import ORPHANS, Place


def text_of(place: Place, name: str) -> str:
    return html.unescape((place.folder / name).read_text(encoding="utf-8"))


def test_the_newest_plan_is_reported_with_its_reasons_and_what_holds_it(s3gc: Command, place: Place) -> None:
    refused = s3gc("report")
    assert refused.code == 2
    assert "there is no plan yet" in refused.stderr
    place.configure(safety="max_deletes = 1")
    assert s3gc("plan").code == 3
    run = s3gc("report", "--json")
    assert (run.code, run.document["objects"]) == (0, len(ORPHANS))
    written = text_of(place, "s3gc-plan.html")
    assert f"{len(ORPHANS)} objects would be deleted" in written
    assert "held by too_many_deletes" in written
    assert "images/1.jpg" in written
    assert "no row of any source names it" in written
    assert "excluded_prefix" in written
    assert "legal/hold.pdf" in written, "an example of what stays"


def test_a_plan_of_another_configuration_says_so(s3gc: Command, place: Place) -> None:
    s3gc("plan", "--out", "a.plan")
    assert s3gc("report", "--plan", "a.plan", "-o", "a.html").code == 0
    assert "the configuration was changed since" not in text_of(place, "a.html")
    place.configure(safety="max_delete_share = 0.9")
    assert s3gc("report", "--plan", "a.plan", "-o", "b.html").code == 0
    assert "the configuration was changed since" in text_of(place, "b.html")


def test_an_operation_is_reported_from_the_journal(s3gc: Command, place: Place) -> None:
    place.configure(mode="execute")
    done = s3gc("collect", "--yes", "--json").document
    operation = done["operation_id"]
    run = s3gc("report", "--operation", operation, "-o", "op.html")
    assert run.code == 0, run.stderr
    written = text_of(place, "op.html")
    assert f"{len(ORPHANS)} objects deleted" in written
    assert "images/1.jpg" in written
    assert "no row of any source names it" in written
    assert f"s3gc restore --operation {operation} --execute" in written
    wrong = s3gc("report", "--operation", "01AN4Z07BY79KA1307SR9X4MV3")
    assert wrong.code == 2
    assert "the journal has no operation" in wrong.stderr


def test_a_file_is_replaced_only_when_told(s3gc: Command, place: Place) -> None:
    s3gc("plan")
    (place.folder / "r.html").write_text("mine")
    run = s3gc("report", "-o", "r.html")
    assert run.code == 2
    assert "--force" in run.stderr
    assert (place.folder / "r.html").read_text() == "mine"
    assert s3gc("report", "-o", "r.html", "--force").code == 0
    assert "no folder" in s3gc("report", "-o", "nowhere/r.html").stderr
    both = s3gc("report", "--plan", "x", "--operation", "y")
    assert both.code == 2
    assert "exclude each other" in both.stderr
    assert not list(place.folder.glob("*.part"))
