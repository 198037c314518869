"""The contract suites notice: whatever breaks one clause of a contract fails its suite.

Each module of ``contract_mutants`` has one sound double and many that break one thing each, with a suite for
each. Of the sound one all tests pass; of each other at least one fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MUTANTS = TESTS / "contract_mutants"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("module", "fewest"), [("stores", 50), ("vaults", 25), ("coders", 12)])
def test_every_broken_one_fails_its_suite(module: str, fewest: int) -> None:
    command = [sys.executable, "-m", "pytest", str(MUTANTS / f"{module}.py"), "-q", "-rA", "--tb=no"]
    options = ["-p", "no:cacheprovider", "-p", "contract_mutants.stop_after_first", "--no-header"]
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*command, *options],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )
    classes = set(re.findall(r"^(?:PASSED|FAILED|ERROR) \S+?::Test(\w+)::", done.stdout, re.MULTILINE))
    failing = set(re.findall(r"^(?:FAILED|ERROR) \S+?::Test(\w+)::", done.stdout, re.MULTILINE))
    assert len(classes) > fewest, done.stdout[-2_000:] + done.stderr
    sound = {name for name in classes if name.startswith("Sound")}
    assert sound
    assert not sound & failing, "the suite fails for what keeps the contract"
    assert classes - failing == sound, "these break a clause, and the suite doesn't notice"
