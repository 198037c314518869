"""``python -m benchmarks.big``: one big object through back-up, beside plain gets of it.

As in :mod:`benchmarks.run` each measurement is a process of its own and they take turns. A wrong result ends
the run with an error.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from attrs import frozen

from benchmarks.cases import Bench, WrongResult
from benchmarks.measure import ProgramFailed
from benchmarks.responder.process import Responder

_MIB = 1 << 20
_BUCKET = "big"
CASES: Mapping[str, str] = {
    "boto3_get": "boto3 get",
    "disk_alone": "the disk alone: written, durable, read back",
    "s3gc_get": "s3gc get, in parts",
    "s3gc_get_md5": "s3gc get, in one part: MD5 checked",
    "s3gc_backup": "into the vault, in parts",
    "s3gc_backup_md5": "into the vault, in one part: MD5 checked",
}
"""By name. The ETag of an object that was uploaded in parts is no MD5, so there is none to check."""


@frozen
class Took:
    """One measurement."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def measure(bench: Bench, size: int) -> dict[str, Took]:
    """Every case once, by name.

    Raises:
        WrongResult: another number of bytes, or other bytes, came out.
    """
    found: dict[str, Took] = {}
    for case in CASES:
        worker = case.removesuffix("_md5")
        with tempfile.TemporaryDirectory(dir=bench.folder) as vault:
            more = {"vault": vault} if worker in ("s3gc_backup", "disk_alone") else {}
            if worker == "disk_alone":
                more["bytes"] = str(size)
            elif worker != "boto3_get":
                more["md5"] = "yes" if case.endswith("_md5") else "no"
            outcome, _, said = bench.worker(worker, _BUCKET, **more)
        if said["bytes"] != size or not said.get("right", True):
            raise WrongResult(f"{case}: {said['bytes']} bytes instead of {size}, or other ones")
        found[case] = Took(said["seconds"], said["cpu_seconds"], outcome.peak_bytes)
    return found


def table(rounds: Sequence[Mapping[str, Took]], size: int) -> str:
    """Medians, and ratios within each round, as Markdown."""
    lines = ["| | MiB/s | × boto3 get | CPU s/GiB | peak MiB |", "|---|---:|---:|---:|---:|"]
    for case, title in CASES.items():
        took = [each[case] for each in rounds]
        rate = median(size / _MIB / each.seconds for each in took)
        ratio = median(each["boto3_get"].seconds / each[case].seconds for each in rounds)
        cpu = median(each.cpu_seconds for each in took) / (size / 2**30)
        peak = max(each.peak_bytes for each in took) / _MIB
        lines.append(f"| {title} | {rate:,.0f} | {ratio:.2f} | {cpu:.1f} | {peak:.0f} |")
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the object")
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0, or 1 if something failed or was wrong."""
    options: Any = _parse(arguments)
    size = options.mib * _MIB
    with Responder() as responder, tempfile.TemporaryDirectory(prefix="s3gc-benchmark-") as folder:
        responder.fill(_BUCKET, 1, size)
        bench = Bench(responder, Path(folder), 1)
        try:
            rounds = [measure(bench, size) for _ in range(options.rounds)]
        except (ProgramFailed, WrongResult) as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1
    print(table(rounds, size))
    print(f"\n{options.mib} MiB, {options.rounds} round(s), load {os.getloadavg()[0]:.1f} at the end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
