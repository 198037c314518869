"""The command as a process: exit codes, secrets, signals, terminals, pipes, how little ``--help`` loads."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures_cli import FILES, KEPT, ORPHANS, Place, environment, spawn

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")
SECRET = "correct-horse-7"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path).make()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine where nobody listens (bound, so that nobody takes it meanwhile)."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# --------------------------------------------------------------------------- configuration


def test_without_a_configuration_both_ways_are_named(tmp_path: Path) -> None:
    run = spawn(["plan", "--json"], tmp_path)
    assert run.code == 2
    assert run.document["error"]["type"] == "usage"
    for way in ("s3gc.toml", "--config PATH", "S3_BUCKET", "DATABASE_URL", "S3GC_TABLES"):
        assert way in run.stderr
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_configuration_from_the_environment_or_a_named_file(place: Place) -> None:
    variables = {
        "S3_BUCKET": place.bucket.as_uri(),
        "DATABASE_URL": f"sqlite:///{place.database}",
        "S3GC_TABLES": "assets:location",
        "S3GC_VAULT_PATH": str(place.folder / "other-vault"),
    }
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    shown = spawn(["config", "show", "--json"], elsewhere, **variables)
    assert (shown.code, shown.document["from"]) == (0, "the environment")
    assert shown.document["options"]["bucket"] == place.bucket.as_uri()
    file = str(place.folder / "s3gc.toml")
    named = spawn(["config", "show", "--json"], elsewhere, S3GC_CONFIG=file, **variables)
    assert named.document["from"] == file
    assert named.document["options"]["vault_path"] == str(place.folder / "vault")


def test_a_malformed_configuration_is_a_usage_error(place: Place) -> None:
    (place.folder / "s3gc.toml").write_text('bukket = "x"\n', encoding="utf-8")
    run = spawn(["plan", "--json"], place.folder)
    assert (run.code, run.document["error"]["type"]) == (2, "ConfigError")
    assert "did you mean 'bucket'" in run.stderr
    assert run.stderr.count("\n") == 1
    missing = spawn(["plan", "--config", "nowhere.toml"], place.folder)
    assert (missing.code, missing.stdout) == (2, "")
    assert "nowhere.toml" in missing.stderr


def test_unknown_options_are_usage_errors_in_json_too(tmp_path: Path) -> None:
    run = spawn(["--json", "plan", "--nope"], tmp_path)
    assert (run.code, run.document["error"]["type"]) == (2, "usage")
    assert "No such option" in run.stderr
    assert spawn(["pln"], tmp_path).code == 2


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize("verbosity", [[], ["--debug"]])
def test_an_unreachable_database_holds_the_cycle_and_its_password_stays_inside(
    place: Place, closed_port: int, verbosity: list[str]
) -> None:
    url = f"postgresql://app:{SECRET}@127.0.0.1:{closed_port}/shop"
    place.configure(mode="execute", database=url)
    run = spawn(["collect", "--yes", "--json", *verbosity], place.folder)
    assert run.code == 3
    assert [each["code"] for each in run.document["error"]["held_by"]] == ["source_failed"]
    assert "held by source_failed" in run.stderr
    assert ("Traceback" in run.stderr) == bool(verbosity)
    assert SECRET not in run.stdout + run.stderr
    assert place.objects() == FILES
    explained = spawn(["explain", "images/1.jpg", "--json"], place.folder)
    assert explained.code == 1
    assert explained.document["problems"]
    assert SECRET not in explained.stdout + explained.stderr


def test_an_unexpected_error_is_one_line_without_secrets(place: Place) -> None:
    place.configure(database=f"postgresql://app:{SECRET}@127.0.0.1/shop")
    code = f"""
import s3gc
from s3gc_cli import main
class Broken:
    def open(self, *_, **__): raise RuntimeError("logged in as {SECRET}\\nand failed")
s3gc.Collector = Broken()
main(["plan", "--json", *{{arguments}}])
"""
    for arguments, traceback in (([], False), (["-v", "-v"], True)):
        done = subprocess.run(
            [sys.executable, "-c", code.format(arguments=arguments)],
            cwd=place.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 1
        assert SECRET not in done.stdout + done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: unexpected RuntimeError: logged in as *** and")
        assert ("Traceback" in done.stderr) is traceback
        assert (done.stderr.count("\n") == 1) is not traceback


def test_two_collectors_at_once(place: Place) -> None:
    assert spawn(["plan", "-q"], place.folder).code == 0
    with (place.folder / "vault" / "collector.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = spawn(["plan", "--json"], place.folder)
    assert (run.code, run.document["error"]["type"]) == (1, "LeaseHeld")
    assert "another collector" in run.stderr


@pytest.mark.parametrize("form", ["--quiet", "--json"])
def test_a_reader_that_goes_away_is_no_traceback(place: Place, form: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "s3gc_cli", "config", "show", form],
        cwd=place.folder,
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=200,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_ends_a_stream(place: Place, form: list[str]) -> None:
    place.rows("images/11.jpg", *(f"gone/{number}.jpg" for number in range(20_000)))
    command = [sys.executable, "-m", "s3gc_cli", "missing", *form]
    with subprocess.Popen(
        command, cwd=place.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"gone/0.jpg" in process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=200) == 1
    assert b"Traceback" not in said
    assert spawn(["missing", "-q"], place.folder).stdout == "20,000 mentions of objects that don't exist\n"


# --------------------------------------------------------------------------- signals

SLOW = """
import sys, time
from s3gc.stores.obstore._local import LocalBackend
delete = LocalBackend.delete
def slowly(self, key, if_match):
    outcome = delete(self, key, if_match)
    time.sleep(0.2)
    return outcome
