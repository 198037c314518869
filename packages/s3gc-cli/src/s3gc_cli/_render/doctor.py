"""What the doctor found, a line for each check and one for what to do."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from s3gc.doctor import Check, Status
from s3gc_cli._keys import show_text
from s3gc_cli._output import Secrets
from s3gc_cli._text import count

_STYLES = {Status.PASS: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}


def show_check(console: Console, secrets: Secrets, check: Check) -> None:
    """One check for people."""
    name = f"{check.name} {check.subject}".strip()
    line = Text.assemble(
        (check.status.value, _STYLES[check.status]), "  ", (show_text(secrets.scrub(name)), "bold"), "  "
    )
    line.append(show_text(secrets.scrub(check.found)))
    console.print(line, soft_wrap=True)
    if check.fix:
        console.print(Text(f"      {show_text(secrets.scrub(check.fix))}", style="dim"), soft_wrap=True)


def in_one_line(checks: Sequence[Check]) -> str:
    """How many passed, and the names of those that didn't."""
    failed = sorted({check.name for check in checks if check.status is Status.FAIL})
    warned = sorted({check.name for check in checks if check.status is Status.WARN} - set(failed))
    told = count(len(checks), "check")
    if failed:
        told += f"; failed: {', '.join(failed)}"
    if warned:
        told += f"; to look at: {', '.join(warned)}"
    return told if failed or warned else told + ", all passed"
