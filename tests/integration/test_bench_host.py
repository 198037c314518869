"""The measurement of a host's event loop runs, and proves that the cycle did its work."""

from __future__ import annotations

import re

import pytest
from benchmarks import host


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "text"])
def test_it_measures(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.main(["--objects", "1", "--mb", "9", "--only", kind]) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith(f"| {kind} |")]
    assert [row.split("|")[-2].strip() for row in rows][:3] == [
        "the event loop",
        "a thread that sleeps",
        "a process that sleeps",
    ]
    for row in rows[:3]:
        assert re.fullmatch(r"\| \w+ \| -?[\d.]+ \| [\d.]+ \| \d+ \| [\w ]+ \|", row), row


def test_what_was_late_is_counted() -> None:
    seen = host.Seen.of("x", [0.0] * 98 + [host.LIMIT_MS + 1, 400.0])
    assert (seen.p99, seen.worst, seen.above) == (400.0, 400.0, 2)
