"""Files that a command was told to write: asked about before the work, and never half written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from s3gc_cli._errors import UsageProblem


def check_folder(out: Path) -> None:
    """Before a long look, not after it.

    Raises:
        UsageProblem: there is no folder for the file.
    """
    if not out.absolute().parent.is_dir():
        raise UsageProblem(f"--out {out}: there is no folder {out.absolute().parent}")


def check_new(out: Path, *, force: bool) -> None:
    """As :func:`check_folder`, and the file may be written.

    Raises:
        UsageProblem: it exists already, and ``force`` isn't given.
    """
    if out.exists() and not force:
        raise UsageProblem(f"{out} exists: name another file with --out, or replace it with --force")
    check_folder(out)


def write_out(out: Path, write: Callable[[Path], object]) -> None:
    """Write by ``write``, which is given a name beside; nothing half written ever stands under ``out``.

    Raises:
        UsageProblem: it can't be written.
    """
    part = out.with_name(out.name + ".part")
    try:
        write(part)
        os.replace(part, out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageProblem(f"--out {out} can't be written: {error.strerror}") from None
