"""The admin by itself: its image's steps in a fresh environment, its files, its start and its end."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures_admin import BASE, OPERATOR, Site
from fixtures_cli import environment
from s3gc_fastapi._prometheus import METRICS
from s3gc_fastapi._service import config_of_service

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments."""
    lines = [
        line
        for line in (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


@contextmanager
def service(python: str | Path, site: Site, **more: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """``python -m s3gc_fastapi`` on a free port, configured by the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    known = {
        "S3_BUCKET": site.place.bucket.as_uri(),
        "DATABASE_URL": f"sqlite:///{site.place.database}",
        "S3GC_TABLES": "assets:location",
        "S3GC_VAULT_PATH": str(site.folder / "vault"),
        "S3GC_ADMIN_API_KEY": OPERATOR,
        "S3GC_EXECUTE_MODE": "false",
    }
    environ = {name: value for name, value in environment(**known | more).items() if name != "PYTHONPATH"}
    if str(python) == sys.executable:
        environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    process = subprocess.Popen(
        [str(python), "-m", "s3gc_fastapi", "--port", str(port)],
        cwd=site.folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + 120
        while '"open":true' not in _get(port, f"{BASE}/status", OPERATOR)[1]:
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < end, "the service didn't start"
            time.sleep(0.1)
        yield port, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)


def _get(port: int, path: str, key: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_it_serves_by_itself_logs_json_and_stops_in_order(tmp_path: Path) -> None:
    with service(sys.executable, Site(tmp_path)) as (port, process):
        assert _get(port, "/healthz") == (200, "ok")
        assert _get(port, f"{BASE}/status")[0] == 401
        status, body = _get(port, f"{BASE}/status", OPERATOR)
        assert (status, json.loads(body)["mode"]) == (200, "dry_run")
        assert _get(port, f"{BASE}/ui/login")[0] == 200
        assert _get(port, "/docs")[0] == 404
        request = urllib.request.Request(f"http://127.0.0.1:{port}{BASE}/run", method="POST")
        request.add_header("Authorization", f"Bearer {OPERATOR}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            operation_id = json.load(answer)["operation_id"]
        end = time.monotonic() + 60
        while json.loads(_get(port, f"{BASE}/status", OPERATOR)[1])["running"]:
            assert time.monotonic() < end
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in out.decode().splitlines()]
    events = {line["event"]: line for line in lines}
    assert events["gc_cycle_started"]["mode"] == "dry_run"
    assert events["gc_cycle_completed"]["operation_id"] == operation_id
    assert {"deleted", "duration"} <= set(events["gc_cycle_completed"])
    assert OPERATOR not in out.decode()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "S3_BUCKET is not set"),
        ({"S3_BUCKET": "b-1", "S3GC_SCHEDULE_CRON": "99 * * * *"}, "names no time"),
        ({"S3GC_CONFIG": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_one_line(
    tmp_path: Path, environ: dict[str, str], told: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "s3gc_fastapi"],
        cwd=tmp_path,
        env=environment(**environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert told in line


@pytest.mark.parametrize(
    ("file", "key"),
    [("", "from-the-environment"), ('admin_api_key = "from-the-file-itself"', "from-the-file-itself")],
)
def test_a_file_without_a_key_leaves_it_to_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, key: str
) -> None:
    (tmp_path / "s3gc.toml").write_text(f'bucket = "memory://b"\n{file}\n')
    monkeypatch.setenv("S3GC_CONFIG", str(tmp_path / "s3gc.toml"))
    monkeypatch.setenv("S3GC_ADMIN_API_KEY", "from-the-environment")
    assert config_of_service().admin_api_key == key


# --------------------------------------------------------------------------- the image


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_steps_of_the_image_work_in_a_fresh_environment(tmp_path: Path) -> None:
    """All but Docker itself: the RUN lines that install, the start, the health check."""
    venv = tmp_path / "venv"
    steps = [text for name, text in instructions() if name == "RUN" and "pip install" in text]
    assert len(steps) == 2
    for step in steps:
        command = step.replace("/venv", str(venv)).replace("python -m venv", f"{sys.executable} -m venv")
        done = subprocess.run(
            command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    (health,) = [text for name, text in instructions() if name == "HEALTHCHECK"]
    check = json.loads(health[health.index("[") :])
    (site := tmp_path / "site").mkdir()
    with service(venv / "bin" / "python", Site(site)) as (port, _):
        asked = [part.replace(":8000", f":{port}") for part in check]
        asked[0] = str(venv / "bin" / asked[0])
        subprocess.run(asked, check=True)
        status, body = _get(port, f"{BASE}/health", OPERATOR)
        assert status == 200, body
    assert subprocess.run(asked, check=False, capture_output=True).returncode == 1


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False)


def test_the_dockerfile_is_clean_by_a_linter() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    clean = hadolint(text)
    assert (clean.returncode, clean.stdout) == (0, "")
    spoiled = hadolint(
        text.replace("python:3.13-slim", "python:latest").replace("WORKDIR /src", "WORKDIR src")
    )
    assert spoiled.returncode == 1
    assert {"DL3007", "DL3000"} <= set(re.findall(r"DL\d+", spoiled.stdout))


def test_the_dockerfile_says_what_no_linter_asks_for() -> None:
    told = instructions()
    names = [name for name, _ in told]
    froms = [text for name, text in told if name == "FROM"]
    assert all(re.fullmatch(r"python:3\.\d+-slim( AS build)?", text) for text in froms)
    last = names[len(names) - 1 - names[::-1].index("FROM") :]
    assert "USER" in last
    assert dict(told)["USER"] not in ("root", "0")
    assert last.index("USER") < last.index("ENTRYPOINT")
    assert {"HEALTHCHECK", "VOLUME", "EXPOSE"} <= set(last)
    assert "ADD" not in names
    for name, text in told:
        if name in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(text), list)
        if name == "COPY" and not text.startswith("--from"):
            for source in shlex.split(text)[:-1]:
                assert (ROOT / source).exists(), source
        if name == "RUN" and "pip install" in text:
            assert "--require-hashes" in text or "--no-deps" in text
            for package in re.findall(r"\./packages/[\w-]+", text):
                assert (ROOT / package / "pyproject.toml").exists()
        assert not re.search(r"(KEY|SECRET|PASSWORD)=\S", text)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "**"


def test_the_compose_file_holds_no_secret_and_runs_with_little_right() -> None:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    ours = document["services"]["s3gc"]
    assert ours["read_only"] is True
    assert ours["cap_drop"] == ["ALL"]
    assert ours["environment"]["S3GC_EXECUTE_MODE"] == "false"
    assert (DEPLOY / ours["build"]["context"] / ours["build"]["dockerfile"]).resolve().exists()
    for each in document["services"].values():
        for name, value in each.get("environment", {}).items():
            if re.search("KEY|SECRET|PASSWORD", name):
                assert value.startswith("${"), name
                assert ":?" in value, f"{name} must be asked for, and have no default"
    assert all(":" in each["image"] for each in document["services"].values() if "image" in each)
    named = {v.partition(":")[0] for each in document["services"].values() for v in each.get("volumes", [])}
    assert named == set(document["volumes"])


# --------------------------------------------------------------------------- monitoring


def test_the_exposition_has_every_metric_that_can_have_a_value(tmp_path: Path) -> None:
    """What is absent is absent for a reason that its help tells."""
    from prometheus_client.parser import text_string_to_metric_families

    with service(sys.executable, Site(tmp_path), S3GC_SCHEDULE_CRON="02:30") as (port, _):
        status, text = _get(port, f"{BASE}/metrics/prometheus", OPERATOR)
        assert status == 200
    samples: dict[str, Any] = {
        sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert set(samples) <= set(METRICS)
    for name in set(METRICS) - set(samples):
        of_a_source = "source" in METRICS[name][2]  # which may not be followed
        assert "absent" in METRICS[name][1] or of_a_source or "last_verify" in name or "last_drill" in name
    for name, sample in samples.items():
        assert set(sample.labels) == {"bucket", *METRICS[name][2]}
