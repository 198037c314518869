"""The commands below ``s3gc claims``."""

from __future__ import annotations

from typing import Annotated

import typer

from s3gc_cli._globals import with_globals
from s3gc_cli._settings import Settings

claims = typer.Typer(no_args_is_help=True)


@claims.callback()
@with_globals
def claims_options(settings: Settings) -> None:
    """Look at the claims of applications, and end one that was left behind."""


@claims.command("list", short_help="List the claims that still run.")
@with_globals
def list_(
    settings: Settings,
    prefix: Annotated[str, typer.Option("--prefix", help="Only on keys that begin so.")] = "",
) -> None:
    """List the claims that still run, by key, with their ends."""
    from s3gc_cli._commands import claims
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: claims.list_(session, prefix=prefix)))


@claims.command(short_help="End the claims on a key, with a reason.")
@with_globals
def release(
    settings: Settings,
    reason: Annotated[str, typer.Option("--reason", help="Why. Stands in the journal for ever.")],
    key: Annotated[str | None, typer.Argument(metavar="KEY", show_default=False)] = None,
    key_json: Annotated[
        str | None,
        typer.Option(
            "--key-json", metavar="JSON", help="The key as a JSON string, for keys that can't be typed."
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Only this claim, as `s3gc claims list` names it."),
    ] = None,
) -> None:
    """End the claims on a key before their time. From then on only rows protect the object."""
    from s3gc_cli._commands import claims
    from s3gc_cli._run import run

    raise typer.Exit(
        run(
            settings,
            lambda session: claims.release(session, key=key, key_json=key_json, id=id, reason=reason),
        )
    )
