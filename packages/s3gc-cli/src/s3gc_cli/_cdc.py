"""The commands below ``s3gc cdc``."""

from __future__ import annotations

import typer

from s3gc_cli._globals import with_globals
from s3gc_cli._settings import Settings

cdc = typer.Typer(no_args_is_help=True)


@cdc.callback()
@with_globals
def cdc_options(settings: Settings) -> None:
    """Look at change capture, set it up, follow changes, take it down."""


@cdc.command(short_help="Say what keeps changes from being followed.")
@with_globals
def check(settings: Settings) -> None:
    """Look at the database's settings, this user's rights and every table, and say what to run."""
    from s3gc_cli._commands import cdc
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, cdc.check))


@cdc.command(short_help="Make what is missing: publication and slot.")
@with_globals
def setup(settings: Settings) -> None:
    """Make what change capture needs in the database, as the first cycle would: a publication and a slot.

    MariaDB and MySQL need nothing made; that their log can be read is proven.
    """
    from s3gc_cli._commands import cdc
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, cdc.setup))


@cdc.command(short_help="Keep the registry at the changes, until it is stopped.")
@with_globals
def follow(settings: Settings) -> None:
    """Keep the registry at the database's changes between cycles, until it is stopped (Ctrl-C, SIGTERM).

    It gives way to every cycle of every process, and deletes nothing. Ends with 0 when it is stopped.
    """
    from s3gc_cli._commands import follow
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, follow.follow))


@cdc.command(short_help="Remove what is kept: slot and publication.")
@with_globals
def teardown(settings: Settings) -> None:
    """Remove all that change capture keeps in the database. A later cycle reads all anew, and holds."""
    from s3gc_cli._commands import cdc
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, cdc.teardown))
