"""Each distribution alone: its sdist builds the same wheel, and it works with nothing but what it declares.

No package index is asked. An empty environment is made from the distribution's wheel and links to what it
declares, and to what that declares; anything else that it imports isn't there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
IMPORTS = {"s3gc-core": "s3gc"}
"""What a distribution imports as, where it isn't its name with underscores."""

pytestmark = pytest.mark.slow


def project(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return loaded


NAMES = {project(folder)["name"]: folder for folder in PACKAGES}


def build(folder: Path, target: str, out: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build(folder, "wheel", tmp_path_factory.mktemp("wheel")) for name, folder in NAMES.items()}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist() if not name.endswith("/RECORD")}


@pytest.mark.parametrize("name", NAMES)
def test_the_sdist_builds_the_same_wheel(name: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    sdist = build(NAMES[name], "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as file:
        members = file.getnames()
        file.extractall(tmp_path / "source", filter="data")
    (folder,) = (tmp_path / "source").iterdir()
    assert f"{folder.name}/LICENSE" in members
    assert not [one for one in members if "/tests/" in one or one.endswith(".pyc")]
    assert contents(build(folder, "wheel", tmp_path / "again")) == contents(wheels[name])


@pytest.mark.parametrize("name", NAMES)
def test_its_metadata_are_right(name: str, wheels: dict[str, Path]) -> None:
    found = contents(wheels[name])
    (metadata,) = (body.decode() for path, body in found.items() if path.endswith(".dist-info/METADATA"))
    assert "License-Expression: LGPL-2.1-only" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "Classifier: Typing :: Typed" in metadata
    assert f"{IMPORTS.get(name, name.replace('-', '_'))}/py.typed" in found
    assert any(path.endswith("/licenses/LICENSE") for path in found)


# --------------------------------------------------------------------------- alone


def declared(lines: list[str], extras: set[str]) -> list[Requirement]:
    found = []
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""}) | {""}
        ):
            found.append(requirement)
    return found


def link(found: Distribution, folder: Path) -> None:
    """Links to all that a distribution has installed."""
    assert found.files, found
    for top in {path.parts[0] for path in found.files if path.parts[0] not in ("..", "__pycache__")}:
        place = folder / top
        if not place.exists():
            place.symlink_to(found.locate_file(top))


def closure(name: str, wheels: dict[str, Path], folder: Path, extras: frozenset[str] = frozenset()) -> None:
    """Unpack the wheel of ours, and link all that it needs, with these of its extras."""
    waiting: list[tuple[str, frozenset[str]]] = [(name, extras)]
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one, extras = waiting.pop()
        if (one, extras) in done:
            continue
        done.add((one, extras))
        if one in wheels:
            with zipfile.ZipFile(wheels[one]) as wheel:
                wheel.extractall(folder)
            of = project(NAMES[one])
            lines = list(of["dependencies"])
            for extra in extras:
                lines += of["optional-dependencies"][extra]
        else:
            try:
                found = distribution(one)
            except PackageNotFoundError:
                continue  # of another system
            link(found, folder)
            lines = found.requires or []
        for needed in declared(lines, set(extras)):
            waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))


def alone(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python with this folder and the standard library, and nothing else."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "S3"))}
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=folder.parent,
        env={**environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=200,
        check=False,
    )


EVERY_MODULE = """
import importlib, pkgutil
package = importlib.import_module({module!r})
skipped = {skipped!r}
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not found.name.startswith(tuple(skipped)) and not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print("ok")
"""

ADMIN = "s3gc.integrations.fastapi"
"""Says in one line which distribution it wants."""

SKIPPED = {
    # Extras: drivers, what only tests need, signing and sealing.
    "s3gc-core": (
        ADMIN,
        "s3gc.testing",
        "s3gc.sources._postgres",
        "s3gc.sources._mysql",
        "s3gc.sources.mysql",
        "s3gc.vault.checkpoints",
        "s3gc.vault.replica._seal",
    ),
    "s3gc-codecs": ("s3gc_codecs._lepton", "s3gc_codecs._pixels", "s3gc_codecs._raster"),
}


@pytest.mark.parametrize("name", NAMES)
def test_it_works_with_what_it_declares_alone(name: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    closure(name, wheels, folder)
    module = IMPORTS.get(name, name.replace("-", "_"))
    done = alone(folder, EVERY_MODULE.format(module=module, skipped=SKIPPED.get(name, ("-",))))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok\n"
    outside = alone(folder, "import pytest")
    assert outside.returncode != 0, "an environment that has more than that shows nothing"


@pytest.mark.parametrize("name", NAMES)
def test_with_its_extras_all_of_it_works(name: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    closure(name, wheels, folder, frozenset(project(NAMES[name]).get("optional-dependencies", {})))
    module = IMPORTS.get(name, name.replace("-", "_"))
    done = alone(folder, EVERY_MODULE.format(module=module, skipped=(ADMIN,)))
    assert done.returncode == 0, done.stderr


def test_the_command_alone_shows_its_help_and_makes_a_plan(wheels: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    closure("s3gc-cli", wheels, folder)
    run = "import sys; from s3gc_cli import main; main({arguments!r})"
    assert "plan" in alone(folder, run.format(arguments=["--help"])).stdout
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "orphan.txt").write_text("x")
    setup = (
        "import sqlite3; sqlite3.connect('app.db').execute('CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT)')"
    )
    assert alone(folder, setup).returncode == 0
    (tmp_path / "s3gc.toml").write_text(
        f'bucket = "{(tmp_path / "bucket").as_uri()}"\ndatabase_url = "sqlite:///app.db"\n'
        '[tables]\nt = ["k"]\n'
    )
    done = alone(folder, run.format(arguments=["plan", "--json"]))
    assert done.returncode == 3, done.stderr  # an empty table is no evidence
    assert '"no_references"' in done.stdout
