"""What is shipped: the distributions, their licence, the pinned versions, the set-up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
FOLDERS = [ROOT, *PACKAGES]


def project(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return loaded


DEMO = (ROOT / "scripts" / "requirements-demo.in").read_text(encoding="utf-8")
"""What the demo installs; the rest has no pins there."""

OWN = {project(folder)["name"]: project(folder) for folder in FOLDERS}


def requirements(folder: Path) -> list[Requirement]:
    of = project(folder)
    extras = of.get("optional-dependencies", {}).values()
    return [
        Requirement(line) for line in (*of["dependencies"], *(line for extra in extras for line in extra))
    ]


def pins(name: str) -> dict[str, list[tuple[Requirement, Version]]]:
    """Name → its pinned versions (there may be one for each range of Pythons)."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[tuple[Requirement, Version]]] = {}
    for line in text.splitlines():
        requirement = Requirement(line.split(" --hash=")[0])
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        found.setdefault(canonicalize_name(requirement.name), []).append(
            (requirement, Version(specifier.version))
        )
    return found


def test_one_version_one_python_one_licence() -> None:
    import s3gc

    assert {of["version"] for of in OWN.values()} == {s3gc.__version__}
    assert {of["requires-python"] for of in OWN.values()} == {">=3.11"}
    assert {of["license"] for of in OWN.values()} == {"LGPL-2.1-only"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_package_ships_the_same_licence(package: Path) -> None:
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_promised_extras_exist() -> None:
    assert set(OWN["s3-reference-manager"]["optional-dependencies"]) == {
        "postgres",
        "mysql",
        "fastapi",
        "cli",
        "codecs",
        "cdc-postgres",
        "cdc-mysql",
        "all",
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_our_own_distributions_are_named_as_they_are(folder: Path) -> None:
    """No name of a part that doesn't exist yet, each at exactly our version, each extra a real one."""
    for requirement in requirements(folder):
        if requirement.name.startswith(("s3gc", "s3-reference-manager")):
            of = OWN[requirement.name]
            assert requirement.extras <= set(of.get("optional-dependencies", {}))
            assert (
                requirement.name == project(folder)["name"]
                or str(requirement.specifier) == f"=={of['version']}"
            )


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-demo.txt", "constraints-admin.txt"])
def test_constraints_are_names_versions_and_hashes_only(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"^\s*(#|-)(?!-hash=)", text, re.MULTILINE)
    assert "://" not in text
    assert " @ " not in text
    for line in text.replace("\\\n", " ").splitlines():
        assert re.search(r" --hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("file", ["constraints-demo.txt", "constraints-admin.txt"])
def test_the_demo_and_the_image_run_what_was_tested(file: str) -> None:
    tested = pins("constraints.txt")
    for name, versions in pins(file).items():
        assert {version for _, version in versions} <= {version for _, version in tested[name]}


@pytest.mark.parametrize(
    ("name", "folder", "all_extras"),
    [("constraints.txt", package, True) for package in PACKAGES]
    + [("constraints-demo.txt", package, False) for package in PACKAGES if package.name in DEMO],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_pinned_versions_suit_the_packages(name: str, folder: Path, all_extras: bool) -> None:
    pinned = pins(name)
    needed = (
        requirements(folder)
        if all_extras
        else [Requirement(line) for line in project(folder)["dependencies"]]
    )
    for requirement in needed:
        if requirement.name not in OWN:
            for _, version in pinned[canonicalize_name(requirement.name)]:
                assert requirement.specifier.contains(version), (requirement, version)


def test_every_dependency_has_a_lowest_version_that_is_below_the_tested_one() -> None:
    """`.ci/lowest` installs exactly these."""
    told = subprocess.run(
        [sys.executable, ROOT / "scripts" / "lowest"], capture_output=True, text=True, check=True
    ).stdout
    lowest = dict(line.split("==") for line in told.splitlines())
    tested = pins("constraints.txt")
    external = {
        canonicalize_name(one.name)
        for folder in PACKAGES
        for one in requirements(folder)
        if one.name not in OWN
    }
    assert set(lowest) == external
    for name, version in lowest.items():
        for _, newest in tested[name]:
            assert Version(version) <= newest, name


# ---------------------------------------------------------------------------------------------- wheels


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    built: dict[str, zipfile.ZipFile] = {}
    for folder in FOLDERS:
        copy = tmp_path_factory.mktemp("build") / "source"
        copy.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
            if (folder / name).exists():
                shutil.copy(folder / name, copy / name)
        if folder != ROOT:
            shutil.copytree(folder / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
        command = [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "--target",
            "wheel",
            "--directory",
            str(copy / "out"),
        ]
        done = subprocess.run(command, cwd=copy, check=False, capture_output=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr.decode()
        (wheel,) = (copy / "out").glob("*.whl")
        built[project(folder)["name"]] = zipfile.ZipFile(wheel)
    return built


def test_the_wheels_hold_code_types_and_licence(wheels: dict[str, zipfile.ZipFile]) -> None:
    core = wheels["s3gc-core"].namelist()
    assert "s3gc/py.typed" in core
    assert "s3gc/config/_config.py" in core
    assert "s3gc_cli/__init__.py" in wheels["s3gc-cli"].namelist()
    assert "s3gc_codecs/py.typed" in wheels["s3gc-codecs"].namelist()
    admin = wheels["s3gc-fastapi"].namelist()
    assert "s3gc_fastapi/py.typed" in admin
    for name in ("alerts.yml", "grafana.json"):
        assert f"s3gc_fastapi/monitoring/{name}" in admin
    for name in ("templates/base.html", "static/style.css", "static/app.js", "static/icon.svg"):
        assert f"s3gc_fastapi/ui/{name}" in admin
    for wheel in wheels.values():
        (licence,) = (name for name in wheel.namelist() if name.endswith("/licenses/LICENSE"))
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        described = message_from_bytes(wheel.read(metadata))
        assert described["License-Expression"] == "LGPL-2.1-only"
        assert described.get_payload()


def test_the_command_is_an_entry_point(wheels: dict[str, zipfile.ZipFile]) -> None:
    wheel = wheels["s3gc-cli"]
    (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert wheel.read(name).decode().split() == ["[console_scripts]", "s3gc", "=", "s3gc_cli:main"]


def test_the_codecs_are_an_entry_point(wheels: dict[str, zipfile.ZipFile]) -> None:
    wheel = wheels["s3gc-codecs"]
    (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert wheel.read(name).decode().split() == ["[s3gc]", "codecs", "=", "s3gc_codecs"]


@pytest.mark.parametrize("database", ["postgres", "mysql"])
def test_change_capture_is_an_entry_point(wheels: dict[str, zipfile.ZipFile], database: str) -> None:
    wheel = wheels[f"s3gc-cdc-{database}"]
    assert f"s3gc_cdc_{database}/py.typed" in wheel.namelist()
    (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert wheel.read(name).decode().split() == ["[s3gc]", f"cdc-{database}", "=", f"s3gc_cdc_{database}"]


def test_the_distribution_of_the_whole_has_no_code(wheels: dict[str, zipfile.ZipFile]) -> None:
    assert all(".dist-info/" in name for name in wheels["s3-reference-manager"].namelist())


# ---------------------------------------------------------------------------------------------- set-up


def setup(kind: str, venv: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "setup", kind, venv],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_without_a_python_the_set_up_says_so_in_one_line(tmp_path: Path) -> None:
    done = setup("demo", tmp_path / "venv", PYTHON="/nonexistent/python")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Python 3.11 or later is missing" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_without_venv_and_apt_the_set_up_says_so_in_one_line(tmp_path: Path) -> None:
    """A Python without ensurepip (Debian's, until python3-venv is there) on a system without apt-get."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "basename", "id"):
        (programs / name).symlink_to(str(shutil.which(name)))
    bare = programs / "python3"
    bare.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    done = setup("demo", tmp_path / "venv", PATH=str(programs), PYTHON="python3")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "missing: python3-venv" in done.stderr


@pytest.mark.parametrize("name", ["scripts/setup", "scripts/lock", ".ci/run", ".ci/lowest"])
def test_scripts_can_be_run(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    shell = "bash" if name.startswith(".ci/") else "sh"
    subprocess.run([shell, "-n", ROOT / name], check=True)
