"""The global options, declared once and accepted both before and after a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from s3gc_cli._settings import Settings

_PANEL = "Global options"

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "config": (
        Annotated[
            Path | None,
            typer.Option(
                "--config",
                "-c",
                metavar="PATH",
                help="The configuration file. [default: $S3GC_CONFIG, ./s3gc.toml, else the environment]",
                show_default=False,
                rich_help_panel=_PANEL,
            ),
        ],
        None,
    ),
    "json_": (
        Annotated[
            bool,
            typer.Option(
                "--json",
                help="One JSON document on stdout; all else on stderr.",
                show_default=False,
                rich_help_panel=_PANEL,
            ),
        ],
        False,
    ),
    "quiet": (
        Annotated[
            bool,
            typer.Option(
                "--quiet",
                "-q",
                help="No progress, one line of answer.",
                show_default=False,
                rich_help_panel=_PANEL,
            ),
        ],
        False,
    ),
    "verbose": (
        Annotated[
            int,
            typer.Option(
                "--verbose",
                "-v",
                count=True,
                help="Logs on stderr; -vv with everything and tracebacks.",
                show_default=False,
                rich_help_panel=_PANEL,
            ),
        ],
        0,
    ),
    "debug": (
        Annotated[bool, typer.Option("--debug", help="As -vv.", show_default=False, rich_help_panel=_PANEL)],
        False,
    ),
    "log_json": (
        Annotated[
            bool,
            typer.Option(
                "--log-json", help="Logs as JSON lines.", show_default=False, rich_help_panel=_PANEL
            ),
        ],
        False,
    ),
}


def with_globals(function: Callable[..., None]) -> Callable[..., None]:
    """Add the global options to a command whose first parameter is ``settings``."""

    @functools.wraps(function)
    def command(context: typer.Context, **given: Any) -> None:
        mine = Settings(
            config=given.pop("config"),
            json=given.pop("json_"),
            quiet=given.pop("quiet"),
            verbose=2 if given.pop("debug") else given.pop("verbose"),
            log_json=given.pop("log_json"),
        )
        given.pop("verbose", None)
        before = context.find_root().obj
        settings = before.merged(mine) if isinstance(before, Settings) else mine
        context.find_root().obj = settings
        function(settings, **given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    parameters = [
        inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        *(
            inspect.Parameter(name, keyword, annotation=annotation, default=default)
            for name, (annotation, default) in _OPTIONS.items()
        ),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del command.__wrapped__
    return command
