"""Puts what was measured into docs/benchmarks.md."""

from __future__ import annotations

from benchmarks.measure import ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"


def put(name: str, text: str) -> None:
    """Write ``text``, whole lines, where the page has the place ``name``.

    Raises:
        ValueError: it has none.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, begun, rest = DOCUMENT.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"{DOCUMENT.name} lacks the lines {begin} and {end}: put them where the tables go")
    DOCUMENT.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")
