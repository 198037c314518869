"""A third party's distribution is installed and found by its entry point, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[1] / "plugin_example"

LOOK = """
import json, sys
import anyio
from s3gc import create_config, create_plugin_manager
from s3gc.errors import SourceError
from s3gc.resolver import Resolver

keys, missing, entry_points = sys.argv[1], sys.argv[2], sys.argv[3] == "yes"
config = create_config("memory://bucket")

async def read(hook, path):
    source = hook.s3gc_open_source(url="lines://" + path, config=config, resolver=Resolver("bucket"))
    if source is None:
        return None
    try:
        return [(r.key, r.row_id) async for batch in source.scan() for r in batch.references]
    except SourceError as error:
        return f"SourceError: {error}"

async def main():
    plugins = create_plugin_manager(entry_points=entry_points)
    print(json.dumps({
        "plugins": [name for name, _ in plugins.list_name_plugin()],
        "read": await read(plugins.hook, keys),
        "missing": await read(plugins.hook, missing),
        "gates": [gate.code for some in plugins.hook.s3gc_gates(config=config) for gate in some],
    }))

anyio.run(main)
"""

CYCLE = """
import json, sys
from pathlib import Path
import anyio
from s3gc import Collector, Safety, create_config

async def main():
    bucket, keys, vault = sys.argv[1:]
    config = create_config(
        bucket=Path(bucket).as_uri(), sources=["lines://" + keys], vault_path=vault, mode="execute",
        retention_days=0, safety=Safety.demo(),
    )
    async with Collector.open(config) as gc:
        report = await gc.collect(await gc.plan())
    print(json.dumps({
        "deleted": sorted(report.deleted), "kept": dict(report.kept), "errors": list(report.errors),
        "held": [breaker.code for breaker in report.held_by],
    }))

anyio.run(main)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin, built and installed into a folder of its own, without a network."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*command, "--target", target, source], check=True, stdin=subprocess.DEVNULL)
    assert (target / "acme_s3gc_lines-1.0.dist-info" / "entry_points.txt").is_file()
    return target


def run(script: str, *arguments: object, path: Path | None) -> dict[str, Any]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environ["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environ,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text("a.txt\n\nfolder/ä b.jpg", encoding="utf-8")
    return path


def test_an_installed_plugin_is_found_by_its_entry_point(installed: Path, keys: Path, tmp_path: Path) -> None:
    found = run(LOOK, keys, tmp_path / "none.txt", "yes", path=installed)
    assert "lines" in found["plugins"]
    assert found["read"] == [["a.txt", "1"], ["folder/ä b.jpg", "3"]]
    assert found["missing"].startswith("SourceError:")
    assert found["gates"] == ["acme_marked"]


def test_without_the_distribution_or_the_search_there_is_no_plugin(
    installed: Path, keys: Path, tmp_path: Path
) -> None:
    for path, search in ((None, "yes"), (installed, "no")):
        found = run(LOOK, keys, tmp_path / "none.txt", search, path=path)
        assert "lines" not in found["plugins"]
        assert found["read"] is None
        assert found["gates"] == []


def test_its_source_gate_and_veto_decide_a_real_cycle(installed: Path, keys: Path, tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    for key in ("a.txt", "folder/ä b.jpg", "free.txt", "free.keep", "legal-hold/free.txt"):
        (bucket / key).parent.mkdir(parents=True, exist_ok=True)
        (bucket / key).write_bytes(key.encode())
    done = run(CYCLE, bucket, keys, tmp_path / "vault", path=installed)
    assert done["held"] == []
    assert done["errors"] == []
    assert done["deleted"] == ["free.txt"]
    assert done["kept"]["acme_marked"] == 1
    assert done["kept"]["vetoed"] == 1
    left = sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())
    left = [name for name in left if not name.startswith(".s3gc/")]
    assert left == sorted(["a.txt", "folder/ä b.jpg", "free.keep", "legal-hold/free.txt"])
