"""``s3gc status`` and ``s3gc history``."""

from __future__ import annotations

from acceptance.test_cli_commands import Command, place, s3gc  # noqa: F401
from fixtures_cli import ORPHANS, Place


def test_what_was_done_is_listed_newest_first(s3gc: Command, place: Place) -> None:
    assert s3gc("history").stdout == "nothing was done yet\n"
    place.configure(mode="execute")
    collected = s3gc("collect", "--yes", "--json").document["operation_id"]
    assert s3gc("restore", "--key", "images/1.jpg", "--execute").code == 0
    run = s3gc("history", "--json")
    restore, collect = run.document["operations"]
    assert (restore["kind"], restore["state"], restore["counts"]["restored"]) == ("restore", "completed", 1)
    assert restore["filters"]["key"] == "images/1.jpg"
    assert (collect["kind"], collect["mode"], collect["state"]) == ("collect", "execute", "completed")
    assert collect["operation_id"] == collected
    assert collect["counts"]["deleted"] == len(ORPHANS)
    assert collect["kept"]["referenced"] == 2
    shown = s3gc("history").stdout
    assert shown.index("restored 1") < shown.index(f"deleted {len(ORPHANS)} objects")
    assert [one["kind"] for one in s3gc("history", "--kind", "collect", "--json").document["operations"]] == [
        "collect"
    ]
    assert len(s3gc("history", "--limit", "1", "--json").document["operations"]) == 1
    assert s3gc("history", "-q").stdout.startswith("2 operations, the newest: restore")


def test_a_failure_is_listed_with_its_error(s3gc: Command, place: Place) -> None:
    place.configure(mode="execute", safety="max_deletes = 1")
    assert s3gc("collect", "--yes").code == 3
    (failed,) = s3gc("history", "--json").document["operations"]
    assert failed["state"] == "failed"
    assert "too_many_deletes" in failed["error"]
    assert "too_many_deletes" in s3gc("history").stdout


def test_a_kind_that_there_is_not_is_refused(s3gc: Command, place: Place) -> None:
    run = s3gc("history", "--kind", "plan")
    assert run.code == 2
    assert "collect and restore" in run.stderr


def test_status_tells_what_answers_and_what_waits(s3gc: Command, place: Place) -> None:
    run = s3gc("status", "--json")
    assert run.code == 0
    assert run.document["health"]["ok"] is True
    assert run.document["last"] is None
    assert s3gc("status", "-q").stdout == "all is well\n"
    place.configure(mode="execute", safety="max_deletes = 1")
    s3gc("collect", "--yes")
    run = s3gc("status")
    assert run.code == 3
    assert "held by too_many_deletes" in run.stdout
    assert "breaker too_many_deletes" in s3gc("status", "-q").stdout


def test_a_database_that_went_away_shows(s3gc: Command, place: Place) -> None:
    place.database.unlink()
    run = s3gc("status")
    assert run.code == 3
    assert "not well" in run.stdout
    assert "there is no" in run.stdout
