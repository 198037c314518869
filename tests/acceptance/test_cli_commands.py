"""Every command, as a script and as a person would use it, on a folder for a bucket and SQLite."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from fixtures_cli import DECOMPOSED, FILES, KEPT, ORPHANS, Place, Run
from s3gc import Plan
from s3gc_cli._app import app

Command = Callable[..., Run]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path).make()


@pytest.fixture
def s3gc(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Run a command in this process, in the place's folder."""
    monkeypatch.chdir(place.folder)
    for name in os.environ:
        if name.startswith(("S3GC_", "S3_", "DATABASE_URL", "FORCE_COLOR", "COLUMNS")):
            monkeypatch.delenv(name)
    handlers = list(logging.getLogger().handlers)

    def run(*arguments: str) -> Run:
        result = CliRunner().invoke(app, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Run(result.exit_code, result.stdout, result.stderr)

    yield run
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers


# --------------------------------------------------------------------------- plan


def test_plan_names_every_key_and_why(s3gc: Command, place: Place) -> None:
    run = s3gc("plan", "--json")
    found = run.document
    assert run.code == 0
    assert {each["key"] for each in found["objects"]} == ORPHANS
    assert all("no row of any source names it" in each["reason"] for each in found["objects"])
    assert (found["scanned"], found["candidates"], found["planned"]) == (
        len(FILES),
        len(ORPHANS) + 1,
        len(ORPHANS),
    )
    assert found["bytes"] == sum(len(FILES[key]) for key in ORPHANS)
    assert found["kept"] == {"referenced": len(KEPT) - 1, "excluded_prefix": 1}
    assert found["mode"] == "dry_run"
    assert found["bucket"] == place.bucket.as_uri()
    assert set(Plan.load(found["path"]).keys()) == ORPHANS
    assert place.objects() == FILES


def test_plan_for_people(s3gc: Command, place: Place) -> None:
    run = s3gc("plan")
    assert run.code == 0
    assert "7 objects listed, 5 named by no row, 4 would be deleted" in run.stdout
    assert "images/1.jpg" in run.stdout
    assert "legal/hold.pdf: " in run.stdout  # an example, with the gate's own words
    assert json.dumps(DECOMPOSED) in run.stdout  # escaped: it looks like another key
    assert "listed 7 objects" in run.stderr
    assert place.objects() == FILES


def test_quiet_is_one_line_and_no_progress(s3gc: Command) -> None:
    run = s3gc("plan", "-q")
    assert run.stdout.count("\n") == 1
    assert run.stdout.startswith("would delete 4 objects")
    assert run.stderr == ""


def test_global_options_stand_on_either_side(s3gc: Command, place: Place) -> None:
    config = str(place.folder / "s3gc.toml")
    before = s3gc("--json", "--config", config, "-q", "audit", "verify")
    between = s3gc("--json", "audit", "-q", "verify", "--config", config)
    after = s3gc("audit", "verify", "--json", "-q", "-c", config)
    assert before.document == between.document == after.document
    assert before.stderr == between.stderr == after.stderr == ""


# --------------------------------------------------------------------------- collect


def test_collect_in_dry_run_deletes_nothing_and_says_what_it_would(s3gc: Command, place: Place) -> None:
    run = s3gc("collect", "--json")
    assert run.code == 0
    assert run.document["deleted"] == []
    assert set(run.document["planned_keys"]) == ORPHANS
    shown = s3gc("collect").stdout
    assert "images/1.jpg" in shown
    assert "dry run: would delete 4 objects, deleted none" in shown
    assert place.objects() == FILES


def test_collect_in_audit_only_journals_and_deletes_nothing(s3gc: Command, place: Place) -> None:
    run = s3gc("collect", "--json", "--mode", "audit_only")
    assert (run.code, run.document["deleted"], run.document["mode"]) == (0, [], "audit_only")
    history = s3gc("explain", "--json", "images/1.jpg").document["history"]
    assert [entry["event"] for entry in history] == ["would_delete"]
    assert place.objects() == FILES


def test_collect_deletes_only_what_it_is_told_to(s3gc: Command, place: Place) -> None:
    place.configure(mode="execute")
    run = s3gc("collect", "--json", "--yes")
    found = run.document
    assert run.code == 0
    assert set(found["deleted"]) == set(found["planned_keys"]) == ORPHANS
    assert (found["backed_up"], found["errors"], found["held_by"]) == (len(ORPHANS), [], [])
    assert place.objects() == {key: FILES[key] for key in KEPT}


def test_execute_needs_yes_where_nobody_can_be_asked(s3gc: Command, place: Place) -> None:
    for arguments in (["--mode", "execute"], ["--mode", "execute", "--json"]):
        run = s3gc("collect", *arguments)
        assert run.code == 2
        assert "--yes" in run.stderr
        assert not (place.folder / "vault").exists()  # said before any work
    assert run.document["error"]["type"] == "usage"
    assert place.objects() == FILES


def test_a_signed_off_plan_is_executed_and_nothing_else(s3gc: Command, place: Place) -> None:
    assert s3gc("plan", "-q", "--out", "signed.jsonl").code == 0
    place.put("images/3.jpg", b"an orphan that came later")
    run = s3gc("collect", "--json", "--yes", "--mode", "execute", "--plan", "signed.jsonl")
    assert set(run.document["deleted"]) == ORPHANS
    assert "images/3.jpg" in place.objects()


def test_a_plan_that_was_edited_is_refused(s3gc: Command, place: Place) -> None:
    s3gc("plan", "-q", "--out", "signed.jsonl")
    path = place.folder / "signed.jsonl"
    path.write_text(
        path.read_text(encoding="utf-8").replace("images/1.jpg", "images/11.jpg"), encoding="utf-8"
    )
    run = s3gc("collect", "--json", "--yes", "--mode", "execute", "--plan", "signed.jsonl")
    assert (run.code, run.document["error"]["type"]) == (1, "PlanError")
    assert place.objects() == FILES


def test_a_plan_is_not_written_into_nowhere(s3gc: Command, place: Place) -> None:
    run = s3gc("plan", "--out", "no/such/folder/plan.jsonl")
    assert run.code == 2
    assert "there is no folder" in run.stderr
    assert not (place.folder / "vault").exists()


# --------------------------------------------------------------------------- restore


@pytest.fixture
def collected(s3gc: Command) -> str:
    """The operation that deleted the orphans."""
    found = s3gc("collect", "--json", "--yes", "--mode", "execute").document
    assert len(found["deleted"]) == len(ORPHANS)
    return str(found["operation_id"])


def test_restore_only_says_what_it_would_do(s3gc: Command, place: Place, collected: str) -> None:
    run = s3gc("restore", "--json", "--operation", collected)
    assert (run.code, run.document["dry_run"], frozenset(run.document["restored"])) == (0, True, ORPHANS)
    assert "would restore 4 objects" in s3gc("restore", "--prefix", "").stdout
    assert place.objects() == {key: FILES[key] for key in KEPT}


def test_restore_by_prefix_key_and_time(s3gc: Command, place: Place, collected: str) -> None:
    some = s3gc("restore", "--json", "--execute", "--prefix", "images/").document
    assert set(some["restored"]) == {"images/1.jpg", "images/2.jpg"}
    one = s3gc("restore", "--json", "--execute", "--key-json", json.dumps(DECOMPOSED)).document
    assert one["restored"] == [DECOMPOSED]
    rest = s3gc("restore", "--json", "--execute", "--at", "2026-01-01T00:00:00Z").document
    assert rest["restored"] == ["empty"]
    assert set(rest["skipped"]) == ORPHANS - {"empty"}
    assert place.objects() == FILES
    later = datetime.now(UTC).isoformat()
    assert s3gc("restore", "--json", "--at", later).document["restored"] == []


def test_restore_replaces_a_newer_object_only_when_told_to(
    s3gc: Command, place: Place, collected: str
) -> None:
    place.put("empty", b"somebody's new file")
    kept = s3gc("restore", "--json", "--execute", "--key", "empty").document
    assert (kept["restored"], set(kept["skipped"])) == ([], {"empty"})
    assert place.objects()["empty"] == b"somebody's new file"
    replaced = s3gc("restore", "--json", "--execute", "--key", "empty", "--overwrite").document
    assert replaced["restored"] == ["empty"]
    assert place.objects()["empty"] == b""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say what to restore"),
        (["--at", "yesterday"], "not a time in ISO 8601"),
        (["--at", "2026-11-22T18:00:00"], "has no time zone"),
        (["--key", "a", "--key-json", '"b"'], "once"),
        (["--key-json", "b"], "quotes"),
    ],
)
def test_restore_asks_for_what_is_missing(
    s3gc: Command, place: Place, arguments: list[str], said: str
) -> None:
    run = s3gc("restore", *arguments)
    assert run.code == 2
    assert said in run.stderr
    assert not (place.folder / "vault").exists()


