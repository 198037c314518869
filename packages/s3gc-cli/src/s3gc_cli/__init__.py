"""The command ``s3gc``. Heavy modules are imported by the commands that need them: ``--help`` is fast."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code (0 done, 1 error, 2 usage, 3 held)."""
    from s3gc_cli._app import app

    app(arguments, prog_name="s3gc")
