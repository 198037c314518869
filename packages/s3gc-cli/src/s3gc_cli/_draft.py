"""A first ``s3gc.toml``, with the evidence for each line of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from s3gc.config import redact
from s3gc.discovery import Lead
from s3gc.surroundings import Rule
from s3gc_cli._keys import show_key

_BARE = re.compile(r"[A-Za-z0-9_-]+").fullmatch
FEW = 0.5
"""The default of ``min_resolve_rate``: a column with a smaller share will ask for an acknowledgement."""


def draft(
    bucket: str,
    database_url: str,
    leads: Sequence[Lead],
    *,
    settings: Mapping[str, str] | None = None,
    rules: Sequence[Rule] = (),
) -> str:
    """The file's text.

    Args:
        settings: further options, each with its value.
        rules: by which objects seem to be derived.
    """
    lines = [
        "# Made by `s3gc init` from a look at database and bucket. It deletes nothing: mode is dry_run",
        "# until you change it. Go through [tables]: every column that can hold a key must be there.",
        "",
        f"bucket = {_text(bucket, 'S3_BUCKET')}",
        f"database_url = {_text(database_url, 'DATABASE_URL')}",
        *(f"{name} = {_quoted(value)}" for name, value in (settings or {}).items()),
    ]
    bases = Counter[str]()
    for lead in leads:
        bases.update(lead.below)
    if bases:
        lines += ["", "# Values hold keys below these paths:"]
        lines.append(f"base_urls = [{', '.join(_quoted('/' + base) for base in sorted(bases))}]")
    above = Counter[str]()
    for lead in leads:
        above.update(lead.above)
    if above:
        told = ", ".join(f"{count} below {show_key(folder)}" for folder, count in sorted(above.items()))
        lines += ["", f"# Values leave out where the application's files lie; tried, and there: {told}."]
        lines.append(f"key_prefixes = [{', '.join(map(_quoted, sorted(above)))}]")
    lines += ["", "[tables]"]
    tables: dict[str, list[Lead]] = {}
    for lead in leads:
        if lead.names_objects:
            tables.setdefault(lead.table, []).append(lead)
    for table, some in tables.items():
        lines += [_evidence(lead) for lead in some]
        name = table if _BARE(table) else _quoted(table)
        lines.append(f"{name} = [{', '.join(_quoted(lead.column) for lead in some)}]")
    lines += _folders([lead for lead in leads if lead.names_folders])
    if rules:
        lines += [
            "",
            "# Objects that seem to live with another one. A rule too many only keeps too much.",
            "[derived]",
        ]
        for rule in rules:
            lines.append(f"# {rule.found} of {rule.tried} have it, such as {show_key(rule.example)}")
            lines.append(f"{_quoted(rule.form)} = {_quoted(rule.parent)}")
    others = [lead for lead in leads if not lead.names_objects and lead.unknown]
    if others:
        lines += ["", "# Not taken: they look like keys, and no value that was tried names an object here."]
        lines += [f"#   {lead.table}.{lead.column}: such as {show_key(lead.unknown[0])}" for lead in others]
    return "\n".join(lines) + "\n"


def _folders(leads: Sequence[Lead]) -> list[str]:
    if not leads:
        return []
    lines = ["", "# Columns whose values name folders: everything below them is referenced.", "[folders]"]
    tables: dict[str, list[Lead]] = {}
    for lead in leads:
        tables.setdefault(lead.table, []).append(lead)
    for table, some in tables.items():
        lines += [
            f"# {show_key(lead.column)}: {lead.folders} of {lead.tried} values are folders with objects"
            for lead in some
        ]
        name = table if _BARE(table) else _quoted(table)
        lines.append(f"{name} = [{', '.join(_quoted(lead.column) for lead in some)}]")
    return lines


def secret(url: str) -> bool:
    """Whether a URL must not stand in a file."""
    return "://" in url and redact(url) != url


def _text(value: str, variable: str) -> str:
    return f'"${{{variable}}}"' if secret(value) else _quoted(value.replace("${", "%24%7B"))


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _evidence(lead: Lead) -> str:
    told = f"# {show_key(lead.column)}: {lead.found} of {lead.tried} values name an object"
    if lead.examples:
        told += f", such as {show_key(lead.examples[0])}"
    if lead.above:
        told += f"; more relative to {', '.join(show_key(folder) for folder in lead.above)}"
    elif lead.names_folders:
        told += f"; {lead.folders} name folders"
    elif lead.below:
        told += f"; more below {', '.join(show_key(base) for base in lead.below)}"
    elif lead.found < FEW * lead.tried:
        told += "; so few that the first plan will ask you about it (resolve_rate)"
    return told
