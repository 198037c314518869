"""``s3gc init``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from attrs import fields, frozen
from rich.console import Console
from rich.text import Text

from s3gc.config import Config, create_config_from_env, load_config
from s3gc.discovery import Lead, look_through
from s3gc.surroundings import Rule, Surroundings
from s3gc_cli import _documents, _draft
from s3gc_cli._errors import DONE, UsageProblem
from s3gc_cli._keys import show_text
from s3gc_cli._out import check_new, write_out
from s3gc_cli._render.leads import show_leads
from s3gc_cli._run import Session
from s3gc_cli._text import count

_ENVIRONMENT = ("S3_BUCKET", "AWS_REGION", "S3GC_ENDPOINT_URL", "S3GC_S3")


@frozen
class Wanted:
    """What the command line says of bucket and database; the environment says the rest."""

    bucket: str | None
    database_url: str | None
    endpoint_url: str | None
    region: str | None


async def init(session: Session, wanted: Wanted, *, out: Path, force: bool) -> int:
    """Look at both, propose what to track, and write the file."""
    check_new(out, force=force)
    database_url = wanted.database_url or os.environ.get("DATABASE_URL", "").strip()
    if not database_url:
        raise UsageProblem("which database? give --database-url, or set DATABASE_URL")
    config = _config(wanted, database_url)
    session.output.secrets.of(config)
    display = session.watch().display
    display.stage("looking through the database")
    leads: list[Lead] = []
    rules: Sequence[Rule] = ()
    try:
        async with aclosing(look_through(config, database_url)) as found:  # type: ignore[type-var]
            async for one in found:
                if isinstance(one, Surroundings):
                    rules = one.rules
                    continue
                leads.append(one)
                display.stage(f"after {one.table}.{one.column}")
    finally:
        display.stop()
    settings = {} if config.endpoint_url is None else {"endpoint_url": config.endpoint_url}
    if config.region != fields(Config).region.default:
        settings["region"] = config.region
    text = _draft.draft(config.bucket, database_url, leads, settings=settings, rules=rules)
    write_out(out, lambda part: part.write_text(text, encoding="utf-8"))
    load_config(out, bucket=config.bucket, database_url=database_url)  # what was written can be read
    tracked = sum(lead.names_objects for lead in leads)
    line = f"{out}: {count(tracked, 'column')} of {len(leads)} with values name objects of the bucket"
    document: dict[str, Any] = {
        "path": str(Path.cwd() / out),
        "columns": [_documents.lead(lead) for lead in leads],
    }
    document["derived"] = [_documents.value(rule) for rule in rules]

    def show(console: Console) -> None:
        show_leads(console, leads)
        if leads:
            console.print()
        for rule in rules:
            told = f"{rule.form} seems to live with {rule.parent}: {rule.found} of {rule.tried} have it"
            console.print(Text(show_text(told)), soft_wrap=True)
        console.print(Text(line), soft_wrap=True)
        for step in _next(config, database_url, tracked, out):
            console.print(Text(step, style="dim"), soft_wrap=True)

    session.answer(session.output.secrets.scrub_all(document), line, show)
    return DONE


def _config(wanted: Wanted, database_url: str) -> Config:
    """Which bucket; with the database's URL, so that its password is known and hidden."""
    given = {name: value for name in ("bucket", "endpoint_url", "region") if (value := getattr(wanted, name))}
    if not given.get("bucket") and not os.environ.get("S3_BUCKET", "").strip():
        raise UsageProblem("which bucket? give --bucket, or set S3_BUCKET")
    # Of the environment only what says where the bucket is.
    environ = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    options = {**given, "database_url": database_url, "tables": {"nothing": ["yet"]}}
    return create_config_from_env(environ=environ, **options)


def _next(config: Config, database_url: str, tracked: int, out: Path) -> list[str]:
    steps = []
    if _draft.secret(config.bucket):
        steps.append("it reads the bucket's URL from S3_BUCKET: set that")
    if _draft.secret(database_url):
        steps.append("it reads the database's URL from DATABASE_URL, for that holds a password: set it")
    if not tracked:
        steps.append("no column names an object: is it the right bucket, and the right database?")
    file = "" if out == Path("s3gc.toml") else f" --config {out}"
    return [*steps, f"next: read it, then `s3gc doctor{file}`, then `s3gc plan{file}`"]
