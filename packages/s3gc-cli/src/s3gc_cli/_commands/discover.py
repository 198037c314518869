"""``s3gc discover``."""

from __future__ import annotations

from contextlib import aclosing

from rich.console import Console

from s3gc.discovery import Lead
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD
from s3gc_cli._render.leads import in_one_line, show_leads
from s3gc_cli._run import Session


async def discover(session: Session) -> int:
    """Look through what isn't tracked; 3 when a column names objects of the bucket."""
    config, _ = session.config()
    leads: list[Lead] = []
    async with session.collector(config) as gc, aclosing(gc.discover()) as found:  # type: ignore[type-var]
        display = session.watch().display
        display.stage("looking through the columns that aren't tracked")
        async for lead in found:
            leads.append(lead)
            display.stage(f"after {lead.table}.{lead.column}")
    naming = any(lead.names_objects for lead in leads)

    def show(console: Console) -> None:
        show_leads(console, leads)
        if leads:
            console.print()
        console.print(in_one_line(leads), soft_wrap=True)
        if naming:
            console.print("add each to [tables], or waive it: s3gc acknowledge untracked_column …")

    document = {"columns": [_documents.lead(lead) for lead in leads]}
    session.answer(session.output.secrets.scrub_all(document), in_one_line(leads), show)
    return HELD if naming else DONE