LocalBackend.delete = slowly
from s3gc_cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_batch_finish_and_says_what_is_left(place: Place, number: signal.Signals) -> None:
    for n in range(64):
        place.put(f"junk/{n:02}", b"an orphan")
    place.configure(mode="execute", safety="batch_objects = 16")
    whole = len(place.objects())
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "collect", "--yes", "--json"],
        cwd=place.folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while (place.bucket / "images/1.jpg").exists() and process.poll() is None:  # an orphan of the first batch
        time.sleep(0.01)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 128 + number
    gone = whole - len(place.objects())
    assert gone > 0
    assert gone % 16 == 0  # whole batches: the one under way was finished, of the next nothing is deleted
    assert gone < 68
    assert f"{gone} of 68 planned objects deleted" in stderr
    assert "Traceback" not in stderr
    assert f'"exit_code": {128 + number}' in stdout

    verified = spawn(["audit", "verify", "--json"], place.folder)
    assert verified.code == 0
    assert gone <= verified.document["vault"]["backups"] <= gone + 16  # the next one may be copied already
    rest = spawn(["collect", "--yes", "--json"], place.folder)
    assert (rest.code, len(rest.document["deleted"])) == (0, 68 - gone)
    assert place.objects() == {key: FILES[key] for key in KEPT}


# --------------------------------------------------------------------------- terminals


def on_terminal(arguments: list[str], cwd: Path, answer: str = "", **env: str) -> tuple[int, str]:
    """Run the command on a terminal, and answer its question."""
    main, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "s3gc_cli", *arguments],
        cwd=cwd,
        env=environment(TERM="xterm-256color", COLUMNS="100", **env),
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    shown = b""
    while True:
        try:
            piece = os.read(main, 65_536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        shown += piece
        if answer and b"Type yes:" in shown:
            os.write(main, f"{answer}\n".encode())
            answer = ""
    os.close(main)
    return process.wait(timeout=200), shown.decode()


@pytest.mark.parametrize("answer", ["no", "y", ""])
def test_anything_but_yes_deletes_nothing(place: Place, answer: str) -> None:
    code, shown = on_terminal(["collect", "--mode", "execute"], place.folder, answer or " ")
    assert code == 1
    assert "delete 4 objects" in shown
    assert "images/1.jpg" in shown
    assert "nothing was deleted" in shown
    assert place.objects() == FILES


def test_yes_deletes_what_was_shown(place: Place) -> None:
    code, shown = on_terminal(["collect", "--mode", "execute"], place.folder, "yes")
    assert code == 0
    assert "deleted 4 objects" in shown
    assert set(FILES) - set(place.objects()) == ORPHANS


def test_colours_only_on_a_terminal_that_wants_them(place: Place) -> None:
    _, coloured = on_terminal(["plan"], place.folder)
    assert COLOUR.search(coloured)
    _, plain = on_terminal(["plan"], place.folder, NO_COLOR="1")
    assert "images/1.jpg" in plain
    assert not COLOUR.search(plain)
    piped = spawn(["plan"], place.folder)
    assert "\x1b" not in piped.stdout + piped.stderr


def test_output_survives_a_terminal_without_unicode(place: Place) -> None:
    place.put("grüße.txt", b"an orphan")
    for arguments in (["plan"], ["audit", "verify"], ["plan", "--json"]):
        run = spawn(arguments, place.folder, PYTHONIOENCODING="ascii", LC_ALL="C")
        assert run.code == 0, run.stderr
        assert run.stdout.isascii()


# --------------------------------------------------------------------------- start


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = """
import sys
from s3gc_cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
heavy = {"s3gc", "sqlalchemy", "botocore", "obstore", "urllib3", "structlog", "rich", "attrs", "anyio"}
print("loaded:", sorted(heavy & set(sys.modules)))
"""
    for arguments in (["--help"], ["collect", "--help"], ["audit", "verify", "-h"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=200,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "loaded: []"


def test_version_and_help(tmp_path: Path) -> None:
    import s3gc

    assert spawn(["--version"], tmp_path).stdout == f"s3gc {s3gc.__version__}\n"
    text = spawn(["--help"], tmp_path).stdout
    for command in (
        *("demo", "plan", "collect", "restore", "explain", "missing", "audit"),
        *("breakers", "acknowledge", "config"),
    ):
        assert f"\n  {command} " in text
    assert "Exit codes: 0 done, 1 error, 2 usage" in text
    assert "Show the version" not in spawn([], tmp_path).stdout  # without a command: a usage error
    assert spawn([], tmp_path).code == 2
