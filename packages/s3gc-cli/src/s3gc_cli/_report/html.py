"""The page. Everything that comes from outside is escaped; there is no script in it and it loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from attrs import field, frozen

from s3gc_cli._keys import show_key, show_text
from s3gc_cli._render.plan import REASONS
from s3gc_cli._report import svg
from s3gc_cli._report.gather import Gathered, Item
from s3gc_cli._text import count, size

_FOLDERS = 40
"""Folders of the treemap and its table; the rest is one."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@frozen
class Page:
    """What a report says besides the objects."""

    heading: str
    bucket: str
    facts: Sequence[tuple[str, str]]
    """Name and value, in their order."""
    warnings: Sequence[str]
    verb: str
    """``would be deleted`` or ``deleted``."""
    kept: Mapping[str, int] = field(factory=dict)
    examples: Mapping[str, Sequence[tuple[str, str]]] = field(factory=dict)
    """Reason code → some (key, why)."""
    missing: Mapping[str, int] = field(factory=dict)


def page(told: Page, found: Gathered) -> str:
    """The whole file."""
    sections = [
        _facts(told, found),
        _warnings(told.warnings),
        _folders(told, found),
        _histograms(found),
        _items("Some of them, by chance", found.samples, told.verb),
        _items("The largest", found.largest, told.verb),
        _kept(told),
        _missing(told.missing),
    ]
    return whole(told.heading, told.bucket, sections)


