"""Templates and the words in them: sizes, times, keys that can't fool anybody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined
from markupsafe import Markup

from s3gc_fastapi._values import shown

DASH = "–"


def size(number: Any) -> str:
    """Bytes, with decimal units as object stores bill them."""
    if not isinstance(number, int | float):
        return DASH
    value = float(number)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 999.95 or unit == "TB":
            return f"{int(value):,} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def number(value: Any) -> str:
    """``12,345``; a dash for none."""
    return f"{int(value):,}" if isinstance(value, int | float) else DASH


def ratio(value: Any) -> str:
    """How many times smaller."""
    return f"{value:.2f}" if isinstance(value, int | float) else DASH


def span(seconds: Any) -> str:
    """``0.4 s``, ``3 min``, ``2 h``, ``9 days``."""
    if not isinstance(seconds, int | float):
        return DASH
    for unit, length in (("days", 172_800), ("h", 7_200), ("min", 120)):
        if seconds >= length:
            return f"{seconds / {'days': 86_400, 'h': 3_600, 'min': 60}[unit]:,.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _moment(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found.astimezone(UTC)


def day(value: Any) -> str:
    """A time for people, UTC."""
    return f"{_moment(value):%Y-%m-%d %H:%M} UTC"


def iso(value: Any) -> str:
    """A time for machines."""
    return _moment(value).isoformat(timespec="seconds")


def query(values: Mapping[str, str]) -> Markup:
    """The part of a link after the question mark; Jinja escapes it for the attribute."""
    return Markup("&amp;".join(Markup.escape(urlencode({name: value})) for name, value in values.items()))


def environment() -> Environment:
    """Everything is escaped; what isn't defined is an error, but for numbers, which are a dash then."""
    found = Environment(
        loader=PackageLoader("s3gc_fastapi.ui", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.update(
        size=_or_dash(size),
        number=_or_dash(number),
        ratio=_or_dash(ratio),
        span=_or_dash(span),
        day=day,
        iso=iso,
        key=shown,
        query=query,
    )
    return found


def _or_dash(show: Any) -> Any:
    return lambda value: DASH if isinstance(value, Undefined) else show(value)


WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 240, 104, 36, 18


def chart(runs: list[dict[str, Any]]) -> Markup | None:
    """Bytes reclaimed as bars and orphans as a line, run by run; None when there is too little to see."""
    if len(runs) < 2:
        return None
    reclaimed = [float(run["counts"].get("bytes_deleted", 0)) for run in runs]
    orphans = [float(run["counts"].get("candidates", 0)) for run in runs]
    most_bytes, most_orphans = max(reclaimed) or 1.0, max(orphans) or 1.0
    step = (WIDTH - 2 * LEFT) / len(runs)
    base = HEIGHT - BOTTOM
    high = base - TOP
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - LEFT}" y1="{base}" y2="{base}"/>']
    points = []
    for place, run in enumerate(runs):
        x = LEFT + place * step
        height = reclaimed[place] / most_bytes * high
        y = base - orphans[place] / most_orphans * high
        points.append(f"{x + step / 2:.1f},{y:.1f}")
        told = Markup.escape(
            f"{day(run['started_at'])}: {size(reclaimed[place])} reclaimed, {number(orphans[place])} orphans"
        )
        parts.append(
            f'<rect class="bar" x="{x + step * 0.15:.1f}" y="{base - height:.1f}" width="{step * 0.7:.1f}" '
            f'height="{height:.1f}" rx="2"><title>{told}</title></rect>'
        )
    parts.append(f'<polyline class="line" points="{" ".join(points)}"/>')
    parts += [f'<circle class="dot" r="3" cx="{p.split(",")[0]}" cy="{p.split(",")[1]}"/>' for p in points]
    parts += [
        f'<text x="{LEFT - 8}" y="{TOP + 4}" text-anchor="end">{size(most_bytes)}</text>',
        f'<text x="{LEFT - 8}" y="{base}" text-anchor="end">0</text>',
        f'<text x="{WIDTH - LEFT + 8}" y="{TOP + 4}">{number(most_orphans)}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{day(runs[0]["started_at"])}</text>',
        f'<text x="{WIDTH - LEFT}" y="{HEIGHT - 8}" text-anchor="end">{day(runs[-1]["started_at"])}</text>',
    ]
    label = f"Bytes reclaimed and orphans in the last {len(runs)} runs; the table below has the numbers"
    return Markup(
        '<p class="legend"><span><span class="swatch reclaimed"></span>Reclaimed</span>'
        '<span><span class="swatch orphans"></span>Orphans</span></p>'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )
