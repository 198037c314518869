"""The commands and their options. What they do is in ``_commands``, loaded when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s3gc_cli import _replicas  # noqa: F401 - adds its commands to those of `vault`
from s3gc_cli._audit import audit
from s3gc_cli._cdc import cdc
from s3gc_cli._claims import claims
from s3gc_cli._globals import with_globals
from s3gc_cli._group import Group
from s3gc_cli._settings import Settings
from s3gc_cli._vault import vault

EPILOG = "Exit codes: 0 done, 1 error, 2 usage or configuration, 3 a breaker held the cycle, 130 interrupted."

app = typer.Typer(
    name="s3gc",
    cls=Group,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,  # plain help starts three times as fast
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
config = typer.Typer(no_args_is_help=True)
app.add_typer(audit, name="audit")
app.add_typer(cdc, name="cdc")
app.add_typer(claims, name="claims")
app.add_typer(config, name="config")
app.add_typer(vault, name="vault")

KeyJson = Annotated[
    str | None,
    typer.Option(
        "--key-json", metavar="JSON", help="The key as a JSON string, for keys that can't be typed."
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from s3gc import __version__

        typer.echo(f"s3gc {__version__}")
        raise typer.Exit


@config.callback()
@with_globals
def config_options(settings: Settings) -> None:
    """Look at the configuration."""


@app.callback()
@with_globals
def options(
    settings: Settings,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find the objects of a bucket that no row refers to. Back them up, delete them, bring them back."""


@app.command(short_help="See a whole cycle on a bucket of its own.")
@with_globals
def demo(
    settings: Settings,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep", metavar="DIR", help="Leave bucket, database and s3gc.toml in this new folder."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes another application.")] = 1,
) -> None:
    """See a whole cycle, from plan to restore, on a bucket of its own in a temporary folder."""
    from s3gc_cli._commands import demo
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: demo.demo(session, keep=keep, seed=seed)))


@app.command(short_help="Look at bucket and database, and write s3gc.toml.")
@with_globals
def init(
    settings: Settings,
    bucket: Annotated[
        str | None,
        typer.Option("--bucket", help="Its name or URL. [default: $S3_BUCKET]", show_default=False),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url", metavar="URL", help="The database. [default: $DATABASE_URL]", show_default=False
        ),
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option("--endpoint-url", metavar="URL", help="An S3 server that isn't AWS.")
    ] = None,
    region: Annotated[str | None, typer.Option("--region", help="The bucket's region.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")] = Path(
        "s3gc.toml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Look through a database for columns that name objects of a bucket, and write a configuration.

    Reads only: samples of the database's values, and single objects' heads.
    """
    from s3gc_cli._commands import init
    from s3gc_cli._run import run

    wanted = init.Wanted(bucket, database_url, endpoint_url, region)
    raise typer.Exit(run(settings, lambda session: init.init(session, wanted, out=out, force=force)))


@app.command(short_help="Show what a cycle would delete; touches nothing.")
@with_globals
def plan(
    settings: Settings,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also write the plan to this file.")
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what is new and what has gone since the last plan, and why.")
    ] = False,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FILE", help="As --diff, against this plan.")
    ] = None,
) -> None:
    """Show what a cycle would delete, and why the rest stays. Touches nothing in the bucket."""
    from s3gc_cli._commands import plan
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: plan.plan(session, out=out, diff=diff, against=against)))


@app.command(short_help="Write a plan or an operation as an HTML page.")
@with_globals
def report(
    settings: Settings,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="The plan. [default: the newest]", show_default=False),
    ] = None,
    operation: Annotated[
        str | None, typer.Option("--operation", metavar="ID", help="What this operation deleted instead.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write what a plan would delete, or an operation deleted, as one HTML file for who signs off."""
    from s3gc_cli._commands import report
    from s3gc_cli._run import run

    raise typer.Exit(
        run(
            settings,
            lambda session: report.report(session, plan=plan, operation=operation, out=out, force=force),
        )
    )


@app.command(short_help="Run a cycle as the mode says.")
@with_globals
def collect(
    settings: Settings,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Execute this plan instead of a new one.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode", metavar="MODE", help="dry_run, audit_only or execute, whatever the configuration says."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Run a cycle as the mode says: dry_run reports, audit_only journals, execute backs up and deletes."""
    from s3gc_cli._commands import collect
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: collect.collect(session, file=plan, mode=mode, yes=yes)))


@app.command()
@with_globals
def restore(
    settings: Settings,
    key: Annotated[str | None, typer.Option("--key", help="This object.")] = None,
    key_json: KeyJson = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="All keys that begin so; '' is everything.")
    ] = None,
    operation: Annotated[
        str | None, typer.Option("--operation", metavar="ID", help="What this operation deleted.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="ISO8601", help="As the bucket was then, e.g. 2026-11-22T18:00:00Z."),
    ] = None,
    execute: Annotated[
        bool, typer.Option("--execute/--dry-run", help="Put the objects back, or only say which.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also replace newer objects; they are backed up first.")
    ] = False,
    into: Annotated[
        str | None,
        typer.Option(
            "--into", metavar="URL", help="Into another bucket or folder: s3://BUCKET/PREFIX, file:///FOLDER."
        ),
    ] = None,
) -> None:
    """Bring back what s3gc deleted. All filters that are given must match. Dry-run by default."""
    from s3gc_cli._commands import restore
    from s3gc_cli._run import run

    chosen = restore.Choice(key, key_json, prefix, operation, at, into)
    raise typer.Exit(
        run(settings, lambda session: restore.restore(session, chosen, execute=execute, overwrite=overwrite))
    )


