"""Every command, as a script and as a person would use it, on a folder for a bucket and SQLite."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from fixtures_cli import DECOMPOSED, FILES, KEPT, ORPHANS, Place, Run
from s3gc import Plan
from s3gc.errors import SourceError
from s3gc.model import ScanBatch
from s3gc.sources.sql import SqlSource
from s3gc_cli._app import app

Command = Callable[..., Run]

EVIL = "evil\x1b[2J\u202egpj.txt"
"""A key that a terminal would obey."""


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


@pytest.mark.usefixtures("collected")  # there must be a vault to verify
def test_global_options_stand_on_either_side(s3gc: Command, place: Place) -> None:
    config = str(place.folder / "s3gc.toml")
    before = s3gc("--json", "--config", config, "-q", "audit", "verify")
    between = s3gc("--json", "audit", "-q", "verify", "--config", config)
    after = s3gc("audit", "verify", "--json", "-q", "-c", config)
    assert before.document == between.document == after.document
    assert before.stderr == between.stderr == after.stderr == ""


def test_plan_tells_what_rows_name_and_the_bucket_lacks(s3gc: Command, place: Place) -> None:
    place.rows("images/11.jpg", "gone/1.jpg", f"gone/{EVIL}", "https://cdn.example.com/docs/a%20b.pdf")
    found = s3gc("plan", "--json").document["missing"]
    ((column, number),) = found.items()
    assert column.endswith(":assets.location")
    assert number == 2
    shown = s3gc("plan").stdout
    line = next(each for each in shown.splitlines() if each.startswith(column))
    assert line.split()[-1] == "2"
    assert "s3gc missing lists each of them" in shown
    place.rows("images/11.jpg")
    assert s3gc("plan", "--json").document["missing"] == {}
    assert "doesn't exist" not in s3gc("plan").stdout


def test_a_plan_counts_what_lives_by_a_folder_and_by_a_parent(s3gc: Command, place: Place) -> None:
    place.put("thumbs/images/11_200.jpg", b"derived")
    place.configure(more='[derived]\n"thumbs/{key}_200.jpg" = "{key}.jpg"\n[folders]\nassets = ["location"]')
    place.rows("images/11.jpg", "docs")
    plan = s3gc("plan", "--json").document
    assert plan["kept"] == {"derived": 1, "excluded_prefix": 1, "referenced": 2}
    assert "derived" in s3gc("plan").stdout
    derived = s3gc("explain", "thumbs/images/11_200.jpg")
    assert "derived from 'images/11.jpg', which a row names" in derived.stdout
    assert "named by" in derived.stdout
    assert "the folder docs/" in s3gc("explain", "docs/a b.pdf").stdout


def test_a_cycle_that_deletes_nothing_writes_nothing(s3gc: Command, place: Place) -> None:
    for mode in ("dry_run", "audit_only"):
        assert s3gc("collect", "-q", "--mode", mode).code == 0
    for command in ("plan", "missing", "breakers"):
        assert s3gc(command, "-q").code == 0
    assert place.everything() == FILES


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
    assert found["late_window"] > 0
    assert place.objects() == {key: FILES[key] for key in KEPT}
    own = {key.rpartition("/")[0] for key in place.everything() if key not in FILES}
    assert own == {".s3gc/lease", ".s3gc/owner"}
    assert s3gc("plan", "--json").document["scanned"] == len(KEPT)  # its own objects don't count


def test_a_report_for_people_tells_the_window_of_late_references(s3gc: Command) -> None:
    run = s3gc("collect", "--yes", "--mode", "execute")
    assert re.search(
        r"^Each batch was confirmed within [0-9.]+ s of its last fence$", run.stdout, re.MULTILINE
    )


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
    events = ["store_probed", "backed_up", "delete_intended", "deleted"]
    assert [entry["event"] for entry in gone["history"]] == events
    shown = s3gc("explain", "images/1.jpg").stdout
    assert f"in operation {collected}" in shown
    assert "delete intended" in shown
    assert "assets" in s3gc("explain", "images/11.jpg").stdout
    assert s3gc("explain", "-q", "images/1.jpg").stdout.startswith("deleted by s3gc at ")


def test_a_key_of_odd_characters_is_never_shown_raw(s3gc: Command, place: Place) -> None:
    odd = EVIL
    place.put(odd, b"a folder can't hold it as an object: ambiguous, kept")
    plan = s3gc("plan")
    assert "\\u001b[2J\\u202egpj.txt" in plan.stdout
    explained = s3gc("explain", "--key-json", json.dumps(odd))
    for run in (plan, explained, s3gc("explain", odd, "-v")):
        assert "\x1b" not in run.stdout + run.stderr
        assert "\u202e" not in run.stdout + run.stderr
    assert json.dumps(odd) in explained.stdout
    assert s3gc("plan", "--json").document["kept"]["ambiguous_key"] == 1


def test_explain_as_it_was_known_at_a_time(s3gc: Command, place: Place) -> None:
    before = datetime.now(UTC).isoformat()
    s3gc("collect", "-q", "--mode", "audit_only")
    judged = datetime.now(UTC).isoformat()
    s3gc("collect", "-q", "--yes", "--mode", "execute")
    first = s3gc("explain", "--json", "images/1.jpg", "--at", before)
    assert (first.code, first.document["at"]) == (0, before)
    assert "no cycle had looked at the bucket" in first.document["decision"]
    then = s3gc("explain", "--json", "images/1.jpg", "--at", judged).document
    assert [entry["event"] for entry in then["history"]] == ["would_delete"]
    assert "not deleted by s3gc" in then["decision"]
    now = s3gc("explain", "--json", "images/1.jpg", "--at", datetime.now(UTC).isoformat()).document
    assert now["exists"] is False
    assert "deleted by s3gc" in now["decision"]

    shown = s3gc("explain", "images/1.jpg", "--at", judged)
    assert shown.code == 0  # nothing that could be read was not read
    assert f"as of {datetime.fromisoformat(judged).isoformat(sep=' ', timespec='seconds')}" in shown.stdout
    assert "of the past only the journal is known" in shown.stdout
    assert "could not be read" not in shown.stdout
    assert "would delete" in shown.stdout
    assert "No row" not in shown.stdout  # nobody asked them


@pytest.mark.parametrize(
    ("at", "said"), [("yesterday", "not a time in ISO 8601"), ("2026-11-22T18:00:00", "has no time zone")]
)
def test_explain_asks_for_a_whole_time(s3gc: Command, place: Place, at: str, said: str) -> None:
    run = s3gc("explain", "images/1.jpg", "--at", at)
    assert run.code == 2
    assert said in run.stderr
    assert not (place.folder / "vault").exists()


def test_explain_needs_one_key(s3gc: Command) -> None:
    assert s3gc("explain").code == 2
    assert s3gc("explain", "a", "--key-json", '"a"').code == 2


# --------------------------------------------------------------------------- missing


def test_missing_tells_each_mention_and_counts_them(s3gc: Command, place: Place) -> None:
    place.rows("images/11.jpg", "gone/1.jpg", "https://cdn.example.com/docs/a%20b.pdf", "gone/2.jpg")
    run = s3gc("missing", "--json")
    *found, counts = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.code == 0
    assert [(each["table"], each["column"], each["row_id"]) for each in found] == [
        ("assets", "location", "2"),
        ("assets", "location", "4"),
    ]
    assert all(key in each["keys"] for key, each in zip(["gone/1.jpg", "gone/2.jpg"], found, strict=True))
    assert counts == {"total": 2, "columns": {f"{found[0]['source']}:assets.location": 2}}
    shown = s3gc("missing").stdout
    assert "assets.location of row 2 names gone/1.jpg" in shown
    assert "2 mentions of objects that don't exist" in shown
    assert s3gc("missing", "-q").stdout == "2 mentions of objects that don't exist\n"
    place.rows("images/11.jpg")
    assert json.loads(s3gc("missing", "--json").stdout) == {"total": 0, "columns": {}}
    assert place.everything() == FILES


def test_missing_keys_of_odd_characters_are_never_shown_raw(s3gc: Command, place: Place) -> None:
    place.rows("images/11.jpg", f"gone/{EVIL}", "gone/two\nlines")
    run = s3gc("missing")
    for character in "\x1b\u202e":
        assert character not in run.stdout + run.stderr
    assert json.dumps(f"gone/{EVIL}") in run.stdout
    assert run.stdout.splitlines()[2].startswith("2 mentions")  # one line for each, whatever the key holds
    raw = s3gc("missing", "--json").stdout
    assert raw.isascii()
    assert any(f"gone/{EVIL}" in json.loads(line).get("keys", ()) for line in raw.splitlines())


@pytest.mark.parametrize("broken", ["at once", "half way"])
def test_missing_that_ends_early_says_so_in_its_last_line(
    s3gc: Command, place: Place, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    place.rows("images/11.jpg", "gone/1.jpg", "gone/2.jpg")
    if broken == "at once":
        place.database.unlink()
    else:
        whole = SqlSource.scan

        async def half(self: SqlSource) -> AsyncIterator[ScanBatch]:
            async for batch in whole(self):
                yield batch
            raise SourceError("the connection broke")

        monkeypatch.setattr(SqlSource, "scan", half)
    run = s3gc("missing", "--json")
    *found, last = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.code == 3
    assert len(found) == (0 if broken == "at once" else 1)  # the last row may go on in the next batch
    assert [each["code"] for each in last["error"]["held_by"]] == ["source_failed"]
    assert "mentions" not in s3gc("missing").stdout  # no count of half a table


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

    (waiting,) = s3gc("breakers", "--json").document["breakers"]
    assert waiting["code"] == "too_many_deletes"
    run = s3gc("acknowledge", "too_many_deletes", "--reason", "the old shop is closed", "--json")
    assert (run.code, run.document["acknowledged"]["code"]) == (0, "too_many_deletes")
    assert s3gc("breakers", "--json").document == {"breakers": []}
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


def test_a_breaker_that_stays_is_shown_until_it_is_acknowledged(s3gc: Command, place: Place) -> None:
    """Its cause is gone, and it waits all the same; the command that is shown lets it go."""
    assert s3gc("breakers").stdout == "no breaker waits for an acknowledgement\n"
    place.rows()
    begun = datetime.now(UTC)
    held = s3gc("collect", "-q", "--yes", "--mode", "execute")
    assert held.code == 3
    place.rows("images/11.jpg")
    run = s3gc("breakers", "--json")
    assert run.code == 3
    waiting = {each["code"]: each for each in run.document["breakers"]}
    assert set(waiting) == {"empty_column", "no_references"}
    for each in waiting.values():
        since = datetime.fromisoformat(each["since"])
        assert begun <= since <= datetime.now(UTC)
        assert each["reason"]
        assert each["evidence"]
    shown = s3gc("breakers")
    assert shown.code == 3
    for each in waiting.values():
        assert f"held by {each['code']} ({each['subject']})" in shown.stdout
        assert datetime.fromisoformat(each["since"]).isoformat(timespec="seconds") in shown.stdout
    said = "2 breakers wait for an acknowledgement: empty_column, no_references"
    assert s3gc("breakers", "-q").stdout == f"{said}\n"
    still = s3gc("collect", "--json", "--yes", "--mode", "execute")
    assert (still.code, place.objects()) == (3, FILES)

    commands = re.findall(r"s3gc (acknowledge .*) --reason '…'", shown.stdout)
    assert len(commands) == 2
    for command in commands:
        assert s3gc(*shlex.split(command), "--reason", "the import is done").code == 0
    assert s3gc("breakers").code == 0
    place.rows("images/11.jpg", "https://cdn.example.com/docs/a%20b.pdf")
    done = s3gc("collect", "--json", "--yes", "--mode", "execute")
    assert (done.code, frozenset(done.document["deleted"])) == (0, ORPHANS)


def test_a_breaker_that_had_to_be_cured_is_let_go_and_not_let_pass(s3gc: Command, place: Place) -> None:
    place.configure(mode="execute", safety="self_clearing = []")
    hidden = place.database.rename(place.folder / "hidden")
    assert s3gc("collect", "-q", "--yes").code == 3
    shown = s3gc("breakers").stdout
    assert "once it is cured: s3gc acknowledge source_failed --reason" in shown
    hidden.rename(place.database)
    run = s3gc("acknowledge", "source_failed", "--reason", "the disk is mounted again")
    assert run.code == 0
    assert "trips again unless its cause is cured" in run.stdout
    assert s3gc("breakers").code == 0
    place.database.rename(hidden)
    assert s3gc("collect", "-q", "--yes").code == 3


def test_a_subject_of_odd_characters_can_be_acknowledged_as_shown(s3gc: Command, place: Place) -> None:
    table = f"it's {EVIL}"
    with sqlite3.connect(place.database) as database:
        database.execute(f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY, "a\nb" TEXT)')
    database.close()
    text = (place.folder / "s3gc.toml").read_text(encoding="utf-8")
    quoted = f'"{table}"'  # it has a dot
    tracked = f'[tables]\n{json.dumps(quoted)} = ["a\\nb"]\n'
    (place.folder / "s3gc.toml").write_text(text.replace("[tables]\n", tracked), encoding="utf-8")
    assert s3gc("collect", "-q", "--yes", "--mode", "execute").code == 3
    shown = s3gc("breakers").stdout
    for character in "\x1b\u202e":
        assert character not in shown
    (command,) = re.findall(r"s3gc (acknowledge .*) --reason '…'", shown)
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8"},
    )
    arguments = words.stdout.decode().split("\0")[:-1]
    assert arguments[-1].endswith(f":{quoted}.a\nb")
    assert s3gc(*arguments, "--reason", "a new table").code == 0
    assert s3gc("breakers").code == 0


def test_an_acknowledgement_of_another_subject_names_the_right_one(s3gc: Command, place: Place) -> None:
    place.configure(mode="execute", safety="self_clearing = []")
    place.database.unlink()
    assert s3gc("collect", "-q", "--yes").code == 3
    run = s3gc("acknowledge", "source_failed", "--subject", "mine", "--reason", "x")
    assert run.code == 2
    assert "source_failed has tripped with another subject; acknowledge each: ''" in run.stderr
    assert s3gc("breakers").code == 3


def test_config_show_hides_secrets_and_opens_nothing(s3gc: Command, place: Place) -> None:
    place.configure(database="postgresql://app:hunter22@db.example.com/shop")
    run = s3gc("config", "show", "--json")
    assert run.document["options"]["database_url"] == "postgresql://app:***@db.example.com/shop"
    assert run.document["from"] == "s3gc.toml"
    assert run.document["options"]["tables"] == {"assets": ["location"]}
    shown = s3gc("config", "show")
    assert "max_plan_age: 24 h" in shown.stdout
    assert "max_deletes: no limit" in shown.stdout
    assert (
        "self_clearing: clock_skew, source_failed, store_failed, too_few_copies, vault_unusable"
        in " ".join(shown.stdout.split())  # the table may wrap it
    )
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


@pytest.mark.usefixtures("collected")
def test_restore_into_another_folder(s3gc: Command, place: Place) -> None:
    left = place.objects()
    folder = place.folder / "saved"
    refused = s3gc("restore", "--prefix", "", "--into", folder.as_uri(), "--execute")
    assert refused.code != 0
    assert "create it first" in refused.stderr
    folder.mkdir()
    would = s3gc("restore", "--prefix", "", "--into", folder.as_uri(), "--json")
    assert (would.code, set(would.document["restored"])) == (0, ORPHANS)
    assert list(folder.iterdir()) == []
    place.bucket.rename(place.folder / "no bucket")
    done = s3gc("restore", "--prefix", "", "--into", folder.as_uri(), "--execute")
    assert done.code == 0
    assert "restored 4 objects" in done.stdout
    assert {key: (folder / key).read_bytes() for key in ORPHANS} == {key: FILES[key] for key in ORPHANS}
    (folder / "empty").write_bytes(b"somebody's")
    again = s3gc("restore", "--prefix", "", "--into", folder.as_uri(), "--execute")
    assert "skipped 4" in again.stdout
    assert "nobody backs it up there" in again.stdout
    assert (folder / "empty").read_bytes() == b"somebody's"
    (place.folder / "no bucket").rename(place.bucket)
    assert place.objects() == left
    told = s3gc("explain", "images/1.jpg").stdout
    assert "restored elsewhere" in told
    assert s3gc("restore", "--prefix", "", "--into", place.bucket.as_uri()).code == 2
