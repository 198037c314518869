"""The benchmark of one big object measures what it says, and notices wrong bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import big
from benchmarks.cases import Bench, WrongResult
from benchmarks.responder.process import Responder

MIB = 1 << 20


@pytest.mark.timeout(300)
def test_one_big_object_through_every_case(tmp_path: Path) -> None:
    size = 24 * MIB
    with Responder() as responder:
        responder.fill("big", 1, size)
        bench = Bench(responder, tmp_path, 1)
        found = big.measure(bench, size)
        assert set(found) == set(big.CASES)
        assert all(took.seconds > 0 and took.cpu_seconds > 0 for took in found.values())
        # In bounded memory: what the process needs by itself, and far less than twice the object beyond.
        assert max(took.peak_bytes for took in found.values()) < 150 * MIB
        with pytest.raises(WrongResult, match="instead of"):
            big.measure(bench, size + 1)
    text = big.table([found, found], size)
    assert "| boto3 get |" in text
    assert text.count("\n") == 1 + len(big.CASES)
