"""``s3gc cdc check|setup|teardown``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from rich.console import Console
from rich.text import Text

from s3gc import create_plugin_manager
from s3gc.capture import CaptureState, ChangeCapture, open_capture
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED
from s3gc_cli._keys import show_text
from s3gc_cli._output import Secrets
from s3gc_cli._run import Session
from s3gc_cli._text import count, size


@asynccontextmanager
async def _opened(session: Session, doing: str) -> AsyncIterator[ChangeCapture]:
    config, _ = session.config()
    async with open_capture(config, create_plugin_manager()) as capture:
        session.watch().display.stage(doing)
        yield capture


async def check(session: Session) -> int:
    """Look only; 1 when something keeps changes from being followed that setting up doesn't mend."""
    async with _opened(session, "looking at the database") as capture:
        state = await capture.capture_state()
    secrets = session.output.secrets
    session.answer(
        secrets.scrub_all({**_documents.value(state), "ready": state.ready}),
        _line(state),
        lambda console: _show(console, secrets, state),
    )
    return FAILED if any(one.fatal and not one.ours for one in state.findings) else DONE


async def setup(session: Session) -> int:
    """Make what is missing."""
    async with _opened(session, "setting up") as capture:
        done = await capture.set_up()
    return _done(session, done, "all is there already")


async def teardown(session: Session) -> int:
    """Remove what is there."""
    async with _opened(session, "taking down") as capture:
        done = await capture.tear_down()
    return _done(session, done, "nothing was there")


def _done(session: Session, done: Sequence[str], otherwise: str) -> int:
    secrets = session.output.secrets
    lines = [secrets.scrub(line) for line in done] or [otherwise]

    def show(console: Console) -> None:
        for line in lines:
            console.print(Text(show_text(line)), soft_wrap=True)

    session.answer({"done": [secrets.scrub(line) for line in done]}, "; ".join(lines), show)
    return DONE


def _line(state: CaptureState) -> str:
    fatal = [one for one in state.findings if one.fatal]
    if not fatal:
        return "changes are followed" if state.lag_bytes is not None else "ready"
    if all(one.ours for one in fatal):
        return "ready to be set up"
    return f"{count(sum(not one.ours for one in fatal), 'problem')} to mend first"


def _show(console: Console, secrets: Secrets, state: CaptureState) -> None:
    console.print(Text(show_text(secrets.scrub(f"{state.source}: {_line(state)}"))), soft_wrap=True)
    if state.lag_bytes is not None and state.held_bytes is not None:
        console.print(
            f"  {size(state.lag_bytes)} not read yet; the server keeps {size(state.held_bytes)} of its log"
        )
    for name, value in state.details.items():
        console.print(Text(f"  {name}: {show_text(secrets.scrub(value))}", style="dim"), soft_wrap=True)
    for one in state.findings:
        style = "yellow" if one.ours or not one.fatal else "red"
        console.print(
            Text(f"{one.code}: {show_text(secrets.scrub(one.problem))}", style=style), soft_wrap=True
        )
        if one.fix:
            console.print(Text(f"  {show_text(secrets.scrub(one.fix))}"), soft_wrap=True)
