"""Run a program and see what it took: wall time, processor time, peak memory. Linux and macOS."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]
_LAUNCHER = Path(__file__).with_name("launch.py")
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
_SHOWN_OF_STDERR = 4000


class ProgramFailed(Exception):
    """A measured program ended with an error: its figures mean nothing."""


@frozen
class Outcome:
    """A program's use of the machine."""

    seconds: float  # from start to end of the process
    cpu_seconds: float  # user and system, of the process and the children it waited for
    peak_bytes: int  # ru_maxrss; never less than the launcher's, about 10 MiB
    lines: int  # on stdout
    last_line: str

    @property
    def took(self) -> tuple[float, float]:
        """Seconds and processor seconds."""
        return self.seconds, self.cpu_seconds


def run(command: Sequence[str], environment: Mapping[str, str], *, cwd: Path = ROOT) -> Outcome:
    """Run a program to its end.

    Raises:
        ProgramFailed: it ended with another code than 0.
    """
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.NamedTemporaryFile("r") as result,
    ):
        launcher = subprocess.Popen(
            [sys.executable, "-IS", str(_LAUNCHER), result.name, *command],
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            launcher.wait()
        except BaseException:
            launcher.terminate()  # it passes this on to the program
            launcher.wait()
            raise
        figures = result.read().split() if launcher.returncode == 0 else [str(launcher.returncode)]
        if figures[0] != "0":
            err.seek(0)
            said = err.read().decode(errors="replace")[-_SHOWN_OF_STDERR:]
            raise ProgramFailed(f"{' '.join(command[:4])} … ended with {figures[0]}:\n{said}")
        lines, last = _lines(out)
    _, seconds, cpu_seconds, maxrss = figures
    return Outcome(float(seconds), float(cpu_seconds), int(maxrss) * _MAXRSS_UNIT, lines, last.decode())


def _lines(file: IO[bytes]) -> tuple[int, bytes]:
    file.seek(0)
    count, last = 0, b""
    for line in file:
        count, last = count + 1, line
    return count, last


def environment(endpoint: str) -> dict[str, str]:
    """Our environment with made-up credentials, and none of this machine's settings for S3 or proxies."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "S3_", "S3GC_")) and not name.lower().endswith("_proxy")
    }
    return {
        **ours,
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "S3_ENDPOINT_URL": endpoint,
    }