def test_restore_of_a_key_that_never_went_is_an_error(s3gc: Command, collected: str) -> None:
    run = s3gc("restore", "--json", "--key", "images/11.jpg")
    assert (run.code, set(run.document["errors"])) == (1, {"images/11.jpg"})


# --------------------------------------------------------------------------- explain


def test_explain_a_kept_and_a_deleted_key(s3gc: Command, collected: str) -> None:
    kept = s3gc("explain", "--json", "images/11.jpg").document
    assert kept["exists"] is True
    assert [reference["column"] for reference in kept["references"]] == ["location"]
    assert {verdict["gate"]: verdict["keep"] for verdict in kept["verdicts"]}["referenced"] is True
    gone = s3gc("explain", "--json", "images/1.jpg").document
    assert (gone["exists"], gone["references"]) == (False, [])
    assert [entry["event"] for entry in gone["history"]] == ["backed_up", "delete_intended", "deleted"]
    shown = s3gc("explain", "images/1.jpg").stdout
    assert f"in operation {collected}" in shown
    assert "delete intended" in shown
    assert "assets" in s3gc("explain", "images/11.jpg").stdout
    assert s3gc("explain", "-q", "images/1.jpg").stdout.startswith("deleted by s3gc at ")


def test_a_key_of_odd_characters_is_never_shown_raw(s3gc: Command, place: Place) -> None:
    odd = "evil\x1b[2J\u202egpj.txt"
    place.put(odd, b"a folder can't hold it as an object: ambiguous, kept")
    plan = s3gc("plan")
    assert "\\u001b[2J\\u202egpj.txt" in plan.stdout
    explained = s3gc("explain", "--key-json", json.dumps(odd))
    for run in (plan, explained, s3gc("explain", odd, "-v")):
        assert "\x1b" not in run.stdout + run.stderr
        assert "\u202e" not in run.stdout + run.stderr
    assert json.dumps(odd) in explained.stdout
    assert s3gc("plan", "--json").document["kept"]["ambiguous_key"] == 1