@app.command(short_help="Say why an object is still there, or went.")
@with_globals
def explain(
    settings: Settings,
    key: Annotated[str | None, typer.Argument(metavar="KEY", show_default=False)] = None,
    key_json: KeyJson = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="ISO8601", help="As the journal knew it then, e.g. 2026-11-22T18:00:00Z."
        ),
    ] = None,
) -> None:
    """Say why an object is still there, or why it went: gates, rows, history."""
    from s3gc_cli._commands import explain
    from s3gc_cli._run import run

    raise typer.Exit(
        run(settings, lambda session: explain.explain(session, key=key, key_json=key_json, at=at))
    )


@app.command(short_help="List rows that name objects which don't exist.")
@with_globals
def missing(settings: Settings) -> None:
    """List the rows that name objects which don't exist: each is some user's broken file."""
    from s3gc_cli._commands import missing
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, missing.missing))


@app.command(short_help="Show what the store can do, or probe it.")
@with_globals
def store(
    settings: Settings,
    probe: Annotated[
        bool, typer.Option("--probe", help="Find out now, on small objects below .s3gc/probe/.")
    ] = False,
) -> None:
    """Show what the store can do, as the last probe found it. Ends with 3 if that would hold a sweep."""
    from s3gc_cli._commands import store
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: store.store(session, probe=probe)))


@app.command(short_help="Hold a grace against the past.")
@with_globals
def backtest(
    settings: Settings,
    grace: Annotated[
        float | None,
        typer.Option("--grace", metavar="DAYS", min=0, help="This grace instead of the one in force."),
    ] = None,
    observations: Annotated[
        int | None, typer.Option("--min-observations", metavar="N", min=1, help="So many observations.")
    ] = None,
    retention: Annotated[
        float | None, typer.Option("--retention", metavar="DAYS", min=0, help="This retention.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also write an HTML page with a plot.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Show how long references were gone before they came back, and whether a policy would have hurt.

    Reads the registry and the journal. Ends with 3 if objects would have gone that were named again later.
    """
    from s3gc_cli._commands import backtest
    from s3gc_cli._run import run

    raise typer.Exit(
        run(
            settings,
            lambda session: backtest.backtest(
                session, grace=grace, observations=observations, retention=retention, out=out, force=force
            ),
        )
    )


@app.command(short_help="Show how everything stands.")
@with_globals
def status(settings: Settings) -> None:
    """Show whether vault, store and sources answer, what was done last, and what waits for a person.

    Ends with 3 if something isn't well or waits.
    """
    from s3gc_cli._commands import history
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, history.status))


@app.command(short_help="Watch what goes on.")
@with_globals
def watch(
    settings: Settings,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="Time between two looks.")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look once. Ends with 3 if something isn't well.")
    ] = False,
) -> None:
    """Watch what goes on, wherever the collector runs that writes this vault's journal. Ctrl-C ends it.

    Without a terminal it writes a line for each thing that happens.
    """
    from s3gc_cli._commands import watch
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: watch.watch(session, interval=interval, once=once)))


@app.command(short_help="List what was done, newest first.")
@with_globals
def history(
    settings: Settings,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only these: collect or restore.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many at most.")] = 20,
) -> None:
    """List the operations that stand in the journal, newest first: what they did, and how they ended."""
    from s3gc_cli._commands import history
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: history.history(session, kind=kind, limit=limit)))


@app.command(short_help="List untracked columns that name objects.")
@with_globals
def discover(settings: Settings) -> None:
    """List the columns that aren't tracked and name objects of the bucket. Ends with 3 if there is one."""
    from s3gc_cli._commands import discover
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, discover.discover))


@app.command(short_help="Check everything that a cycle needs.")
@with_globals
def doctor(
    settings: Settings,
    probe: Annotated[
        bool, typer.Option("--probe", help="Probe the store too, on small objects below .s3gc/probe/.")
    ] = False,
) -> None:
    """Check everything that a cycle needs, and say how to cure what is wrong. Ends with 3 if one fails."""
    from s3gc_cli._commands import doctor
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, lambda session: doctor.doctor(session, probe=probe)))


@app.command(short_help="Show the breakers that wait for an acknowledgement.")
@with_globals
def breakers(settings: Settings) -> None:
    """Show the breakers that hold every cycle until they are acknowledged, and since when."""
    from s3gc_cli._commands import breakers
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, breakers.breakers))


@app.command(short_help="Let a tripped breaker go, with a reason.")
@with_globals
def acknowledge(
    settings: Settings,
    code: Annotated[str, typer.Argument(metavar="CODE", help="The breaker, as `s3gc breakers` names it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it may pass. Stands in the journal for ever.")],
    subject: Annotated[
        str, typer.Option("--subject", help="What it is about, as `s3gc breakers` names it.")
    ] = "",
) -> None:
    """Let a tripped breaker go; some may pass for as long as their cause lasts."""
    from s3gc_cli._commands import acknowledge
    from s3gc_cli._run import run

    raise typer.Exit(
        run(settings, lambda session: acknowledge.acknowledge(session, code, subject=subject, reason=reason))
    )


@config.command()
@with_globals
def show(settings: Settings) -> None:
    """Show every option and where the configuration comes from, without secrets."""
    from s3gc_cli._commands import config
    from s3gc_cli._run import run

    raise typer.Exit(run(settings, config.show))
