"""The template for a source of one's own: it builds, installs, passes its tests, and they bear load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "s3gc-source-markdown"
SOURCE = Path("src") / "s3gc_source_markdown" / "source.py"

FIND = """
from s3gc import create_config, create_plugin_manager
from s3gc.resolver import Resolver
hook = create_plugin_manager().hook
config = create_config("memory://bucket")
print(type(hook.s3gc_open_source(url="markdown:///x", config=config, resolver=Resolver("b"))).__name__)
"""


def run(*arguments: str, path: Path, at: Path) -> subprocess.CompletedProcess[str]:
    known = os.pathsep.join(filter(None, (str(path), os.environ.get("PYTHONPATH", ""))))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=at,
        env={**os.environ, "PYTHONPATH": known},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def its_tests(copy: Path, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    options = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, "--rootdir", ".")
    return run("-m", "pytest", *options, *more, "tests", path=path, at=copy)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder, as somebody would take it."""
    made = tmp_path / "mine"
    shutil.copytree(EXAMPLE, made, ignore=shutil.ignore_patterns("__pycache__"))
    return made


def test_it_installs_is_found_and_passes_its_own_tests(copy: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target))
    installed = run("-m", "pip", "install", *options, ".", path=target, at=copy)
    assert installed.returncode == 0, installed.stderr
    assert (target / "s3gc_source_markdown" / "py.typed").exists()
    found = run("-c", FIND, path=target, at=tmp_path)
    assert found.stdout.strip() == "MarkdownSource", found.stderr
    passed = its_tests(copy, target)
    assert passed.returncode == 0, passed.stdout
    assert " passed" in passed.stdout


@pytest.mark.parametrize(
    ("guard", "without"),
    [
        ("if await anyio.to_thread.run_sync(self._files) == before and None not in read:", "if True:"),
        ("for _ in range(WALKS):", "for _ in iter(int, 1):"),
        ("onerror=failed", "onerror=None"),
        ("keys = set(self._resolver.keys(text))", "keys: set[str] = set()"),
        ('keys |= self._resolver.keys(value[1].strip("\\"\'"))', "pass"),
        ("if len(data) > MOST_BYTES:", "if False:"),
        ("or sampled >= sample", ""),
        ("if text and text.strip():", "if text is not None:"),
        ('data.decode("utf-8", "replace")', 'data.decode("utf-8", "strict")'),
        ("sum(map(bool, texts.values()))", "len(texts)"),
        ('raise SourceError(f"there is no folder {self._folder}")\n        found = {}', "return {}"),
    ],
)
def test_its_tests_notice_when_a_guard_is_gone(copy: Path, guard: str, without: str) -> None:
    file = copy / SOURCE
    text = file.read_text(encoding="utf-8")
    assert text.count(guard) == 1, guard
    file.write_text(text.replace(guard, without), encoding="utf-8")
    done = its_tests(copy, copy / "src", "--timeout", "5")  # one of these would never end
    assert done.returncode == 1, done.stdout
