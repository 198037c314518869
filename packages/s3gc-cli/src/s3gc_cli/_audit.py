"""The commands below ``s3gc audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s3gc_cli._globals import with_globals
from s3gc_cli._settings import Settings

audit = typer.Typer(no_args_is_help=True)


@audit.callback()
@with_globals
def audit_options(settings: Settings) -> None:
    """Check the journal and the back-ups; sign and export the journal."""


@audit.command()
@with_globals
def verify(
    settings: Settings,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="Hold the journal against this checkpoint."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", metavar="FILE", help="The key that checkpoints are checked with."),
    ] = None,
) -> None:
    """Check every link of the journal's chain, and read and decode every back-up."""
    from s3gc_cli._commands import audit
    from s3gc_cli._run import run

    raise typer.Exit(
        run(settings, lambda session: audit.verify(session, checkpoint=checkpoint, public_key=public_key))
    )


@audit.command(short_help="Sign the journal's end.")
@with_globals
def checkpoint(
    settings: Settings,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Your Ed25519 key, in PEM.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Also add the checkpoint to this file."),
    ] = None,
) -> None:
    """Sign the journal's end with a key of yours, and print the checkpoint: keep it in another place."""
    from s3gc_cli._commands import audit
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: audit.checkpoint(session, key=key, out=out)))


@audit.command(short_help="Write the journal as JSON Lines or CSV.")
@with_globals
def export(
    settings: Settings,
    form: Annotated[str, typer.Option("--format", metavar="FORM", help="jsonl or csv.")] = "jsonl",
    key: Annotated[str | None, typer.Option("--key", help="Entries of this object.")] = None,
    key_json: Annotated[
        str | None,
        typer.Option("--key-json", metavar="JSON", help="The key as a JSON string."),
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Of all keys that begin so.")] = None,
    operation: Annotated[
        str | None, typer.Option("--operation", metavar="ID", help="Of this operation.")
    ] = None,
    event: Annotated[
        list[str] | None, typer.Option("--event", help="Of this kind; may be given again.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="ISO8601", help="Written then or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="ISO8601", help="Written before then.")
    ] = None,
) -> None:
    """Write the journal's entries to stdout, oldest first. All filters that are given must match."""
    from s3gc_cli._commands import audit
    from s3gc_cli._run import run

    chosen = audit.Choice(key, key_json, prefix, operation, tuple(event or ()), since, until)
    raise typer.Exit(run(settings, lambda session: audit.export(session, chosen, form=form)))
