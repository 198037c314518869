"""What a store can do, in words: a line for each, and what it means for deletions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.text import Text

from s3gc.capabilities import StoreState
from s3gc.model import StoreCapabilities, Versioning
from s3gc_cli._keys import show_text
from s3gc_cli._output import Secrets
from s3gc_cli._render.plan import show_breakers, table, title
from s3gc_cli._text import span

NEVER = "the store was never probed: s3gc store --probe does it, and so does the next sweep"

_VERSIONING = {
    Versioning.ENABLED: ("yes", "what is overwritten or deleted stays as an older version"),
    Versioning.SUSPENDED: ("no", "it is suspended: nothing new is kept"),
    Versioning.NEVER: ("no", "it was never enabled"),
    Versioning.UNKNOWN: ("unknown", "counts as no"),
}


def in_one_line(state: StoreState | None) -> str:
    """Whether a sweep may delete, and how old the knowledge is."""
    if state is None:
        return NEVER
    codes = ", ".join(breaker.code for breaker in state.held_by)
    what = f"a sweep would be held by {codes}" if codes else "nothing about the store holds a sweep"
    return f"{what}; probed {_age(state)} ago"


def show_store(console: Console, secrets: Secrets, state: StoreState | None) -> None:
    """The whole answer for people."""
    if state is None:
        console.print(NEVER, soft_wrap=True)
        return
    when = state.probed_at.isoformat(sep=" ", timespec="seconds")
    console.print(title("The store", f"probed {_age(state)} ago, at {when}"), soft_wrap=True)
    rows = table("", "", "")
    for what, says, meaning in _lines(state.capabilities):
        style = {"yes": "green", "no": "yellow", "unknown": "yellow"}.get(says, "")
        rows.add_row(what, Text(says, style=style), Text(meaning, style="dim"))
    console.print(rows)
    console.print()
    details = table("found", "")
    for name, text in sorted(state.capabilities.details.items()):
        details.add_row(show_text(name), Text(show_text(secrets.scrub(text)), style="dim"))
    console.print(details)
    console.print()
    if state.held_by:
        show_breakers(console, secrets, state.held_by)
    else:
        console.print("Nothing about the store holds a sweep.", soft_wrap=True)


def _lines(found: StoreCapabilities) -> Iterator[tuple[str, str, str]]:
    def told(known: bool, yes: str, no: str) -> tuple[str, str]:
        return ("yes", yes) if known else ("no", no)

    yield (
        "conditional delete",
        *told(
            found.conditional_delete,
            "a delete of what was overwritten meanwhile is refused",
            "not proven: a delete takes whatever is there",
        ),
    )
    yield (
        "the same in bulk",
        *told(
            found.conditional_bulk_delete,
            "many keys in one request, each on its own condition",
            "not proven: each object needs a request of its own",
        ),
    )
    yield (
        "conditional put",
        *told(
            found.conditional_put,
            "a new object never replaces another one",
            "not proven: it is looked for first, and one written in between is replaced",
        ),
    )
    yield (
        "read after write",
        *told(found.read_after_write, "seen at once: what was written, what was deleted", "not proven"),
    )
    yield "list order", *told(found.list_order, "by code point, odd keys too", "not proven")
    yield ("versioning", *_VERSIONING[found.versioning])
    if found.object_lock is None:
        yield "object lock", "unknown", "a lock is told object by object"
    else:
        lock = told(found.object_lock, "objects may be locked: those are kept", "no object can be locked")
        yield ("object lock", *lock)
    yield ("clock", *_clock(found.clock_difference))


def _clock(difference: timedelta | None) -> tuple[str, str]:
    if difference is None:
        return "unknown", "it told no time that can be read"
    seconds = round(difference.total_seconds(), 1)
    if abs(seconds) <= 1:
        return "right", "within a second of this machine's"
    return f"{abs(seconds)} s {'ahead' if seconds > 0 else 'behind'}", "of this machine's"


def _age(state: StoreState) -> str:
    return span(max(timedelta(0), datetime.now(UTC) - state.probed_at))
