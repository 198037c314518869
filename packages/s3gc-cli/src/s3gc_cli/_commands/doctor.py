"""``s3gc doctor``."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing

from rich.console import Console

from s3gc.doctor import Check, Status, examine
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, HELD
from s3gc_cli._render.doctor import in_one_line, show_check
from s3gc_cli._run import Session


async def doctor(session: Session, *, probe: bool) -> int:
    """Make every check; 3 when one failed."""
    config, _ = session.config()
    output = session.output
    checks: list[Check] = []
    display = session.watch().display
    display.stage("looking at everything that a cycle needs")
    try:
        async with aclosing(examine(config, probe=probe)) as found:  # type: ignore[type-var]
            async for check in found:
                checks.append(check)
                display.stage(f"after {check.name}")
    finally:
        display.stop()
    counts = Counter(check.status for check in checks)
    document = {
        "checks": [_documents.value(check) for check in checks],
        "counts": {status.value: counts[status] for status in Status},
    }

    def show(console: Console) -> None:
        for check in checks:
            show_check(console, output.secrets, check)
        console.print()
        console.print(in_one_line(checks), soft_wrap=True)

    session.answer(output.secrets.scrub_all(document), in_one_line(checks), show)
    return HELD if counts[Status.FAIL] else DONE
