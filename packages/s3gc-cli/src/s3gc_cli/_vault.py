"""The commands below ``s3gc vault``."""

from __future__ import annotations

from typing import Annotated

import typer

from s3gc_cli._globals import with_globals
from s3gc_cli._settings import Settings

vault = typer.Typer(no_args_is_help=True)


@vault.callback()
@with_globals
def vault_options(settings: Settings) -> None:
    """Look into the vault, check it, mend it, keep it small."""


@vault.command(short_help="Make a lost journal anew from the packs.")
@with_globals
def rebuild(
    settings: Settings,
    set_aside: Annotated[
        bool,
        typer.Option("--set-aside", help="Though there is a journal; it is kept beside the new one."),
    ] = False,
) -> None:
    """Make a lost journal anew from the packs alone. Asks neither the bucket nor a database."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: vault.rebuild(session, set_aside=set_aside)))
