"""A bucket in a folder, a database and an ``s3gc.toml``, and two ways to run the command line on them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from s3gc.abc import RESERVED_PREFIX

OLD = 1_750_000_000.0
"""June 2025: older than any retention in these tests."""

ODD = 'od"d\u202e\x1b[31m.txt'
"""A file's name that a terminal would obey. A folder can't hold it as an object: ambiguous, kept."""

DECOMPOSED = "cafe\u0301.txt"
"""Looks like ``café.txt`` and is another key: shown escaped."""

FILES: Mapping[str, bytes] = {
    "images/11.jpg": b"\xff\xd8 eleven",
    "images/1.jpg": b"\xff\xd8 one, an orphan",
    "images/2.jpg": b"\xff\xd8 two, an orphan",
    "docs/a b.pdf": b"%PDF named by a percent-encoded URL",
    DECOMPOSED: b"an orphan",
    "empty": b"",
    "legal/hold.pdf": b"%PDF an orphan below an excluded prefix",
}
ORPHANS = frozenset({"images/1.jpg", "images/2.jpg", DECOMPOSED, "empty"})
KEPT = frozenset(FILES) - ORPHANS

TOML = """
bucket = "{bucket}"
database_url = "{database}"
base_urls = ["https://cdn.example.com"]
exclude_prefixes = ["legal"]
vault_path = "./vault"
mode = "{mode}"

[tables]
assets = ["location"]

[safety]
preset = "demo"
{safety}

{more}
"""


@attrs.frozen
class Run:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document that stdout must be."""
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found


@attrs.frozen
class Place:
    """A folder with everything in it."""

    folder: Path

    @property
    def bucket(self) -> Path:
        return self.folder / "the-bucket"

    @property
    def database(self) -> Path:
        return self.folder / "app.sqlite3"

    def make(self) -> Place:
        for key, body in FILES.items():
            self.put(key, body)
        with sqlite3.connect(self.database) as database:
            database.execute("CREATE TABLE assets (id INTEGER PRIMARY KEY, location TEXT)")
        database.close()
        self.rows("images/11.jpg", "https://cdn.example.com/docs/a%20b.pdf")
        self.configure()
        return self

    def put(self, key: str, body: bytes) -> None:
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (OLD, OLD))

    def rows(self, *locations: str) -> None:
        """The table holds exactly these."""
        with sqlite3.connect(self.database) as database:
            database.execute("DELETE FROM assets")
            database.executemany("INSERT INTO assets (location) VALUES (?)", [(each,) for each in locations])
        database.close()

    def configure(
        self, *, mode: str = "dry_run", safety: str = "", database: str | None = None, more: str = ""
    ) -> None:
        text = TOML.format(
            bucket=self.bucket.as_uri(),
            database=database or f"sqlite:///{self.database}",
            mode=mode,
            safety=safety,
            more=more,
        )
        (self.folder / "s3gc.toml").write_text(text, encoding="utf-8")

    def objects(self) -> dict[str, bytes]:
        """What the bucket holds now, but for what s3gc keeps there itself."""
        return {key: body for key, body in self.everything().items() if not key.startswith(RESERVED_PREFIX)}

    def everything(self) -> dict[str, bytes]:
        """What the bucket holds now, s3gc's own objects too."""
        return {
            path.relative_to(self.bucket).as_posix(): path.read_bytes()
            for path in self.bucket.rglob("*")
            if path.is_file()
        }


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that s3gc or a terminal library reads."""
    unwanted = ("S3GC_", "AWS_", "S3_", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, **more}


def spawn(arguments: Sequence[str], cwd: Path, **env: str) -> Run:
    """Run the command in a process of its own, without a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "s3gc_cli", *arguments],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=200,
        check=False,
    )
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())
