"""``s3gc plan --diff``: what is new since the last plan, what has gone from it, and why."""

from __future__ import annotations

from acceptance.test_cli_commands import Command, place, s3gc  # noqa: F401
from fixtures_cli import ORPHANS, Place


def test_without_a_plan_there_is_nothing_to_compare_with(s3gc: Command) -> None:
    run = s3gc("plan", "--diff")
    assert run.code == 2
    assert "--against" in run.stderr


def test_each_difference_has_its_reason(s3gc: Command, place: Place) -> None:
    assert s3gc("plan", "--out", "first.plan").code == 0
    place.rows("images/11.jpg", "images/1.jpg")  # one is named again, one no longer
    (place.bucket / "images/2.jpg").unlink()
    place.put("images/3.jpg", b"new and an orphan")
    place.put("legal/new.pdf", b"kept")
    run = s3gc("plan", "--diff")
    assert run.code == 0, run.stderr
    assert "2 added, 2 gone since the plan before" in run.stdout
    assert "a row names it" in run.stdout
    document = s3gc("plan", "--against", "first.plan", "--json").document
    assert {one["key"]: one["code"] for one in document["added"]} == {
        "docs/a b.pdf": "newly_free",
        "images/3.jpg": "newly_free",
    }
    assert {one["key"]: one["code"] for one in document["gone"]} == {
        "images/1.jpg": "referenced",
        "images/2.jpg": "changed",
    }
    assert document["planned"] == len(ORPHANS)
    assert "0 added, 0 gone" in s3gc("plan", "--diff", "-q").stdout


def test_what_a_gate_keeps_now_says_so_and_what_waited_too(s3gc: Command, place: Place) -> None:
    place.configure(safety="min_observations = 2")
    s3gc("plan")
    added = s3gc("plan", "--diff", "--json").document["added"]
    assert {one["code"] for one in added} == {"waited"}
    assert len(added) == len(ORPHANS)
    file = place.folder / "s3gc.toml"
    file.write_text('owned_prefixes = ["images"]\n' + file.read_text(encoding="utf-8"), encoding="utf-8")
    gone = s3gc("plan", "--diff", "--json").document["gone"]
    assert {one["key"]: one["code"] for one in gone} == dict.fromkeys(
        {key for key in ORPHANS if not key.startswith("images/")}, "not_owned"
    )
