"""``s3gc watch``: a live view on a terminal, lines elsewhere; a signal ends it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys

import pytest

from acceptance.test_cli_commands import Command, place, s3gc  # noqa: F401
from fixtures_cli import ORPHANS, Place, environment, spawn

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")


def test_one_look(s3gc: Command, place: Place) -> None:
    run = s3gc("watch", "--once")
    assert run.code == 0, run.stdout
    assert "nothing runs" in run.stdout
    place.configure(mode="execute", safety="max_deletes = 0")
    assert s3gc("collect", "--yes").code == 3
    run = s3gc("watch", "--once")
    assert run.code == 3
    assert "waits: too_many_deletes" in run.stdout
    document = s3gc("watch", "--once", "--json").document
    assert document["health"]["ok"] is False
    assert document["running"] == {}
    assert "breaker_tripped" in [one["event"] for one in document["newest"]]


def test_without_a_terminal_each_thing_that_happens_is_a_line(place: Place) -> None:
    place.configure(mode="execute")
    assert spawn(["plan", "-q"], place.folder).code == 0
    with subprocess.Popen(
        [sys.executable, "-m", "s3gc_cli", "watch", "--json", "--interval", "0.1"],
        cwd=place.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        assert first["health"]["ok"] is True
        assert spawn(["collect", "--yes", "-q"], place.folder).code == 0
        told = []
        while not told or told[-1]["event"] != "operation_completed":
            told.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(timeout=200) == 130
    events = [one["event"] for one in told]
    assert "operation_started" in events
    assert told[-1]["data"]["deleted"] == len(ORPHANS)
    assert "it only looked" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("no_colour", [False, True])
def test_on_a_terminal_it_moves_and_honours_no_color(place: Place, no_colour: bool) -> None:
    assert spawn(["plan", "-q"], place.folder).code == 0
    ours, theirs = pty.openpty()
    extra = {"NO_COLOR": "1"} if no_colour else {}
    process = subprocess.Popen(
        [sys.executable, "-m", "s3gc_cli", "watch", "--interval", "0.1"],
        cwd=place.folder,
        env={**environment(), "TERM": "xterm-256color", **extra},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = ""
    while shown.count("nothing runs") < 3:  # drawn again and again
        ready, _, _ = select.select([ours], [], [], 100)
        assert ready, shown
        shown += os.read(ours, 65_536).decode()
    process.send_signal(signal.SIGINT)
    while True:
        try:
            more = os.read(ours, 65_536)
        except OSError:
            break
        if not more:
            break
        shown += more.decode()
    assert process.wait(timeout=200) == 130
    os.close(ours)
    assert bool(COLOUR.search(shown)) is not no_colour
    assert "\x1b[?25h" in shown, "the cursor is back"