def test_explain_needs_one_key(s3gc: Command) -> None:
    assert s3gc("explain").code == 2
    assert s3gc("explain", "a", "--key-json", '"a"').code == 2


# --------------------------------------------------------------------------- audit, acknowledge, config


def test_audit_verify_sees_a_changed_byte(s3gc: Command, place: Place, collected: str) -> None:
    whole = s3gc("audit", "verify", "--json")
    assert (whole.code, whole.document["ok"], whole.document["vault"]["backups"]) == (0, True, len(ORPHANS))
    (pack,) = (place.folder / "vault" / "packs").glob("*.pack")
    body = bytearray(pack.read_bytes())
    body[len(body) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(body)
    run = s3gc("audit", "verify", "--json")
    assert (run.code, run.document["ok"], run.document["journal"]["ok"]) == (1, False, True)
    shown = s3gc("audit", "verify")
    assert shown.code == 1
    assert "NOT as it was written" in shown.stdout


def test_a_held_cycle_ends_with_three_until_it_is_acknowledged(s3gc: Command, place: Place) -> None:
    place.configure(safety="max_deletes = 1")
    plan = s3gc("plan", "--json")
    assert plan.code == 3
    (breaker,) = plan.document["held_by"]
    assert breaker["code"] == "too_many_deletes"
    held = s3gc("collect", "--json", "--yes", "--mode", "execute")
    assert held.code == 3
    assert [each["code"] for each in held.document["error"]["held_by"]] == ["too_many_deletes"]
    assert held.document["report"]["deleted"] == []
    assert place.objects() == FILES
    shown = s3gc("plan")
    assert "held by too_many_deletes" in shown.stdout
    assert "s3gc acknowledge too_many_deletes --reason" in shown.stdout

    run = s3gc("acknowledge", "too_many_deletes", "--reason", "the old shop is closed", "--json")
    assert (run.code, run.document["acknowledged"]["code"]) == (0, "too_many_deletes")
    done = s3gc("collect", "--json", "--yes", "--mode", "execute")
    assert (done.code, frozenset(done.document["deleted"])) == (0, ORPHANS)


def test_an_acknowledgement_for_a_subject(s3gc: Command, place: Place) -> None:
    place.rows()
    plan = s3gc("plan", "--json")
    assert plan.code == 3
    breakers = {each["code"]: each["subject"] for each in plan.document["held_by"]}
    assert set(breakers) == {"empty_column", "no_references"}
    for code, subject in breakers.items():
        assert s3gc("acknowledge", code, "--subject", subject, "--reason", "a new shop").code == 0
    assert s3gc("plan", "-q").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["source_failed", "--reason", "x"], "only cured"),
        (["no_references", "--reason", "  "], "give the reason"),
        (["no_references"], "--reason"),
    ],
)
def test_what_cannot_be_acknowledged(s3gc: Command, arguments: list[str], said: str) -> None:
    run = s3gc("acknowledge", *arguments)
    assert run.code == 2
    assert said in run.stderr


