"""``s3gc.integrations``: the names of another distribution, or a word on what to install."""

from __future__ import annotations

import subprocess
import sys

import s3gc_fastapi
from s3gc.integrations import fastapi

WITHOUT = """
import sys
sys.modules["{missing}"] = None
import s3gc.integrations.fastapi
"""


def test_it_offers_the_same_names() -> None:
    for name in fastapi.__all__:
        assert getattr(fastapi, name) is getattr(s3gc_fastapi, name)


def test_it_says_what_to_install() -> None:
    for missing in ("s3gc_fastapi", "fastapi"):
        command = [sys.executable, "-c", WITHOUT.format(missing=missing)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(
            "ImportError: the admin isn't installed: pip install"
        ), missing


def test_another_missing_module_is_told_as_it_is() -> None:
    command = [sys.executable, "-c", WITHOUT.format(missing="cronsim")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "cronsim" in done.stderr.splitlines()[-1]
