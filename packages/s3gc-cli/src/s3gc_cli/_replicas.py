"""The commands of ``s3gc vault`` that are about replicas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s3gc_cli._globals import with_globals
from s3gc_cli._settings import Settings
from s3gc_cli._vault import vault


@vault.command(short_help="Bring the replicas up to date.")
@with_globals
def replicate(
    settings: Settings,
    drop_retired: Annotated[
        bool,
        typer.Option("--drop-retired", help="Then remove from them what was pruned or forgotten here."),
    ] = False,
) -> None:
    """Copy what is new in the vault to every replica of the configuration, and read it back."""
    from s3gc_cli._commands import replicas
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: replicas.replicate(session, drop_retired=drop_retired)))


@vault.command(short_help="Show how far the replicas are.")
@with_globals
def replicas(settings: Settings) -> None:
    """Show how far every replica is behind the vault. Changes nothing."""
    from s3gc_cli._commands import replicas
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, replicas.replicas))


@vault.command(short_help="Bring a vault back from a replica alone.")
@with_globals
def fetch(
    settings: Settings,
    url: Annotated[str, typer.Argument(metavar="URL", help="The replica.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)],
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="FILE", help="The keys that it is sealed with: a file, or env:NAME."),
    ] = None,
) -> None:
    """Make a vault anew from a replica alone, and read all of it. Needs no configuration."""
    from s3gc_cli._commands import replicas
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: replicas.fetch(session, url, folder, keys=keys)))


@vault.command("new-key", short_help="Make a key to seal replicas with.")
@with_globals
def new_key(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="ID", help="How it is called.", show_default=False)],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The key file; it is made, or added to.", show_default=False),
    ],
) -> None:
    """Put a new random key first into a key file: what is sealed from now on is sealed with it."""
    from s3gc_cli._commands import replicas
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: replicas.new_key(session, name, file)))
