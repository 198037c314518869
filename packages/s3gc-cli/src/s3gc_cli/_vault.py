"""The commands below ``s3gc vault``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s3gc_cli._globals import with_globals
from s3gc_cli._settings import Settings

vault = typer.Typer(no_args_is_help=True)

Key = Annotated[str | None, typer.Option("--key", help="This object.")]
KeyJson = Annotated[
    str | None,
    typer.Option(
        "--key-json", metavar="JSON", help="The key as a JSON string, for keys that can't be typed."
    ),
]
Prefix = Annotated[str | None, typer.Option("--prefix", help="All keys that begin so.")]
Operation = Annotated[
    str | None, typer.Option("--operation", metavar="ID", help="What this operation backed up.")
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="ISO8601", help="Versions uploaded by then, e.g. 2026-11-22T18:00:00Z."),
]


@vault.callback()
@with_globals
def vault_options(settings: Settings) -> None:
    """Look into the vault, check it, mend it, keep it small."""


@vault.command(short_help="Read and decode the backups, all or a share.")
@with_globals
def verify(
    settings: Settings,
    share: Annotated[
        str | None,
        typer.Option("--share", metavar="1/N", help="The next of N shares; after N runs all were read."),
    ] = None,
) -> None:
    """Read and decode the backups, all or a share of them, and note the result in the journal."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: vault.verify(session, share=share)))


@vault.command(short_help="Restore some backups by way of trial.")
@with_globals
def drill(
    settings: Settings,
    objects: Annotated[int, typer.Option("--objects", min=1, help="How many.")] = 10,
) -> None:
    """Restore some backups, chosen by chance, below .s3gc/drill/; compare them; remove them again."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: vault.drill(session, objects=objects)))


Execute = Annotated[bool, typer.Option("--execute/--dry-run", help="Remove them, or only say what would go.")]


@vault.command(short_help="Remove backups whose time is over.")
@with_globals
def prune(settings: Settings, execute: Execute = False) -> None:
    """Remove backups older than their retention whose object went before, too. Dry-run by default."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: vault.prune(session, execute=execute)))


@vault.command(short_help="Erase every backup of one object for ever.")
@with_globals
def forget(
    settings: Settings,
    reason: Annotated[str, typer.Option("--reason", help="Why. Stands in the journal for ever.")],
    key: Annotated[str | None, typer.Argument(metavar="KEY", show_default=False)] = None,
    key_json: KeyJson = None,
    execute: Execute = False,
) -> None:
    """Erase every backup of one object for ever; the journal keeps that there was one. Dry-run by default."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    chosen = vault.Choice(key, key_json)
    raise typer.Exit(
        run(settings, lambda session: vault.forget(session, chosen, reason=reason, execute=execute))
    )


@vault.command(short_help="Re-encode the backups to plain zstd.")
@with_globals
def transcode(
    settings: Settings,
    execute: Annotated[
        bool, typer.Option("--execute/--dry-run", help="Re-encode them, or only say which.")
    ] = False,
) -> None:
    """Re-encode all backups to plain zstd: no other codec is needed to read them then. Dry-run by default."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: vault.transcode(session, execute=execute)))


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


@vault.command(short_help="List the backups.")
@with_globals
def ls(
    settings: Settings,
    key: Key = None,
    key_json: KeyJson = None,
    prefix: Prefix = None,
    operation: Operation = None,
    at: At = None,
) -> None:
    """List every version of every object in the vault. All filters that are given must match."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    chosen = vault.Choice(key, key_json, prefix, operation, at)
    raise typer.Exit(run(settings, lambda session: vault.ls(session, chosen)))


@vault.command(short_help="Write one object's bytes to stdout.")
@with_globals
def cat(
    settings: Settings,
    key: Annotated[str | None, typer.Argument(metavar="KEY", show_default=False)] = None,
    key_json: KeyJson = None,
    operation: Operation = None,
    at: At = None,
) -> None:
    """Write the bytes of an object's latest version to stdout."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    chosen = vault.Choice(key, key_json, None, operation, at)
    raise typer.Exit(run(settings, lambda session: vault.cat(session, chosen)))


@vault.command(short_help="Write objects into a folder.")
@with_globals
def extract(
    settings: Settings,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)],
    key: Key = None,
    key_json: KeyJson = None,
    prefix: Prefix = None,
    operation: Operation = None,
    at: At = None,
) -> None:
    """Write the latest version of each object into a new folder, with a list of what lies where."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    chosen = vault.Choice(key, key_json, prefix, operation, at)
    raise typer.Exit(run(settings, lambda session: vault.extract(session, chosen, folder)))


@vault.command(short_help="Show the vault in numbers.")
@with_globals
def stats(settings: Settings) -> None:
    """Show how much the vault holds and takes."""
    from s3gc_cli._commands import vault
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, vault.stats))
