"""Progress follows events that the core really emits, and can say at any moment what is left."""

from __future__ import annotations

import pytest

from s3gc import events
from s3gc_cli import _progress
from s3gc_cli._output import Output
from s3gc_cli._progress import SECONDS_BETWEEN, Lines, Silent, Watcher, pace
from s3gc_cli._settings import Settings


class Recorder(Silent):
    """Remembers what was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def stage(self, text: str, total: int | None = None) -> None:
        self.shown.append(f"stage {text}")

    def at(self, done: int, text: str = "") -> None:
        self.shown.append(f"at {done} {text}")

    def note(self, text: str) -> None:
        self.shown.append(text)


def test_every_event_that_is_shown_is_in_the_catalogue() -> None:
    assert set(_progress._HANDLERS) <= set(events.CATALOGUE)


def test_an_event_of_a_later_version_is_ignored() -> None:
    recorder = Recorder()
    Watcher(recorder).s3gc_event("something_new", {})
    assert recorder.shown == []


def test_progress_of_a_batch() -> None:
    recorder = Recorder()
    watcher = Watcher(recorder)
    watcher.planned = 5
    for event, data in (
        ("batch_verified", {"objects": 3, "referenced": 1}),
        ("batch_backed_up", {"objects": 3, "bytes": 2_000}),
        ("batch_fenced", {"objects": 2}),
        ("object_backed_up_and_deleted", {"s3_key": "a", "size": 1}),
        ("object_backed_up_and_deleted", {"s3_key": "b", "size": 1}),
        ("batch_completed", {"deleted": 2, "resurrected": 1}),
        ("batch_verified", {"objects": 1, "referenced": 0}),
    ):
        watcher.s3gc_event(event, data)
    assert "backed up and read back 3 objects (2.0 kB)" in recorder.shown
    assert "deleted and confirmed 2 objects, 1 object put back" in recorder.shown
    assert recorder.shown[-1] == "at 4 backing up 1 object"  # the kept one of the first batch counts as done


@pytest.mark.parametrize(
    ("planned", "deleted", "restored", "said"),
    [
        (None, 0, 0, "nothing was deleted or restored"),
        (1_200, 400, 0, "400 of 1,200 planned objects deleted, each backed up first"),
        (None, 0, 7, "7 objects restored"),
    ],
)
def test_what_is_left(planned: int | None, deleted: int, restored: int, said: str) -> None:
    watcher = Watcher(Silent())
    watcher.planned, watcher.deleted, watcher.restored = planned, deleted, restored
    assert watcher.left().startswith(said + ".")


@pytest.mark.parametrize(
    ("done", "total", "seconds", "said"),
    [
        (500, 1_000, 0.9, ""),
        (0, 1_000, 5.0, ""),
        (500, 1_000, 5.0, "100 a second, 5.0 s to go"),
        (5, 1_000, 10.0, "0.5 a second, 33 min 10 s to go"),
        (1_000, 1_000, 5.0, "200 a second"),
        (12_000, None, 2.0, "6,000 a second"),
    ],
)
def test_how_fast_and_how_long_to_go(done: int, total: int | None, seconds: float, said: str) -> None:
    assert pace(done, total, seconds) == said


def test_without_a_terminal_a_long_stage_tells_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    lines = Lines(Output(Settings()), lambda: now)
    lines.stage("sweeping", total=400)
    for done in (10, 100, 101, 200):
        now += SECONDS_BETWEEN / 2
        lines.at(done)
    lines.stage("another")
    lines.at(7)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "sweeping: 100 of 400, 10 a second, 30.0 s to go",
        "sweeping: 200 of 400, 10 a second, 20.0 s to go",
    ]


def test_a_command_that_only_looks_has_changed_nothing() -> None:
    watcher = Watcher(Silent())
    watcher.only_looks = True
    assert watcher.left() == "it only looked"
