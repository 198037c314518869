"""Pictures as SVG, without a script and without a font of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from attrs import frozen


@frozen
class Rect:
    """A rectangle, in the units of its picture."""

    x: float
    y: float
    width: float
    height: float


def squarified(areas: Sequence[float], inside: Rect) -> list[Rect]:
    """Rectangles of these areas (positive, largest first), as square as can be, that fill ``inside``.

    Bruls, Huizing, van Wijk: Squarified Treemaps (2000).
    """
    total = sum(areas)
    if total <= 0:
        return []
    scale = inside.width * inside.height / total
    left = [area * scale for area in areas]
    made: list[Rect] = []
    free = inside
    while left:
        side = min(free.width, free.height)
        count = 1
        while count < len(left) and _worst(left[: count + 1], side) <= _worst(left[:count], side):
            count += 1
        row, left = left[:count], left[count:]
        free = _lay(row, free, made)
    return made


def _worst(row: Sequence[float], side: float) -> float:
    """The largest ratio of sides in a row."""
    if side <= 0:
        return float("inf")
    total = sum(row)
    return max(max(side * side * area / total**2, total**2 / (side * side * area)) for area in row)


def _lay(row: Sequence[float], free: Rect, made: list[Rect]) -> Rect:
    """Add a row along the shorter side. Returns what is free after it."""
    total = sum(row)
    if free.width >= free.height:
        thick = total / free.height if free.height else 0.0
        at = free.y
        for area in row:
            long = area / thick if thick else 0.0
            made.append(Rect(free.x, at, thick, long))
            at += long
        return Rect(free.x + thick, free.y, max(0.0, free.width - thick), free.height)
    thick = total / free.width if free.width else 0.0
    at = free.x
    for area in row:
        long = area / thick if thick else 0.0
        made.append(Rect(at, free.y, long, thick))
        at += long
    return Rect(free.x, free.y + thick, free.width, max(0.0, free.height - thick))


def treemap(parts: Sequence[tuple[str, float, str]], *, title: str) -> str:
    """A treemap of (label, area, what a pointer is told), largest first."""
    width, height = 960.0, 420.0
    shown = [part for part in parts if part[1] > 0]
    rects = squarified([area for _, area, _ in shown], Rect(0, 0, width, height))
    cells = []
    for number, ((label, _, told), rect) in enumerate(zip(shown, rects, strict=True)):
        letters = int((rect.width - 10) / 7)
        text = ""
        if rect.height >= 18 and letters >= 3:
            cut = label if len(label) <= letters else label[: letters - 1] + "…"
            text = f'<text x="{rect.x + 5:.1f}" y="{rect.y + 14:.1f}">{escape(cut)}</text>'
        cells.append(
            f'<g class="c{number % 6}"><rect x="{rect.x:.1f}" y="{rect.y:.1f}" width="{rect.width:.1f}" '
            f'height="{rect.height:.1f}"/>{text}<title>{escape(told)}</title></g>'
        )
    return _picture("treemap", width, height, title, "".join(cells))


def bars(counted: Sequence[tuple[str, int]], *, title: str) -> str:
    """Horizontal bars, a line each."""
    line, label, width = 24.0, 150.0, 460.0
    height = line * len(counted)
    most = max((number for _, number in counted), default=0) or 1
    rows = []
    for at, (name, number) in enumerate(counted):
        y = at * line
        long = (width - label - 80) * number / most
        rows.append(
            f'<text class="name" x="{label - 8:.1f}" y="{y + 16:.1f}">{escape(name)}</text>'
            f'<rect x="{label:.1f}" y="{y + 4:.1f}" width="{max(long, 1.0 if number else 0.0):.1f}" '
            f'height="{line - 8:.1f}"/>'
            f'<text x="{label + long + 6:.1f}" y="{y + 16:.1f}">{number:,}</text>'
        )
    return _picture("bars", width, height, title, "".join(rows))


def left_over(values: Sequence[float], marks: Sequence[tuple[str, float]], *, title: str) -> str:
    """A falling staircase: how many values are larger than x. ``marks`` are lines across it.

    The axis is stretched near 0 (by the square root), where most values are.
    """
    width, height, left, bottom, top = 960.0, 280.0, 44.0, 28.0, 40.0
    most = max([*values, *(at for _, at in marks), 1.0]) * 1.05
    tall = height - bottom - top

    def across(value: float) -> float:
        return left + (width - left - 16) * math.sqrt(max(value, 0.0) / most)

    def up(number: int) -> float:
        return top + tall * (1 - number / (len(values) or 1))

    path = [f"M{left:.1f} {up(len(values)):.1f}"]
    ordered = sorted(values)
    for at, value in enumerate(ordered):
        if at + 1 == len(ordered) or across(ordered[at + 1]) - across(value) >= 0.5:
            path.append(f"H{across(value):.1f}V{up(len(values) - at - 1):.1f}")
    path.append(f"H{width - 16:.1f}")
    steps = [days for days in (0, 1, 3, 7, 14, 30, 60, 90, 180, 365, 730) if days <= most]
    axis = "".join(
        f'<line x1="{across(days):.1f}" x2="{across(days):.1f}" y1="{top:.1f}" y2="{top + tall:.1f}"/>'
        f'<text class="name" x="{across(days):.1f}" y="{height - 8:.1f}">{days}</text>'
        for days in steps
    )
    lines = "".join(
        f'<line class="mark" x1="{across(at):.1f}" x2="{across(at):.1f}" y1="{top - 20 + 16 * row:.1f}"'
        f' y2="{top + tall:.1f}"/>'
        f'<text x="{across(at) + 6:.1f}" y="{top - 24 + 16 * row:.1f}">{escape(name)}</text>'
        for row, (name, at) in enumerate(marks)
    )
    numbers = (
        f'<text x="4" y="{up(len(values)) + 4:.1f}">{len(values):,}</text>'
        f'<text x="4" y="{up(0) + 4:.1f}">0</text>'
    )
    return _picture("left", width, height, title, f'{axis}{numbers}<path d="{" ".join(path)}"/>{lines}')


def _picture(kind: str, width: float, height: float, title: str, inner: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{inner}</svg>"
    )
