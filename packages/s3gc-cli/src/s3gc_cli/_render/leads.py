"""Columns that name objects, with the evidence."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from s3gc.discovery import Lead
from s3gc_cli._keys import show_key, show_text
from s3gc_cli._render.plan import table
from s3gc_cli._text import count


def show_leads(console: Console, leads: Sequence[Lead]) -> None:
    """Those that name objects, then those that look like keys and name none."""
    naming = [lead for lead in leads if lead.names_objects]
    if naming:
        rows = table("column", "type", "values that name an object", "such as")
        for lead in naming:
            rows.add_row(_name(lead), show_text(lead.type), f"{lead.found} of {lead.tried}", _examples(lead))
        console.print(rows)
    others = [lead for lead in leads if not lead.names_objects and lead.unknown]
    if others:
        console.print()
        rows = table("names no object here, but has dots or slashes", "type", "tried", "such as")
        for lead in others:
            tried = str(lead.tried)
            example = Text(show_key(lead.unknown[0]), style="dim")
            rows.add_row(_name(lead), show_text(lead.type), tried, example)
        console.print(rows)


def in_one_line(leads: Sequence[Lead]) -> str:
    """How many columns were looked at, and how many name objects."""
    if not leads:
        return "every column with values is tracked"
    naming = sum(lead.names_objects for lead in leads)
    return f"{count(len(leads), 'untracked column')} with values, {naming} of them with objects of the bucket"


def _name(lead: Lead) -> str:
    return show_text(f"{lead.table}.{lead.column}")


def _examples(lead: Lead) -> Text:
    if lead.examples:
        return Text(show_key(lead.examples[0]), style="yellow")
    if lead.below:
        bases = ", ".join(show_key(base) for base in lead.below)
        return Text(f"below {bases} (base_urls)", style="yellow")
    if lead.above:
        folders = ", ".join(show_key(folder) for folder in lead.above)
        return Text(f"relative to {folders} (key_prefixes)", style="yellow")
    return Text(f"{lead.folders:,} are folders with objects (folders)", style="yellow")
