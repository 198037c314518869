"""``s3gc demo``."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from s3gc import Config
from s3gc_cli._demo._story import Story, configuration
from s3gc_cli._demo._world import World, build
from s3gc_cli._errors import DONE, FAILED, UsageProblem
from s3gc_cli._run import Session
from s3gc_cli._text import count

_OPTIONS = ("bucket", "database_url", "base_urls", "exclude_prefixes", "retention_days", "mode")


async def demo(session: Session, *, keep: Path | None, seed: int) -> int:
    """Play the whole cycle in a folder of its own; 1 when any check fails."""
    begun = time.monotonic()
    with _folder(keep) as folder:
        session.watch().display.stage("making an application and its bucket")
        try:
            world = build(folder, seed)
        finally:
            if session.watcher is not None:
                session.watcher.display.stop()
        story = Story(session, world, _console(session))
        await story.tell()
        if keep is not None:
            story.rewind()
            _write_configuration(world)
    seconds = time.monotonic() - begun
    checks = story.checks
    failed = [check for check in checks.done if not check.ok]
    line = (
        f"{len(failed)} of {count(len(checks.done), 'check')} FAILED: "
        + "; ".join(check.claim for check in failed)
        if failed
        else f"All {len(checks.done)} checks passed, in {seconds:.1f} s."
    )
    advice = (
        f"Play with it: cd {folder} && s3gc plan"
        if keep is not None
        else "Next, your own bucket: write s3gc.toml (bucket, database_url, tables) and run s3gc plan, "
        "which touches nothing."
    )

    def show(console: Console) -> None:
        console.print(Text(f"\n{line}", style="bold red" if failed else "bold green"), soft_wrap=True)
        console.print(Text(advice, style="dim"), soft_wrap=True)

    document: dict[str, Any] = {
        "ok": checks.ok,
        "seed": seed,
        "folder": str(folder) if keep is not None else None,
        "seconds": round(seconds, 3),
        **story.facts,
        "checks": [{"claim": check.claim, "ok": check.ok, "found": check.found} for check in checks.done],
    }
    session.answer(document, line, show)
    return DONE if checks.ok else FAILED


def _console(session: Session) -> Console:
    """People see the steps on stdout; with ``--json`` on stderr; with ``--quiet`` nowhere."""
    output = session.output
    if session.settings.quiet:
        return Console(quiet=True)
    return output.err if session.settings.json else output.out


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A new folder: temporary, or the one to keep.

    Raises:
        UsageProblem: the folder to keep holds something already.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="s3gc-demo-") as name:
            yield Path(name).resolve()
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise UsageProblem(f"--keep {keep}: the folder isn't empty; name a new one")
    except OSError as error:
        raise UsageProblem(f"--keep {keep} can't be made: {error.strerror}") from None
    yield keep.resolve()


def _write_configuration(world: World) -> None:
    """``s3gc.toml`` for the demo's bucket. Texts of JSON are texts of TOML."""
    config: Config = configuration(world)
    values: dict[str, Any] = {name: getattr(config, name) for name in _OPTIONS}
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    lines += ['vault_path = "./vault"', "", "[tables]"]
    lines += [f"{table} = {json.dumps(list(columns))}" for table, columns in config.tables.items()]
    lines += [
        "",
        "[safety]",
        'preset = "demo"  # waits for nothing: never use it on a bucket that matters',
        "",
    ]
    (world.folder / "s3gc.toml").write_text("\n".join(lines), encoding="utf-8")
