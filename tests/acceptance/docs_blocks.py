"""The fenced blocks of a Markdown page, each with the mark that says what a test does with it.

A mark is an HTML comment on the line before the fence, so that readers don't see it:

    <!-- file: NAME -->         the block is the file NAME
    <!-- run -->                run it: python as a script, sh by bash; it must end with 0
    <!-- run: exit 3 -->        as run, with another exit code
    <!-- run: in gc -->         python inside ``async with Collector.open(...) as gc``
    <!-- output -->             lines that the run before printed, in order; ``…`` is anything
    <!-- not run: WHY -->       only read
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
EXECUTABLE = frozenset({"python", "sh", "toml"})

_FENCE = re.compile(r"(`{3,})(\w*)\s*")
_MARK = re.compile(r"<!-- (file|run|output|not run)(?:: (.*?))? -->")


@frozen
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    mark: str  # '' when there is none
    argument: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README and everything below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The page's blocks from top to bottom."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    before = ""
    for number, line in lines:
        fence = _FENCE.fullmatch(line)
        if fence is None:
            before = line
            continue
        body: list[str] = []
        for _, inner in lines:
            if inner.rstrip() == fence[1]:
                break
            body.append(inner)
        else:
            raise AssertionError(f"{page}:{number}: the block has no end")
        mark = _MARK.fullmatch(before)
        yield Block(
            page,
            number,
            fence[2],
            mark[1] if mark else "",
            (mark[2] or "") if mark else "",
            "\n".join(body) + "\n",
        )
        before = ""


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    kept: list[str] = []
    fence = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        opening = _FENCE.fullmatch(line)
        if fence:
            if line.rstrip() == fence:
                fence = ""
        elif opening is not None:
            fence = opening[1]
        else:
            kept.append(line)
    return "\n".join(kept)