def test_config_show_hides_secrets_and_opens_nothing(s3gc: Command, place: Place) -> None:
    place.configure(database="postgresql://app:hunter22@db.example.com/shop")
    run = s3gc("config", "show", "--json")
    assert run.document["options"]["database_url"] == "postgresql://app:***@db.example.com/shop"
    assert run.document["from"] == "s3gc.toml"
    assert run.document["options"]["tables"] == {"assets": ["location"]}
    shown = s3gc("config", "show")
    assert "max_plan_age: 24 h" in shown.stdout
    assert "max_deletes: no limit" in shown.stdout
    for text in (run.stdout, shown.stdout, s3gc("config", "show", "-q").stdout):
        assert "hunter22" not in text
    assert not (place.folder / "vault").exists()


# --------------------------------------------------------------------------- streams


def test_logs_go_to_stderr_in_the_form_that_is_asked_for(s3gc: Command) -> None:
    assert "plan_made" not in s3gc("plan", "--json").stderr
    readable = s3gc("plan", "--json", "-v")
    assert " info    plan_made " in readable.stderr
    lines = s3gc("plan", "--json", "-q", "-v", "--log-json")
    events = [json.loads(line) for line in lines.stderr.splitlines()]
    assert "plan_made" in {event["event"] for event in events}
    assert {event["level"] for event in events} == {"info"}
    assert readable.document.keys() == lines.document.keys()


def test_a_plugin_that_prints_spoils_no_document(s3gc: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3gc_cli._progress._HANDLERS", {"plan_made": lambda *_: print("a library speaks")})
    run = s3gc("plan", "--json")
    assert run.document["planned"] == len(ORPHANS)
    assert "a library speaks" in run.stderr
