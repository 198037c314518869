"""Runs one command: event loop, signals, errors, exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

from s3gc import process
from s3gc_cli import _configuration, _errors, _logging
from s3gc_cli._output import Output
from s3gc_cli._settings import Settings

if TYPE_CHECKING:
    from pluggy import PluginManager
    from rich.console import Console

    from s3gc import Collector, Config
    from s3gc.archive import Archive
    from s3gc_cli._progress import Watcher


class Session:
    """What a command works with."""

    def __init__(self, settings: Settings, output: Output) -> None:
        self.settings = settings
        self.output = output
        self.watcher: Watcher | None = None
        self.endless = False
        """Whether the command goes on until it is stopped, and that is its good end."""

    def config(self, **overrides: Any) -> tuple[Config, str]:
        """The configuration and where it was found. From here on its secrets are hidden everywhere."""
        config, found = _configuration.load(self.settings, **overrides)
        self.output.secrets.of(config)
        return config, found

    def watch(self) -> Watcher:
        """Progress for this run."""
        from s3gc_cli._progress import Watcher, display_for

        self.watcher = Watcher(display_for(self.output))
        return self.watcher

    def answer(self, document: Mapping[str, Any], line: str, show: Callable[[Console], None]) -> None:
        """Give the command's answer, below whatever progress was shown."""
        if self.watcher is not None:
            self.watcher.display.stop()
        self.output.answer(document, line, show)

    @asynccontextmanager
    async def collector(self, config: Config) -> AsyncIterator[Collector]:
        """The collector of a configuration, with progress."""
        from s3gc import Collector

        with self._watched() as plugins:
            async with Collector.open(config, plugins=plugins) as gc:
                yield gc

    @asynccontextmanager
    async def archive(self, config: Config) -> AsyncIterator[Archive]:
        """The vault of a configuration by itself, with progress."""
        from s3gc.archive import Archive

        with self._watched() as plugins:
            async with Archive.open(config, plugins=plugins) as archive:
                yield archive

    @contextlib.contextmanager
    def _watched(self) -> Iterator[PluginManager]:
        from s3gc import create_plugin_manager

        watcher = self.watcher or self.watch()
        plugins = create_plugin_manager()
        plugins.register(watcher, name="s3gc_cli.progress")
        try:
            yield plugins
        finally:
            watcher.display.stop()


Job = Callable[[Session], Awaitable[int]]


def run(settings: Settings, job: Job) -> int:
    """Run a command and return its exit code; every error ends as one line on stderr."""
    output = Output(settings)
    session = Session(settings, output)
    _logging.configure(output)
    process.tune()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the answer's: nobody else prints there
            return anyio.run(_supervised, session, job)
    except BrokenPipeError:
        raise  # the reader went away (``| head``): typer ends the process without a word
    except Exception as error:  # noqa: BLE001 - the last place where an error can become one clear line
        if settings.debug:
            output.err.print(output.secrets.scrub(traceback.format_exc()), soft_wrap=True)
        text = _errors.message(error)
        _show_breakers(output, error)
        output.error(text, _errors.document(error, text))
        return _errors.exit_code(error)


def _show_breakers(output: Output, error: Exception) -> None:
    from s3gc.errors import CycleHeld

    if isinstance(error, CycleHeld) and not output.settings.quiet:
        from s3gc_cli._render.plan import show_breakers

        show_breakers(output.err, output.secrets, error.breakers)


async def _supervised(session: Session, job: Job) -> int:
    """The command, with an eye on signals: the first one lets the batch finish, the second doesn't."""
    result: int | None = None
    failure: Exception | None = None
    signals: list[int] = []
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            if threading.current_thread() is threading.main_thread():
                await tasks.start(_watch_signals, session, scope, signals)
            try:
                result = await job(session)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group that would wrap it
                failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if result is None and session.endless:
        return _errors.DONE
    if result is None:
        left = session.watcher.left() if session.watcher else "nothing was begun"
        raise _errors.Interrupted(f"interrupted: {left}", signals[0])
    return result


async def _watch_signals(
    session: Session,
    scope: anyio.CancelScope,
    signals: list[int],
    *,
    task_status: anyio.abc.TaskStatus[None],
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            if session.watcher is not None:
                session.watcher.display.stop()
            if signals:
                session.output.err.print("stopped at once: the next run settles what is open")
                os._exit(128 + number)  # as safe as a power cut: the journal knows what is open
            signals.append(number)
            if not session.endless:
                session.output.note("stopping; a batch under way is finished first (again: stop at once)")
            scope.cancel()