def whole(heading: str, bucket: str, sections: Iterable[str]) -> str:
    """A page around sections that are HTML already; empty ones are left out."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(heading)}</title>\n<style>{_STYLE}</style></head>\n<body><main>\n"
        f"<h1>{escape(heading)}</h1>\n<p class=where>{escape(show_text(bucket))}</p>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main></body></html>\n"
    )


def _facts(told: Page, found: Gathered) -> str:
    big = f"{count(found.objects, 'object')} {told.verb}, {size(found.bytes)}"
    return f"<p class=total>{escape(big)}</p>\n{definitions(told.facts)}"


def definitions(facts: Iterable[tuple[str, str]]) -> str:
    """Names and values, one below the other."""
    rows = "".join(
        f"<dt>{escape(show_text(name))}</dt><dd>{escape(show_text(value))}</dd>" for name, value in facts
    )
    return f"<dl>{rows}</dl>"


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return "<p class=well>No breaker tripped, and nothing went wrong.</p>"
    lines = "".join(f"<li>{escape(show_text(line))}</li>" for line in warnings)
    return f'<section class=warn role="alert"><h2>To look at first</h2><ul>{lines}</ul></section>'


def _folders(told: Page, found: Gathered) -> str:
    if not found.objects:
        return ""
    ranked = sorted(found.folders.items(), key=lambda one: (-one[1].bytes, -one[1].objects, one[0]))
    shown, rest = ranked[:_FOLDERS], ranked[_FOLDERS:]
    lines = [(_folder(name), one.objects, one.bytes) for name, one in shown]
    if rest:
        objects, amount = sum(one.objects for _, one in rest), sum(one.bytes for _, one in rest)
        lines.append((f"{len(rest):,} further folders", objects, amount))
    # Empty objects alone have no area: then the number of objects counts.
    by_bytes = any(amount for _, _, amount in lines)
    parts = [
        (name, float(amount if by_bytes else objects), f"{name}: {count(objects, 'object')}, {size(amount)}")
        for name, objects, amount in lines
    ]
    picture = svg.treemap(sorted(parts, key=lambda part: -part[1]), title=f"What is {told.verb}, by folder")
    table = rows_of(
        ("folder", "objects", "size"),
        ((name, f"{objects:,}", size(amount)) for name, objects, amount in lines),
    )
    return f"<h2>Where they lie</h2>\n{picture}\n<details><summary>As a table</summary>{table}</details>"


def _folder(name: str) -> str:
    return show_key(name) if name else "(no folder)"


def _histograms(found: Gathered) -> str:
    if not found.objects:
        return ""
    pictures = [
        ("Uploaded", svg.bars(found.bars(found.ages), title="Time since the upload")),
        ("Size", svg.bars(found.size_bars(), title="Size of the objects")),
    ]
    if found.waits:
        pictures.insert(1, ("Unreferenced for", svg.bars(found.bars(found.waits), title="Time unreferenced")))
    figures = "".join(f"<figure><figcaption>{name}</figcaption>{one}</figure>" for name, one in pictures)
    return f"<h2>How old, how large</h2>\n<div class=row>{figures}</div>"


def _items(heading: str, items: Sequence[Item], verb: str) -> str:
    if not items:
        return ""
    rows = (
        (show_key(item.key), size(item.size), _time(item.modified), _time(item.since), show_text(item.reason))
        for item in items
    )
    table = rows_of((verb, "size", "uploaded", "unreferenced since (UTC)", "because"), rows)
    return f"<h2>{escape(heading)}</h2>\n{table}"


def _kept(told: Page) -> str:
    if not told.kept:
        return ""
    rows = []
    for code, number in sorted(told.kept.items(), key=lambda one: -one[1]):
        some = "; ".join(f"{show_key(key)}: {show_text(why)}" for key, why in told.examples.get(code, ())[:2])
        rows.append((code, f"{number:,}", REASONS.get(code, "a gate of a plugin"), some))
    return f"<h2>What stays, and why</h2>\n{rows_of(('reason', 'objects', 'which means', 'such as'), rows)}"


def _missing(missing: Mapping[str, int]) -> str:
    if not missing:
        return ""
    rows = ((column, f"{number:,}") for column, number in sorted(missing.items(), key=lambda one: -one[1]))
    return f"<h2>Rows that name objects which don't exist</h2>\n{rows_of(('column', 'mentions'), rows)}"


def rows_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts."""
    top = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(show_text(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f"<div class=wide tabindex=0><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


# Six hues that stay apart for colour-blind readers (Okabe and Ito, 2008), pale enough for black text.
_STYLE = """
:root{color-scheme:light dark;--ink:#1a1a1a;--dim:#5c5c5c;--paper:#fff;--line:#d9d9d9;--bar:#0072b2}
@media (prefers-color-scheme:dark){
:root{--ink:#ececec;--dim:#a8a8a8;--paper:#161616;--line:#3a3a3a;--bar:#56b4e9}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1rem 4rem}
h1{margin:0;font-size:1.6rem}h2{margin:2.5rem 0 .75rem;font-size:1.15rem}
.where,dt,figcaption,summary{color:var(--dim)}.where{margin:0;overflow-wrap:anywhere}
.total{font-size:1.35rem;font-weight:600;margin:1.5rem 0 .5rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.25rem;margin:0}
dd{margin:0;overflow-wrap:anywhere}
.warn{border-left:4px solid #d55e00;padding:.25rem 1rem;margin-top:1.5rem}.warn h2{margin:.5rem 0}
.well{color:var(--dim)}
svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
.treemap rect{stroke:var(--paper);stroke-width:2}.treemap text{fill:#1a1a1a}
.c0 rect{fill:#9ecae9}.c1 rect{fill:#f3c57f}.c2 rect{fill:#8fd3bd}
.c3 rect{fill:#f0e58a}.c4 rect{fill:#e6b3cd}.c5 rect{fill:#f0a37e}
.left path{fill:none;stroke:var(--bar);stroke-width:2}.left line{stroke:var(--line)}
.left .mark{stroke:#d55e00;stroke-width:2;stroke-dasharray:5 4}.left .name{text-anchor:middle;fill:var(--dim)}
.bars rect{fill:var(--bar)}.bars .name{text-anchor:end;fill:var(--dim)}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:1.5rem}figure{margin:0}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line)}
td:first-child{overflow-wrap:anywhere;min-width:12rem}td:nth-child(2){white-space:nowrap}
@media print{details>*{display:block}}
"""
