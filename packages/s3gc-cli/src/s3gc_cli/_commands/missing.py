"""``s3gc missing``: row by row, as they are found."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing

from rich.text import Text

from s3gc.missing import Missing
from s3gc.reading import likely
from s3gc_cli import _documents
from s3gc_cli._errors import DONE
from s3gc_cli._keys import show_key, show_text
from s3gc_cli._render.plan import show_missing
from s3gc_cli._run import Session
from s3gc_cli._text import count

READINGS = 3
"""Keys shown of what one value could mean."""


async def missing(session: Session) -> int:
    """Tell each mention of an object that doesn't exist, then how many each column has."""
    config, _ = session.config()
    output = session.output
    output.lines = True
    columns: Counter[str] = Counter()
    async with session.collector(config) as gc, aclosing(gc.missing()) as found:  # type: ignore[type-var]
        if session.watcher is not None:
            session.watcher.display.stage("listing the bucket")
        async for one in found:
            if not columns and session.watcher is not None:
                session.watcher.display.stop()  # a moving line would be torn apart by what follows
            columns[f"{one.source}:{one.table}.{one.column}"] += 1
            if output.settings.json:
                output.line(_documents.missing(one))
            elif output.for_people:
                output.out.print(_sentence(one), soft_wrap=True)
    total = columns.total()
    line = f"{count(total, 'mention')} of objects that don't exist"
    if output.settings.json:
        output.line({"total": total, "columns": dict(sorted(columns.items()))})
        return DONE
    session.answer({}, line, lambda console: console.print(line))
    if output.for_people and total:
        show_missing(output.out, columns, listed=True)
    return DONE


def _sentence(one: Missing) -> Text:
    """Where it stands and what it could mean; the shortest reading first, which mostly was meant."""
    said = Text(show_text(f"{one.source}: {one.table}.{one.column} of row {one.row_id} names "))
    readings = sorted(one.keys, key=likely)
    for number, key in enumerate(readings[:READINGS]):
        said.append(" or " if number else "", style="dim").append(show_key(key), style="yellow")
    if len(readings) > READINGS:
        said.append(f" or {len(readings) - READINGS:,} more", style="dim")
    return said
