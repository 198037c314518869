"""README and docs as a user: every block that can be run is run, in order, page by page."""

from __future__ import annotations

import ast
import json
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from acceptance.docs_blocks import EXECUTABLE, ROOT, Block, blocks, pages

OTHERS = frozenset({"vault-format.md", "benchmarks.md"})  # have tests of their own
OURS = [page for page in pages() if page.name not in OTHERS]
RUN = [page for page in OURS if any(block.mark == "run" for block in blocks(page))]
PLUGIN_ENTRY_POINTS = {"acme_cms": "cms", "acme_keep": "keep"}  # module → entry point, as the pages say

OBJECTS = {
    "avatars/1.jpg": b"one",
    "avatars/2.jpg": b"two",
    "avatars/11.jpg": b"eleven",
    "posts/cover.png": b"cover",
    "posts/old.png": b"old",
    "articles/chart.svg": b"chart",
    "drafts/plan.txt": b"draft",
    "invoices/7.pdf": b"invoice",
}

IN_GC = """\
import anyio
from pathlib import Path
from s3gc import Collector, load_config

async def main():
    config = load_config("s3gc.toml")
    async with Collector.open(config) as gc:
{body}

anyio.run(main)
"""


class Cms(BaseHTTPRequestHandler):
    """The API of a CMS, in two pages."""

    def do_GET(self) -> None:
        host = f"http://{self.headers['host']}"
        answers = {
            "/api/articles": {
                "articles": [{"id": 1, "body": "<p>Nothing to see.</p>"}],
                "next": f"{host}/api/articles?after=1",
            },
            "/api/articles?after=1": {
                "articles": [{"id": 2, "body": '<img src="/articles/chart.svg">'}],
                "next": None,
            },
        }
        body = json.dumps(answers.get(self.path, {})).encode()
        self.send_response(200 if self.path in answers else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def cms() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cms)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class World:
    """A new folder with a bucket of files, an application's database, and the variables that name them."""

    def __init__(self, folder: Path, cms: str) -> None:
        self.folder = folder
        self.bucket = folder / "bucket"
        month_ago = time.time() - 30 * 86_400
        for key, body in OBJECTS.items():
            path = self.bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            os.utime(path, (month_ago, month_ago))
        with sqlite3.connect(folder / "app.db") as db:
            db.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, avatar_url TEXT)")
            db.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT)")
            db.executemany(
                "INSERT INTO users (avatar_url) VALUES (?)",
                [("https://cdn.example.com/avatars/1.jpg",), ("avatars/2.jpg",), ("avatars/11.jpg",)],
            )
            db.execute("INSERT INTO posts (body) VALUES ('<img src=\"/posts/cover.png\">')")
        db.close()
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("S3", "AWS"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            # Ours first, then what this process runs with: a checkout that isn't the installed one.
            "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])),
            "S3_BUCKET": self.bucket.as_uri(),
            "DATABASE_URL": f"sqlite:///{folder / 'app.db'}",
            "CMS_HOST": cms,
            "COLUMNS": "200",
        }

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if path.stem in PLUGIN_ENTRY_POINTS and path.suffix == ".py":
            info = self.folder / f"{path.stem}-1.0.dist-info"  # what installing the distribution leaves
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {path.stem}\nVersion: 1.0\n")
            entry = f"[s3gc]\n{PLUGIN_ENTRY_POINTS[path.stem]} = {path.stem}\n"
            (info / "entry_points.txt").write_text(entry)

    def run(self, block: Block) -> subprocess.CompletedProcess[str]:
        if block.language == "python":
            text = block.text
            if block.argument == "in gc":
                text = IN_GC.format(body=textwrap.indent(text, " " * 8))
            command = [sys.executable, "-c", text]
        else:
            command = ["bash", "-euo", "pipefail", "-c", block.text]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )


@pytest.fixture
def world(tmp_path: Path, cms: str) -> World:
    return World(tmp_path, cms)


def expected_code(block: Block) -> int:
    exit_code = re.fullmatch(r"exit (\d+)", block.argument)
    assert exit_code or block.argument in ("", "in gc"), f"{block.where}: unknown mark"
    return int(exit_code[1]) if exit_code else 0


def in_order(wanted: str, text: str) -> str | None:
    """The first line of ``wanted`` that ``text`` lacks, or has before the one before it."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    place = 0
    for line in filter(str.strip, wanted.splitlines()):
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in line.split("…"))
        found = next((n for n in range(place, len(lines)) if re.search(pattern, lines[n])), None)
        if found is None:
            return line
        place = found + 1
    return None


@pytest.mark.slow
@pytest.mark.timeout(900)  # a page is up to twenty commands, each a process of its own
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_what_a_page_shows_works(page: Path, world: World) -> None:
    last = ""
    for block in blocks(page):
        if block.mark == "file":
            world.write(block.argument, block.text)
        elif block.mark == "run":
            done = world.run(block)
            last = done.stdout
            assert done.returncode == expected_code(block), f"{block.where}\n{done.stdout}\n{done.stderr}"
        elif block.mark == "output":
            missing = in_order(block.text, last)
            assert missing is None, f"{block.where}: no line {missing!r} in\n{last}"


def test_the_comparison_of_outputs_can_fail() -> None:
    assert in_order("a … c\nb", "x\na b c\nb") is None
    assert in_order("b\na … c", "a b c\nb") == "a … c"
    assert in_order("d", "a b c") == "d"


def test_there_are_pages_that_run() -> None:
    names = {page.name for page in RUN}
    assert {"README.md", "getting-started.md", "embedding.md", "plugins.md", "testing.md", "cli.md"} <= names


@pytest.mark.parametrize("page", OURS, ids=lambda page: page.stem)
def test_every_block_says_what_a_test_does_with_it(page: Path) -> None:
    for block in blocks(page):
        if block.language in EXECUTABLE:
            assert block.mark in ("file", "run", "not run"), block.where
            assert block.mark != "not run" or len(block.argument) > 5, f"{block.where}: say why"
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_no_machine_and_no_index_is_named(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"/(?:work|tmp)/", text)
    assert not re.search(r"pypi\.org|pythonhosted|registry\.npmjs", text)


def test_the_readme_installs_from_a_checkout() -> None:
    """The line as written, without a network: all that it needs is installed here already."""
    (line,) = re.findall(r"^pip install (\./packages/.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    options = ["--dry-run", "--quiet", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        ["bash", "-c", f'exec "$0" -m pip install {" ".join(options)} {line}', sys.executable],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_plugin_of_the_readme_has_thirty_lines() -> None:
    (plugin,) = (b for b in blocks(ROOT / "README.md") if b.mark == "file" and b.argument == "acme_cms.py")
    assert len([line for line in plugin.text.splitlines() if line.strip()]) <= 30


def test_the_commands_of_the_readme_are_targets_of_make() -> None:
    text = "\n".join(b.text for b in blocks(ROOT / "README.md") if b.language == "sh")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)\b", text, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets
